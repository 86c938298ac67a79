"""Plans of sweeps on the digits, ranked by their Fréchet distance."""

from sagd_cli.config.run import DatasetConfig
from sagd_cli.sweep.grid import make_cells, parse_grid
from sagd_cli.sweep.plan import Evaluation, Plan


def a_plan(folder, *texts, seeds=(0,)):
    """Return the plan of the grid `texts` in `folder`, with one run for each cell and seed."""
    cells = make_cells(parse_grid(texts), {}, [], None, None)
    return Plan(
        base=cells[0].config,
        cells=cells,
        seeds=seeds,
        evaluation=Evaluation("fd", 100, DatasetConfig(split="test")),
        halving=None,
        output=folder,
        storage=f"sqlite:///{folder / 'study.sqlite3'}",
    )
