"""The summary of a sweep, read back for a report: what it is known to hold, and which runs are shown."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sagd_cli.config.documents import Document, Number, check_document
from sagd_cli.evaluation.result import Figures
from sagd_cli.metrics.catalogue import distances
from sagd_cli.run.manifest import has_run
from sagd_cli.system.files import read_json

SUMMARY = "sweep.json"
LARGEST_SUMMARY = 50_000_000  # bytes


class _Run(Figures):
    seed: int
    state: str
    run: str
    value: Number | None = None
    images: int | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _has_a_value(self) -> Self:
        if (self.state == "done" and self.value is None) or (self.state == "pruned" and self.images is None):
            raise ValueError(f"a run that is {self.state} has no figure")
        return self


class _Cell(Document):
    name: str
    values: dict[str, Any]
    baseline: bool
    mean: Number | None
    deviation: Annotated[Number, Field(ge=0)] | None
    runs: list[_Run]


class _Test(Document):
    text: str


class _Summary(Document):
    metric: str
    label: str | None
    keys: Annotated[list[str], Field(min_length=1)]
    seeds: list[int]
    cells: Annotated[list[_Cell], Field(min_length=1)]
    best: str | None
    baseline: str | None
    test: _Test | None
    config: dict[str, Any]
    evaluation: dict[str, Any]
    versions: dict[str, str]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.metric not in {metric.figure.key for metric in distances().values()}:
            raise ValueError(f"the metric {self.metric} is not one of a sweep")
        if any({*cell.values} != {*self.keys} for cell in self.cells):
            raise ValueError("a cell lacks a swept key")
        if any(len(cell.runs) != len(self.seeds) for cell in self.cells):
            raise ValueError("a cell lacks a seed")
        if not {self.best, self.baseline} <= {None, *(c.name for c in self.cells if c.mean is not None)}:
            raise ValueError("the best cell or the baseline has no mean")
        return self


def has_summary(path: Path) -> bool:
    """Whether the folder `path` holds a sweep that has something to show."""
    return (path / SUMMARY).is_file()


def read_sweep(path: Path) -> dict[str, Any]:
    """Return the JSON object of the sweep in `path`; raise DataError when the file holds something else."""
    file = path / SUMMARY
    found = read_json(file, LARGEST_SUMMARY)
    check_document(_Summary, found, str(file), "summary of a sweep", "Run `sagd sweep` again to write it.")
    return found


def runs_to_show(path: Path, summary: dict[str, Any]) -> dict[str, Path]:
    """Return the first finished run of the best cell, and that of the baseline, by title, as far as they are there."""
    found: dict[str, Path] = {}
    for name in dict.fromkeys([summary["best"], summary["baseline"]]):
        runs = [run for cell in summary["cells"] if cell["name"] == name for run in cell["runs"]]
        done = next((run for run in runs if run["state"] == "done" and has_run(path / run["run"])), None)
        if done is not None:
            found[f"{name}, seed {done['seed']}"] = path / done["run"]
    return found
