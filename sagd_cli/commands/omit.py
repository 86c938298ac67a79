"""`sagd omit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sagd_cli.commands.common import BandOption, DeviceOption, ForceOption, announced_device, common, single
from sagd_cli.console import output
from sagd_cli.errors import UsageError

app = single()


@app.command()
@common
def omit(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Folder of images, or one image.")],
    band: BandOption,
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder to write; INPUT-omitted by default."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="DATA", help="Clean images of the same kind to learn from."),
    ] = None,
    strength: Annotated[
        str, typer.Option("--strength", metavar="auto|F", help="Noise amplitude on the [-1, 1] range.")
    ] = "auto",
    estimate: Annotated[
        str, typer.Option("--estimate", help="mean: expected clean image; notch: only remove the band.")
    ] = "mean",
    truth: Annotated[
        Path | None, typer.Option("--truth", metavar="DIR", help="True images of the same names: print PSNR.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Most training steps.")] = 400,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the training.")] = 0,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Remove corruption confined to known frequencies from images.

    Without clean images the program learns from INPUT itself. Frequencies outside the band come back unchanged.

    Examples:

      sagd omit --band high damaged

      sagd omit --band 0.25:0.5 damaged --reference clean --output restored --json
    """
    value = _strength(strength)
    inputs = [Path(reference)] if reference is not None and Path(reference).is_dir() else []
    from sagd_cli.arguments import parse_dataset
    from sagd_cli.datasets import load_pixels
    from sagd_cli.restoration.files import raise_if_failed
    from sagd_cli.restoration.omission import Omission, omit_files
    from sagd_cli.spectral.band import Band

    out = output()
    bands = Band.parse(band)
    clean = None if reference is None else load_pixels(parse_dataset(reference)).images
    if clean is not None and clean.ndim == 4 and clean.shape[1] not in (1, 3):
        raise UsageError(f"the reference {reference} has {clean.shape[1]} channels, not 1 (grey) or 3 (RGB)")
    omission = Omission(bands, clean, value, estimate, steps, seed)
    base = source.resolve() if source.is_dir() else source.resolve().with_suffix("")
    target = folder or base.with_name(f"{base.name}-omitted")
    chosen = announced_device(device)
    result = omit_files(omission, source, target, truth, chosen, force, out, inputs)
    out.result(result, _text(result))
    raise_if_failed(result)


def _strength(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--strength is auto or a number, not {text!r}") from None


def _text(result: dict[str, Any]) -> str:
    lines = [f"{result['output']}: {len(result['files'])} images, band {result['band']}, {result['method']}"]
    if "psnr_mean" in result:
        if result["psnr_mean"] < result["psnr_before_mean"]:
            output().warn("the restored images are further from the true ones than the damaged images are")
        lines.append(f"PSNR {result['psnr_before_mean']:.2f} dB before, {result['psnr_mean']:.2f} dB after")
    return "\n".join(lines)
