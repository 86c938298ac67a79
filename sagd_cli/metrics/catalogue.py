"""The metrics of `sagd fid`, one record each, and the figures of a result. No torch.

A new metric is a function in a module of its own and a row here. Everything that names metrics reads this table.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sagd_cli.system.choices import Choice, choices

# What a metric is computed from: the moments of both sides, the rows of both sides, or the classifier's answers for the
# generated images alone.
MOMENTS, ROWS, LOGITS = "moments", "rows", "logits"


@dataclass(frozen=True)
class Figure:
    """One figure of a result, by its `key`.

    `label` is its name for people. An empty one stands for the label of the result, which names features and count.
    `names_features` says that the name of the features is added to it. `deviation` is the key of a deviation that the
    metric finds itself, and `remark` says over what. `floor` is the key of what chance alone would give.
    """

    key: str
    label: str
    names_features: bool = False
    deviation: str | None = None
    remark: str = ""
    floor: str | None = None

    @property
    def keys(self) -> list[str]:
        """All its keys in a result."""
        return [key for key in (self.key, self.floor, self.deviation) if key is not None]

    def title(self, label: str) -> str:
        """Return what a table calls it; `label` is that of the result."""
        return self.label or label

    def full_title(self, label: str) -> str:
        """Return what it is called where features and count have to be said; `label` is that of the result."""
        return f"{self.label} ({label})" if self.label else label


@dataclass(frozen=True)
class Metric(Choice):
    """One metric.

    `build` names a function of two blocks, the generated one and the reference. It returns the values of `figures` and
    of their deviations, by key. `needs` is what it reads of the blocks: MOMENTS, ROWS or LOGITS. `fewest` is the least
    number of images of a block. `is_distance` says that its first figure is a distance, the smaller the better: sweeps
    rank by it, and it is measured when no metric is asked for. (Its gate, --max-NAME, is an option of
    `commands/fid.py`.) `settings` are what else its figures
    depend on. Their names are keys of the receipt, and they are computed from the two counts of images.
    """

    figures: tuple[Figure, ...]
    needs: str
    fewest: int
    is_distance: bool = False
    settings: tuple[Choice, ...] = ()

    @property
    def figure(self) -> Figure:
        """The figure that counts."""
        return self.figures[0]


_ROOM = "sagd_cli.metrics"

METRICS = choices(
    Metric(
        "fid",
        "the Fréchet distance",
        f"{_ROOM}.frechet:frechet_figures",
        figures=(Figure("fd", "", floor="fd_floor"),),
        needs=MOMENTS,
        fewest=2,
        is_distance=True,
    ),
    Metric(
        "kid",
        "the kernel distance KID",
        f"{_ROOM}.kernel:kernel_figures",
        figures=(Figure("kid", "KID", names_features=True, deviation="kid_std", remark="over subsets"),),
        needs=ROWS,
        fewest=4,
        is_distance=True,
        settings=(Choice("kid_subset_size", "size of KID's subsets", f"{_ROOM}.kernel:subset_size"),),
    ),
    Metric(
        "prc",
        "precision and recall",
        f"{_ROOM}.scores:precision_recall_figures",
        figures=(Figure("precision", "precision"), Figure("recall", "recall")),
        needs=ROWS,
        fewest=4,
    ),
    Metric(
        "isc",
        "the Inception score",
        f"{_ROOM}.scores:inception_score_figures",
        figures=(Figure("isc", "IS", names_features=True, deviation="isc_std"),),
        needs=LOGITS,
        fewest=10,
    ),
)


def distances() -> dict[str, Metric]:
    """Return the metrics whose figure is a distance, by name."""
    return {name: metric for name, metric in METRICS.items() if metric.is_distance}


def distance_keys() -> list[str]:
    """Return the keys of all distances in a result, with those of their floors and deviations."""
    return [key for metric in distances().values() for key in metric.figure.keys]


def distance_figure(key: str) -> Figure:
    """Return the figure of the distance that has this key; raise KeyError when there is none."""
    return {metric.figure.key: metric.figure for metric in distances().values()}[key]


def figures() -> Iterator[Figure]:
    """Give the figures of all metrics."""
    return (figure for metric in METRICS.values() for figure in metric.figures)
