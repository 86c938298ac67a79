"""How the runs of a sweep are measured: in the same way, by samples of the same seeds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sagd_cli.errors import UsageError
from sagd_cli.evaluation.checks import check_comparable
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.evaluation.sources import run_source
from sagd_cli.features.extractor import default_features, feature_plugin, load_extractor
from sagd_cli.features.image_source import data_source
from sagd_cli.run.folder import open_run
from sagd_cli.sweep.plan import Evaluation, Plan, hash_file
from sagd_cli.system.console import Output


class _Calm(Output):
    """An Output without warnings: the table says once what every run would warn of."""

    def warn(self, message: str) -> None:
        """Say nothing."""


def measure(path: Path, how: Evaluation, count: int, device: torch.device, output: Output) -> dict[str, Any]:
    """Return the result of `sagd fid` for `count` samples of the run `path`."""
    generated = run_source(open_run(path, output), count, 0, device)
    return evaluate(generated, data_source(how.reference), _measures(how), device, _Calm(**vars(output)))


def check_measure(plan: Plan) -> None:
    """Raise what would keep the samples of a cell from being measured, before anything is trained."""
    how = plan.evaluation
    if how.weights is not None and hash_file(Path(how.weights)) != how.weights_sha256:
        raise UsageError(
            f"{how.weights} is not the file that runs of this sweep were measured with",
            "Choose another --output.",
        )
    reference, measures = data_source(how.reference), _measures(how)
    for cell in {cell.config.dataset.sha256(): cell for cell in plan.cells}.values():
        data = data_source(cell.config.dataset)
        plugin, layer = feature_plugin(how.features or default_features(data.shape), how.layer)
        samples = replace(data, name=f"a run of {cell.name}", count=how.count)
        check_comparable(samples, reference, measures, plugin)
        load_extractor(plugin, measures.options, (layer,), torch.device("cpu"))


def _measures(how: Evaluation) -> Measures:
    options = {} if how.weights is None else {"weights": how.weights}
    return Measures(features=how.features, layer=how.layer, options=options)
