"""`sagd data prepare` into a .npy: it goes on where it was stopped, names all faults in the end, and keeps labels."""

import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.datasets import writing
from sagd_cli.datasets.array_file import ArrayFile
from sagd_cli.datasets.loading import load_images, open_images

COUNT, SIZE = 24, 16


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes of JPEG files, of which four images are a part of an array."""
    monkeypatch.setattr(writing, "WRITTEN_AT_ONCE", 4 * 3 * SIZE * SIZE)
    for index in range(COUNT):
        place = tmp_path / "photos" / f"n{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(index).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((90, 70)).save(place / f"{index:03d}.JPEG", quality=90)
    return tmp_path / "photos"


@pytest.fixture
def prepare(tmp_path, folder, sagd):
    """The command, with further options, and what it writes."""
    target = tmp_path / "out" / "photos.npy"

    def run(*options):
        return sagd("data", "prepare", folder, "--size", SIZE, "--output", target, *options)

    return run, target


def whole(folder):
    return load_images(parse_dataset(f"{folder},size={SIZE}"))


@pytest.fixture
def written(monkeypatch):
    """The parts that are written."""
    parts, real = [], ArrayFile.write
    monkeypatch.setattr(
        ArrayFile,
        "write",
        lambda file, start, *rest: parts.append(start) or real(file, start, *rest),
    )
    return parts


def test_labels_and_names_of_classes_come_along(prepare, folder, sagd):
    run, target = prepare
    assert run().code == 0
    found, expected = load_images(parse_dataset(str(target))), whole(folder)
    assert np.array_equal(found.images, expected.images)
    assert found.labels.tolist() == expected.labels.tolist() and found.class_names == ("n0", "n1")
    names = sorted(path.name for path in target.parent.iterdir())
    assert names == ["photos.json", "photos.labels.npy", "photos.npy"]
    second = target.with_name("second.npy")
    assert sagd("data", "prepare", target, "--output", second).code == 0
    assert load_images(parse_dataset(str(second))).class_names == ("n0", "n1")


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_the_number_of_threads_changes_nothing(prepare, folder, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    run, target = prepare
    assert run().code == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = [next(one_image(folder, number)) for number in range(COUNT)]
    assert np.array_equal(np.load(target), np.stack(alone))


def one_image(folder, number):
    return open_images(parse_dataset(f"{folder},size={SIZE}")).images.at([number])


def test_the_same_command_goes_on_after_a_kill(prepare, folder, written, tmp_path):
    run, target = prepare
    code = f"""
import os, signal, sys
from sagd_cli.datasets import writing
from sagd_cli.datasets.array_file import ArrayFile
writing.WRITTEN_AT_ONCE = {writing.WRITTEN_AT_ONCE}
real = ArrayFile.write
def write(file, start, values, *source):
    if start == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    real(file, start, values, *source)
ArrayFile.write = write
from sagd_cli.__main__ import main
main()
"""
    command = ["data", "prepare", folder, "--size", SIZE, "--output", target]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in target.parent.iterdir()] == [".photos.npy.part"]
    other = run("--mode", "grey")
    assert other.code == 2 and "was begun with shape [24, 3, 16, 16], now shape [24, 1, 16, 16]" in other.err
    assert run().code == 0 and written == [12, 16, 20]
    assert np.array_equal(np.load(target), whole(folder).images)


def test_all_faults_are_named_in_the_end_and_mended_files_are_gone_on_with(prepare, folder, written):
    run, target = prepare
    paths = [folder / "n0" / "000.JPEG", folder / "n0" / "004.JPEG", folder / "n1" / "015.JPEG"]
    sound = [path.read_bytes() for path in paths[1:]]
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:300])
    failed = run()
    assert failed.code == 1 and "2 of 24 images cannot be read" in failed.err
    assert all(path.name in failed.err for path in paths[1:]) and not target.exists()
    assert "the same command goes on" in failed.err
    done = [*written]
    assert len(done) == 4
    for path, data in zip(paths[1:], sound, strict=True):
        path.write_bytes(data)
    written.clear()
    assert run().code == 0
    assert sorted(done + written) == [*range(0, COUNT, 4)] and not {*done} & {*written}
    assert np.array_equal(np.load(target), whole(folder).images)


def test_images_that_changed_meanwhile_are_written_again(prepare, folder, written):
    run, target = prepare
    (folder / "n1" / "023.JPEG").write_bytes(b"\xff\xd8\xff")
    assert run().code == 1
    for name in ("000", "023"):
        Image.new("RGB", (30, 30), "red").save(folder / f"n{int(name) % 2}" / f"{name}.JPEG")
    written.clear()
    assert run().code == 0 and written == [0, 20]
    assert np.array_equal(np.load(target), whole(folder).images)


def test_images_of_two_kinds_are_told_at_once(prepare, folder, written):
    run, _ = prepare
    Image.new("L", (30, 30)).save(folder / "n0" / "008.JPEG")
    failed = run()
    assert failed.code == 1 and "--mode rgb" in failed.err and written == [0]
    again = run("--mode", "rgb")
    assert again.code == 2 and "start anew with --force" in again.err
    assert run("--mode", "rgb", "--force").code == 0


def test_labels_of_an_old_array_are_replaced_and_never_left(prepare, folder, sagd, tmp_path):
    run, target = prepare
    assert run().code == 0
    assert sagd("data", "prepare", folder / "n0", "--size", SIZE, "--output", target, "--force").code == 0
    assert [path.name for path in target.parent.iterdir()] == ["photos.npy"]
    assert sagd("data", "prepare", "digits:test", "--output", target, "--force").code == 0
    assert len(load_images(parse_dataset(str(target))).labels) == 297
    pixels = ("data", "prepare", "digits:test", "--pixels", "--output", target)
    assert sagd(*pixels).code == 2 and sagd(*pixels, "--force").code == 0
    assert len(load_images(parse_dataset(str(target))).labels) == 297


def test_images_that_change_while_they_are_read_are_written_again(prepare, folder, written, monkeypatch):
    """Which of the two was read is not known."""
    run, target = prepare
    real = ArrayFile.write

    def write(file, start, *rest):
        if start == 4:
            Image.new("RGB", (30, 30), "blue").save(folder / "n0" / "012.JPEG")
        real(file, start, *rest)
        if start == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ArrayFile, "write", write)
        assert run().code == 130
    written.clear()
    assert run().code == 0 and written == [4, 12, 16, 20]
    assert np.array_equal(np.load(target), whole(folder).images)
