"""One side of a comparison: its images read or drawn once, and what is kept of them."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from sagd_cli.datasets.loading import ImageHash
from sagd_cli.design.radial_power import PowerAverage, RadialPower
from sagd_cli.errors import SagdError
from sagd_cli.features.cache import FeatureCache
from sagd_cli.features.extractor import Extractor, FeatureSink
from sagd_cli.features.image_source import ImageSource
from sagd_cli.features.moments import UNREADABLE, Gaussian, read_moments, write_moments
from sagd_cli.features.rows import Rows, RowsWriter
from sagd_cli.system.console import Output
from sagd_cli.system.distributed import Arrays, World

MOMENTS_FILE = "moments.npz"
PIXELS = "pixels"

Observer = Callable[[NDArray[np.uint8]], None]
Kept = tuple[list[Gaussian], dict[str, Rows]]  # moments of each block, and rows by layer


@dataclass(frozen=True)
class Wanted:
    """What to keep of a side.

    It is the moments of `layer` for each of `blocks` equal parts, the rows of the layers `rows`, and the power spectrum
    if `power`.
    """

    layer: str
    rows: tuple[str, ...] = ()
    power: bool = False
    blocks: int = 1


@dataclass(frozen=True, eq=False)
class Side:
    """What was kept of a side: one Gaussian for each block, rows of all blocks by layer, and the power spectrum.

    `sha256` is the hash of the pixels.
    """

    gaussians: list[Gaussian]
    rows: dict[str, Rows]
    power: RadialPower | None
    sha256: str


class Surveyor:
    """Surveys sides with one extractor, through the cache if there is one, in temporary files otherwise.

    Of several processes, the first one surveys, and the others assist: each reads or draws its share of the parts
    and computes their features. So what is kept is that of one process: the parts are the same and come in their order.
    """

    def __init__(
        self,
        extractor: Extractor,
        cache: FeatureCache | None,
        scratch: Path,
        output: Output,
        world: World | None = None,
    ) -> None:
        """Keep rows that are not cached in the folder `scratch`."""
        self.extractor = extractor
        self._cache, self._scratch, self._output = cache, scratch, output
        self._world = world or World()

    def assists(self, sources: Sequence[ImageSource]) -> bool:
        """In the other processes than the first, do what that asks for, until it is done with all `sources`.

        Return False in the first. Raises SagdError when not all of them see the same images and weights.
        """
        self._world.check_alike(
            {
                "images": {source.name: [source.count, *source.shape] for source in sources},
                "samples": [source.sampling and dict(source.sampling) for source in sources],
                "files": [source.known and source.known.sizes for source in sources],
                "weights": self.extractor.weights_sha256,
            }
        )
        if self._world.is_first:
            return False
        known = {source.name: source for source in sources}
        while (asked := self._world.gathered(None)[0]) is not None:
            source = known[asked["source"]]
            found = self._found(source, asked["features"], asked["pixels"])
            for _ in self._world.collected(found, len(self._parts(source))):
                pass
        return True

    def dismiss(self) -> None:
        """Let the others go: nothing is left to assist with."""
        self._world.gathered(None)

    def survey(self, source: ImageSource, wanted: Wanted) -> Side:
        """Read or draw the images of `source` and return what is wanted of them.

        Stored images are read for their hash first, unless it is known, and features that are cached under it are not
        computed again. The
        features of a plug-in without a version are not cached, because such a plug-in may change at any time. Raises
        DataError on images of different shapes, SagdError when there is no room for their features.
        """
        digest = ImageHash(source.count)
        average = PowerAverage(source.shape) if wanted.power else None
        observers = [digest.add, *([average.add] if average else [])]
        kept = sha256 = None
        if self._cache is not None and self._is_cacheable(source, wanted):
            sha256 = source.known.find() if source.known and not average else None
            if sha256 is None:
                self._pass(source, observers)
                sha256 = digest.hexdigest()
                if source.known:
                    source.known.keep(sha256)
            observers = []
            kept = self._recall(self._cache, source, wanted, sha256)
        gaussians, rows = kept or self._extract(source, wanted, observers)
        return Side(gaussians, rows, average.result() if average else None, sha256 or digest.hexdigest())

    def _is_cacheable(self, source: ImageSource, wanted: Wanted) -> bool:
        return bool(self.extractor.provider.version) and source.is_stored and wanted.blocks == 1

    def _parts(self, source: ImageSource) -> list[range]:
        return source.parts(self.extractor.batch_size)

    def _pass(
        self, source: ImageSource, observers: Sequence[Observer], sink: FeatureSink | None = None
    ) -> None:
        """Show all images to the `observers`, in their order, and their features to the `sink`, if there is one."""
        parts, has_features = self._parts(source), sink is not None
        self._world.gathered({"source": source.name, "features": has_features, "pixels": bool(observers)})
        found = self._found(source, has_features, bool(observers))
        # Drawing shows its own progress, in the steps of the sampler.
        bar_output = self._output if source.is_stored else Output(quiet=True)
        verb = "features of" if has_features else "read"
        with bar_output.progress(f"{verb} {source.name}", source.count) as bar:
            for part, arrays in zip(parts, self._world.collected(found, len(parts)), strict=True):
                for observe in observers:
                    for image in arrays[PIXELS]:
                        observe(image)
                if sink is not None:
                    sink.add(arrays)
                for _ in part:
                    bar.advance()

    def _found(self, source: ImageSource, has_features: bool, has_pixels: bool) -> Iterator[Arrays]:
        """Yield what was asked for of each part that is this process's: features by layer, and the pixels."""
        own = self._world.share(self._parts(source))
        images = source.read(own, Output(quiet=True) if source.is_stored else self._output)
        for part in own:
            pixels = [*islice(images, len(part))]
            if part is own[-1]:
                next(images, None)  # there is none, and what is said after the last one is said
            features = self.extractor.features(pixels) if has_features else {}
            yield {**features, PIXELS: np.stack(pixels)} if has_pixels else features

    def _recall(self, cache: FeatureCache, source: ImageSource, wanted: Wanted, sha256: str) -> Kept | None:
        """Return what the cache holds of these images, computed and put there first; None when there is no room."""
        # An entry with rows also serves when none are wanted.
        for layers in (wanted.rows, *([(wanted.layer,)] if not wanted.rows else [])):
            found = cache.find(self._identity(sha256, wanted.layer, layers))
            if found is not None:
                try:
                    return self._load(found, source, wanted)
                except UNREADABLE:
                    self._output.detail(f"the kept features of {source.name} are damaged: computed anew")
                    cache.drop(found)
        entry = self._store(cache, source, wanted, self._identity(sha256, wanted.layer, wanted.rows))
        return None if entry is None else self._load(entry, source, wanted)

    def _store(
        self, cache: FeatureCache, source: ImageSource, wanted: Wanted, identity: dict[str, Any]
    ) -> Path | None:
        """Compute the features and put them into the cache; return the entry, or None when there is no room."""
        folder = cache.begin(self._bytes(source, wanted))
        if folder is None:
            self._output.detail(f"no room to keep the features of {source.name} for another time")
            return None
        try:
            gaussians = self._fill(folder, source, wanted, [])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_moments(folder / MOMENTS_FILE, *gaussians)
        return cache.keep(folder, identity)

    def _identity(self, sha256: str, layer: str, rows: tuple[str, ...]) -> dict[str, Any]:
        return {"images_sha256": sha256, "rows": sorted(rows), **self.extractor.receipt(layer)}

    def _load(self, folder: Path, source: ImageSource, wanted: Wanted) -> Kept:
        device = self.extractor.device
        mean, covariance = (
            torch.from_numpy(values).to(device) for values in read_moments(folder / MOMENTS_FILE)
        )
        rows = {layer: Rows(folder / _file(layer), range(source.count)) for layer in wanted.rows}
        for part in rows.values():
            part.check()
        return [Gaussian(mean, covariance, source.count)], rows

    def _extract(self, source: ImageSource, wanted: Wanted, observers: Sequence[Observer]) -> Kept:
        """Compute the features without the cache."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        needed = self._bytes(source, wanted)
        if needed > shutil.disk_usage(folder).free:
            raise SagdError(
                f"the features of {source.name} take {needed / 2**30:.1f} GiB of disk in {self._scratch.parent}",
                "Make room there, set TMPDIR to another folder, or measure fid alone.",
            )
        gaussians = self._fill(folder, source, wanted, observers)
        return gaussians, {layer: Rows(folder / _file(layer), range(source.count)) for layer in wanted.rows}

    def _fill(
        self, folder: Path, source: ImageSource, wanted: Wanted, observers: Sequence[Observer]
    ) -> list[Gaussian]:
        """Write the rows that are wanted into `folder`; return the moments of each block."""
        dimensions = self.extractor.dimensions(source.shape)
        writers = {
            layer: RowsWriter(folder / _file(layer), source.count, dimensions[layer]) for layer in wanted.rows
        }
        try:
            sink = FeatureSink(self.extractor, wanted.layer, source.count, wanted.blocks, writers)
            self._pass(source, observers, sink)
            return sink.gaussians()
        finally:
            for writer in writers.values():
                writer.close()

    def _bytes(self, source: ImageSource, wanted: Wanted) -> int:
        dimensions = self.extractor.dimensions(source.shape)
        rows = sum(4 * source.count * dimensions[layer] for layer in wanted.rows)
        return rows + 8 * dimensions[wanted.layer] ** 2


def _file(layer: str) -> str:
    return f"rows-{quote(layer, safe='')}.npy"
