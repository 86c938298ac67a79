"""`sagd filter`: design, list, show, fit, compare."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from sagd_cli.commands.common import ForceOption, OutputFile, PlotOption, common, group, refuse_read
from sagd_cli.config.arguments import is_path, parse_filter, parse_size
from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import parse_options
from sagd_cli.config.validation import validate
from sagd_cli.errors import UsageError
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.grid import format_shape
from sagd_cli.system.console import output
from sagd_cli.system.files import refuse_existing, write_text
from sagd_cli.system.yaml import dump_yaml

app = group("Design, list, inspect, fit and compare spectral filters.")

# A filter file has no size; designing checks that the filter exists on a field of this one.
PROBE = (64, 64)

FilterArgument = typer.Argument(
    metavar="FILE|TYPE[:k=v,...]|RUN|-", help="A filter file, a family, a run folder or standard input."
)
OptionsOption = Annotated[
    list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the family.")
]
SizeOption = Annotated[
    str | None,
    typer.Option("--size", metavar="HxW", help="Size of the field: 64, 32x32 or 8x9x10; 32x32 by default."),
]
DataOption = Annotated[
    str | None, typer.Option("--data", metavar="DATA", help="Data to take signal-to-noise ratios on.")
]
ScheduleOption = Annotated[
    str, typer.Option("--schedule", help="Schedule of the signal-to-noise ratios: linear, cosine or edm.")
]


def _complete_type(incomplete: str) -> list[str]:
    return [name for name in registry().names("filter") if name.startswith(incomplete)]


def _known_type(value: str) -> str:
    registry().get("filter", value)
    return value


@app.command()
@common
def design(
    type_: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Filter family; `sagd filter list` names them.",
            callback=_known_type,
            autocompletion=_complete_type,
        ),
    ],
    options: OptionsOption = None,
    low: Annotated[float | None, typer.Option("--low", help="Same as -o low=F.")] = None,
    high: Annotated[float | None, typer.Option("--high", help="Same as -o high=F.")] = None,
    cutoff: Annotated[float | None, typer.Option("--cutoff", help="Same as -o cutoff=F.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Same as -o alpha=F.")] = None,
    normalize: Annotated[
        str, typer.Option("--normalize", help="power: unit variance; none: raw weight; peak: max w = 1.")
    ] = "power",
    units: Annotated[
        str, typer.Option("--units", help="Unit of band edges: rho (1 = corner), nyquist or cycles.")
    ] = "rho",
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Size to check it on; 64x64 by default.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Warn where these data outshine the noise at t = 1."),
    ] = None,
    schedule: ScheduleOption = "linear",
    file: OutputFile = None,
    force: ForceOption = False,
) -> None:
    """Write a filter file: to standard output, or to --output.

    Examples:

      sagd filter design --type bandpass --low 0.25 --high 0.75 -o floor=0.1

      sagd filter design --type powerlaw -o alpha=-0.1 --data photos64.npy --output filter.yaml
    """
    from sagd_cli.design.describe import Setting, build_filter

    _check_outputs(None, file, force, [data])
    given = parse_options(options or [])
    for key, value in {"low": low, "high": high, "cutoff": cutoff, "alpha": alpha}.items():
        if value is not None:
            if key in given:
                raise UsageError(f"{key} is given twice, as --{key} and as -o {key}=")
            given[key] = value
    document = {"type": type_, "options": given, "normalize": normalize, "units": units}
    config = validate(FilterConfig, document, "filter")
    shape = parse_size(size) if size else None if data else PROBE
    build_filter(config, Setting.choose(shape, data, schedule, output()), output())
    _write_filter(config, {**config.document(), "sha256": config.sha256()}, file, force)


def _write_filter(config: FilterConfig, result: dict[str, Any], file: Path | None, force: bool) -> None:
    """Print a filter file, or write it to `file` and print the file's name."""
    text = dump_yaml(config.document())
    if file is None or str(file) == "-":
        output().result({**result, "output": None if file is None else "-"}, text)
        return
    refuse_existing(file, force)
    write_text(file, text)
    output().result({**result, "output": str(file)}, str(file))


@app.command("list")
@common
def list_() -> None:
    """List the filter families with their options."""
    rows = []
    for name in registry().names("filter"):
        entry = registry().entry("filter", name)
        record = registry().get("filter", name)
        defaults = record.options().model_dump(mode="json")
        rows.append(
            {
                "type": name,
                "summary": entry.summary,
                "options": defaults,
                "distribution": entry.provider.distribution,
            }
        )
    from sagd_cli.design.words import families_table

    output().result({"filters": rows}, families_table(rows))


def _subject(text: str) -> tuple[FilterConfig, FilterConfig | None, tuple[int, ...] | None]:
    """Return the filter that `text` names; of a run also the filter before training, and the shape of the fields."""
    from sagd_cli.run.manifest import read_run_filter

    if not is_path(Path.is_dir, text) or text in registry().names("filter"):
        return parse_filter(text), None, None
    found = read_run_filter(Path(text), output())
    return found.filter, found.initial if found.is_learned else None, found.shape


@app.command()
@common
def show(
    filter_: Annotated[str, FilterArgument],
    size: SizeOption = None,
    data: DataOption = None,
    schedule: ScheduleOption = "linear",
    plot: PlotOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Also write the filter as a file, for a run the one it has now; - prints it instead.",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Describe a filter: radial profile, band shares of the noise power, rank, condition number.

    With --data, the signal-to-noise ratio of each band at t = 0, 0.5 and 1, and a warning where the data still
    show through the noise at t = 1. A run shows the filter it was trained with, or learned.

    Examples:

      sagd filter show filter.yaml --size 28x28 --plot filter.png

      sagd filter show powerlaw:alpha=-0.5 --data digits

      sagd filter show runs/learned --plot learned.svg --output learned.yaml
    """
    from sagd_cli.design.describe import Setting, describe_filter

    _check_outputs(plot, file, force, [filter_, data])
    config, initial, shape = _subject(filter_)
    setting = Setting.choose(parse_size(size) if size else None if data else shape, data, schedule, output())
    result = describe_filter(config, setting, output())
    if initial is not None:
        before = initial.weights(setting.shape)
        result["initial_profile"] = [list(pair) for pair in before.profile()]
    if plot is not None:
        result["plot"] = str(plot)
    text = dump_yaml(config.document())
    if file is not None:
        result["output"] = str(file)
        if str(file) != "-":
            write_text(file, text)
    from sagd_cli.design.words import description

    output().result(result, text if str(file) == "-" else description(result))
    if plot is not None:
        _plot_filter(config, initial, setting.shape, plot, force)


def _check_outputs(plot: Path | None, file: Path | None, force: bool, sources: Iterable[str | None]) -> None:
    """Raise UsageError, before any work is done, on outputs that cannot be written, or that are among `sources`."""
    refuse_read({"--plot": plot, "--output": file}, sources)
    if plot is not None:
        from sagd_cli.figures.style import check_figure_path

        check_figure_path(plot, force)
    if file is not None and str(file) != "-":
        refuse_existing(file, force)


def _plot_filter(
    config: FilterConfig, initial: FilterConfig | None, shape: tuple[int, ...], plot: Path, force: bool
) -> None:
    from sagd_cli.design.words import options_text
    from sagd_cli.figures.filters import filter_figure
    from sagd_cli.figures.noise import measure_noise
    from sagd_cli.figures.style import save_figure

    built = config.weights(shape)
    about = f"normalize {config.normalize}, units {config.units}, {format_shape(shape)}"
    title = f"{config.type}({options_text(config.options)}), {about}"
    before = None if initial is None else initial.weights(shape)
    save_figure(filter_figure(title, built, *measure_noise(built), before), plot, force)


@app.command()
@common
def fit(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Data set, folder of images of one size, .npy or .npz.")
    ],
    method: Annotated[
        str, typer.Option("--method", help="matched: w^2 = S^kappa; powerlaw: alpha = -beta / 2.")
    ] = "matched",
    options: OptionsOption = None,
    schedule: Annotated[
        str, typer.Option("--schedule", help="Schedule whose terminal signal-to-noise ratio bounds alpha.")
    ] = "linear",
    file: OutputFile = None,
    force: ForceOption = False,
) -> None:
    """Fit a filter to the power spectrum of data, about their mean image; write it as a filter file.

    `matched` follows the radial spectrum: kappa = 1 (the default) gives all frequencies the same signal-to-noise
    ratio, 0 is white. `powerlaw` takes alpha = -beta / 2, nearer to white where the terminal signal-to-noise ratio
    would exceed 0.01. The file names the data by their hash.

    Examples:

      sagd filter fit digits -o kappa=0.5 --output matched.yaml

      sagd filter fit photos64.npy --method powerlaw | sagd train --filter - --dataset photos64.npy
    """
    from sagd_cli.design.fit import fit_filter

    _check_outputs(None, file, force, [data])
    fitted = fit_filter(data, method, parse_options(options or []), schedule, output())
    for line in fitted.notes():
        output().note(line)
    _write_filter(fitted.config, fitted.document(), file, force)


@app.command()
@common
def compare(
    filters: Annotated[list[str], FilterArgument],
    size: SizeOption = None,
    data: DataOption = None,
    schedule: ScheduleOption = "linear",
    plot: PlotOption = None,
    force: ForceOption = False,
) -> None:
    """Put filters side by side: shares of the noise power, rank, condition number, and with --data their SNR.

    Examples:

      sagd filter compare white powerlaw:alpha=-0.5 filter.yaml --plot compare.png

      sagd filter compare white matched.yaml runs/learned --data digits
    """
    from sagd_cli.design.describe import Setting, describe_filter

    _check_outputs(plot, None, force, [*filters, data])
    subjects = [_subject(text) for text in filters]
    shapes = {shape for _, _, shape in subjects if shape is not None}
    if not (size or data) and len(shapes) > 1:
        raise UsageError("the runs were trained on fields of different shapes", "Choose one with --size.")
    own = next(iter(shapes), None) if not data else None
    setting = Setting.choose(parse_size(size) if size else own, data, schedule, output())
    rows = [
        {"name": text, **describe_filter(config, setting, output(), text)}
        for text, (config, _, _) in zip(filters, subjects, strict=True)
    ]
    result = {"shape": list(setting.shape), "filters": rows, **({"plot": str(plot)} if plot else {})}
    from sagd_cli.design.words import comparison

    output().result(result, comparison(rows))
    if plot is not None:
        from sagd_cli.figures.filters import compare_figure
        from sagd_cli.figures.style import save_figure

        built = [config.weights(setting.shape) for config, _, _ in subjects]
        save_figure(compare_figure(filters, built, setting.power, setting.terminal_level), plot, force)
