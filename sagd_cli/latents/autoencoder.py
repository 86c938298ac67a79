"""Autoencoders of diffusers in local folders: images to latents of about unit scale, and back."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.system.devices import autocast_dtype, exact_arithmetic
from sagd_cli.system.files import read_json

CONFIG_FILE, PART_OF_A_PIPELINE = "config.json", "vae"
LARGEST_CONFIG = 2**26  # one of statistics for each value of a latent has some megabytes
# Positions of images and of latents that are worked on at a time: 16 images of 256x256 with an eighth of their sides
# in latents, for which Stable Diffusion's autoencoder takes some gigabytes.
ENCODED_AT_ONCE, DECODED_AT_ONCE = 2**20, 2**14
SHOWN_KEYS = 5
RAE = "AutoencoderRAE"


@dataclass(frozen=True)
class _Kind:
    """A class of autoencoders: how its `encode` hands out latents, and where its configuration has their channels."""

    latents: Callable[[Any], Tensor]
    channels: str = "latent_channels"


AUTOENCODERS = {
    "AutoencoderKL": _Kind(lambda encoded: encoded.latent_dist.mode()),
    "AutoencoderTiny": _Kind(lambda encoded: encoded.latents),
    "VQModel": _Kind(lambda encoded: encoded.latents),
    RAE: _Kind(lambda encoded: encoded.latent, "encoder_hidden_size"),
}


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """An autoencoder of the folder `path` on its device; `sha256` is the hash of its configuration and weights.

    Images are signals (B, C, H, W) on [-1, 1]. Latents (B, c, h, w) are (z - shift) scale of what the encoder makes of
    them, z, which is the mean where it makes a distribution. Shift and scale are those of the configuration.
    """

    path: Path
    network: torch.nn.Module
    sha256: str

    @property
    def name(self) -> str:
        """Its class in diffusers."""
        return type(self.network).__name__

    @property
    def channels(self) -> tuple[int, int]:
        """The numbers of channels of images and of latents."""
        config: Any = self.network.config
        return config.get("in_channels", config.get("num_channels")), config[AUTOENCODERS[self.name].channels]

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(self.network.parameters()).device

    def document(self) -> dict[str, Any]:
        """Return what is kept beside latents and in runs: the path as it was given, class, hash, scale and shift."""
        scale, shift = self._statistics()
        return {
            "autoencoder": str(self.path),
            "class": self.name,
            "sha256": self.sha256,
            "scale": _told(scale),
            "shift": _told(shift),
        }

    @property
    def encoding_precision(self) -> str:
        """What images are encoded in: bf16 where the device gains by it, else fp32. Latents are decoded in fp32."""
        return "fp32" if autocast_dtype("auto", self.device, self.network) is None else "bf16"

    def encode(self, signals: Tensor) -> Tensor:
        """Return the latents of `signals`, float32; raise SagdError when they are not finite."""
        return _in_parts(self._encoded, signals, ENCODED_AT_ONCE)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the signals of `latents`, float32, which may go somewhat beyond [-1, 1].

        Raises SagdError when they are not finite.
        """
        return _in_parts(self._decoded, latents, DECODED_AT_ONCE)

    @torch.inference_mode()
    def _encoded(self, signals: Tensor) -> Tensor:
        network: Any = self.network
        is_half = self.encoding_precision == "bf16"
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)
        with half, exact_arithmetic(self.device):
            encoded = network.encode((signals + 1) / 2 if self.name == RAE else signals)
        scale, shift = self._statistics()
        return self._finite((AUTOENCODERS[self.name].latents(encoded).float() - shift) * scale)

    @torch.inference_mode()
    def _decoded(self, latents: Tensor) -> Tensor:
        network: Any = self.network
        scale, shift = self._statistics()
        with exact_arithmetic(self.device):
            decoded: Tensor = network.decode(latents / scale + shift).sample
        return self._finite(2 * decoded - 1 if self.name == RAE else decoded)

    def _finite(self, values: Tensor) -> Tensor:
        if not torch.isfinite(values).all():
            raise SagdError(f"{self._called} gave values that are not finite", "Its weights may be damaged.")
        return values

    def latent_shape(self, images: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape (c, h, w) of the latents of images (C, H, W).

        Raises UsageError when it takes other images, or when its decoder gives images of another shape back.
        """
        subject = f"images of {_sides(images)}"
        if len(images) != 3 or images[0] != self.channels[0]:
            raise UsageError(
                f"{self._called} takes images of {self.channels[0]} channels (C, H, W), not {subject}",
                "`sagd data prepare --mode rgb|grey` changes them, and so does DATA,mode=rgb of a folder.",
            )
        latents = self._tried(self.encode, images, subject)
        back = self._tried(self.decode, latents, subject)
        if back != images:
            raise UsageError(
                f"{self._called} cannot take {subject}: it gives {_sides(back)} back",
                f"Give --size {min(back[1:])}, or images of other sides.",
            )
        return latents

    def image_shape(self, latents: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape (C, H, W) of the images of latents (c, h, w).

        Raises UsageError when it makes no such latents.
        """
        subject = f"latents of {_sides(latents)}"
        if len(latents) != 3 or latents[0] != self.channels[1]:
            raise UsageError(f"{self._called} has latents of {self.channels[1]} channels, not {subject}")
        images = self._tried(self.decode, latents, subject)
        again = self._tried(self.encode, images, subject)
        if again != latents:
            raise UsageError(f"{self._called} has latents of {_sides(again)}, not {subject}")
        return images

    @property
    def _called(self) -> str:
        return f"the autoencoder {self.path} ({self.name})"

    def _tried(
        self, function: Callable[[Tensor], Tensor], shape: tuple[int, ...], subject: str
    ) -> tuple[int, ...]:
        """Return the shape that `function` makes of one image or latent of `shape`."""
        try:
            return tuple(function(torch.zeros(1, *shape, device=self.device)).shape[1:])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"{self._called} cannot take {subject}: {str(error).splitlines()[0]}") from None

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift, each one number or of a shape that goes with latents. RAE applies its own itself."""
        config: Any = self.network.config
        mean, std, factor = None, None, 1.0
        if self.name != RAE:
            mean, std = config.get("latents_mean"), config.get("latents_std")
            factor = config.get("scaling_factor") or 1.0
        shift = (config.get("shift_factor") or 0.0) if mean is None else mean
        scale = factor / self._values(1.0 if std is None else std)
        return scale, self._values(shift)

    def _values(self, values: Any) -> Tensor:
        found = torch.tensor(values, dtype=torch.float32, device=self.device)
        return found.reshape(-1, 1, 1) if found.ndim == 1 else found


def load_autoencoder(path: Path, device: torch.device) -> Autoencoder:
    """Load the autoencoder of a local folder, or of the part `vae` of a pipeline in it, in float32. Nothing is fetched.

    Raises UsageError when there is none, when it is of a class that is not known, when its weights are not safetensors,
    and when a package is missing. Raises DataError when weights are missing, or of another network.
    """
    folder = path if (path / CONFIG_FILE).is_file() else path / PART_OF_A_PIPELINE
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(
            f"{path} is no folder of an autoencoder: it has no {CONFIG_FILE}",
            "Give the folder that diffusers' save_pretrained wrote.",
        )
    config = read_json(folder / CONFIG_FILE, LARGEST_CONFIG)
    name = config.get("_class_name")
    if name not in AUTOENCODERS:
        raise UsageError(
            f"{path} holds {name or 'no class of diffusers'}, not an autoencoder that is known here",
            f"Known: {', '.join(AUTOENCODERS)}.",
        )
    if name == RAE and find_spec("transformers") is None:
        raise UsageError(
            f"{path} holds {RAE}, whose encoder is of the package transformers, which is not installed",
            'Install it: pip install "sagd[rae]".',
        )
    weights = _weight_files(folder)
    network = _read(folder, name, "fp16" if all(".fp16." in file.name for file in weights) else None)
    return Autoencoder(path, network.to(device), _sha256(config, weights))


def _in_parts(function: Callable[[Tensor], Tensor], values: Tensor, most: int) -> Tensor:
    """Return what `function` makes of `values` (B, C, H, W), of at most `most` positions at a time."""
    size = max(1, most // math.prod(values.shape[2:]))
    return torch.cat([function(part) for part in torch.split(values, size)])


def _weight_files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt*")))
        why = f"only {pickled[0]}, and reading a pickle may run code" if pickled else "and no other weights"
        raise UsageError(
            f"{folder} holds no weights in .safetensors, {why}",
            "Write them anew where you trust them: "
            "AutoencoderKL.from_pretrained(OLD).save_pretrained(NEW, safe_serialization=True) of diffusers.",
        )
    return found


def _read(folder: Path, name: str, variant: str | None) -> torch.nn.Module:
    import diffusers

    # Parameters are made at random before they are read.
    with torch.random.fork_rng(devices=[]), _quiet():
        try:
            network, about = getattr(diffusers, name).from_pretrained(
                str(folder.resolve()),
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
                variant=variant,
                torch_dtype=torch.float32,
            )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise DataError(
                f"the autoencoder {folder} cannot be read: {' '.join(str(error).split())[:300]}"
            ) from None
    faults = {"missing": about["missing_keys"], "unknown": about["unexpected_keys"]}
    told = "; ".join(f"{word} {_listed(keys)}" for word, keys in faults.items() if keys)
    if told:
        raise DataError(f"the weights of {folder} are not those of its {CONFIG_FILE}: {told}")
    # As fields (c, h, w), also where the configuration has them as a sequence.
    if name == RAE:
        network.reshape_to_2d = True
    frozen: torch.nn.Module = network.eval().requires_grad_(False)
    return frozen


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return ", ".join(sorted(map(str, keys))[:SHOWN_KEYS]) + more


@contextmanager
def _quiet() -> Iterator[None]:
    """Let diffusers say nothing of what is an error here."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _sha256(config: dict[str, Any], weights: list[Path]) -> str:
    """Return the hash of a configuration, without what tells of its origin, and of the files of the weights."""
    own = {key: value for key, value in config.items() if not key.startswith("_") or key == "_class_name"}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    for path in weights:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _told(values: Tensor) -> Any:
    """Return a number, or a list of numbers."""
    return values.item() if values.ndim == 0 else values.flatten().tolist()
