"""`sagd spectrum`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sagd_cli.commands.common import ForceOption, PlotOption, common, refuse_read, single
from sagd_cli.errors import SagdError
from sagd_cli.spectral.grid import format_shape
from sagd_cli.system.console import output

if TYPE_CHECKING:
    from sagd_cli.design.analyse import Analysis

app = single()


@app.command()
@common
def spectrum(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Data set, folder of images, one image, .npy or .npz.")
    ],
    peaks: Annotated[
        bool, typer.Option("--peaks", help="Find isolated peaks and stripes, as bands for `sagd omit`.")
    ] = False,
    window: Annotated[
        str,
        typer.Option("--window", help="hann: against border leakage, in tiles; none: whole periodic fields."),
    ] = "hann",
    plot: PlotOption = None,
    force: ForceOption = False,
) -> None:
    """Measure the power spectrum of data: radial average, power law with its standard error, peaks.

    Images are read one at a time, twice. Those that cannot be read are named and left out; the exit code is 1
    then. An array is (N, C, H, W); (N, C, T), (N, T) and (T,) are signals of length T.

    Examples:

      sagd spectrum photos/ --plot spectrum.png

      band=$(sagd spectrum scan.png --peaks --json | jq -er .band)

      sagd omit scan.png --band "$band" --estimate wiener
    """
    from sagd_cli.design.analyse import analyse

    if plot is not None:
        from sagd_cli.figures.style import check_figure_path

        refuse_read({"--plot": plot}, [data])
        check_figure_path(plot, force)
    found = analyse(data, window, peaks, output())
    result = {**found.document(), **({"plot": str(plot)} if plot else {})}
    output().result(result, _description(data, found))
    if plot is not None:
        _plot(data, found, plot, force)
    if found.measured.failed:
        message = f"{found.measured.spectrum.count} ok, {found.measured.failed} failed"
        raise SagdError(message, "The warnings above name the files.")


def _plot(data: str, found: "Analysis", plot: Path, force: bool) -> None:
    from sagd_cli.figures.spectrum import spectrum_figure
    from sagd_cli.figures.style import save_figure

    measured = found.measured.spectrum
    image = measured.grid.full(measured.power) if measured.grid.ndim == 2 else None
    title = f"Spectrum of {data} ({_count(measured.count)})"
    rho, power = measured.annuli.rho, measured.rapsd
    law = None if found.law is None else found.law.curve(rho)
    save_figure(spectrum_figure(title, rho, power, law, found.marks, image), plot, force)


def _count(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


def _description(data: str, found: "Analysis") -> str:
    from sagd_cli.design.plot import profile_plot

    measured, law = found.measured.spectrum, found.law
    shape = format_shape(measured.grid.shape)
    window = "Hann window" if measured.hann else "no window"
    lines = [
        f"{data}: {_count(measured.count)} in fields of {shape}, {window}",
        "power |F x|^2 / N over rho, in decades",
    ]
    lines.append(profile_plot(found.profile, log=True).rstrip("\n"))
    if law is not None:
        error = "" if law.beta_se is None else f" +- {law.beta_se:.2g} (standard error)"
        lines.append(
            f"power law    S = c r^-beta, beta = {law.beta:.4g}{error}, rho {law.low_rho:.3g} to {law.high_rho:.3g}, "
            f"off by {law.misfit_db:.2g} dB (rms)"
        )
    for peak in found.peaks or []:
        lines.append(f"peak         {peak.band:<40} {peak.excess_db:5.1f} dB above its surroundings")
    if found.peaks:
        lines.append(f"band         {found.bands}")
    elif found.peaks is not None and found.has_room:
        lines.append("peak         none found")
    return "\n".join(lines)
