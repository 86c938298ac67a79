"""`sagd sample`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagd_cli.commands.common import (
    AutoencoderOption,
    DeviceOption,
    EmaOption,
    ForceOption,
    ShardOption,
    announced_device,
    common,
    refuse_given,
    refuse_read,
    single,
)
from sagd_cli.diffusion.catalogue import SAMPLERS, SPACINGS
from sagd_cli.system.choices import listing
from sagd_cli.system.console import output

if TYPE_CHECKING:
    from sagd_cli.config.run import SamplingConfig
    from sagd_cli.latents.autoencoder import Autoencoder
    from sagd_cli.model.model import Model
    from sagd_cli.sampling.generator import ImageGenerator

app = single()


@app.command()
@common
def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `sagd train`.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=10**9, help="Images to draw.")] = 64,
    sampler: Annotated[
        str | None,
        typer.Option("--sampler", help=f"{listing(SAMPLERS)}; the run's default."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            max=1000,
            help="Network evaluations per image, doubled by guidance; the run's default.",
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            "--spacing",
            help=f"Spacing of the evaluations: auto, {listing(SPACINGS)}; the run's default.",
        ),
    ] = None,
    eta: Annotated[
        float | None, typer.Option("--eta", min=0, max=1, help="Randomness of ddim: 0 (default) to 1 (ddpm).")
    ] = None,
    churn: Annotated[
        float | None,
        typer.Option("--churn", min=0, help="Randomness of heun: EDM's S_churn; 0 (default) is none."),
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME[,NAME...]",
            help="Classes to draw in turn; by default as often as in the data.",
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            min=0,
            help="Classifier-free guidance: 1 is none, 0 leaves classes out; the run's default.",
        ),
    ] = None,
    fill: Annotated[
        str | None,
        typer.Option(
            "--fill",
            help="Content at frequencies without noise: zero (default), mean (the mean training image) or prior.",
        ),
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(
            "--prior",
            metavar="RUN",
            help="For --fill prior: a model of `sagd train --restore BAND`, which draws the band given the rest.",
        ),
    ] = None,
    ema: EmaOption = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="BASE", help="Image i is drawn from seed BASE + i.")
    ] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time.")] = 250,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="png or tiff: a folder of images; npz: one file. By default what holds the samples unchanged: png "
            "for bytes, tiff (black 0, white 1) for float images, npz for other data.",
        ),
    ] = None,
    grid: Annotated[
        Path | None, typer.Option("--grid", metavar="FILE.png", help="Also draw a contact sheet.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder to write; RUN/samples/NAME by default."),
    ] = None,
    autoencoder: AutoencoderOption = None,
    latents: Annotated[
        bool, typer.Option("--latents", help="Write a run's latents as they are drawn, not decoded.")
    ] = False,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Refuse unless the run was trained with this filter.")
    ] = None,
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Draw images from a trained run. The same command goes on after a stop; a larger -n draws the rest.

    Examples:

      sagd sample runs/digits --grid grid.png

      sagd sample runs/digits -n 1000 --steps 20 --seed 5000 --format npz --output samples

      sagd sample runs/classes --class 3,8 --guidance 2        (of a run trained with --class-conditional)

      torchrun --nproc-per-node 8 -m sagd_cli sample runs/digits -n 50000 --output samples

      sagd sample runs/omitted --fill mean                     (of a run trained with --omit-band)

      sagd sample runs/omitted --fill prior --prior runs/band  (of one trained with --restore BAND)

      sagd sample runs/latents --autoencoder vae               (of one trained on `sagd data encode`'s latents)
    """
    from sagd_cli.config.arguments import parse_filter
    from sagd_cli.config.shard import parse_shard
    from sagd_cli.latents.decoding import find_decoder
    from sagd_cli.run.folder import check_same_filter, open_run
    from sagd_cli.sampling.generator import sampling_of, seed_batches
    from sagd_cli.sampling.samples import (
        SampleTarget,
        default_folder,
        describe,
        sample_folder,
        save_grid,
        save_samples,
        suited_format,
    )
    from sagd_cli.system.distributed import joined_world, own_device

    out = output()
    refuse_read({"--grid": grid}, [run, prior, filter_])
    if shard is not None:
        refuse_given("a share is a part of the images", {"--grid": grid, "--force": force})
    if latents:
        refuse_given("--latents decodes nothing", {"--autoencoder": autoencoder})
    own = parse_shard(shard)
    flags = {
        "sampler": sampler,
        "steps": steps,
        "spacing": spacing,
        "eta": eta,
        "churn": churn,
        "guidance": guidance,
        "fill": fill,
    }
    chosen = own_device(announced_device(device))
    with joined_world(chosen) as world:
        opened = open_run(run, out)
        if filter_ is not None:
            check_same_filter(parse_filter(filter_).sha256(), opened.filter.sha256(), "--filter names")
        given = {key: value for key, value in flags.items() if value is not None}
        sampling = sampling_of(opened.config, given)
        decoder = None if latents else find_decoder(opened.latents, run, autoencoder, chosen)
        generator = _generator(opened.model(chosen, ema), sampling, class_, prior, decoder)
        seeds = range(seed, seed + count)
        into = folder or default_folder(opened, generator, seeds)
        target = SampleTarget(into, format_ or suited_format(generator), grid, force)
        target.check(generator, run)
        generator.warn_of_terminal_snr(out)
        place = sample_folder(opened, generator, target, seeds, batch_size)
        batches = own.of(seed_batches(seeds, batch_size))
        missing = save_samples(generator, place, batches, force, world, out)
        if not world.is_first:
            return
    result = describe(opened, generator, seeds, target)
    if shard is not None:
        result |= {"shard": str(own), "missing": missing}
        out.note(f"{missing:,} of {count:,} images are not there yet" if missing else "all shares are there")
    out.result(result, str(result["output"]))
    if grid is not None:
        save_grid(grid, place)


def _generator(
    model: "Model",
    sampling: "SamplingConfig",
    classes: str | None,
    prior: Path | None,
    decoder: "Autoencoder | None",
) -> "ImageGenerator":
    from sagd_cli.restorer.prior import band_prior
    from sagd_cli.restorer.restoring_model import open_model
    from sagd_cli.sampling.generator import ImageGenerator

    filled_by = None
    if prior is not None:
        opened = open_model(prior, model.device, output())
        filled_by = band_prior(opened, model, sampling.steps, sampling.noise_device)
    return ImageGenerator(model, sampling, classes, filled_by, decoder)
