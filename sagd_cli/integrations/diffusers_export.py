"""A run as a folder of diffusers: its network, the scheduler that equals its sampler, its noise and a model card."""

import inspect
from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    UNet2DModel,
    UniPCMultistepScheduler,
)

from sagd_cli.config.run import SamplingConfig
from sagd_cli.diffusion.catalogue import SCHEDULES
from sagd_cli.diffusion.schedule import Schedule, make_schedule
from sagd_cli.diffusion.time_grids import LOWEST_LOG_SNR
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.integrations.catalogue import ExportRequest
from sagd_cli.integrations.diffusers import PREDICTION_TYPES, SagdPipeline
from sagd_cli.integrations.model_card import model_card, sample_command
from sagd_cli.integrations.shaped_schedulers import set_timesteps
from sagd_cli.integrations.shaping import NOISE_JSON, Shaping
from sagd_cli.model.model import Model
from sagd_cli.run.folder import open_run
from sagd_cli.run.manifest import has_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.spectral.noise import SpectralNoise
from sagd_cli.system.console import Output
from sagd_cli.system.files import atomic_folder, reason_of, refuse_existing

ENTRIES = 1000  # of a scheduler's table, as of ours
_SOLVER = {"solver_order": 2, "lower_order_final": True, "final_sigmas_type": "zero"}
_MULTISTEP = {**_SOLVER, "solver_type": "midpoint", "lambda_min_clipped": LOWEST_LOG_SNR / 2}

# The schedulers that equal a sampler, with their settings.
EQUAL_SCHEDULERS: dict[str, tuple[type, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {"set_alpha_to_one": True}),
    "ddpm": (DDPMScheduler, {"variance_type": "fixed_small"}),
    "dpmpp": (DPMSolverMultistepScheduler, {**_MULTISTEP, "algorithm_type": "dpmsolver++"}),
    "dpmpp-sde": (DPMSolverMultistepScheduler, {**_MULTISTEP, "algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {**_SOLVER, "solver_type": "bh2", "predict_x0": True}),
}


def export_to_diffusers(request: ExportRequest, output: Output) -> dict[str, Any]:
    """Write the run as a folder of diffusers, whole or not at all; return what was written.

    Raises UsageError for a run that has no such form, and where the folder exists.
    """
    target = request.target
    refuse_existing(target, request.force)
    if target.is_dir() and any(target.iterdir()) and not (target / NOISE_JSON).is_file():
        raise UsageError(
            f"{target} is no folder of an exported run, so it is not replaced", "Choose another name."
        )
    run = open_run(request.run, output)
    if any(has_run(folder) for folder in target.resolve().parents):
        raise UsageError(f"{target} lies in the folder of a run", "Choose another name.")
    model = run.model(torch.device("cpu"), request.ema_images)
    sampling = sampling_of(run.config, {**request.sampling, "spacing": "trailing"})
    pipeline = pipeline_of(model, sampling)
    pipeline.shaping = replace(pipeline.shaping, family=run.filter)
    command = sample_command(model, sampling)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(target) as folder:
            pipeline.save_pretrained(folder)
            (folder / "README.md").write_text(model_card(run, pipeline, command, output), encoding="utf-8")
    except OSError as error:
        raise SagdError(
            f"{target} could not be written: {reason_of(error)}", "Check the disk's space and permissions."
        ) from error
    return {
        "output": str(target),
        "to": "diffusers",
        "network": type(pipeline.network).__name__,
        "scheduler": type(pipeline.scheduler).__name__,
        "steps": sampling.steps,
        "ema_images": model.ema_images,
        "equals": command,
    }


def pipeline_of(model: Model, sampling: SamplingConfig) -> SagdPipeline:
    """Return the pipeline that draws what `model` draws with `sampling` and the spacing `trailing`.

    Raises UsageError when diffusers has no form for the network, the schedule, the prediction or the sampler.
    """
    if sampling.fill == "prior":
        raise UsageError(
            "diffusers has no prior to fill with", "Set the run's sampling.fill to zero or mean."
        )
    generator = ImageGenerator(model, sampling)  # which refuses what cannot be drawn
    network = _network_of(model)
    scheduler = _scheduler_of(model, sampling)
    set_timesteps(scheduler, sampling.steps)
    fill = None
    if generator.fill == "mean":
        mean = torch.as_tensor(model.moments["mean"], dtype=torch.float32)
        fill = (mean - SpectralNoise(model.filter).project(mean)).numpy()
    # An imported model may have no embedding of "no class", which only our network takes for zero.
    knows_no_class = network.config.get("num_class_embeds") != len(model.classes or ())
    shaping = Shaping(
        filter=model.filter,
        shape=model.shape,
        steps=sampling.steps,
        eta=sampling.eta if sampling.sampler == "ddim" else 0.0,
        guidance=sampling.guidance,
        drops_labels=model.classes is not None and model.config.training.label_dropout > 0 and knows_no_class,
        blind=model.config.blind,
        has_pixels=model.has_pixels,
        classes=model.classes,
        fill=fill,
    )
    kind = "transformer" if isinstance(network, DiTTransformer2DModel) else "unet"
    return SagdPipeline(scheduler, shaping=shaping, **{kind: network})


def _network_of(model: Model) -> UNet2DModel | DiTTransformer2DModel:
    """Return the diffusers model that the network of `model` is, or is one with labels around; or raise UsageError."""
    own, backbone = model.network, model.config.backbone.name
    known = (UNet2DModel, DiTTransformer2DModel)
    found = next((part for part in (own, *own.children()) if isinstance(part, known)), None)
    weights = 0 if found is None else len(found.state_dict())
    if found is None or weights != len(own.state_dict()):
        raise UsageError(
            f"the backbone {backbone} of {model.name} is no model of diffusers", "Those of unet and dit are."
        )
    if found.config.in_channels != model.shape[0]:
        raise UsageError(
            f"the network of {model.name} folds pixels into channels, which no model of diffusers does",
            "Train with --set backbone.options.patch=1.",
        )
    return found


def _scheduler_of(model: Model, sampling: SamplingConfig) -> Any:
    """Return the scheduler that equals the sampler; raise UsageError when diffusers has none."""
    config = model.config
    if sampling.sampler not in EQUAL_SCHEDULERS:
        raise UsageError(
            f"diffusers has no scheduler that equals the sampler {sampling.sampler}",
            f"Give --sampler: {', '.join(EQUAL_SCHEDULERS)} have one.",
        )
    predictions = {ours: theirs for theirs, ours in PREDICTION_TYPES.items()}
    if not SCHEDULES[config.schedule].preserves_variance or config.prediction not in predictions:
        wrong = (
            f"prediction {config.prediction}"
            if SCHEDULES[config.schedule].preserves_variance
            else f"schedule {config.schedule}"
        )
        raise UsageError(
            f"the {wrong} of {model.name} has no counterpart in diffusers' schedulers",
            f"Train with --schedule linear or cosine and --prediction {', '.join(predictions)}.",
        )
    schedule = make_schedule(config.schedule)
    if sampling.sampler == "unipc" and schedule.time_of(LOWEST_LOG_SNR) < 1:
        raise UsageError(
            f"diffusers' UniPC starts at the end of the schedule {config.schedule}, where alpha is almost zero",
            "Give --sampler dpmpp.",
        )
    kind, settings = EQUAL_SCHEDULERS[sampling.sampler]
    clips = "clip_sample" if "clip_sample" in inspect.signature(kind).parameters else "thresholding"
    # With a largest value of 1, their thresholding is clipping to [-1, 1].
    return kind(
        num_train_timesteps=ENTRIES,
        **_betas(schedule),
        **settings,
        prediction_type=predictions[config.prediction],
        timestep_spacing="trailing",
        sample_max_value=1.0,
        **{clips: model.filter.is_complete and model.has_pixels},
    )


def _betas(schedule: Schedule) -> dict[str, Any]:
    """Return the settings of a scheduler's table: a name of theirs where its alpha_t^2 are ours, else the betas."""
    alpha_bar = torch.sigmoid(schedule.log_snr(torch.linspace(0, 1, ENTRIES, dtype=torch.float64)))
    for name in ("linear", "squaredcos_cap_v2"):
        theirs = DDPMScheduler(ENTRIES, beta_schedule=name).alphas_cumprod.double()
        if (theirs - alpha_bar).abs().max() < 1e-6:
            return {"beta_schedule": name}
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    return {"trained_betas": (1 - alpha_bar / before).tolist()}
