"""Features that were computed before, found again by the content of the images and of the weights."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagd_cli.system.environment import cache_folder
from sagd_cli.system.files import sync

LARGEST_CACHE = 10 * 2**30  # bytes; the entries that were not used for longest are removed first
# Seconds for which a process may still read an entry it has found, and fill one it has begun.
IN_USE, BEING_FILLED = 3600, 24 * 3600


class FeatureCache:
    """A folder of entries. Each entry is a folder of files that appears whole or not at all, and never changes."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use `folder`, or the folder of the user."""
        self._folder = (folder or cache_folder()) / "features"

    def _path(self, identity: Mapping[str, Any]) -> Path:
        text = json.dumps(dict(identity), sort_keys=True)
        return self._folder / hashlib.sha256(text.encode()).hexdigest()

    def find(self, identity: Mapping[str, Any]) -> Path | None:
        """Return the folder of the entry with this identity, or None when there is none; it counts as used now."""
        path = self._path(identity)
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def drop(self, entry: Path) -> None:
        """Remove an entry that `find` returned and that cannot be read."""
        shutil.rmtree(entry, ignore_errors=True)

    def begin(self, size: int) -> Path | None:
        """Return a new folder for `size` bytes, to be filled and given to `keep`; None when there is no room."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if size > min(LARGEST_CACHE, shutil.disk_usage(self._folder).free // 2):
                return None
            return Path(tempfile.mkdtemp(prefix=".tmp-", dir=self._folder))
        except OSError:
            return None

    def keep(self, filled: Path, identity: Mapping[str, Any]) -> Path:
        """Make the folder `filled` the entry of this identity, unless another process was faster; return the entry."""
        for file in filled.iterdir():
            sync(file)
        path = self._path(identity)
        try:
            filled.rename(path)
        except OSError:  # it is there already
            shutil.rmtree(filled, ignore_errors=True)
        self._prune(path)
        return path

    def _prune(self, newest: Path) -> None:
        entries = sorted((p for p in self._folder.iterdir() if p != newest), key=_last_used)
        used = _size(newest) + sum(map(_size, entries))
        for path in entries:
            unfinished = path.name.startswith(".tmp-")
            idle = time.time() - _last_used(path)
            if idle > BEING_FILLED if unfinished else idle > IN_USE and used > LARGEST_CACHE:
                used -= _size(path)
                shutil.rmtree(path, ignore_errors=True)


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:
        return 0
