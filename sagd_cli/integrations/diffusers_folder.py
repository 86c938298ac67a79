"""A folder of diffusers, read without trusting it: the model, its scheduler, and what `sagd export` adds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from sagd_cli.config.run import BackboneConfig
from sagd_cli.config.validation import validate
from sagd_cli.errors import ConfigError, DataError, UsageError
from sagd_cli.integrations.diffusers_scheduler import TrainedProcess, read_process
from sagd_cli.integrations.shaping import NOISE_JSON, Shaping, holds_noise
from sagd_cli.latents.autoencoder import CONFIG_FILE
from sagd_cli.model.network import build_backbone
from sagd_cli.run.checkpoint import read_tensors
from sagd_cli.spectral.grid import format_shape
from sagd_cli.system.files import read_json
from sagd_cli.training.initial import InitialWeights

INDEX = "model_index.json"
SCHEDULER_FILE = "scheduler_config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LARGEST_JSON = 2**22
LARGEST_SETTING = 2**16  # of sizes and counts in a model's configuration
MOST_NAMED = 4
# What diffusers calls the parts of its attention now.
_RENAMED = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


@dataclass(frozen=True)
class DiffusersModel:
    """A model in a folder of diffusers.

    `shape` is that of its images, (C, H, W). `embeddings` is the number of its classes, with "no class" if it knows
    that one, and 0 without classes. `knows_no_class` is None where the configuration does not say. `noise` is that of
    an exported run, None for white noise.
    """

    folder: Path
    backbone: BackboneConfig
    shape: tuple[int, int, int]
    process: TrainedProcess
    embeddings: int
    knows_no_class: bool | None
    notes: tuple[str, ...]
    noise: Shaping | None = None

    @property
    def class_name(self) -> str:
        """The name of its class in diffusers."""
        return str(self.backbone.options["config"]["_class_name"])

    def weights(self, classes: int) -> InitialWeights:
        """Return its weights by the names that the network of a run has for them, in float32.

        `classes` is the number of its classes. Raises DataError, which names what differs, when they are not the
        weights of the configuration, not finite, damaged or not in a safetensors file.
        """
        path = _weights_file(self.folder)
        try:
            tensors = read_tensors(path)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path} cannot be read: {error}", "Copy or save it again.") from None
        with torch.device("meta"):
            wanted = build_backbone(self.backbone, self.shape, classes).state_dict()
        # A network that is wrapped has its name in front of all of its tensors.
        ends = ("conv_in.weight", "pos_embed.proj.weight")
        prefix = next(name.removesuffix(end) for name in wanted for end in ends if name.endswith(end))
        named = {prefix + _renamed(name): tensor for name, tensor in tensors.items()}
        _check(path, named, wanted)
        return InitialWeights(str(self.folder), {name: tensor.float() for name, tensor in named.items()})


def open_diffusers(
    path: Path, process: TrainedProcess | None = None, size: tuple[int, int] | None = None
) -> DiffusersModel:
    """Open a pipeline's folder, or that of a model with a scheduler beside it; the weights are not read yet.

    `process` says how a model without a scheduler was trained, and `size` (H, W) is that of its images where its
    configuration has none. Raises UsageError when `path` is no such folder, and DataError, which names the file, for a
    model, a scheduler or a configuration that no run can have.
    """
    folder, scheduler, notes = _parts(path)
    config = _model_config(folder / CONFIG_FILE)
    if (process is None) == (scheduler is None):
        given = "a scheduler's configuration, so --schedule and --prediction are not for it"
        raise UsageError(
            f"{path} has {given if scheduler is not None else 'no scheduler, so its noise levels are not known'}",
            "Leave them out."
            if scheduler is not None
            else "Say --schedule linear or cosine, and --prediction.",
        )
    if scheduler is not None:
        process = read_process(read_json(scheduler, LARGEST_JSON), str(scheduler))
    assert process is not None
    embeddings, knows = _classes(config)
    channels = _channels(config, folder / CONFIG_FILE)
    if _doubles(config):
        notes.append(
            "it predicts variances, too, which runs do not use: the first half of its channels counts"
        )
    sides = _sides(config, size, folder / CONFIG_FILE)
    try:
        backbone = validate(
            BackboneConfig, {"name": "diffusers", "options": {"config": config}}, str(folder / CONFIG_FILE)
        )
        with torch.device("meta"):
            build_backbone(backbone, (channels, *sides), embeddings)
    except ConfigError as error:
        raise DataError(f"{folder / CONFIG_FILE}: {error.message}", error.hint) from None
    noise = _noise(path, (channels, *sides))
    if noise is not None and noise.fill is not None:
        notes.append("its pipeline adds the mean image where it has no noise, which the run does not know")
    return DiffusersModel(
        folder,
        backbone,
        (channels, *sides),
        process,
        embeddings,
        knows,
        (*notes, *process.notes),
        noise,
    )


def _parts(path: Path) -> tuple[Path, Path | None, list[str]]:
    """Return the folder of the model, the file of its scheduler if there is one, and what to know."""
    index, notes = path / INDEX, list[str]()
    if index.is_file():
        names = read_json(index, LARGEST_JSON)
        # A part that a pipeline could have and has not is [null, null].
        parts = {name: names.get(name) for name in ("unet", "transformer")}
        found = [name for name, part in parts.items() if isinstance(part, list) and any(part)]
        if len(found) != 1:
            named = ", ".join(name for name in names if not name.startswith("_"))
            raise DataError(f"{index} names no model that can be imported, unet or transformer: {named}")
        if "vae" in names:
            notes.append(
                f"its images are latents of the autoencoder in {path / 'vae'}, which is no part of the run"
            )
        return path / found[0], path / "scheduler" / SCHEDULER_FILE, notes
    if not (path / CONFIG_FILE).is_file():
        raise UsageError(
            f"{path} is no folder of diffusers: it has neither {INDEX} nor {CONFIG_FILE}",
            "Such a folder is written by save_pretrained of a pipeline or a model.",
        )
    places = (path, path / "scheduler", path.absolute().parent / "scheduler")
    beside = (place / SCHEDULER_FILE for place in places)
    return path, next((file for file in beside if file.is_file()), None), notes


def _model_config(path: Path) -> dict[str, Any]:
    """Return the configuration of the model, with the name that its class has today and no notes of diffusers."""
    read = read_json(path, LARGEST_JSON)
    config = {key: value for key, value in read.items() if not key.startswith("_")}
    name = read.get("_class_name")
    if name == "Transformer2DModel" and config.get("norm_type") == "ada_norm_zero":
        # As diffusers called DiT once, with settings of other transformers that it does not have now.
        import inspect

        from diffusers import DiTTransformer2DModel

        known = inspect.signature(DiTTransformer2DModel.__init__).parameters
        name, config = "DiTTransformer2DModel", {key: config[key] for key in config if key in known}
    if name not in ("UNet2DModel", "DiTTransformer2DModel"):
        raise DataError(
            f"{path} is of a {name}",
            "UNet2DModel, DiTTransformer2DModel and pipelines of them can be imported.",
        )
    for key, value in config.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > LARGEST_SETTING or any(
            isinstance(each, int) and abs(each) > LARGEST_SETTING for each in values
        ):
            raise DataError(f"{path}: {key} is larger than {LARGEST_SETTING:,}")
    return {"_class_name": name, **config}


def _doubles(config: Mapping[str, Any]) -> bool:
    inputs, outputs = config.get("in_channels"), config.get("out_channels")
    return isinstance(inputs, int) and outputs == 2 * inputs


def _channels(config: dict[str, Any], path: Path) -> int:
    """Return the channels of the images; raise DataError when the output has neither as many nor twice as many."""
    is_unet = config["_class_name"] == "UNet2DModel"
    inputs = config.setdefault("in_channels", 3 if is_unet else 4)
    outputs = config.get("out_channels", 3 if is_unet else None)
    if type(inputs) is not int or inputs < 1 or outputs not in (None, inputs, 2 * inputs):
        raise DataError(
            f"{path}: the model takes {inputs} channels and gives {outputs}, so it does not predict noise of its input"
        )
    return inputs


def _classes(config: Mapping[str, Any]) -> tuple[int, bool | None]:
    """Return the number of labels that the model takes, 0 without labels, and whether "no class" is known."""
    if config["_class_name"] == "UNet2DModel":
        count = config.get("num_class_embeds")
        return (count, None) if isinstance(count, int) else (0, None)
    count = config.get("num_embeds_ada_norm", 1000)
    return (count, True) if isinstance(count, int) and count > 1 else (0, None)


def _sides(config: Mapping[str, Any], size: tuple[int, int] | None, path: Path) -> tuple[int, int]:
    """Return the height and width of the images."""
    own = config.get("sample_size")
    if own is None and config["_class_name"] != "UNet2DModel":
        own = 32
    sides = size or (tuple(own) if isinstance(own, list) else (own, own))
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise DataError(
            f"{path} says no size of the images: sample_size is {own}", "Say --size N or --size HxW."
        )
    return sides[0], sides[1]


def _noise(path: Path, shape: tuple[int, ...]) -> Shaping | None:
    """Return the noise of an exported run, None where there is none.

    Raises DataError unless it is of images of `shape` and of the filter that is named beside it.
    """
    # A model may be named by its own folder in that of the pipeline, where the noise lies.
    is_pipeline = (path / INDEX).is_file()
    path = next(filter(holds_noise, [path] if is_pipeline else [path, path.absolute().parent]), path)
    is_ours = is_pipeline and read_json(path / INDEX, LARGEST_JSON).get("_class_name") == "SagdPipeline"
    if not (is_ours or holds_noise(path)):
        return None
    noise, hint = Shaping.read(path), "Export the run again."
    if noise.shape != shape:
        sides = format_shape(noise.shape), format_shape(shape)
        raise DataError(f"{path / NOISE_JSON} is of images of {sides[0]}, not {sides[1]}", hint)
    if noise.family is None:
        raise DataError(f"{path / NOISE_JSON} names no filter, which a run has to have", hint)
    if not np.allclose(noise.filter.weight, noise.family.weights(shape[1:]).weight, rtol=1e-6, atol=0):
        raise DataError(f"{path / NOISE_JSON} names another filter than that of the weights beside it", hint)
    return noise


def _weights_file(folder: Path) -> Path:
    path = folder / WEIGHTS_FILE
    if path.is_file():
        return path
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    if any(name.endswith(".safetensors.index.json") for name in names):
        raise DataError(
            f"the weights in {folder} are in several files",
            'Save them in one: model.save_pretrained(DIR, max_shard_size="1000GB").',
        )
    pickled = [name for name in names if name.endswith(PICKLED)]
    if pickled:
        raise DataError(
            f"{folder / pickled[0]} is pickled, and reading a pickle runs code; weights are read from {WEIGHTS_FILE}",
            "If you trust it, diffusers converts it: model.save_pretrained(DIR, safe_serialization=True).",
        )
    raise DataError(f"{folder} has no {WEIGHTS_FILE}: it holds {', '.join(names) or 'no file'}")


def _renamed(name: str) -> str:
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def _check(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise DataError, which names what differs, unless `found` are finite tensors of the names and shapes `wanted`."""
    shapes = {name: format_shape(tensor.shape) for name, tensor in found.items()}
    differing = [
        f"{name} is {shapes[name]}, not {format_shape(wanted[name].shape)}"
        for name in found
        if name in wanted and found[name].shape != wanted[name].shape
    ]
    faults = {
        "lacks": [name for name in wanted if name not in found],
        "also holds": [name for name in found if name not in wanted],
        "has other shapes:": differing,
        "holds values that are not finite numbers:": [
            name
            for name, tensor in found.items()
            if not (tensor.is_floating_point() and bool(tensor.float().isfinite().all()))
        ],
    }
    said = [f"{words} {_named(names)}" for words, names in faults.items() if names]
    if said:
        raise DataError(
            f"{path} is not of the model in {CONFIG_FILE}: it {'; it '.join(said)}",
            "The two have to be of one model, saved together.",
        )


def _named(names: Iterable[str]) -> str:
    first, more = [*names][:MOST_NAMED], len([*names]) - MOST_NAMED
    return f"{', '.join(first)}{f' and {more} more' if more > 0 else ''}"
