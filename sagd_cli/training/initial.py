"""Starting a training from the weights of another model (`init` in the settings of a run)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sagd_cli.errors import UsageError
from sagd_cli.model.state import TrainingState
from sagd_cli.run.checkpoint import load_weights
from sagd_cli.run.manifest import has_run, open_checkpoint
from sagd_cli.system.console import Output

MOST_TENSORS_LISTED = 8


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a network by their names, and what messages call their `source`."""

    source: str
    tensors: Mapping[str, Tensor]

    def sha256(self) -> str:
        """Return a hash of names, shapes, types and values."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().contiguous().view(-1).numpy().tobytes())
        return digest.hexdigest()


def weights_of_run(path: Path, output: Output) -> InitialWeights:
    """Return the averaged weights of the run `path`; raise what opening it raises."""
    if not has_run(path):
        raise UsageError(f"{path} is not a run", "Import a model of diffusers first: `sagd import DIR`.")
    return InitialWeights(str(path), load_weights(open_checkpoint(path, output)))


def initialise(state: TrainingState, weights: InitialWeights, output: Output) -> dict[str, Any]:
    """Set the network of `state` and its averages to `weights`, and say what matched and what did not.

    A tensor matches where its name and its shape do; others stay as they were. Returns what a manifest says of it.
    Raises UsageError when nothing matches.
    """
    own = state.network.state_dict()
    matched = {
        name: tensor
        for name, tensor in weights.tensors.items()
        if name in own and own[name].shape == tensor.shape
    }
    if not matched:
        raise UsageError(
            f"none of the {len(weights.tensors)} tensors of {weights.source} fits the network",
            "Its backbone and options have to be those of that model: leave out --backbone, --preset and "
            "--set backbone.*.",
        )
    networks: list[nn.Module] = [state.network, *(average.network for average in state.averages.values())]
    for network in networks:
        network.load_state_dict(matched, strict=False)
    fresh = [name for name in own if name not in matched]
    unused = [name for name in weights.tensors if name not in matched]
    output.note(_said(weights, len(own), fresh, unused))
    return {
        "source": weights.source,
        "sha256": weights.sha256(),
        "matched": len(matched),
        "fresh": fresh,
        "unused": unused,
    }


def _said(weights: InitialWeights, count: int, fresh: Sequence[str], unused: Sequence[str]) -> str:
    lines = [f"{count - len(fresh)} of {count} tensors start from {weights.source}"]
    lines += [f"at their random start: {_listed(fresh)}"] if fresh else []
    lines += [f"not used: {_listed(unused)}"] if unused else []
    return "; ".join(lines)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_TENSORS_LISTED} more" if len(names) > MOST_TENSORS_LISTED else ""
    return f"{', '.join(names[:MOST_TENSORS_LISTED])}{more}"
