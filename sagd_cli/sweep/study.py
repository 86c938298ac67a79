"""The shared record of a sweep: an Optuna study with a trial for each run, in a database that machines may share.

A trial waits, runs, and is complete or pruned. The kill of its process leaves it running: whoever finds that takes the
same trial over, so a run is never done twice. On one machine a file lock tells the living from the dead, since SQLite
alone does not keep two processes from claiming one trial; between machines, a sign of life, renewed every minute.
"""

import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sagd_cli.errors import SagdError
from sagd_cli.sweep.plan import Plan

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

RENEWED, STALE = 60.0, 600.0  # seconds between signs of life, and after which a silent one is taken for dead
KEY, HOST, ALIVE, RESULT, ERROR = "key", "host", "alive", "result", "error"
WAITING, RUNNING, DONE, PRUNED, FAILED = "waiting", "running", "done", "pruned", "failed"


@dataclass(frozen=True)
class Record:
    """What the study knows of a run: its state, its result (or last one before it was pruned), or its error."""

    state: str = WAITING
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class Study:
    """The study of a sweep in its storage, which is made on first use."""

    def __init__(self, plan: Plan) -> None:
        """Open it; raise SagdError when the storage cannot be used."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        halving = plan.halving
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if halving is not None:
            pruner = optuna.pruners.SuccessiveHalvingPruner(halving.first_images, halving.factor)
        try:
            with _quiet():
                self._storage = optuna.storages.RDBStorage(plan.storage)
                self._study = optuna.create_study(
                    storage=self._storage, study_name=plan.study, pruner=pruner, load_if_exists=True
                )
        except Exception as error:  # SQLAlchemy and the drivers raise what they like
            reason = _without_address(" ".join(str(error).split()), plan.storage)[:200]
            raise SagdError(
                f"the study of the sweep cannot be opened: {reason}",
                "A storage is a database URL, such as sqlite:///study.sqlite3 or postgresql://HOST/NAME.",
            ) from None
        self._id = self._storage.get_study_id_from_name(plan.study)

    def enqueue(self, keys: list[str]) -> None:
        """Add a waiting trial for each key that has none."""
        known = self._trials()
        for key in keys:
            if key not in known:
                self._study.enqueue_trial({}, user_attrs={KEY: key})

    def _trials(self) -> "dict[str, FrozenTrial]":
        """The trial of each key: the first, where two machines added one at the same time."""
        found: dict[str, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            found.setdefault(trial.user_attrs.get(KEY, ""), trial)
        return found

    def records(self) -> dict[str, Record]:
        """What is known of each run, by key."""
        return {key: _record(trial) for key, trial in self._trials().items()}

    def claim(self, key: str) -> int | None:
        """Take the run `key`, whose file lock the caller holds; return its trial, or None when it is not to be had."""
        import optuna

        trial = self._trials()[key]
        number = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        if trial.state.is_finished():
            return None
        if trial.state == optuna.trial.TrialState.RUNNING:
            here = trial.user_attrs.get(HOST) == socket.gethostname()
            if not here and time.time() - float(trial.user_attrs.get(ALIVE, 0)) < STALE:
                return None
            self.release(number)
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            if self._storage.set_trial_state_values(number, optuna.trial.TrialState.RUNNING):
                self._set(number, HOST, socket.gethostname())
                self._set(number, ERROR, None)
                return number
        return None

    @contextmanager
    def alive(self, trial: int) -> Iterator[None]:
        """Give signs of life of a claimed trial while the block runs."""
        over = threading.Event()

        def renew() -> None:
            while True:
                with suppress(Exception):  # a database that is away for a moment
                    self._set(trial, ALIVE, time.time())
                if over.wait(RENEWED):
                    return

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def release(self, trial: int, error: str | None = None) -> None:
        """Let a claimed trial wait again, with the error it ended with, if that is why."""
        import optuna

        self._set(trial, ERROR, error)
        self._storage.set_trial_state_values(trial, optuna.trial.TrialState.WAITING)

    def finish(self, trial: int, result: dict[str, Any], pruned: bool = False) -> None:
        """End a claimed trial with its result, whose `value` is what counts."""
        import optuna

        self._set(trial, RESULT, result)
        state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
        self._storage.set_trial_state_values(trial, state, [result["value"]])

    def reported(self, trial: int) -> dict[int, float]:
        """The values reported of a trial, by images."""
        return dict(self._storage.get_trial(trial).intermediate_values)

    def report(self, trial: int, images: int, value: float) -> None:
        """Report the value of a run after so many images of training."""
        self._storage.set_trial_intermediate_value(trial, images, value)

    def should_prune(self, trial: int) -> bool:
        """Whether the run is not among those that go on from the last rung it reported."""
        return bool(self._study.pruner.prune(self._study, self._storage.get_trial(trial)))

    def _set(self, trial: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial, key, value)


def _record(trial: "FrozenTrial") -> Record:
    error = trial.user_attrs.get(ERROR)
    states = {"WAITING": FAILED if error else WAITING, "RUNNING": RUNNING, "COMPLETE": DONE, "PRUNED": PRUNED}
    return Record(states.get(trial.state.name, FAILED), trial.user_attrs.get(RESULT, {}), error)


def _without_address(text: str, url: str) -> str:
    """A message without the address it may quote, which may hold a password."""
    return text.replace(url, "the storage").replace(url.partition("://")[2], "the storage")


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's and Optuna's remarks on their own interfaces
        yield
