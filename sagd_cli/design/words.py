"""Filters in words and tables, for the terminal."""

from typing import Any

from rich.table import Table

from sagd_cli.design.plot import profile_plot
from sagd_cli.spectral.grid import format_shape


def families_table(rows: list[dict[str, Any]]) -> Table:
    """Return families of filters as a table: name, weight, options and defaults, where they come from."""
    headings = ("type", "weight", "options and defaults", "from")
    cells = [
        [row["type"], row["summary"], options_text(row["options"]) or "–", row["distribution"]]
        for row in rows
    ]
    return _table(headings, cells)


def description(data: dict[str, Any]) -> str:
    """Return the JSON object of `filter show` in words, with its profile as a plot."""
    shares = "  ".join(f"{name} {share:.1%}" for name, share in data["bands"].items())
    gap = "; samples have nothing at the others" if data["rank"] < data["size"] else ""
    before = ""
    if "initial_profile" in data:
        initial = [(rho, w) for rho, w in data["initial_profile"]]
        before = f"w before training\n{profile_plot(initial, height=4)}"
    omit = f"  omit={data['omit']}" if "omit" in data else ""
    return (
        f"{data['type']}({options_text(data['options'])})  normalize={data['normalize']}  units={data['units']}{omit}\n"
        f"w over rho\n{profile_plot([(rho, w) for rho, w in data['profile']])}{before}"
        f"noise power  {data['power']:.6g} a sample;  share by band:  {shares}\n"
        f"rank         {data['rank']} of {data['size']} frequencies at {format_shape(data['shape'])}{gap}\n"
        f"condition    {data['condition']:.4g}\n"
        f"sha256       {data['sha256']}\n"
        f"{_snr_lines(data)}"
    )


def comparison(rows: list[dict[str, Any]]) -> Table:
    """Return filters side by side: shares of the noise, rank, condition and, with data, each band's SNR at t = 1."""
    bands = list(rows[0]["bands"])
    headings = ["filter", *[f"noise {band}" for band in bands], "rank", "condition"]
    if "snr" in rows[0]:
        headings += [f"SNR {band}" for band in bands]
    cells = []
    for row in rows:
        line = [row["name"], *[f"{share:.1%}" for share in row["bands"].values()]]
        line += [f"{row['rank']} of {row['size']}", f"{row['condition']:.4g}"]
        if "snr" in row:
            ratios = [row["snr"]["bands"][band][-1] for band in bands]
            line += ["no noise" if ratio is None else f"{ratio:.3g}" for ratio in ratios]
        cells.append(line)
    return _table(tuple(headings), cells)


def options_text(options: dict[str, Any], longest: int = 40) -> str:
    """Return options as the command line takes them; values of more than `longest` letters are only named."""
    shown = {key: f"{v:g}" if isinstance(v, float) else str(v) for key, v in options.items()}
    return ", ".join(f"{key}={value if len(value) <= longest else '[…]'}" for key, value in shown.items())


def _snr_lines(data: dict[str, Any]) -> str:
    if "snr" not in data:
        return ""
    snr = data["snr"]
    head = f"signal to noise on {data['data']['data']} ({data['data']['images']} images), schedule {snr['schedule']}\n"
    times = "".join(f"{f't = {t:g}':>12}" for t in snr["t"])
    rows = [f"{'band':<6}{times}{'largest at t = 1':>20}\n"]
    for name, ratios in snr["bands"].items():
        cells = "".join(f"{'no noise' if ratio is None else f'{ratio:.3g}':>12}" for ratio in ratios)
        largest = snr["largest_terminal"].get(name, max(snr["largest_terminal"].values()))
        rows.append(f"{name:<6}{cells}{largest:>20.3g}\n")
    return head + "".join(rows)


def _table(headings: tuple[str, ...], rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
