"""Running a sweep: one run after the other, claimed, trained, measured and recorded."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sagd_cli.console import Output
from sagd_cli.errors import Interrupted, SagdError
from sagd_cli.evaluation.fidelity import Measures, evaluate
from sagd_cli.evaluation.sources import data_source, run_source
from sagd_cli.files import try_lock, write_json
from sagd_cli.signals import StopRequest, stop_on_signal
from sagd_cli.sweep.plan import Cell, Plan
from sagd_cli.sweep.study import Study
from sagd_cli.training.folder import open_run
from sagd_cli.training.run import train

RESULT = Path("evaluation") / "sweep.json"
KEPT = ("label", "fd", "fd_floor", "kid", "kid_std")


class _Calm(Output):
    """An Output without warnings: what every run would warn of, the table says once."""

    def warn(self, message: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Job:
    """One run of a plan."""

    cell: Cell
    seed: int

    @property
    def key(self) -> str:
        """How the study knows it."""
        return f"{self.cell.name}/seed-{self.seed}"


def jobs_of(plan: Plan) -> Iterator[Job]:
    """All runs, seed by seed, so that every cell has one before any has two."""
    return (Job(cell, seed) for seed in plan.seeds for cell in plan.cells)


def work(plan: Plan, device: torch.device, output: Output, recorded: Callable[[], object]) -> None:
    """Run what nobody else runs, until nothing is left; `recorded` is called after each run.

    A run that fails is recorded and its neighbours are done. Raises Interrupted when a signal asked to stop: the run
    that was in work is saved and waits for the next time.
    """
    study = Study(plan)
    with stop_on_signal() as stop:
        for job in jobs_of(plan):
            path = plan.output / plan.run_path(job.cell, job.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            with try_lock(path.with_name(f"{path.name}.lock")) as held:
                trial = study.claim(job.key) if held else None
                if trial is None:
                    continue
                with study.alive(trial):
                    _run(_Work(plan, job, path, study, trial, device, output, stop))
            recorded()
            _check_stop(stop, plan)


def stopped(signum: int, plan: Plan) -> Interrupted:
    """The error of a sweep that a signal stopped."""
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
    """A claimed run and what it takes to do it."""

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
        result = train(config, self.path, self.device, self.output, until=until)
        return int(result["step"]) * config.training.batch_size

    def measure(self, count: int) -> dict[str, Any]:
        """Return the result of `sagd fid` for `count` samples of the run, of the same seeds for every run."""
        how = self.plan.evaluation
        run = open_run(self.path, self.output)
        options = {} if how.weights is None else {"weights": how.weights}
        measures = Measures(("fid", "kid"), how.features, how.layer, options)
        generated = run_source(run, count, 0, self.device)
        reference = data_source(how.reference)
        return evaluate(generated, reference, measures, self.device, _Calm(**vars(self.output)))


def _run(task: _Work) -> None:
    try:
        _train_and_measure(task)
    except Interrupted as error:
        task.study.release(task.trial)
        raise stopped(error.exit_code - 128, task.plan) from None
    except SagdError as error:
        _fail(task, f"{error.message}. {error.hint}".strip())
    except Exception as error:  # a plug-in, say: the other runs have a right to be done
        _fail(task, f"{type(error).__name__}: {error}")
    except BaseException:
        task.study.release(task.trial)
        raise


def _fail(task: _Work, reason: str) -> None:
    task.output.warn(f"{task.job.key} failed: {reason}")
    task.study.release(task.trial, " ".join(reason.split()))


def _train_and_measure(task: _Work) -> None:
    how, metric = task.plan.evaluation, task.plan.evaluation.metric
    for steps in task.plan.halving.rungs if task.plan.halving else ():
        images = task.train(steps)
        if images not in task.study.reported(task.trial):
            found = task.measure(how.rung_count)
            task.study.report(task.trial, images, found[metric])
            write_json(task.path / RESULT.with_name(f"rung-{images}.json"), found)
        check = task.study.reported(task.trial)[images]
        if task.study.should_prune(task.trial):
            task.study.finish(task.trial, {"value": check, "images": images}, pruned=True)
            return
        _check_stop(task.stop, task.plan)
    images = task.train()
    _check_stop(
        task.stop, task.plan
    )  # a signal that came outside of training ends the run here, where all is saved
    found = task.measure(how.count)
    write_json(task.path / RESULT, found)
    kept = {key: found[key] for key in KEPT if key in found}
    task.study.finish(task.trial, {"value": found[metric], "images": images, **kept})
