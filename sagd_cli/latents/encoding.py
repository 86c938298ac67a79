"""Data sets as latents: encoded in parts into one .npy file, which names the autoencoder that made it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.tensors import tensor_signal
from sagd_cli.datasets.array_file import ArrayFile
from sagd_cli.datasets.loading import OpenImageSet, blocks, dataset_files, hash_images, open_images
from sagd_cli.datasets.writing import name_unreadable, read_parts, what_decides
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.latents.autoencoder import Autoencoder
from sagd_cli.plugin.records import LazyImageSet
from sagd_cli.system.console import output
from sagd_cli.system.distributed import World
from sagd_cli.system.files import has_suffix, refuse_inputs

IMAGES_AT_ONCE = 64  # of a part; it decides how a batch is rounded, so a part is always the same images
ABOUT_ONE = (0.5, 2.0)  # between which the standard deviation of latents is taken for about one


class LatentFile:
    """The latents of a data set in `target`, a .npy file of float16 (N, c, h, w), written by the processes of `world`.

    With `flips`, the latents of all mirrored images follow, which are other latents than mirrored ones.
    """

    def __init__(self, config: DatasetConfig, autoencoder: Autoencoder, target: Path, flips: bool) -> None:
        """Find the images; raise UsageError on another suffix, and where the autoencoder does not take them."""
        if not has_suffix(target, ".npy"):
            raise UsageError(f"{target} is no .npy file", "Give --output FILE.npy.")
        refuse_inputs({"--output": target}, dataset_files(config))
        self._data, self._autoencoder, self._flips = open_images(config), autoencoder, flips
        self._count = len(self._data.images)
        shape = autoencoder.latent_shape(self._data.images.shape[1:])
        self.shape = (self._count * (2 if flips else 1), *shape)
        self._target = target
        self._decides, self._state = what_decides(config, self._data) or (
            {"images": hash_images(self._data.images)},
            None,
        )

    def write(self, force: bool, world: World) -> dict[str, Any] | None:
        """Write what is left; return what is kept beside the latents, None in all processes but the first.

        Raises SagdError on latents that float16 cannot hold. Images that cannot be read are named in the end.
        """
        self._target.parent.mkdir(parents=True, exist_ok=True)
        decides = {
            **self._decides,
            "autoencoder": self._autoencoder.sha256,
            "flips": self._flips,
            "encoding precision": self._autoencoder.encoding_precision,
        }
        source = None if self._state is None else self._source
        file = ArrayFile(self._target, self.shape, np.dtype(np.float16), decides, world.rank, source)
        with file:
            left = world.from_first(lambda: [[run.start, run.stop] for run in file.begin(force)])
            unreadable = self._write_parts(file, world.share(self._parts(left)))
            faults = sorted(place for places in world.gathered(unreadable) for place in places)
            if not world.is_first:
                return None
            name_unreadable(self._data.images, faults)
            facts = self._autoencoder.document() | _moments(file.written())
            file.finish(self._beside(facts))
        return facts

    def _source(self, part: range) -> str:
        """Return the state of the images of a part, which may be that of mirrored ones."""
        assert self._state is not None
        first = part.start % self._count
        return self._state(range(first, first + len(part)))

    def _parts(self, left: list[list[int]]) -> list[range]:
        """Return the parts of the images of which some latents are left."""
        wanted = {n % self._count // IMAGES_AT_ONCE for start, stop in left for n in range(start, stop)}
        starts = (IMAGES_AT_ONCE * number for number in sorted(wanted))
        return [range(start, min(start + IMAGES_AT_ONCE, self._count)) for start in starts]

    def _write_parts(self, file: ArrayFile, parts: Any) -> list[int]:
        def write(part: range, images: NDArray[Any], source: str | None) -> None:
            signals = tensor_signal(torch.from_numpy(images)).to(self._autoencoder.device)
            file.write(part.start, self._encoded(signals, part), source)
            if self._flips:
                file.write(self._count + part.start, self._encoded(signals.flip(-1), part), source)

        total = sum(map(len, parts))
        with output().progress("encode", total) as bar:
            return read_parts(file, self._data.images, parts, write, bar)

    def _encoded(self, signals: torch.Tensor, part: range) -> NDArray[np.float16]:
        latents = self._autoencoder.encode(signals).half().cpu().numpy()
        if not np.isfinite(latents).all():
            raise SagdError(
                f"latents of images {part.start} to {part.stop - 1} are beyond 65504, which float16 cannot hold",
                "Latents have about unit scale: set the scaling_factor of the autoencoder's config.json.",
            )
        return np.asarray(latents)

    def _beside(self, facts: dict[str, Any]) -> LazyImageSet:
        data: OpenImageSet = self._data
        labels = data.labels
        if labels is not None and self._flips:
            labels = np.concatenate([labels, labels])
        return LazyImageSet((), labels, data.class_names, facts)


def _moments(latents: NDArray[Any]) -> dict[str, list[float]]:
    """Return mean and standard deviation of each channel; warn where one is far from unit scale."""
    axes, values = (0, 2, 3), latents.size / latents.shape[1]
    mean = sum(block.sum(axes, dtype=np.float64) for block in blocks(latents)) / values
    away = mean[:, None, None]
    std = np.sqrt(sum(np.square(block - away).sum(axes) for block in blocks(latents)) / values)
    if not (ABOUT_ONE[0] <= std.min() and std.max() <= ABOUT_ONE[1]):
        output().warn(
            f"the standard deviations of the channels of the latents go from {std.min():.3g} to {std.max():.3g}, and "
            "diffusion expects about 1: is the scaling_factor of the autoencoder that of these images?"
        )
    return {"mean": mean.tolist(), "std": std.tolist()}
