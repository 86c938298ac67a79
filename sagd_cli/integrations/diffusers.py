"""Shaped noise in diffusers: the pipeline of an exported run, and schedulers whose own steps draw shaped noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
from PIL import Image
from torch import Tensor

from sagd_cli.data.tensors import tensor_pixels
from sagd_cli.diffusion.denoiser import NetworkDenoiser, guided
from sagd_cli.diffusion.prediction import Network, make_prediction
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import Schedule
from sagd_cli.errors import UsageError
from sagd_cli.integrations.shaped_schedulers import (
    ShapedNoiseMixin,
    ShapedVarianceMixin,
    set_timesteps,
    shaped,
    table_log_snr,
)
from sagd_cli.integrations.shaping import Shaping
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.devices import exact_arithmetic

__all__ = ["SagdPipeline", "ShapedNoiseMixin", "ShapedVarianceMixin", "Shaping", "shaped"]

# Our predictions by the names that diffusers has for them.
PREDICTION_TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


class DrawSettings(TypedDict, total=False):
    """How a SagdPipeline draws; what is left out, or None, is as the run draws.

    `num_inference_steps`: network evaluations, doubled by guidance. `class_labels` (B,): the class of each image; by
    default each occurs as often as in the data. `guidance_scale`: 1 is none, 0 leaves classes out.
    """

    num_inference_steps: int | None
    class_labels: Sequence[int] | Tensor | None
    guidance_scale: float | None


class SagdPipeline(DiffusionPipeline):
    """Draws the images of an exported run with shaped noise, as `sagd sample` does."""

    model_cpu_offload_seq = "unet->transformer"
    _optional_components = ["unet", "transformer"]  # noqa: RUF012, which is how diffusers spells it

    def __init__(
        self, scheduler: Any, unet: Any = None, transformer: Any = None, shaping: Shaping | None = None
    ) -> None:
        """Take a standard scheduler, a UNet2DModel or a DiTTransformer2DModel, and the noise."""
        super().__init__()
        if shaping is None:
            raise UsageError(
                "a SagdPipeline needs its noise", "Load one with SagdPipeline.from_pretrained(DIR)."
            )
        self.register_modules(scheduler=scheduler, unet=unet, transformer=transformer)
        self.shaping = shaping

    @property
    def network(self) -> Any:
        """The model: unet or transformer."""
        return self.transformer if self.unet is None else self.unet

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Self:
        """Load a folder of `sagd export` or of `save_pretrained`; `options` are those of diffusers.

        Raises DataError when the noise is missing or damaged.
        """
        options.setdefault("shaping", Shaping.read(Path(folder)))
        loaded: Self = super().from_pretrained(folder, **options)
        return loaded

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Save the pipeline as diffusers does, with the noise."""
        super().save_pretrained(folder, **options)
        self.shaping.write(Path(folder))

    def __call__(
        self,
        num_images: int | None = None,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        **settings: Unpack[DrawSettings],
    ) -> ImagePipelineOutput:
        """Draw images, one for each of `seeds`, or `num_images` whose seeds are drawn from `generator`.

        An image depends on its seed alone: that of `sagd sample --seed S` has the same noise. `output_type`: pil, np
        (B, H, W, C) on [0, 1], or pt (B, C, H, W), the unrounded signals, on [-1, 1] for images with pixels. Raises
        UsageError for settings that do not fit.
        """
        if seeds is None:
            if num_images is not None and num_images < 1:
                raise UsageError("there is no image to draw", "Give num_images=1 or more.")
            if isinstance(generator, Sequence):
                raise UsageError(
                    "several generators are given", "Give one, or seeds=[...], one for each image."
                )
            # Seeds from a generator on any device; torch's own without one.
            where = "cpu" if generator is None else generator.device
            size = (1 if num_images is None else num_images,)
            seeds = torch.randint(2**62, size, generator=generator, device=where).tolist()
        elif generator is not None or num_images not in (None, len(seeds)):
            raise UsageError(f"{len(seeds)} seeds are given", "Leave out generator and num_images.")
        if not len(seeds):
            raise UsageError("there is no image to draw", "Give num_images=1 or more.")
        if output_type not in ("pil", "np", "pt"):
            raise UsageError(f"unknown output_type {output_type!r}", "Types are pil, np and pt.")
        if output_type != "pt" and not (self.shaping.has_pixels and self.shaping.shape[0] in (1, 3)):
            raise UsageError("the images of this run cannot be drawn as pictures", "Give output_type='pt'.")
        signals = self.signals(seeds, **settings)
        if output_type == "pt":
            return ImagePipelineOutput(images=signals)
        if output_type == "np":
            return ImagePipelineOutput(
                images=((signals + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
            )
        pixels = tensor_pixels(signals.permute(0, 2, 3, 1))
        images = [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]
        return ImagePipelineOutput(images=images)

    @torch.inference_mode()
    def signals(self, seeds: Sequence[int], **settings: Unpack[DrawSettings]) -> Tensor:
        """Return the signals of the images of `seeds`, float32 (B, C, H, W)."""
        shaping, device = self.shaping, self._execution_device
        given = settings.get("num_inference_steps")
        steps = shaping.steps if given is None else given
        if steps < 1:
            raise UsageError(f"num_inference_steps is {steps}", "Give 1 or more.")
        noise = SpectralNoise(shaping.filter, device)
        scheduler = shaped(self.scheduler, noise)
        timesteps = set_timesteps(scheduler, steps, device)
        process = ForwardProcess(Schedule(table_log_snr(scheduler).numpy(), device=device), noise)
        prediction = make_prediction(PREDICTION_TYPES[scheduler.config.prediction_type], None, noise)
        network = self._network(seeds, settings.get("class_labels"), settings.get("guidance_scale"))
        denoiser = NetworkDenoiser(network, process, prediction, blind=shaping.blind)
        options: dict[str, Any] = {}
        if isinstance(scheduler, DDIMScheduler):
            options = {"eta": shaping.eta, "use_clipped_model_output": True}
        streams = [random_stream(device, seed, "sample") for seed in seeds]
        if isinstance(scheduler, ShapedNoiseMixin | ShapedVarianceMixin):
            options["generator"] = streams
        times = Schedule.time_of_timestep(timesteps.double())
        x = process.start(process.level(times[0]), (len(seeds), *shaping.shape), streams)
        with exact_arithmetic(device), self.progress_bar(total=len(times)) as bar:
            for t, time in zip(timesteps, times, strict=True):
                # What the network predicts of the noise's own frequencies, as the scheduler takes it.
                output = prediction.target(*denoiser(x, time), process.level(time))
                x = scheduler.step(output, t, x, **options).prev_sample
                bar.update()
        x = noise.project(x)
        return x if shaping.fill is None else x + torch.as_tensor(shaping.fill).to(x)

    def _network(
        self, seeds: Sequence[int], labels: Sequence[int] | Tensor | None, scale: float | None
    ) -> Network:
        """Return the network for the images of `seeds`, guided, or without classes."""
        classes = self.shaping.classes
        scale = self.shaping.guidance if scale is None else scale
        if classes is None:
            if labels is not None or scale != 1:
                raise UsageError("the run was trained without classes", "Leave out labels and guidance.")
            # A transformer without classes has one.
            return self._given([0] * len(seeds) if self.unet is None else None)
        if scale != 1 and not self.shaping.drops_labels:
            raise UsageError(
                "the run knows no images without a class to guide away from", "Leave guidance out."
            )
        unconditional = self._given([len(classes)] * len(seeds))
        if scale == 0:
            if labels is not None:
                raise UsageError("guidance 0 leaves classes out, so none can be chosen", "Leave out labels.")
            return unconditional
        listed = [classes.of_seed(seed) for seed in seeds] if labels is None else [*map(int, labels)]
        if len(listed) != len(seeds) or not all(0 <= label < len(classes) for label in listed):
            raise UsageError(
                f"class_labels are one of 0 to {len(classes) - 1} for each image",
                "With guidance_scale=0, images are drawn without a class.",
            )
        conditional = self._given(listed)
        return conditional if scale == 1 else guided(conditional, unconditional, scale)

    def _given(self, labels: list[int] | None) -> Network:
        """Return the network with classes (B,), or without."""
        module = self.network
        given = None if labels is None else torch.tensor(labels, device=self._execution_device)

        def network(x: Tensor, timestep: Tensor) -> Tensor:
            output: Tensor = module(x.to(module.dtype), timestep=timestep, class_labels=given).sample
            return output[:, : x.shape[1]]  # without the variances of a model that learned them

        return network
