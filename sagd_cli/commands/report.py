"""`sagd report`."""

from pathlib import Path
from typing import Annotated

import typer

from sagd_cli.commands.common import DeviceOption, ForceOption, announced_device, common, refuse_read, single
from sagd_cli.errors import UsageError
from sagd_cli.system.console import output

app = single()


@app.command()
@common
def report(
    targets: Annotated[
        list[Path], typer.Argument(metavar="RUN|SWEEP...", help="Folders of runs and of sweeps.")
    ],
    target: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE.html", help="Page to write; report.html in the folder by default."
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "-n", "--count", min=3, help="Samples to draw of a run, for its spectrum; 64 are shown."
        ),
    ] = 256,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Lay runs and sweeps out on one self-contained page, to look at, print and pass on.

    Shown are the configuration, filter, losses, samples and spectra, and what the folder `evaluation` of a run holds:
    JSON of `sagd fid --output` and `sagd omit --record`; and PNG files of its folder `figures`.

    Examples:

      sagd report runs/digits

      sagd report sweeps/alphas --output alphas.html
    """
    from sagd_cli.report.page import check_targets, write_report
    from sagd_cli.system.files import has_suffix, refuse_existing

    if target is None and len(targets) > 1:
        raise UsageError("the report of several folders needs a name", "Give it with --output FILE.html.")
    page = target or targets[0] / "report.html"
    if not has_suffix(page, ".html", ".htm"):
        raise UsageError(f"{page} is not an HTML page", "Name it FILE.html.")
    check_targets(targets)
    refuse_read({"--output": page}, targets)
    refuse_existing(page, force)
    result = write_report(targets, page, announced_device(device), count, output())
    output().result(result, str(page))
