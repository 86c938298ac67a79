"""The shared record of a sweep: an Optuna study with a trial for each run, in a database that machines may share.

A trial waits, runs, and is complete or pruned; one that failed waits with its error until a sweep is started again.
The kill of its process leaves it running: whoever finds that takes the same trial over. Within one output folder a
file lock tells the living from the dead, since SQLite alone does not keep two processes from claiming one trial;
elsewhere, in another output of the same machine too, a sign of life does, renewed every minute. Should a process come
back that was taken for dead, the run is done twice and counts once, as it was finished first.
"""

import socket
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sagd_cli.errors import SagdError, UsageError
from sagd_cli.sweep.plan import Plan

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

STUDY = "study.sqlite3"
RENEWED, STALE = 60.0, 600.0  # seconds between signs of life, and after which a silent one is taken for dead
SQLITE_PATIENCE = 60.0  # seconds to wait for a SQLite file that another process writes to
OPENED = 3  # times to try: of several processes that make the tables of a new database at once, one succeeds
KEY, PLACE, ALIVE, RESULT, ERROR = "key", "place", "alive", "result", "error"
WAITING, RUNNING, DONE, PRUNED, FAILED = "waiting", "running", "done", "pruned", "failed"


@dataclass(frozen=True)
class RunState:
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
        halving, self._output = plan.halving, plan.output.resolve()
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if halving is not None:
            pruner = optuna.pruners.SuccessiveHalvingPruner(halving.first_images, halving.factor)
        try:
            with _quiet():
                self._storage = _open(plan)
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
        """Add a waiting trial for each key that has none; let those that failed be tried once more."""
        known = self._trials()
        for key in keys:
            if key not in known:
                self._study.enqueue_trial({}, user_attrs={KEY: key})
            elif known[key].user_attrs.get(ERROR) is not None:
                with _unless_finished():
                    self._set(self._number(known[key]), ERROR, None)

    def _trials(self) -> "dict[str, FrozenTrial]":
        """The trial of each key: the first, where two machines added one at the same time."""
        found: dict[str, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            found.setdefault(trial.user_attrs.get(KEY, ""), trial)
        return found

    def records(self) -> dict[str, RunState]:
        """What is known of each run, by key."""
        return {key: _record(trial) for key, trial in self._trials().items()}

    def claim(self, key: str) -> int | None:
        """Take the run `key`, whose file lock the caller holds; return its trial, or None when it is not to be had.

        It is not when it is done, in work, or has failed since the sweep was started.
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
            # Before it runs, so that nobody sees it run without a sign of life; its place after, as only one wins it.
            self._set(trial, ALIVE, time.time())
            if self._storage.set_trial_state_values(trial, states.RUNNING):
                self._set(trial, PLACE, self._place)
                return trial
        return None

    @property
    def _place(self) -> str:
        """Where the file locks of this process are."""
        return f"{socket.gethostname()}:{self._output}"

    def _is_dead(self, trial: "FrozenTrial") -> bool:
        """Whether nobody works on a running trial whose file lock here the caller holds."""
        if trial.user_attrs.get(PLACE) == self._place:
            return True
        return time.time() - float(trial.user_attrs.get(ALIVE, 0)) >= STALE

    def _number(self, trial: "FrozenTrial") -> int:
        """What the storage knows a trial by."""
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number))

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
        """The values reported of a trial, by images."""
        return dict(self._storage.get_trial(trial).intermediate_values)

    def report(self, trial: int, images: int, value: float) -> None:
        """Report the value of a run after so many images of training."""
        with _unless_finished():
            self._storage.set_trial_intermediate_value(trial, images, value)

    def should_prune(self, trial: int) -> bool:
        """Whether the run is not among those that go on from the last rung it reported."""
        return bool(self._study.pruner.prune(self._study, self._storage.get_trial(trial)))

    def _set(self, trial: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial, key, value)


def _record(trial: "FrozenTrial") -> RunState:
    error = trial.user_attrs.get(ERROR)
    states = {"WAITING": FAILED if error else WAITING, "RUNNING": RUNNING, "COMPLETE": DONE, "PRUNED": PRUNED}
    return RunState(states.get(trial.state.name, FAILED), trial.user_attrs.get(RESULT, {}), error)


def _open(plan: Plan) -> "RDBStorage":
    """Open the database of a plan, the one in its output by default."""
    import optuna
    from sqlalchemy.exc import DBAPIError

    options: dict[str, Any] = {
        "pool_pre_ping": True
    }  # a server closes what was silent for the hours of a run
    url = plan.storage or f"sqlite:///{STUDY}"
    if plan.storage is None:
        path = plan.output.resolve() / STUDY
        # By a function, as an address would read ?, % and {} in the path in its own way.
        options["creator"] = lambda: sqlite3.connect(path, timeout=SQLITE_PATIENCE, check_same_thread=False)
    elif url.startswith("sqlite"):
        options["connect_args"] = {"timeout": SQLITE_PATIENCE}
    for _ in range(OPENED - 1):
        with suppress(DBAPIError):
            return optuna.storages.RDBStorage(url, options)
        time.sleep(0.5)
    return optuna.storages.RDBStorage(url, options)


def _unless_finished() -> suppress:
    """Let what cannot be said of a finished trial go unsaid."""
    import optuna

    return suppress(optuna.exceptions.UpdateFinishedTrialError)


def check_storage(url: str) -> None:
    """Raise UsageError when `url` is no address of a database, or of one whose driver is not installed."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        make_url(url).get_dialect().import_dbapi()
    except (SQLAlchemyError, ValueError):  # what it says may quote a password
        raise UsageError(
            "--storage is no address of a database that SQLAlchemy knows",
            "For example sqlite:///study.sqlite3 or postgresql://HOST/NAME.",
        ) from None
    except ImportError as error:
        raise UsageError(
            f"the driver of the database of --storage is not installed: {error}",
            "For example, PostgreSQL needs `pip install psycopg2-binary`.",
        ) from None


def without_password(url: str) -> str:
    """An address as it may be written down: *** stands for the password."""
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)


def _without_address(text: str, url: str | None) -> str:
    """A message without the address it may quote, which may hold a password."""
    if url is None:
        return text
    for part in filter(None, (url, url.partition("://")[2])):
        text = text.replace(part, "the storage")
    return text


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy's and Optuna's remarks on their own interfaces
        yield
