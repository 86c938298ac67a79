"""The table of a sweep, read back for a report: what of it may be relied on, and which runs are shown."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sagd_cli.config.documents import Document, Number, check_document
from sagd_cli.run.manifest import CONFIG
from sagd_cli.system.files import read_json

LARGEST_SUMMARY = 50_000_000  # bytes of sweep.json
SUMMARY = "sweep.json"


class _Run(Document):
    seed: int
    state: str
    run: str
    value: Number | None = None
    fd_floor: Number | None = None
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
        if any({*cell.values} != {*self.keys} for cell in self.cells):
            raise ValueError("a cell lacks a swept key")
        if any(len(cell.runs) != len(self.seeds) for cell in self.cells):
            raise ValueError("a cell lacks a seed")
        if not {self.best, self.baseline} <= {None, *(c.name for c in self.cells if c.mean is not None)}:
            raise ValueError("the best cell or the baseline has no mean")
        return self


def is_sweep(path: Path) -> bool:
    """Whether `path` is the folder of a sweep."""
    return (path / SUMMARY).is_file()


def read_sweep(path: Path) -> dict[str, Any]:
    """Return the JSON object of a sweep; raise DataError when it is none."""
    file = path / SUMMARY
    found = read_json(file, LARGEST_SUMMARY)
    check_document(_Summary, found, str(file), "summary of a sweep", "Run `sagd sweep` again to write it.")
    return found


def runs_to_show(path: Path, summary: dict[str, Any]) -> dict[str, Path]:
    """The first finished run of the best cell that is here, and that of the baseline, by what to call them."""
    found: dict[str, Path] = {}
    for name in dict.fromkeys([summary["best"], summary["baseline"]]):
        runs = [run for cell in summary["cells"] if cell["name"] == name for run in cell["runs"]]
        done = next((r for r in runs if r["state"] == "done" and (path / r["run"] / CONFIG).is_file()), None)
        if done is not None:
            found[f"{name}, seed {done['seed']}"] = path / done["run"]
    return found
