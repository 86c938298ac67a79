"""`sagd filter`: design, list, show."""

from typing import Annotated, Any

import typer

from sagd_cli.commands.common import ForceOption, OutputFile, common, group
from sagd_cli.config import FilterConfig, parse_filter, parse_options, parse_size, validate
from sagd_cli.console import output
from sagd_cli.errors import UsageError
from sagd_cli.files import refuse_existing, write_text
from sagd_cli.plugin.registry import registry
from sagd_cli.yaml_files import dump_yaml

app = group("Design, list and inspect spectral filters.")

# A filter file has no size; designing checks that the filter exists on a field of this one.
PROBE = (64, 64)
BARS = " ▁▂▃▄▅▆▇█"


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
    options: Annotated[
        list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option of the family.")
    ] = None,
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
    file: OutputFile = None,
    force: ForceOption = False,
) -> None:
    """Write a filter file: to standard output, or to --output.

    Examples:

      sagd filter design --type bandpass --low 0.25 --high 0.75 -o floor=0.1

      sagd filter design --type powerlaw -o alpha=-0.1 --output filter.yaml
    """
    given = parse_options(options or [])
    for key, value in {"low": low, "high": high, "cutoff": cutoff, "alpha": alpha}.items():
        if value is not None:
            if key in given:
                raise UsageError(f"{key} is given twice, as --{key} and as -o {key}=")
            given[key] = value
    document = {"type": type_, "options": given, "normalize": normalize, "units": units}
    config = validate(FilterConfig, document, "filter")
    config.weights(PROBE)
    text = dump_yaml(config.document())
    result = {**config.document(), "sha256": config.sha256(), "output": str(file) if file else None}
    if file is None or str(file) == "-":
        output().result(result, text)
        return
    refuse_existing(file, force)
    write_text(file, text)
    output().result(result, str(file))


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
    output().result({"filters": rows}, _listing(rows))


def _listing(rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("type", "weight", "options and defaults", "from"):
        table.add_column(heading)
    for row in rows:
        options = ", ".join(f"{key}={value}" for key, value in row["options"].items())
        table.add_row(row["type"], row["summary"], options or "–", row["distribution"])
    return table


@app.command()
@common
def show(
    filter_: Annotated[
        str,
        typer.Argument(metavar="FILE|TYPE[:k=v,...]|-", help="A filter file, a family or standard input."),
    ],
    size: Annotated[
        str, typer.Option("--size", metavar="HxW", help="Size of the field: 64, 32x32 or 8x9x10.")
    ] = "32x32",
) -> None:
    """Describe a filter: radial profile, band shares of the noise power, rank, condition number.

    Examples:

      sagd filter show filter.yaml --size 28x28

      sagd filter show powerlaw:alpha=-0.5 --json
    """
    config = parse_filter(filter_)
    built = config.weights(parse_size(size))
    profile = built.profile()
    data = {
        **config.document(),
        "shape": list(built.grid.shape),
        "power": built.power,
        "rank": built.rank,
        "size": built.grid.size,
        "condition": built.condition,
        "profile": [list(pair) for pair in profile],
        "bands": built.band_shares,
        "sha256": config.sha256(),
    }
    output().result(data, _description(data, profile))


def _description(data: dict[str, Any], profile: list[tuple[float, float]]) -> str:
    top = max(w for _, w in profile) or 1.0
    bars = "".join(BARS[round(w / top * (len(BARS) - 1))] for _, w in profile)
    options = ", ".join(f"{key}={value}" for key, value in data["options"].items())
    shares = "  ".join(f"{name} {share:.1%}" for name, share in data["bands"].items())
    shape = "x".join(str(n) for n in data["shape"])
    return (
        f"{data['type']}({options})  normalize={data['normalize']}  units={data['units']}\n"
        f"w over rho   0 {bars} 1   (full height: w = {top:.4g})\n"
        f"noise power  {data['power']:.6g} a sample;  share by band:  {shares}\n"
        f"rank         {data['rank']} of {data['size']} frequencies at {shape}\n"
        f"condition    {data['condition']:.4g}\n"
        f"sha256       {data['sha256']}\n"
    )
