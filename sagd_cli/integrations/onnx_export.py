"""A network as an ONNX file: of a run, or the restorer of the package. Noise, spectra and samplers are outside it."""

import copy
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sagd_cli.errors import SagdError, UsageError
from sagd_cli.integrations.catalogue import PACKAGED_MODEL, ExportRequest
from sagd_cli.model.model import Model
from sagd_cli.model.network import seen_shape
from sagd_cli.restorer.restoring_model import packaged_model
from sagd_cli.run.folder import open_run
from sagd_cli.system.console import Output
from sagd_cli.system.files import atomic_path, has_suffix, reason_of, refuse_existing

_MOST_BYTES = 2**31 - 2**24  # an ONNX file of one part is a message of less than 2 GiB
_TOLERANCE = 1e-4  # of the largest value
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def export_to_onnx(request: ExportRequest, output: Output) -> dict[str, Any]:
    """Write the network of the run, or of the restorer of the package, as `export_onnx` does; return what was written.

    Raises UsageError for settings of a sampler.
    """
    if request.sampling:
        raise UsageError("an ONNX file holds the network and no sampler", "Leave out --sampler and --steps.")
    device = torch.device("cpu")
    if request.run == PACKAGED_MODEL and not request.run.exists():
        model = packaged_model(device).model
    else:
        model = open_run(request.run, output).model(device, request.ema_images)
    about = export_onnx(model, request.target, request.force)
    return {"output": str(request.target), "to": "onnx", **about}


def export_onnx(model: Model, path: Path, force: bool = False) -> dict[str, Any]:
    """Write the network of `model` to an ONNX file at `path`, whole or not at all, and return what the file says.

    Its inputs are `x_t` (B, C, *spatial), `timestep` (B,) float32, and `labels` (B,) int64 where there are classes; its
    output is `prediction`, like x_t. A network that restores has the input `planes` (B, 4 C, *spatial) and the output
    `correction` (B, C, *spatial). Batches are of any size, and fields too where the network takes them. The file is
    checked, and its outputs compared with torch's.

    Raises UsageError where a package is missing, a file is in the way or the network too large, and SagdError where it
    cannot be exported or the outputs differ.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"ONNX needs the package {missing[0]}", 'Install it: pip install "sagd[onnx]"')
    _check_target(path, force)
    size = sum(value.nbytes for value in model.network.state_dict().values())
    if size > _MOST_BYTES:
        raise UsageError(f"an ONNX file holds less than 2 GiB, and the network has {size / 2**30:.1f} GiB")
    graph = _Graph.of(model)
    proto = graph.exported()
    about = {**_about(model), **graph.about(), "opset": proto.opset_import[0].version}
    for name, value in about.items():
        proto.metadata_props.add(
            key=f"sagd.{name}", value=value if isinstance(value, str) else json.dumps(value)
        )
    data = proto.SerializeToString()
    about["difference"] = graph.check(proto, data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise SagdError(f"{path} cannot be written: {reason_of(error)}") from error
    return about


def _check_target(path: Path, force: bool) -> None:
    """Raise UsageError unless a file may be written there: nothing of a run, nor anything but an ONNX file, is."""
    if not has_suffix(path, ".onnx"):
        raise UsageError(f"{path} is no name of an ONNX file", "Give FILE.onnx.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "Choose another name.")
    refuse_existing(path, force)


class _Denoising(nn.Module):
    """A network that makes images, as tensors alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, timestep: Tensor, labels: Tensor | None = None) -> Tensor:
        output = self.network(x_t, timestep, *(() if labels is None else (labels,)))
        return output if isinstance(output, Tensor) else output.sample


class _Restoring(nn.Module):
    """A network that restores: it is given no time, and what counts of its output are the planes of the image."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = _Denoising(network)
        self.channels = channels

    def forward(self, planes: Tensor) -> Tensor:
        output: Tensor = self.network(planes, planes.new_zeros(planes.shape[0]))
        return output[:, : self.channels]


@dataclass(frozen=True)
class _Graph:
    """What is exported: a `module` of fields of `shape` (C, *spatial), and of others whose sides `multiple` divides.

    `multiple` is 0 where the network takes fields of `shape` alone. `inputs` are the largest values of each input
    behind the first, by name: labels are integers.
    """

    module: nn.Module
    shape: tuple[int, ...]
    multiple: int
    first: str
    inputs: Mapping[str, int]
    output: str

    @classmethod
    def of(cls, model: Model) -> "_Graph":
        network = copy.deepcopy(model.network).cpu().to(memory_format=torch.contiguous_format).eval()
        shape = seen_shape(model.config, model.shape)
        if model.config.restoration is not None:
            restoring = _Restoring(network.requires_grad_(False), model.shape[0])
            graph = cls(restoring, shape, 0, "planes", {}, "correction")
        else:
            inputs = {"timestep": 999, **({"labels": len(model.classes)} if model.classes else {})}
            graph = cls(_Denoising(network.requires_grad_(False)), shape, 0, "x_t", inputs, "prediction")
        return cls(
            graph.module,
            shape,
            graph._least_multiple(),
            graph.first,
            inputs=graph.inputs,
            output=graph.output,
        )

    def _least_multiple(self) -> int:
        """Return the least number whose multiples the network takes as sides; 0 where it takes its own alone."""
        common = math.gcd(*self.shape[1:])
        for multiple in (number for number in range(1, common + 1) if common % number == 0):
            try:
                for sides in self._sides(multiple):
                    self.module(*self._arguments(1, sides))
            except Exception:  # networks refuse sizes in ways of their own
                continue
            return multiple
        return 0

    def _sides(self, multiple: int) -> list[tuple[int, ...]]:
        """Return sides that `multiple` divides and no more of its multiples do; without one, those of `shape`."""
        counts = ((3, 5, 7), (1, 2, 3)) if multiple else ((0, 0, 0),)
        dims = len(self.shape) - 1
        return [tuple(k * multiple for k in some[:dims]) if multiple else self.shape[1:] for some in counts]

    def _arguments(self, batch: int, sides: tuple[int, ...]) -> list[Tensor]:
        draw = np.random.default_rng(0)
        fields = torch.from_numpy(draw.standard_normal((batch, self.shape[0], *sides), np.float32))
        others = (draw.uniform(0, top, batch) for top in self.inputs.values())
        kinds = (torch.int64 if name == "labels" else torch.float32 for name in self.inputs)
        return [fields, *(torch.from_numpy(v).to(kind) for v, kind in zip(others, kinds, strict=True))]

    def exported(self) -> Any:
        """Return the network as ONNX; raise SagdError where that does not work."""
        batch = torch.export.Dim("batch", min=1)
        names = [("rows", "columns"), ("depth", "rows", "columns")][len(self.shape) == 4]
        fields = {0: batch}
        if self.multiple:
            for axis, name in enumerate(names[: len(self.shape) - 1], start=2):
                fields[axis] = self.multiple * torch.export.Dim(name, min=1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporter, on itself
                program = torch.onnx.export(
                    self.module,
                    tuple(self._arguments(2, self._sides(self.multiple)[0])),
                    dynamo=True,
                    dynamic_shapes=(fields, *({0: batch} for _ in self.inputs)),
                    input_names=[self.first, *self.inputs],
                    output_names=[self.output],
                    verbose=False,
                )
        except Exception as error:  # the exporter has many ways to fail
            text = " ".join(str(error).split())[:200]
            raise SagdError(f"the network cannot be exported to ONNX: {text}") from error
        assert program is not None
        return program.model_proto

    def check(self, proto: Any, data: bytes) -> float:
        """Return the largest difference from torch, relative to the largest value; raise SagdError above 1e-4."""
        import onnx
        import onnxruntime

        onnx.checker.check_model(proto, full_check=True)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        worst = 0.0
        for sides in dict.fromkeys((*self._sides(self.multiple), self.shape[1:])):
            for batch in (1, 3):
                arguments = self._arguments(batch, sides)
                expected = self.module(*arguments).numpy()
                given = dict(
                    zip((self.first, *self.inputs), (each.numpy() for each in arguments), strict=True)
                )
                (found,) = session.run(None, given)
                worst = max(worst, float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())))
        if not worst <= _TOLERANCE:
            raise SagdError(f"the ONNX network differs from torch's by {worst:.1g} of its largest value")
        return worst

    def about(self) -> dict[str, Any]:
        """Return what the file says of its inputs."""
        channels = self.shape[0]
        sizes = f"multiples of {self.multiple}" if self.multiple else "x".join(map(str, self.shape[1:]))
        return {
            "inputs": {self.first: f"(B, {channels}, *spatial), sides: {sizes}"}
            | dict.fromkeys(self.inputs, "(B,)")
        }


def _about(model: Model) -> dict[str, Any]:
    """Return what the file says of the model."""
    config = model.config
    if config.restoration is not None:
        return {
            "kind": "restorer",
            "planes": "of each of C planes: noisy image and Wiener estimate, both whitened, Wiener estimate, black and "
            "white pixels; docs/theory.md, section 9",
            "outside": "the Wiener filter before it, the multiplication of the correction's spectrum after it, tiles",
            "noise": list(config.restoration.bands),
        }
    about: dict[str, Any] = {
        "kind": "denoiser",
        "prediction": config.prediction,
        "schedule": config.schedule,
        "timestep": "999 t, t from 0 (clean) to 1",
        "range": "black -1, white 1" if model.has_pixels else "as the data",
        "filter": config.filter.document(),
        "filter_sha256": config.filter.sha256(),
        "outside": "shaped noise, scaling of x_t by the prediction, guidance, the sampler",
    }
    if config.blind:
        about["blind"] = "x_t without the frequencies that carry no noise"
    if model.classes:
        about["classes"] = [*model.classes.names]
        if config.training.label_dropout:
            about["no_class"] = len(model.classes)
    return about
