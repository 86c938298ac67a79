"""Running a sweep: one run after the other, claimed, trained, measured and recorded."""

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sagd_cli.datasets.loading import data_size
from sagd_cli.errors import Interrupted, SagdError
from sagd_cli.evaluation.result import RESULTS
from sagd_cli.metrics.catalogue import distance_keys
from sagd_cli.sweep.plan import Cell, Plan
from sagd_cli.sweep.scoring import measure
from sagd_cli.sweep.study import Study
from sagd_cli.system.console import Output
from sagd_cli.system.failures import foreseen, named_error
from sagd_cli.system.files import try_lock, write_json
from sagd_cli.system.signals import StopRequest, stop_on_signal
from sagd_cli.training.train import Conduct, run_training

RESULT = "sweep.json"  # of a run, among its results
MEASURED_WITH = "measured_with"


@dataclass(frozen=True)
class Job:
    """One run of a plan."""

    cell: Cell
    seed: int

    @property
    def key(self) -> str:
        """The name by which the study knows it."""
        return f"{self.cell.name}/seed-{self.seed}"


def jobs_of(plan: Plan) -> Iterator[Job]:
    """Give all runs, seed by seed, so that every cell has one before any has two."""
    return (Job(cell, seed) for seed in plan.seeds for cell in plan.cells)


def work(plan: Plan, device: torch.device, output: Output, recorded: Callable[[], object]) -> None:
    """Do the runs that no other process does, until none is left; `recorded` is called after each run.

    A run that fails is recorded, and the others are done. Raises Interrupted when a signal asked to stop: the run that
    was in work is saved and waits for the next time.
    """
    study = Study(plan)
    with stop_on_signal() as stop:
        found = True
        while found:  # a run that a dying process still held the first time may be free the next time
            found = False
            for job in jobs_of(plan):
                _check_stop(stop, plan)
                if _attempt(plan, job, study, device, output, stop):
                    found = True
                    recorded()
        _check_stop(stop, plan)


def _attempt(
    plan: Plan, job: Job, study: Study, device: torch.device, output: Output, stop: StopRequest
) -> bool:
    """Do a run, if it can be taken; return whether it was."""
    path = plan.output / plan.run_path(job.cell, job.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with try_lock(path.with_name(f"{path.name}.lock")) as held:
        trial = study.claim(job.key) if held else None
        if trial is None:
            return False
        with study.alive(trial):
            _run(
                _Work(
                    plan=plan,
                    job=job,
                    path=path,
                    study=study,
                    trial=trial,
                    device=device,
                    output=output,
                    stop=stop,
                )
            )
    return True


def stopped(signum: int, plan: Plan) -> Interrupted:
    """Return the error of a sweep that a signal stopped."""
    return Interrupted(
        signum,
        f"stopped; what is done of the sweep is in {plan.output}",
        "Run the same command again to go on.",
    )


def _check_stop(stop: StopRequest, plan: Plan) -> None:
    if stop.requested():
        raise stopped(stop.signum or signal.SIGTERM, plan)


@dataclass(frozen=True)
class _Work:
    """A claimed run and what is needed to do it."""

    plan: Plan
    job: Job
    path: Path
    study: Study
    trial: int
    device: torch.device
    output: Output
    stop: StopRequest

    def train(self, until: int | None = None) -> int:
        """Train to the end or to a number of steps; return the images seen."""
        self.output.note(f"{self.job.key}")
        config = self.job.cell.with_seed(self.job.seed)
        result = run_training(config, self.path, self.device, self.output, Conduct(until=until))
        return int(result["step"]) * config.training.batch_size

    def measure(self, count: int, name: str) -> dict[str, Any]:
        """Return the result of `sagd fid` for `count` samples, and write it as `name`.

        Raises SagdError when the figure is not finite, and when the runs before were measured with something else.
        """
        how = self.plan.evaluation
        found = measure(self.path, how, count, self.device, self.output)
        if not math.isfinite(found[how.metric]):
            raise SagdError(f"the {how.metric} of its samples is not finite")
        others = {record.result.get(MEASURED_WITH) for record in self.study.records().values()}
        if not others <= {None, _measured_with(found)}:
            raise SagdError("the reference's images or the features are not those of the runs before")
        write_json(self.path / RESULTS / name, found)
        return found


def _run(task: _Work) -> None:
    try:
        _train_and_measure(task)
    except Interrupted as error:
        task.study.release(task.trial)
        raise stopped(error.exit_code - 128, task.plan) from None
    except Exception as error:  # for example from a plug-in; the other runs are done nevertheless
        known = error if isinstance(error, SagdError) else foreseen(error)
        _fail(task, f"{known.message}. {known.hint}".strip() if known else named_error(error))
    except BaseException:
        task.study.release(task.trial)
        raise


def _fail(task: _Work, reason: str) -> None:
    task.output.warn(f"{task.job.key} failed: {reason}")
    task.study.release(task.trial, " ".join(reason.split()))


def _train_and_measure(task: _Work) -> None:
    if _is_pruned(task):
        return
    images = task.train()
    # A signal that came outside of training ends the run here, where all is saved.
    _check_stop(task.stop, task.plan)
    how = task.plan.evaluation
    found = task.measure(how.count, RESULT)
    kept = {key: found[key] for key in ("label", *distance_keys()) if key in found}
    result = {"value": found[how.metric], "images": images, **kept, MEASURED_WITH: _measured_with(found)}
    task.study.finish(task.trial, result)


def _is_pruned(task: _Work) -> bool:
    """Train to each rung in turn; return whether the run was stopped at one of them."""
    how = task.plan.evaluation
    for steps in task.plan.halving.rungs if task.plan.halving else ():
        images = steps * task.job.cell.config.training.batch_size
        reported = task.study.reported(task.trial)
        if any(later > images for later in reported):
            continue  # it has passed this rung before
        if images not in reported:
            task.train(steps)
            value = task.measure(how.rung_count, f"rung-{images}.json")[how.metric]
            task.study.report(task.trial, images, value)
        if task.study.should_prune(task.trial) and not _is_baseline(task):
            value = task.study.reported(task.trial)[images]
            task.study.finish(task.trial, {"value": value, "images": images}, pruned=True)
            return True
        _check_stop(task.stop, task.plan)
    return False


def _measured_with(result: Mapping[str, Any]) -> str:
    """Return what has to be the same for all runs: the hashes of the images of the reference and of the weights."""
    return f"{result['receipt']['reference']['sha256']} {result['receipt']['weights_sha256']}"


def _is_baseline(task: _Work) -> bool:
    """Whether other cells are compared with this one, so that it is never stopped early."""
    config = task.job.cell.config
    return task.job.cell.is_white(data_size(config.dataset, config.class_conditional).shape[1:])
