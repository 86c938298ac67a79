"""What the configuration of a diffusers scheduler says of the model that was trained with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sagd_cli.diffusion.catalogue import SCHEDULES, SPACINGS
from sagd_cli.diffusion.schedule_tables import TABLE_STEPS, log_snr_table
from sagd_cli.errors import DataError, suggest
from sagd_cli.spectral.grid import Array

# Each with the sampler that a run draws by. That of DDPM is the default: its configuration says how a model was
# trained, and its own sampler takes a thousand steps.
SCHEDULERS = {
    "DDPMScheduler": "dpmpp",
    "DDPMParallelScheduler": "dpmpp",
    "DDIMScheduler": "ddim",
    "DDIMParallelScheduler": "ddim",
    "DPMSolverMultistepScheduler": "dpmpp",
    "DPMSolverSinglestepScheduler": "dpmpp",
    "DEISMultistepScheduler": "dpmpp",
    "UniPCMultistepScheduler": "unipc",
    "EulerDiscreteScheduler": "dpmpp",
    "EulerAncestralDiscreteScheduler": "dpmpp",
    "PNDMScheduler": "dpmpp",
}
PREDICTED = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
DDIM_STEPS = 50  # the default is too few for it
SAME_LEVELS = 1e-3  # the largest difference of log-SNR: tables are written in float32


@dataclass(frozen=True)
class TrainedProcess:
    """The schedule and the prediction of a model, settings of sampling, the scheduler, and what to know besides."""

    schedule: str
    prediction: str
    sampling: Mapping[str, Any] = field(default_factory=dict)
    scheduler: str = ""
    notes: tuple[str, ...] = ()


def read_process(scheduler: Mapping[str, Any], source: str) -> TrainedProcess:
    """Return what the configuration of a `scheduler` says; a key that is missing has diffusers' default.

    Raises DataError, which names `source`, for a scheduler, noise levels or a prediction that a run cannot have.
    """
    name, predicted = scheduler.get("_class_name"), scheduler.get("prediction_type", "epsilon")
    flow = (
        "FlowMatch" in str(name),
        predicted == "flow_prediction",
        bool(scheduler.get("use_flow_sigmas")),
    )
    if any(flow):
        raise DataError(
            f"{source}: the model was trained by flow matching, which runs do not have yet ({name})",
            "Models of DDPM's process can be imported.",
        )
    if not isinstance(name, str) or name not in SCHEDULERS:
        raise DataError(f"{source}: unknown scheduler {name}", suggest(str(name), SCHEDULERS))
    if not isinstance(predicted, str) or predicted not in PREDICTED:
        raise DataError(
            f"{source}: unknown prediction_type {predicted!r}", suggest(str(predicted), PREDICTED)
        )
    return TrainedProcess(
        _schedule(scheduler, source),
        PREDICTED[predicted],
        _sampling(scheduler, SCHEDULERS[name]),
        name,
        tuple(_notes(scheduler)),
    )


def _sampling(scheduler: Mapping[str, Any], sampler: str) -> dict[str, Any]:
    sampling: dict[str, Any] = {"sampler": sampler}
    if sampler == "dpmpp" and scheduler.get("algorithm_type") == "sde-dpmsolver++":
        sampling["sampler"] = "dpmpp-sde"
    if sampler == "ddim":
        sampling["steps"] = DDIM_STEPS
    spacing = scheduler.get("timestep_spacing")
    return sampling | ({"spacing": spacing} if isinstance(spacing, str) and spacing in SPACINGS else {})


def _schedule(scheduler: Mapping[str, Any], source: str) -> str:
    """Return the name of the schedule with the noise levels of `scheduler`."""
    count = scheduler.get("num_train_timesteps", TABLE_STEPS)
    if scheduler.get("rescale_betas_zero_snr"):
        raise DataError(
            f"{source}: rescale_betas_zero_snr is true, and no schedule of a run ends in noise alone",
            "Such a model cannot be imported.",
        )
    if count != TABLE_STEPS:
        raise DataError(
            f"{source}: num_train_timesteps is {count!r}, and schedules of a run have {TABLE_STEPS} levels",
            "Such a model cannot be imported.",
        )
    name, levels = scheduler.get("beta_schedule", "linear"), _levels(scheduler)
    if levels is not None:
        tables = {known: log_snr_table(known) for known in SCHEDULES if SCHEDULES[known].preserves_variance}
        for known, table in tables.items():
            if len(table) == len(levels) and np.abs(table - levels).max() <= SAME_LEVELS:
                return known
    ends = ", ".join(f"{key} {scheduler[key]}" for key in ("beta_start", "beta_end") if key in scheduler)
    given = "trained_betas" if scheduler.get("trained_betas") is not None else f"beta_schedule {name}"
    raise DataError(
        f"{source}: no schedule has the noise levels of {given}{f' ({ends})' if ends else ''}",
        "Known: linear from 1e-4 to 0.02, and squaredcos_cap_v2.",
    )


def _levels(scheduler: Mapping[str, Any]) -> Array | None:
    """Return log-SNR at each time step, or None where the betas are of an unknown kind or none at all."""
    name, trained = scheduler.get("beta_schedule", "linear"), scheduler.get("trained_betas")
    if trained is None and name == "squaredcos_cap_v2":
        return log_snr_table("cosine")
    try:
        first, last = float(scheduler.get("beta_start", 1e-4)), float(scheduler.get("beta_end", 0.02))
        if trained is not None:
            betas = np.asarray(trained, dtype=np.float64)
        elif name in ("linear", "scaled_linear"):
            power = 1.0 if name == "linear" else 0.5
            betas = np.linspace(first**power, last**power, TABLE_STEPS) ** (1 / power)
        else:
            return None
        if betas.shape != (TABLE_STEPS,) or not np.all((betas > 0) & (betas < 1)):
            return None
    except (TypeError, ValueError):
        return None
    kept = np.cumprod(1 - betas)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _notes(scheduler: Mapping[str, Any]) -> list[str]:
    """Return where a run draws otherwise than this scheduler."""
    notes = []
    name = scheduler.get("_class_name")
    clips = scheduler.get("clip_sample", name in ("DDPMScheduler", "DDIMScheduler"))
    is_static = bool(clips) and scheduler.get("clip_sample_range", 1.0) == 1
    if not (is_static or scheduler.get("thresholding")):
        notes.append("its scheduler does not clip images to [-1, 1] on the way; runs on pixels do")
    if scheduler.get("thresholding") and scheduler.get("sample_max_value", 1.0) != 1:
        notes.append("its scheduler thresholds images dynamically; runs do not")
    if str(scheduler.get("variance_type", "")).startswith("learned"):
        notes.append("its scheduler draws with learned variances; runs do not use them")
    return notes
