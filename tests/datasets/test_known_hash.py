"""A hash is remembered for as long as the files it came from are the same, and never longer."""

import os
from pathlib import Path

import numpy as np
import pytest

from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.images import write_array
from sagd_cli.datasets import known_hash
from sagd_cli.datasets.known_hash import KNOWN, KnownHash
from sagd_cli.datasets.loading import hash_images, open_images


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, and a clock for which all files are old."""
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_hash, "SETTLED", -(10**12))
    return tmp_path / "cache"


def pictures(seed=0, count=6):
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)


def made(tmp_path, form):
    """Return the data set of six images in a file, in a folder or in two classes."""
    path = tmp_path / ("images.npy" if form == "npy" else "images")
    if form == "npy":
        np.save(path, pictures())
    else:
        for index, image in enumerate(pictures()):
            place = path / f"{index % 2}" if form == "classes" else path
            place.mkdir(parents=True, exist_ok=True)
            write_array(image, place / f"{index}.png")
    return DatasetConfig(name="npy" if form == "npy" else "folder", options={"path": str(path)})


@pytest.mark.parametrize("form", ["npy", "folder", "classes"])
def test_a_hash_is_computed_once(cache, tmp_path, monkeypatch, form):
    config = made(tmp_path, form)
    assert KnownHash(config).find() is None
    first = KnownHash(config).of(open_images(config).images)
    assert first == hash_images(open_images(config).images)
    monkeypatch.setattr(known_hash, "hash_images", None)
    assert KnownHash(config).of(()) == first


def rewritten(path):
    """Change one value, and nothing that a listing shows."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "value": lambda folder: rewritten(folder / "0" / "2.png"),
    "time": lambda folder: os.utime(folder / "0" / "2.png", (1, 1)),
    "name": lambda folder: (folder / "0" / "2.png").rename(folder / "0" / "9.png"),
    "class": lambda folder: (folder / "0").rename(folder / "2"),
    "more": lambda folder: (folder / "1" / "7.png").write_bytes((folder / "1" / "1.png").read_bytes()),
    "less": lambda folder: (folder / "1" / "1.png").unlink(),
    "swap": lambda folder: (folder / "0" / "2.png").replace(folder / "0" / "0.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_hashed_again(cache, tmp_path, change):
    config = made(tmp_path, "classes")
    KnownHash(config).keep("0" * 64)
    assert KnownHash(config).find() == "0" * 64
    CHANGES[change](tmp_path / "images")
    assert KnownHash(config).find() is None


@pytest.mark.parametrize("place", ["0/00000/9.png", "a.zarr/s0/c/0/0", "0/1/2/3/9.png"])
@pytest.mark.parametrize("count", [1, 20])
def test_files_of_all_levels_count(cache, tmp_path, place, count):
    config = made(tmp_path, "classes")
    deep = tmp_path / "images" / place
    deep.parent.mkdir(parents=True)
    for index in range(count):
        deep.with_name(f"{index}{deep.name}").write_bytes(b"before")
    deep.write_bytes(b"before")
    KnownHash(config).keep("0" * 64)
    assert KnownHash(config).find() == "0" * 64
    deep.write_bytes(b"behind")
    assert KnownHash(config).find() is None


def test_a_link_that_leads_back_ends_somewhere(cache, tmp_path):
    config = made(tmp_path, "classes")
    for name in ("a", "b"):
        (tmp_path / "images" / name).symlink_to(tmp_path / "images")
    KnownHash(config).keep("0" * 64)
    assert KnownHash(config).find() == "0" * 64


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_what_is_written_through_a_map_is_hashed_again(cache, tmp_path, monkeypatch, share):
    """On some file systems that changes no time."""
    path = tmp_path / "images.npy"
    np.save(path, np.zeros((4096, 1, 32, 32), np.uint8))
    config = DatasetConfig(name="npy", options={"path": str(path)})
    stat, real = path.stat(), Path.stat
    monkeypatch.setattr(Path, "stat", lambda self, **how: stat if self == path else real(self, **how))
    KnownHash(config).keep("0" * 64)
    assert KnownHash(config).find() == "0" * 64
    images = np.load(path, mmap_mode="r+")
    images[len(images) // 2 :][: int(share * len(images))] = 1
    images.flush()
    assert KnownHash(config).find() is None


def test_all_of_a_small_file_counts(cache, tmp_path):
    """Whichever of its blocks changes."""
    path = tmp_path / "images.npy"
    path.write_bytes(bytes(10 * known_hash._BLOCK + 5))
    found = {known_hash._blocks(path, path.stat().st_size)}
    for place in range(0, 10 * known_hash._BLOCK + 5, 511):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes([1]))
        found.add(known_hash._blocks(path, path.stat().st_size))
    assert len(found) == 1 + len(range(0, 10 * known_hash._BLOCK + 5, 511))


def test_what_is_read_otherwise_has_another_hash(cache, tmp_path):
    config = made(tmp_path, "folder")
    KnownHash(config).keep("0" * 64)
    larger = config.model_copy(update={"options": {**config.options, "size": 16}})
    assert KnownHash(larger).find() is None and KnownHash(config, count=3).find() is None


def test_files_that_change_while_they_are_read_are_not_remembered(cache, tmp_path):
    config = made(tmp_path, "npy")
    known = KnownHash(config)
    rewritten(tmp_path / "images.npy")
    known.keep("0" * 64)
    assert KnownHash(config).find() is None


def test_files_that_changed_just_now_are_not_remembered(tmp_path, monkeypatch):
    """Their clock may not have moved on when they change again."""
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_hash, "SETTLED", 3600 * 10**9)
    config = made(tmp_path, "npy")
    KnownHash(config).keep("0" * 64)
    assert KnownHash(config).find() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 20_000, b'{"a": 1, "b": "c"}'])
def test_a_damaged_memory_is_no_memory(cache, tmp_path, content):
    config = made(tmp_path, "npy")
    cache.mkdir()
    (cache / KNOWN).write_bytes(content)
    assert KnownHash(config).find() is None
    KnownHash(config).keep("0" * 64)
    assert KnownHash(config).find() == "0" * 64


def test_the_memory_is_bounded_and_forgets_the_oldest(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(known_hash, "MOST_HASHES", 2)
    config = made(tmp_path, "npy")
    for count in (1, 2, 3):
        KnownHash(config, count=count).keep(f"{count}" * 64)
    assert [KnownHash(config, count=count).find() for count in (1, 2, 3)] == [None, "2" * 64, "3" * 64]


def test_where_nothing_can_be_kept_nothing_is(tmp_path, monkeypatch):
    monkeypatch.setattr(known_hash, "SETTLED", -(10**12))
    monkeypatch.setenv("SAGD_CACHE", "/proc/none")
    config = made(tmp_path, "npy")
    assert KnownHash(config).of(pictures()) == hash_images(pictures())


def test_only_files_that_are_known_to_be_read_count(cache, tmp_path):
    """A plug-in may read other files than its options name, and `digits` reads none."""
    for config in (DatasetConfig(name="digits"), DatasetConfig(name="folder", options={"path": "nowhere"})):
        known = KnownHash(config)
        known.keep("0" * 64)
        assert known.find() is None and known.sizes is None and not (cache / KNOWN).exists()


def test_sizes_are_alike_on_machines_with_copies(cache, tmp_path):
    one, two = (KnownHash(made(tmp_path / name, "classes")) for name in ("one", "two"))
    assert one.sizes == two.sizes is not None
    (tmp_path / "two" / "images" / "0" / "0.png").write_bytes(b"another size")
    assert KnownHash(two._config).sizes != one.sizes
