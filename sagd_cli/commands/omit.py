"""`sagd omit`."""

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sagd_cli.commands.common import (
    BAND_HELP,
    NOISE_HELP,
    DeviceOption,
    ForceOption,
    RangeOption,
    ShardOption,
    announced_device,
    common,
    refuse_read,
    single,
    working_together,
)
from sagd_cli.errors import UsageError
from sagd_cli.restorer.catalogue import ESTIMATES
from sagd_cli.system.console import Output, output

if TYPE_CHECKING:
    import torch

    from sagd_cli.config.noise_spectrum import NoiseSpectrum
    from sagd_cli.data.outcome import RestoredImage
    from sagd_cli.data.ranges import Range
    from sagd_cli.restoration.places import Share
    from sagd_cli.restorer.restoring_model import RestoringModel
    from sagd_cli.system.distributed import World

app = single()

FIGURE_ROWS = 4


@app.command()
@common
def omit(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of images, or one image or stack.")],
    band: Annotated[
        str | None,
        typer.Option("--band", metavar="BAND|auto", help=f"{BAND_HELP} auto: find tones and lines."),
    ] = None,
    noise: Annotated[str | None, typer.Option("--noise", metavar="NOISE", help=NOISE_HELP)] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder to write; INPUT-omitted by default."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference",
            metavar="DATA",
            help="Clean images of the same kind, to learn from; with --model, only to measure the strength.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="RUN",
            help="Use this model of --save-model or `sagd train --restore`, and learn nothing.",
        ),
    ] = None,
    learn: Annotated[
        bool,
        typer.Option("--learn", help="Learn from INPUT itself; small images are restored so by default."),
    ] = False,
    strength: Annotated[
        str,
        typer.Option(
            "--strength",
            metavar="auto|F|inf",
            help="Noise amplitude on the [-1, 1] range, of all noise without level=; inf: the band is lost.",
        ),
    ] = "auto",
    per_image: Annotated[
        bool, typer.Option("--per-image", help="Measure the strength of each image separately.")
    ] = False,
    estimate: Annotated[
        str,
        typer.Option(
            "--estimate",
            help="; ".join(f"{name}: {choice.summary}" for name, choice in ESTIMATES.items()) + ".",
        ),
    ] = "mean",
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            min=1,
            help="Posterior samples per image; `sample` writes them as NAME.2.png and so on.",
        ),
    ] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(
            "--uncertainty",
            metavar="DIR",
            help="Write the standard deviation of 16 (or --draws) samples for each pixel, as float TIFF.",
        ),
    ] = None,
    removed: Annotated[
        Path | None,
        typer.Option(
            "--removed",
            metavar="DIR",
            help="Write what was taken away, input less output before rounding, in the input's units, as float TIFF.",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", metavar="DIR", help="True images of the same names: print PSNR and SSIM."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE.png", help="Draw the first images: before, after, spectra."),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE.json",
            help="Also write the JSON object; `sagd report` finds it in RUN/evaluation.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--save-model", metavar="RUN", help="Save the learned model, for --model."),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps at most.")] = 400,
    sampling_steps: Annotated[
        int, typer.Option("--sampling-steps", min=1, help="Network evaluations per sample.")
    ] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the training and of samples.")] = 0,
    values: RangeOption = None,
    device: DeviceOption = "auto",
    shard: ShardOption = None,
    force: ForceOption = False,
) -> None:
    """Remove noise of a known spectrum from images, or of one that is found in them.

    Without --band and --noise, white noise, rings, peaks and stripes are looked for in each image. A restorer that
    comes with the program takes them away. Frequencies without noise stay unchanged.

    Examples:

      sagd omit scan.png

      sagd omit --band high damaged

      sagd omit --noise white+stripe:horizontal,0,0 frames --figure frames.png

      sagd omit --noise from:dark.tif shots

      sagd omit --band 0.25:0.5 damaged --reference clean --save-model runs/mid --output restored --json

      sagd omit --band 0.25:0.5 more-damaged --model runs/mid --uncertainty deviations
    """
    from sagd_cli.data.outcome import raise_if_failed
    from sagd_cli.data.ranges import Range
    from sagd_cli.datasets.truth import clean_images
    from sagd_cli.files.layout import is_store
    from sagd_cli.restoration.omission import omit_files
    from sagd_cli.restoration.options import Omission
    from sagd_cli.restoration.places import Places
    from sagd_cli.restoration.words import omission_text
    from sagd_cli.system.devices import check_device, keep_freed_memory
    from sagd_cli.system.files import refuse_existing, write_json

    with working_together() as world:
        share = _share(shard, world)
        refuse_read({"--figure": figure, "--record": record}, [source, reference, model, truth])
        if figure is not None:
            from sagd_cli.figures.style import check_figure_path

            check_figure_path(figure, force)
        if record is not None:
            refuse_existing(record, force)
        out, given = output(), None if values is None else Range.parse(values)
        told = _noise(band, noise, _strength(strength), given)
        check_device(device)
        keep_freed_memory()
        chosen = cache(partial(_own_device, device))
        clean = None if reference is None else clean_images(reference)
        omission = Omission(
            noise=told,
            reference=clean,
            model=None if model is None else _opened(model, chosen(), out),
            learns=learn,
            per_image=per_image,
            estimate=estimate,
            uncertain=uncertainty is not None,
            draws=draws,
            sampling_steps=sampling_steps,
            steps=steps,
            seed=seed,
            keeps_model=run is not None,
            given=given,
        )
        is_file = is_store(source) or not source.is_dir()
        base = source.resolve().with_suffix("") if is_file else source.resolve()
        target = folder or base.with_name(f"{base.name}-omitted")
        path = None if clean is None else clean.data.options.get("path")
        inputs = [] if path is None else [Path(path)]
        extras = {"--figure": figure, "--record": record}
        places = Places(source, target, truth, uncertainty, removed, run, inputs, extras, share)
        result, shown = omit_files(omission, places, chosen, force, out, FIGURE_ROWS if figure else 0)
        if world is not None and not world.is_first:
            return  # what failed, the first one says when all is written: when one process fails, all are ended
        drawn = figure if shown else None
        if drawn is not None:
            result["figure"] = str(drawn)
        try:
            if record is not None:
                write_json(record, result)
        finally:  # what was done is shown, whether there was room for the record or not
            out.result(result, omission_text(result))
        if result.get("psnr_mean", 0.0) < result.get("psnr_before_mean", 0.0):
            out.warn("the restored images are further from the true ones than the damaged images are")
        if drawn is not None:
            _draw(result, shown, drawn, force)
        raise_if_failed(result)


def _share(shard: str | None, world: "World | None") -> "Share":
    """Return the share of this process: the one that was given, or its own among those of `torchrun`."""
    from sagd_cli.config.shard import Shard, parse_shard
    from sagd_cli.restoration.places import Share

    if world is None:
        return Share(parse_shard(shard))
    if shard is not None:
        raise UsageError("the processes of torchrun share the work already", "Leave out --shard.")
    return Share(Shard(world.rank + 1, world.size), world.gathered, world.check_alike)


def _own_device(name: str) -> "torch.device":
    device = announced_device(name)
    from sagd_cli.system.distributed import own_device  # torch, as above

    return own_device(device)


def _opened(path: Path, device: "torch.device", out: Output) -> "RestoringModel":
    from sagd_cli.restorer.restoring_model import open_model  # torch, which untrained estimates do not need

    return open_model(path, device, out)


def _strength(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--strength is auto, inf or a number, not {text!r}") from None


def _noise(
    band: str | None, noise: str | None, strength: float | None, given: "Range | None"
) -> "NoiseSpectrum | Literal['auto'] | None":
    """Return the noise that is to be removed; raise UsageError when options do not go together."""
    from sagd_cli.config.noise_spectrum import NoiseSpectrum
    from sagd_cli.damage.measured_noise import typed_noise
    from sagd_cli.spectral.band import Band

    if band is not None and noise is not None:
        raise UsageError(
            "--band and --noise both say what to remove", "Give one; a BAND may be a part of --noise."
        )
    if noise is not None:
        told = typed_noise(noise, given)
        if strength is not None and None not in told.levels:
            raise UsageError(
                f"each part of the noise {told.shown} has its own level", "Leave out --strength, or a level."
            )
        return told.with_default(strength)
    if strength is not None and band in (None, "auto"):
        raise UsageError("--strength is for noise that is told", "Give the --band or --noise.")
    if band is None or band == "auto":
        return None if band is None else "auto"
    return NoiseSpectrum.of_band(Band.parse(band), strength)


def _draw(result: dict[str, Any], shown: list["RestoredImage"], path: Path, force: bool) -> None:
    from sagd_cli.figures.omission import omission_figure
    from sagd_cli.figures.style import save_figure
    from sagd_cli.spectral.band import Band

    band = Band.parse(result["band"] or "0:1")
    first, others = band.parts[0], len(band.parts) - 1
    what = f"{first} and {others} more" if others > 2 else result["band"] or result["noise"] or "noise"
    save_figure(omission_figure(f"Omission of {what}", band, shown), path, force)
