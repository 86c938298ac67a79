"""`sagd plugins`: list, check."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sagd_cli.commands.common import common, group
from sagd_cli.errors import PluginError, SagdError, suggest
from sagd_cli.plugin.records import FilterPlugin, Plugin
from sagd_cli.plugin.registry import Entry, registry
from sagd_cli.system.console import output

app = group("List and check plug-ins.")


@app.command("list")
@common
def list_() -> None:
    """List every plug-in with its provider. A plug-in that cannot be used is listed with the reason.

    Examples:

      sagd plugins list

      sagd --plugin ring.py plugins list --json
    """
    rows = [_row(entry) for entry in registry().entries]
    output().result({"plugins": rows}, _listing(rows))


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "status": entry.status,
        "distribution": entry.provider.distribution,
        "version": entry.provider.version,
        "module": entry.provider.module,
        "summary": entry.summary,
        "detail": entry.detail,
    }


def _listing(rows: list[dict[str, Any]]) -> str:
    headings = ("kind", "name", "status", "provider", "module", "summary")
    shown = [{**row, "provider": f"{row['distribution']} {row['version']}".strip()} for row in rows]
    cells = [headings, *(tuple(row[heading] for heading in headings) for row in shown)]
    problems = [f"{row['name']}: {row['detail']}" for row in rows if row["status"] != "ok"]
    return "\n".join([*_aligned(cells), *(["", *problems] if problems else [])])


@app.command()
@common
def check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A plug-in's name; all plug-ins by default.")
    ] = None,
) -> None:
    """Check that plug-ins keep their contract; exit 1 when one does not, is broken or is in conflict.

    Examples:

      sagd plugins check

      sagd --plugin ring.py plugins check ring
    """
    chosen = [entry for entry in registry().entries if name in (None, entry.name)]
    if not chosen:
        names = {entry.name for entry in registry().entries}
        raise PluginError(f"unknown plug-in {name!r}", suggest(str(name), names))
    rows = [_verdict(entry) for entry in chosen]
    lines = [("ok" if row["ok"] else "failed", row["kind"], row["name"], row["reason"]) for row in rows]
    output().result({"checked": rows}, "\n".join(_aligned(lines)))
    failed = [row["name"] for row in rows if not row["ok"]]
    if failed:
        raise SagdError(f"{len(failed)} of {len(rows)} plug-ins failed: {', '.join(failed)}")


def _verdict(entry: Entry) -> dict[str, Any]:
    from sagd_cli.plugin.testing import check_filter, check_plugin

    reason = entry.detail
    try:
        # A command has no contract beyond the one the registry held it to when it was loaded.
        if entry.status == "ok" and isinstance(entry.record, Plugin):
            check_plugin(entry.record)
        if entry.status == "ok" and isinstance(entry.record, FilterPlugin):
            check_filter(entry.record)
    except AssertionError as error:
        reason = " ".join(str(error).split())
    return {"kind": entry.kind, "name": entry.name, "ok": not reason, "reason": reason}


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{c:<{n}}" for c, n in zip(row, widths, strict=True)).rstrip() for row in rows]
