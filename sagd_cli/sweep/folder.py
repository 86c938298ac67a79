"""The folder of a sweep: its plan is written there and read back, so that the sweep can be continued and extended."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sagd_cli.config.layers import differing_keys
from sagd_cli.config.run import RunConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import UsageError
from sagd_cli.sweep.plan import CELLS, Cell, Evaluation, Halving, Plan
from sagd_cli.sweep.storage import STUDY, without_password
from sagd_cli.system.files import write_text
from sagd_cli.system.settings import Settings
from sagd_cli.system.yaml import dump_yaml, read_mapping

PLAN, CELL = "sweep.yaml", "cell.yaml"
FIRST_SEEDS = (0,)
HIDDEN = "***"

CellName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_=,+-][A-Za-z0-9._=,+-]*$")]


class _Stored(Settings):
    """What the file of the plan holds; the configuration of each cell is in a file of its own."""

    base: RunConfig
    evaluation: Evaluation
    halving: int | None
    storage: str | None
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    cells: Annotated[dict[CellName, dict[str, Any]], Field(min_length=1)]


def has_plan(path: Path) -> bool:
    """Whether a sweep has been begun in the folder `path`, so that it can be continued."""
    return (path / PLAN).is_file()


def read_plan(path: Path, storage: str | None = None) -> Plan:
    """Return the plan of the sweep in `path`; `storage` is the address of its database, where that has a password.

    Raises ConfigError when its files are damaged, UsageError when the address is needed and not given.
    """
    stored = validate(_Stored, read_mapping(path / PLAN), str(path / PLAN))
    if storage is None and HIDDEN in (stored.storage or ""):
        raise UsageError(
            f"the study of {path} is in {stored.storage}, whose password is not kept", "Give --storage URL."
        )
    cells = tuple(Cell(name, values, _read_cell(path, name)) for name, values in stored.cells.items())
    if len({frozenset(cell.values) for cell in cells}) > 1:
        raise UsageError(f"{path / PLAN} has cells of different keys")
    return Plan(
        base=stored.base,
        cells=cells,
        seeds=stored.seeds,
        evaluation=stored.evaluation,
        halving=_halving(cells, stored.halving),
        output=path,
        storage=storage or stored.storage,
    )


def _read_cell(path: Path, name: str) -> RunConfig:
    file = path / CELLS / name / CELL
    return validate(RunConfig, read_mapping(file), str(file))


def _halving(cells: tuple[Cell, ...], factor: int | None) -> Halving | None:
    return None if factor is None else Halving.of([cell.config for cell in cells], factor)


def joined_plan(plan: Plan) -> Plan:
    """Return the plan with the cells and seeds that its output holds already, and with seed 0 when there are none.

    Raises UsageError when the output is not a sweep, or is a sweep with other settings or keys.
    """
    if not has_plan(plan.output):
        if plan.output.exists() and not _is_unused(plan.output):
            raise UsageError(f"{plan.output} exists and is not a sweep", "Choose another --output.")
        return replace(plan, seeds=plan.seeds or FIRST_SEEDS)
    return _added(plan, read_plan(plan.output, plan.storage))


def _added(plan: Plan, there: Plan) -> Plan:
    """Return the plan `there` with the cells and seeds of `plan`; raise UsageError unless both are of one sweep."""
    differing = differing_keys(there.identity, plan.identity)
    if differing:
        raise UsageError(
            f"{plan.output} is a sweep with other settings: {', '.join(differing)} differ",
            "Give its own settings, with more cells or seeds if you like, or choose another --output.",
        )
    if {*there.keys} != {*plan.keys}:
        raise UsageError(
            f"{plan.output} sweeps {', '.join(there.keys)}, not {', '.join(plan.keys)}",
            "Choose another --output.",
        )
    known, names = {cell.config.sha256() for cell in there.cells}, {cell.name for cell in there.cells}
    new = [cell for cell in plan.cells if cell.config.sha256() not in known]
    cells = (*there.cells, *(cell.told_apart() if cell.name in names else cell for cell in new))
    seeds = tuple(sorted({*there.seeds, *plan.seeds}))
    halving = _halving(cells, plan.factor)
    return replace(plan, cells=cells, seeds=seeds, halving=halving, storage=there.storage)


def _is_unused(path: Path) -> bool:
    """Whether `path` is empty, or holds only what is left of a sweep that was killed before it began."""
    return path.is_dir() and all(
        item.name.startswith((STUDY, ".sagd-"))
        or (item.name == CELLS and {file.name for file in item.glob("*/*")} <= {CELL})
        for item in path.iterdir()
    )


def keep_joined(plan: Plan) -> Plan:
    """Return the plan with what its output holds, and write it there; another command may have added to the output."""
    if has_plan(plan.output):
        there = read_plan(plan.output, plan.storage)
        plan = _added(plan, there)
        if plan == there:
            return plan
    write_plan(plan)
    return plan


def write_plan(plan: Plan) -> None:
    """Write a plan into its output, the cells before the list of them."""
    for cell in plan.cells:
        file, text = plan.output / CELLS / cell.name / CELL, dump_yaml(cell.config.document())
        if not (file.is_file() and file.read_text("utf-8", "replace") == text):
            write_text(file, text)
    stored = {
        "base": plan.base.document(),
        "evaluation": {**plan.evaluation.document(), "weights": plan.evaluation.weights},
        "halving": plan.factor,
        "storage": None if plan.storage is None else without_password(plan.storage),
        "seeds": list(plan.seeds),
        "cells": {cell.name: dict(cell.values) for cell in plan.cells},
    }
    write_text(plan.output / PLAN, dump_yaml(stored))
