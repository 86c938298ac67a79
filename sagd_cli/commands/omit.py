"""`sagd omit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sagd_cli.commands.common import (
    BAND_HELP,
    DeviceOption,
    ForceOption,
    RangeOption,
    announced_device,
    common,
    refuse_read,
    single,
)
from sagd_cli.errors import UsageError
from sagd_cli.restoration.catalogue import ESTIMATES
from sagd_cli.system.console import output

if TYPE_CHECKING:
    from sagd_cli.data.restored import RestoredImage
    from sagd_cli.spectral.band import Band

app = single()

FIGURE_ROWS = 4


@app.command()
@common
def omit(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of images, or one image.")],
    band: Annotated[
        str, typer.Option("--band", metavar="BAND|auto", help=f"{BAND_HELP} auto: find notches and stripes.")
    ],
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
    strength: Annotated[
        str,
        typer.Option(
            "--strength",
            metavar="auto|F|inf",
            help="Noise amplitude on the [-1, 1] range; inf: the band is lost.",
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
    force: ForceOption = False,
) -> None:
    """Remove corruption confined to known frequencies from images.

    Without clean images, the program learns from INPUT itself. Frequencies outside the band stay unchanged.

    Examples:

      sagd omit --band high damaged

      sagd omit --band auto scan.png --estimate wiener --figure scan-omitted.png

      sagd omit --band 0.25:0.5 damaged --reference clean --save-model runs/mid --output restored --json

      sagd omit --band 0.25:0.5 more-damaged --model runs/mid --uncertainty deviations
    """
    from sagd_cli.data.folders import raise_if_failed
    from sagd_cli.data.ranges import Range
    from sagd_cli.restoration.band_model import open_model
    from sagd_cli.restoration.clean_images import clean_images
    from sagd_cli.restoration.omission import Places, omit_files
    from sagd_cli.restoration.options import Omission
    from sagd_cli.spectral.band import Band
    from sagd_cli.system.files import refuse_existing, write_json

    refuse_read({"--figure": figure, "--record": record}, [source, reference, model, truth])
    if figure is not None:
        from sagd_cli.figures.style import check_figure_path

        check_figure_path(figure, force)
    if record is not None:
        refuse_existing(record, force)
    out, value = output(), _strength(strength)
    chosen = announced_device(device)
    clean = None if reference is None else clean_images(reference)
    omission = Omission(
        band=None if band == "auto" else Band.parse(band),
        reference=clean,
        model=None if model is None else open_model(model, chosen, out),
        strength=value,
        per_image=per_image,
        estimate=estimate,
        uncertain=uncertainty is not None,
        draws=draws,
        sampling_steps=sampling_steps,
        steps=steps,
        seed=seed,
        keeps_model=run is not None,
        given=None if values is None else Range.parse(values),
    )
    base = source.resolve() if source.is_dir() else source.resolve().with_suffix("")
    target = folder or base.with_name(f"{base.name}-omitted")
    path = None if clean is None else clean.data.options.get("path")
    extras = {"--figure": figure, "--record": record}
    places = Places(source, target, truth, uncertainty, run, [] if path is None else [Path(path)], extras)
    result, shown = omit_files(omission, places, chosen, force, out, FIGURE_ROWS if figure else 0)
    drawn = figure if shown else None
    if drawn is not None:
        result["figure"] = str(drawn)
    try:
        if record is not None:
            write_json(record, result)
    finally:  # what was done is shown, whether there was room for the record or not
        out.result(result, _text(result))
    if drawn is not None:
        _draw(Band.parse(result["band"]), shown, drawn, force)
    raise_if_failed(result)


def _strength(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--strength is auto, inf or a number, not {text!r}") from None


def _draw(band: "Band", shown: list["RestoredImage"], path: Path, force: bool) -> None:
    from sagd_cli.figures.omission import omission_figure
    from sagd_cli.figures.style import save_figure

    first, others = band.parts[0], len(band.parts) - 1
    title = f"Omission of {first} and {others} more" if others > 2 else f"Omission of {band}"
    save_figure(omission_figure(title, band, shown), path, force)


def _text(result: dict[str, Any]) -> str:
    lines = [f"{result['output']}: {len(result['files'])} images, band {result['band']}, {result['method']}"]
    if "psnr_mean" in result:
        if result["psnr_mean"] < result["psnr_before_mean"]:
            output().warn("the restored images are further from the true ones than the damaged images are")
        lines.append(f"PSNR {result['psnr_before_mean']:.2f} dB before, {result['psnr_mean']:.2f} dB after")
        lines.append(f"SSIM {result['ssim_before_mean']:.4f} before, {result['ssim_mean']:.4f} after")
    return "\n".join(lines)
