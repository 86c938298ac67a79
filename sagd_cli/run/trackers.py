"""Trackers, to which a training hands its figures and pictures; none of them can stop it. Imports no torch."""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sagd_cli.errors import SagdError, UsageError
from sagd_cli.run.tracker_kinds import Scalars, Tracked, Tracker
from sagd_cli.system.choices import Choice, choices, chosen
from sagd_cli.system.console import Output
from sagd_cli.system.files import read_json, write_json

TRACKERS_FILE = "trackers.json"
LARGEST = 2**20  # bytes of trackers.json

_KINDS = "sagd_cli.run.tracker_kinds"
# A tracker has the name of its package, and of the extra that installs it.
TRACKERS = choices(
    Choice("tensorboard", "event files in RUN/tensorboard", f"{_KINDS}:TensorBoard"),
    Choice("wandb", "Weights & Biases; offline in RUN/wandb without a key", f"{_KINDS}:WeightsAndBiases"),
    Choice("trackio", "trackio, in RUN/trackio", f"{_KINDS}:Trackio"),
    Choice("mlflow", "MLflow, in RUN/mlruns", f"{_KINDS}:MLflow"),
)


def check_trackers(names: Sequence[str]) -> None:
    """Raise UsageError on a name that is no tracker, and on a tracker whose package is missing."""
    for name in names:
        if find_spec(chosen("tracker", name, TRACKERS).name) is None:
            raise UsageError(
                f"--track {name} needs the package {name}, which is not installed",
                f'Install it: pip install "sagd[{name}]".',
            )


@dataclass
class _Following:
    """A tracker that follows a training, and the last step whose record it has."""

    tracker: Tracker
    step: int


@dataclass
class Trackers:
    """The trackers of a training. One that fails is left out from then on, with one warning.

    RUN/trackers.json keeps the id of each tracker's run and the last step it was given, so that a training that goes
    on gives nothing twice.
    """

    run: Path
    output: Output
    _following: dict[str, _Following] = field(default_factory=dict)
    _known: dict[str, Any] = field(default_factory=dict)

    def begin(self, names: Sequence[str], config: Mapping[str, Any]) -> None:
        """Begin, or go on, with the trackers of these names."""
        path = self.run / TRACKERS_FILE
        try:
            self._known = read_json(path, LARGEST) if path.exists() else {}
        except (OSError, ValueError, SagdError) as error:
            self.output.warn(f"{path} cannot be read, so the trackers begin anew: {error}")
        for name in dict.fromkeys(names):
            self._guarded(name, lambda name=name: self._begin(name, config))  # type: ignore[misc]

    def _begin(self, name: str, config: Mapping[str, Any]) -> None:
        known = self._known.get(name, {})
        tracker = TRACKERS[name].load()(Tracked(self.run, config, known.get("id")))
        self._following[name] = _Following(tracker, known.get("step", -1))
        self._keep(name)

    def scalars(self, figures: Scalars, step: int) -> None:
        """Give the figures of a record to those that do not have them."""

        def give(name: str, following: _Following) -> None:
            following.tracker.scalars(figures, step)
            following.step = step
            self._keep(name)

        self._each(step, give)

    def image(self, path: Path, step: int) -> None:
        """Give a contact sheet to those that do not have it."""
        self._each(step, lambda _, following: following.tracker.image("samples", path, step))

    def end(self, final: Scalars, step: int) -> None:
        """End all, with the final figures, none when the training is not finished."""
        named = {f"final/{name}": value for name, value in final.items()}
        self._each(None, lambda _, following: following.tracker.end(named, step))
        self._following.clear()

    def _each(self, step: int | None, give: Callable[[str, _Following], None]) -> None:
        for name, following in list(self._following.items()):
            if step is None or step > following.step:
                self._guarded(name, lambda n=name, f=following: give(n, f))  # type: ignore[misc]

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            # What the libraries print must not mix with the result.
            with redirect_stdout(io.StringIO()):
                work()
        except Exception as error:
            self._following.pop(name, None)
            self.output.warn(f"--track {name} failed and is left out: {type(error).__name__}: {error}")

    def _keep(self, name: str) -> None:
        following = self._following[name]
        self._known[name] = {"id": following.tracker.id, "step": following.step}
        write_json(self.run / TRACKERS_FILE, self._known)
