"""The shared record of a sweep: an Optuna study with a trial for each run, in a database that machines may share.

A trial waits, runs, and is then complete or pruned. A trial that failed waits, with its error, until a sweep is
started again. When a process is killed, its trial stays "running". The process that finds this takes over the same
trial. In one output folder a file lock tells whether the other process is alive, because SQLite alone does not keep two
processes from claiming one trial. For other folders and machines a sign of life tells it, which is renewed every
minute. When a process comes back that was taken for dead, the run is done twice. The result that was finished first
counts.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sagd_cli.errors import SagdError
from sagd_cli.sweep.plan import Plan
from sagd_cli.sweep.storage import open_storage, quiet, without_address

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

RENEWED, STALE = 60.0, 600.0  # seconds between signs of life, and after which a silent one is taken for dead
KEY, PLACE, ALIVE, RESULT, ERROR = "key", "place", "alive", "result", "error"
WAITING, RUNNING, DONE, PRUNED, FAILED = "waiting", "running", "done", "pruned", "failed"


@dataclass(frozen=True)
class RunState:
    """What the study knows of a run: its state, its result or its error. Of a pruned run, `result` is the last one."""

    state: str = WAITING
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class Study:
    """The study of a sweep in its storage; both are made on first use."""

    def __init__(self, plan: Plan) -> None:
        """Open it; raise SagdError when the storage cannot be used."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        halving, self._output = plan.halving, plan.output.resolve()
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if halving is not None:
            pruner = optuna.pruners.SuccessiveHalvingPruner(halving.first_images, halving.factor)
        try:
            with quiet():
                self._storage = open_storage(plan.storage, plan.output)
                self._study = optuna.create_study(
                    storage=self._storage, study_name=plan.study, pruner=pruner, load_if_exists=True
                )
        except Exception as error:  # SQLAlchemy and the drivers raise what they like
            reason = without_address(" ".join(str(error).split()), plan.storage)[:200]
            raise SagdError(
                f"the study of the sweep cannot be opened: {reason}",
                "A storage is a database URL, such as sqlite:///study.sqlite3 or postgresql://HOST/NAME.",
            ) from None
        self._id = self._storage.get_study_id_from_name(plan.study)

    def enqueue(self, keys: list[str]) -> None:
        """Add a waiting trial for each key that has none; let each failed run be tried once more."""
        known = self._trials()
        for key in keys:
            if key not in known:
                self._study.enqueue_trial({}, user_attrs={KEY: key})
            elif known[key].user_attrs.get(ERROR) is not None:
                with _unless_finished():
                    self._set(self._number(known[key]), ERROR, None)

    def _trials(self) -> "dict[str, FrozenTrial]":
        """The trial of each key; the first one where two machines added it at the same time."""
        found: dict[str, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            found.setdefault(trial.user_attrs.get(KEY, ""), trial)
        return found

    def records(self) -> dict[str, RunState]:
        """Return what is known of each run, by its key."""
        return {key: _record(trial) for key, trial in self._trials().items()}

    def claim(self, key: str) -> int | None:
        """Take the run `key`, whose file lock the caller holds; return its trial, or None when it cannot be taken.

        It cannot be taken when it is done, in work, or has failed since the sweep was started.
        """
        import optuna

        found, states = self._trials()[key], optuna.trial.TrialState
        if found.state.is_finished() or found.user_attrs.get(ERROR) is not None:
            return None
        if found.state == states.RUNNING and not self._is_dead(found):
            return None
        trial = self._number(found)
        with _unless_finished():
            if found.state == states.RUNNING:
                self.release(trial)
            # The sign of life comes before the state, so that nobody sees a running trial without one. The place comes
            # after it, because only one process wins the trial.
            self._set(trial, ALIVE, time.time())
            if self._storage.set_trial_state_values(trial, states.RUNNING):
                self._set(trial, PLACE, self._place)
                return trial
        return None

    @property
    def _place(self) -> str:
        """The machine and folder of the file locks of this process."""
        return f"{socket.gethostname()}:{self._output}"

    def _is_dead(self, trial: "FrozenTrial") -> bool:
        """Whether nobody works on a running trial; the caller holds its file lock in this folder."""
        if trial.user_attrs.get(PLACE) == self._place:
            return True
        return time.time() - float(trial.user_attrs.get(ALIVE, 0)) >= STALE

    def _number(self, trial: "FrozenTrial") -> int:
        """The number by which the storage knows a trial."""
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number))

    @contextmanager
    def alive(self, trial: int) -> Iterator[None]:
        """Renew the sign of life of a claimed trial while the block runs."""
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
        """Let a claimed trial wait again; `error` says why it failed, if it did."""
        import optuna

        with _unless_finished():
            self._set(trial, PLACE, None)
            self._set(trial, ERROR, error)
            self._storage.set_trial_state_values(trial, optuna.trial.TrialState.WAITING)

    def finish(self, trial: int, result: dict[str, Any], pruned: bool = False) -> None:
        """End a claimed trial with its result, whose `value` is what counts, unless another process has ended it."""
        import optuna

        state = optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE
        with _unless_finished():
            self._set(trial, RESULT, result)
            self._storage.set_trial_state_values(trial, state, [result["value"]])

    def reported(self, trial: int) -> dict[int, float]:
        """Return the values that were reported of a trial, by the images of training."""
        return dict(self._storage.get_trial(trial).intermediate_values)

    def report(self, trial: int, images: int, value: float) -> None:
        """Report the value of a run after `images` images of training."""
        with _unless_finished():
            self._storage.set_trial_intermediate_value(trial, images, value)

    def should_prune(self, trial: int) -> bool:
        """Whether the run is to be stopped at the last rung it reported."""
        return bool(self._study.pruner.prune(self._study, self._storage.get_trial(trial)))

    def _set(self, trial: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial, key, value)


def _record(trial: "FrozenTrial") -> RunState:
    error = trial.user_attrs.get(ERROR)
    states = {"WAITING": FAILED if error else WAITING, "RUNNING": RUNNING, "COMPLETE": DONE, "PRUNED": PRUNED}
    return RunState(states.get(trial.state.name, FAILED), trial.user_attrs.get(RESULT, {}), error)


def _unless_finished() -> suppress:
    """Ignore what is written to a trial that another process has finished."""
    import optuna

    return suppress(optuna.exceptions.UpdateFinishedTrialError)
