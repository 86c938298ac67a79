"""Data sets written to files and mapped from them: whole or not at all, and without holding them in memory."""

import os
import subprocess
import sys
import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from support.full_disk import little_room

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.data.images import read_image
from sagd_cli.data.ranges import UNIT
from sagd_cli.datasets.loading import hash_images, load_images, mean_and_std

NO_PROC = not os.path.exists("/proc/self/status")  # noqa: PTH110


def load(path):
    return load_images(parse_dataset(str(path)))


def write_folder(folder, count, shape=(6, 5, 3)):
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def child(code, *arguments, **options):
    """Run Python in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_files_are_those_numpy_writes(tmp_path, sagd):
    folder = write_folder(tmp_path / "images", 4)
    images = load(folder).images
    assert images.shape == (4, 3, 6, 5) and images.dtype == np.uint8
    for name, save in (("a.npy", np.save), ("a.npz", lambda file, array: np.savez(file, images=array))):
        assert sagd("data", "prepare", folder, "--output", tmp_path / name).code == 0
        expected = BytesIO()
        save(expected, images)
        assert (tmp_path / name).read_bytes() == expected.getvalue()


def test_labels_are_kept_in_an_archive_as_numpy_writes_it(tmp_path, sagd):
    assert sagd("data", "prepare", "digits:test", "--output", tmp_path / "a.npz").code == 0
    data = load_images(parse_dataset("digits:test"))
    np.savez(tmp_path / "b.npz", images=data.images, labels=data.labels, class_names=np.array([], np.str_))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_are_written_as_they_are(tmp_path, sagd, dtype):
    values = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(values))
    assert sagd("data", "prepare", tmp_path / "a.npy", "--output", tmp_path / "b.npy").code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), values, strict=True)


@pytest.mark.parametrize(("dtype", "channels"), [("float16", 3), ("float32", 1), ("float64", 3)])
def test_a_folder_of_float_images_holds_the_same_signals(tmp_path, sagd, dtype, channels):
    values = np.random.default_rng(0).normal(0, 2, (3, channels, 8, 8)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    for source, target in (("a.npy", "one"), ("one", "two")):  # from an array, and from a folder of floats
        result = sagd("data", "prepare", tmp_path / source, "--output", tmp_path / target, "--json")
        assert (result.code, result.json["count"]) == (0, 3), result.err
        files = sorted((tmp_path / target).iterdir())
        assert [path.name for path in files] == ["000000.tiff", "000001.tiff", "000002.tiff"]
        for path, signal in zip(files, values, strict=True):
            image = read_image(path)
            assert image.range == UNIT and image.pixels.dtype == np.float32
            np.testing.assert_allclose(image.pixels, (signal.astype(np.float64) + 1) / 2, rtol=0, atol=1e-6)
        np.testing.assert_allclose(load(tmp_path / target).images, values, rtol=0, atol=1e-6)
    made = sagd("data", "prepare", tmp_path / "one", "--pixels", "--output", tmp_path / "bytes", "--json")
    assert made.json["clipped"] == np.count_nonzero(
        np.abs(np.rint((values.astype(float) + 1) * 127.5) - 127.5) > 128
    )
    assert sorted(path.suffix for path in (tmp_path / "bytes").iterdir()) == [".png"] * 3


@pytest.mark.slow
@pytest.mark.skipif(NO_PROC, reason="needs /proc")
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, suffix):
    """2,000 images of 48 KiB are 94 MiB: a copy of them would show."""
    Image.fromarray(np.full((128, 128, 3), 9, np.uint8)).save(tmp_path / "one.png")
    code = (
        "import sys; from sagd_cli.__main__ import main\n"
        "try: main(['data', 'prepare', *sys.argv[1:]])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    peaks = []
    for count in (200, 2000):
        folder = tmp_path / f"{count}"
        for part in ("a", "b"):
            (folder / part).mkdir(parents=True)
        for i in range(count):
            os.link(tmp_path / "one.png", folder / "ab"[i % 2] / f"{i:04d}.png")
        target = tmp_path / f"{count}.{suffix}"
        peaks.append(int(child(code, folder, "--output", target).stdout.split()[-2]) / 1024)
        assert load(target).images.shape == (count, 3, 128, 128)
    assert peaks[1] - peaks[0] < 20, peaks


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("bad", ["size", "colour", "damaged"])
def test_an_image_that_does_not_fit_leaves_the_old_file_and_nothing_else(tmp_path, sagd, name, bad):
    folder, target = write_folder(tmp_path / "images", 4), tmp_path / "out" / name
    assert sagd("data", "prepare", folder, "--output", target).code == 0
    before = target.read_bytes()
    if bad == "damaged":
        (folder / "9.png").write_bytes((folder / "0.png").read_bytes()[:60])
    else:
        Image.new("L" if bad == "colour" else "RGB", (9, 7)).save(folder / "9.png")
    exists = sagd("data", "prepare", folder, "--output", target)
    assert exists.code == 2 and "exists already" in exists.err
    result = sagd("data", "prepare", folder, "--output", target, "--force")
    assert result.code == 1 and "9.png" in result.err and "Traceback" not in result.err
    assert [path.name for path in target.parent.iterdir()] == [name] and target.read_bytes() == before
    new = sagd("data", "prepare", folder, "--output", tmp_path / "new" / name)
    assert new.code == 1 and list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, sagd, name):
    with little_room(40_000):
        done = sagd("data", "prepare", "digits", "--output", tmp_path / name)
    assert done.code == 1 and "error: File too large" in done.err, done.err
    assert list(tmp_path.iterdir()) == []


LAZY = """
import os, signal
import numpy as np
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Options, hookimpl

class Lazy(Options):
    at: int = 5
    fate: str = "none"

class Images:
    def __init__(self, options):
        self.options = options
    def __len__(self):
        return 9
    def __iter__(self):
        for i in range(9):
            image = np.full((1, 4, 4), i, np.float32)
            if i == self.options.at:
                match self.options.fate:
                    case "kill": os.kill(os.getpid(), signal.SIGKILL)
                    case "shape": image = image[:, 1:]
                    case "type": image = image.astype(np.float16)
                    case "nan": image[0, 1, 2] = np.nan
            yield image

@hookimpl
def sagd_datasets():
    yield DatasetPlugin("lazy", "images one by one", Lazy, lambda options, split: LazyImageSet(Images(options)))
"""


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "lazy.py"
    path.write_text(LAZY)
    return path


def test_a_kill_leaves_at_worst_a_hidden_file(tmp_path, plugin):
    out = tmp_path / "out"
    command = ["--plugin", plugin, "data", "prepare", "lazy:fate=kill", "--output", out / "a.npy"]
    done = child("from sagd_cli.__main__ import main; main()", *command)
    assert done.returncode == -9
    assert all(path.name.startswith(".sagd-") for path in out.iterdir())


@pytest.mark.parametrize(
    ("fate", "message"),
    [
        (
            "shape",
            "image 5 of the data set lazy is float32 of shape (1, 3, 4), and the first one float32 of shape",
        ),
        (
            "type",
            "image 5 of the data set lazy is float16 of shape (1, 4, 4), and the first one float32 of shape",
        ),
        ("nan", "image 5 of the data set lazy holds values that are not finite"),
    ],
)
def test_a_lazy_image_that_breaks_the_contract_is_named(tmp_path, sagd, plugin, fate, message):
    for command in (
        ["prepare", f"lazy:fate={fate}", "--output", tmp_path / "a.npy"],
        ["info", f"lazy:fate={fate}"],
    ):
        result = sagd("--plugin", plugin, "data", *command)
        assert result.code == 1 and message in result.err
    assert sagd("--plugin", plugin, "data", "prepare", "lazy", "--output", tmp_path / "a.npy").code == 0
    assert np.load(tmp_path / "a.npy")[:, 0, 0, 0].tolist() == [*range(9)]


# -- maps ------------------------------------------------------------------------------------------------


def test_an_array_in_a_file_is_mapped_read_only_and_hashes_as_in_memory(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 5), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    mapped = load(tmp_path / "a.npy").images
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    assert hash_images(mapped) == hash_images(images)


@pytest.mark.slow
@pytest.mark.skipif(NO_PROC, reason="needs /proc")
def test_a_map_is_opened_hashed_and_measured_without_a_copy(tmp_path):
    """The file has 512 MiB, all of them holes, and the process may take 100 MiB more than it has."""
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (2**17, 1, 64, 64)).flush()
    code = (
        "import resource, sys; from sagd_cli.config.arguments import parse_dataset\n"
        "from sagd_cli.datasets.loading import *; from sagd_cli.design.advice import data_moments\n"
        "data = next(line for line in open('/proc/self/status') if line.startswith('VmData')).split()[1]\n"
        "most = int(data) * 1024 + 100 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (most, most))\n"
        "images = load_images(parse_dataset(sys.argv[1])).images\n"
        "assert images.shape == (2**17, 1, 64, 64) and data_moments(images)['power'].shape == (64, 33)\n"
        "assert mean_and_std(images) == (0, 0) and hash_images(images)\n"
        "try: images.copy()\n"
        "except MemoryError: print('as it should be')"
    )
    done = child(code, tmp_path / "a.npy")
    assert done.stdout == "as it should be\n", done.stderr


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_mean_and_deviation_are_those_of_all_values(dtype):
    images = (np.random.default_rng(1).normal(size=(700, 3, 31, 29)) * 20 + 100).astype(dtype)
    whole = images.astype(np.float64)
    assert mean_and_std(images) == pytest.approx((whole.mean(), whole.std()), rel=1e-12)


@pytest.mark.skipif(NO_PROC, reason="the peak of memory is read from /proc")
def test_a_mapped_file_is_read_in_memory_that_does_not_grow_with_it(tmp_path):
    images = np.lib.format.open_memmap(
        tmp_path / "a.npy", "w+", np.uint8, (200, 1, 1000, 1000)
    )  # 200 MB, a hole
    images[7] = 3
    images[150:] = 5
    images.flush()
    code = """
import sys, numpy as np
from pathlib import Path
from sagd_cli.config.arguments import parse_dataset
from sagd_cli.datasets.loading import open_images
def peak():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) // 1024
images = open_images(parse_dataset(sys.argv[1])).images
before = peak()
print(*[int(image.max()) for image in images])
print(peak() - before)
"""
    done = child(code, tmp_path / "a.npy")
    values, grown = done.stdout.splitlines()
    assert [int(value) for value in values.split()] == [0] * 7 + [3] + [0] * 142 + [5] * 50
    assert int(grown) < 20
