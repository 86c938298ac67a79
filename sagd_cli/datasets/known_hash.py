"""Hashes of images, remembered by the names, sizes and times of the files that they came from. Imports no torch."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sagd_cli import __version__
from sagd_cli.config.run import DatasetConfig
from sagd_cli.datasets.loading import hash_images
from sagd_cli.plugin.records import Images
from sagd_cli.plugin.registry import registry
from sagd_cli.system.environment import cache_folder
from sagd_cli.system.files import write_text

KNOWN = "hashes.json"  # in the cache, an object of hashes
MOST_HASHES, MOST_BYTES = 1000, 10**6
# Nanoseconds after which a file that changes gets another time, whatever the clock of its file system.
SETTLED = 2 * 10**9
# Of so few files, such as arrays, as many blocks of bytes, spread evenly, are in the key: what is written through a
# memory map may leave the times as they were.
_FEW, _BLOCKS, _BLOCK = 16, 256, 4096
READING = 3  # raised where the same files and options give other values than before
DECODERS = ("numpy", "pillow", "tifffile", "imagecodecs")


class KnownHash:
    """The hash of a data set's images, known from an earlier command while its files are the same ones, unchanged.

    A file counts as unchanged when its place, size, inode and times are those it had; of 16 files at most, also 256
    blocks of 4 KiB of each. Only data sets of this program that read the files at their `path` have one.
    """

    def __init__(self, config: DatasetConfig, **way: Any) -> None:
        """Look at the files of `config`; `way` is what else decides what is hashed, as JSON can hold."""
        self._config, self._way = config, way
        self.key, self._newest, self.sizes = self._looked()

    def find(self) -> str | None:
        """Return the hash, or None where it is not known."""
        return None if self.key is None else _known().get(self.key)

    def of(self, images: Images) -> str:
        """Return the hash of the `images` that were read from the files, computed only where it is not known."""
        sha256 = self.find()
        if sha256 is None:
            sha256 = hash_images(images)
            self.keep(sha256)
        return sha256

    def keep(self, sha256: str) -> None:
        """Remember the hash of what was read since this was made, unless files have changed meanwhile or just before.

        Where it cannot be written it is not remembered.
        """
        key, newest, _ = self._looked()
        if key is None or key != self.key or newest > time.time_ns() - SETTLED:
            return
        known = {name: value for name, value in _known().items() if name != key} | {key: sha256}
        newest_ones = dict([*known.items()][-MOST_HASHES:])
        with suppress(Exception):
            write_text(cache_folder() / KNOWN, json.dumps(newest_ones, indent=0) + "\n")

    def _looked(self) -> tuple[str | None, int, str | None]:
        """Return the key of the hash, the newest time of the files, and a digest of their names and sizes."""
        entry = registry().entry("dataset", self._config.name)
        path = Path(str(self._config.options.get("path", "")))
        if entry.provider.distribution != "sagd" or "path" not in self._config.options:
            return None, 0, None
        try:
            found = [(file, file.stat()) for file in _files(path)]
            blocks = [_blocks(file, one.st_size) for file, one in found] if len(found) <= _FEW else []
        except OSError:  # reading them will say why
            return None, 0, None
        how = [
            __version__,
            READING,
            {name: version(name) for name in DECODERS},
            self._config.document(),
            self._way,
        ]
        names = [(str(file.relative_to(path)), one.st_size) for file, one in found]
        times = [(one.st_dev, one.st_ino, one.st_mtime_ns, one.st_ctime_ns) for _, one in found]
        newest = max((max(one.st_mtime_ns, one.st_ctime_ns) for _, one in found), default=0)
        return _digest([how, str(path.resolve()), names, times, blocks]), newest, _digest(names)


def _files(path: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """Yield the file `path`, or all files in that folder and those under it, in the order of their names.

    `above` are the folders that lead to it: a link to one of them is not followed.
    """
    if not path.is_dir():
        yield path
        return
    one = path.stat()
    if (one.st_dev, one.st_ino) in above:
        return
    with os.scandir(path) as found:
        entries = sorted((entry.name, entry.is_dir()) for entry in found)
    for name, is_folder in entries:
        if is_folder:
            yield from _files(path / name, above | {(one.st_dev, one.st_ino)})
        else:
            yield path / name


def _blocks(path: Path, size: int) -> str | None:
    """Return a digest of blocks of a file, the first and the last one too; small files are read whole."""
    if not path.is_file():
        return None
    last, digest = max(size - _BLOCK, 0), hashlib.sha256()
    count = min(_BLOCKS, -(-size // _BLOCK))
    with path.open("rb", buffering=0) as file:
        for k in range(count):
            file.seek(last * k // max(count - 1, 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _known() -> dict[str, str]:
    """Return the hashes that are remembered; none from a file that is damaged, and no damaged one."""
    try:
        with (cache_folder() / KNOWN).open(encoding="utf-8") as file:
            found = json.loads(file.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return {
        key: value
        for key, value in (found.items() if isinstance(found, dict) else ())
        if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    }


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode(errors="surrogateescape")).hexdigest()
