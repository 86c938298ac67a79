"""A command that was stopped goes on: nothing is done twice, and the end is that of a command that was not."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from sagd_cli.commands import omit
from sagd_cli.damage.corruption import Corruption
from sagd_cli.damage.measured_noise import typed_noise
from sagd_cli.data import folders, journal
from sagd_cli.data.kept_images import KeptImages
from sagd_cli.restoration import folder_work, measuring
from sagd_cli.restoration.measuring import Measuring
from sagd_cli.restoration.options import Omission
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output
from sagd_cli.system.files import sole_user

SIDE, COUNT, TOGETHER = 32, 7, 2
CORRUPT = ("--band", "high", "--strength", "0.2", "--json")
OMIT = ("--band", "stripe:horizontal,0,0", "--estimate", "wiener", "--json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Smooth planes of 16 bits with offset rows, as one stack, as a folder, and as a stack beside files."""
    place = tmp_path_factory.mktemp("inputs")
    y, x = np.mgrid[:SIDE, :SIDE]
    random = np.random.default_rng(0)
    plain = [20000 + 9000 * np.sin(x / (5 + k) + y / 9) for k in range(COUNT)]
    planes = np.rint([plane + random.normal(0, 600, (SIDE, 1)) for plane in plain]).astype(np.uint16)
    for name in ("stack", "folder", "both"):
        (place / name).mkdir()
    tifffile.imwrite(place / "stack" / "s.tif", planes, imagej=True, metadata={"axes": "ZYX", "unit": "um"})
    shutil.copy(place / "stack" / "s.tif", place / "both" / "3.tif")
    for k, plane in enumerate(planes):
        for folder in ("folder", "both")[: 2 if k != 3 else 1]:
            tifffile.imwrite(place / folder / f"{k}.tif", plane)
    return place


def test_a_command_that_goes_on_knows_what_was_measured_on_a_file(tmp_path):
    """The noise that it names is the one that is told again, at the levels that were kept."""
    tifffile.imwrite(tmp_path / "dark.tif", np.random.default_rng(0).random((SIDE, SIDE), np.float32))
    told = typed_noise(f"from:{tmp_path}/dark.tif:level=0.5+white")
    kept = {"noise": f"{told}:level=0.1", "levels": [0.5, 0.1], "strength": None}
    images = [SimpleNamespace(pixels=np.zeros((1, SIDE, SIDE)))]
    noise, strength = Measuring(Omission(noise=told), tmp_path, images, Output(quiet=True), kept).levels()
    assert (noise, strength) == (told.with_levels([0.5, 0.1]), None)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr(folder_work, "PIXELS_AT_ONCE", TOGETHER * SIDE**2)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def unbroken(inputs, tmp_path_factory):
    """What a command that is not stopped writes and says, by the name of its input."""
    found = {}

    def of(sagd, name):
        if name not in found:
            place = tmp_path_factory.mktemp("unbroken")
            done = sagd("omit", inputs / name, *OMIT, "--output", place / "o")
            assert done.code == 0 and [path.name for path in place.iterdir()] == ["o"], done.err
            found[name] = files(place / "o"), done.out.replace(str(place), "PLACE")
        return found[name]

    return of


@pytest.fixture
def stopped(sagd, monkeypatch):
    """Stop a command after so many groups of images were written, before the journal has the last one."""

    def run(groups, *arguments):
        add, seen = journal.Journal.add, []

        def counted(self, batch):
            seen.append(batch)
            if len(seen) == groups:
                raise KeyboardInterrupt
            add(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(journal.Journal, "add", counted)
            assert sagd(*arguments).code == 130

    return run


@pytest.fixture
def restored(monkeypatch):
    """Count the images that are restored."""
    names, written = [], folder_work.FolderWork._written

    def counted(self, job, done):
        names.append(job.image.place.name)
        return written(self, job, done)

    monkeypatch.setattr(folder_work.FolderWork, "_written", counted)
    return names


@pytest.mark.parametrize("name", ["folder", "stack", "both"])
def test_it_goes_on_and_the_end_is_the_same(
    sagd, inputs, unbroken, stopped, restored, monkeypatch, tmp_path, name
):
    expected, said = unbroken(sagd, name)
    command = ("omit", inputs / name, *OMIT, "--output", tmp_path / "o")
    for groups in (2, 2, 2):  # of which the last is lost
        stopped(groups, *command)
        assert {name: expected[name] for name in files(tmp_path / "o")} == files(tmp_path / "o"), (
            "no half file"
        )
    monkeypatch.setattr(measuring, "noise_levels", None)  # nothing is measured again
    restored.clear()
    done = sagd(*command)
    assert done.code == 0 and done.out.replace(str(tmp_path), "PLACE") == said, done.err
    assert files(tmp_path / "o") == expected
    count = len(json.loads(said)["files"])
    before = {"folder": 6, "stack": 6, "both": 5}[name]
    assert len(restored) == count - before
    assert f"{before} of {count} images were restored before" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


@pytest.mark.parametrize("options", [(), ("--clip",)])
@pytest.mark.parametrize("name", ["folder", "both"])
def test_corruption_goes_on_and_the_end_is_the_same(
    sagd, inputs, stopped, monkeypatch, tmp_path, name, options
):
    def command(folder):
        return ("corrupt", inputs / name, *CORRUPT, *options, "--output", tmp_path / folder)

    done = sagd(*command("p"))
    expected, said = files(tmp_path / "p"), done.out.replace(f"{tmp_path}/p", f"{tmp_path}/o")
    drawn, noise = [], Corruption.noise
    monkeypatch.setattr(Corruption, "noise", lambda *given: drawn.append(given) or noise(*given))
    for _ in range(3):
        stopped(3, *command("o"))  # of which the last is lost
        assert {name: expected[name] for name in files(tmp_path / "o")} == files(tmp_path / "o"), (
            "no half file"
        )
    other = sagd(*command("o"), "--seed", 4)
    assert other.code == 2 and "o was begun with --seed 0, now with --seed 4" in other.err
    assert "--force" in other.err
    drawn.clear()
    done = sagd(*command("o"))
    assert done.code == 0 and done.out == said, done.err
    assert files(tmp_path / "o") == expected
    count = len(json.loads(said)["files"])
    assert len(drawn) == count - 6 and f"6 of {count} images were corrupted before" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o", "p"]


def test_a_process_that_was_killed_goes_on(sagd, inputs, unbroken, restored, tmp_path):
    command = ["omit", str(inputs / "stack"), *OMIT, "--output", str(tmp_path / "o")]
    code = (
        "import os\nfrom sagd_cli.restoration import folder_work\nfrom sagd_cli.__main__ import main\n"
        f"folder_work.PIXELS_AT_ONCE = {TOGETHER * SIDE**2}\n"
        "written = folder_work.FolderWork._written\n"
        "def killed(self, job, done):\n"
        "    if job.image.page == 5: os.kill(os.getpid(), 9)\n"
        "    return written(self, job, done)\n"
        f"folder_work.FolderWork._written = killed\nmain({command!r})"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert process.returncode == -9, process.stderr
    assert [path.name[:6] for path in (tmp_path / "o").iterdir()] == [".sagd-"]
    done = sagd(*command)
    assert restored == [f"s.tif, image {k}" for k in (5, 6, 7)], done.err
    assert (files(tmp_path / "o"), done.out.replace(str(tmp_path), "PLACE")) == unbroken(sagd, "stack")
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


@pytest.mark.parametrize("name", ["folder", "stack"])
def test_what_is_not_as_it_was_left_is_restored_again(
    sagd, inputs, unbroken, stopped, restored, tmp_path, name
):
    command = ("omit", inputs / name, *OMIT, "--output", tmp_path / "o")
    stopped(3, *command)
    if name == "folder":
        (tmp_path / "o" / "1.tif").unlink()
        again = ["0.tif", "1.tif", "4.tif", "5.tif", "6.tif"]
    else:
        (kept,) = (tmp_path / ".o-omission").glob("*.images")
        data = bytearray(kept.read_bytes())
        data[len(data) // 2] ^= 1  # of six images, the fourth
        kept.write_bytes(data)
        again = [f"s.tif, image {k}" for k in range(3, 8)]
    restored.clear()
    done = sagd(*command)
    assert restored == again
    assert (files(tmp_path / "o"), done.out.replace(str(tmp_path), "PLACE")) == unbroken(sagd, name)


def test_what_failed_is_tried_again(sagd, inputs, restored, tmp_path):
    shutil.copytree(inputs / "folder", tmp_path / "in")
    (tmp_path / "in" / "b.tif").write_bytes(b"no image")
    command = ("omit", tmp_path / "in", *OMIT, "--output", tmp_path / "o")
    for count in (COUNT, 0):
        restored.clear()
        done = sagd(*command)
        assert done.code == 1 and len(done.json["failed"]) == 1 and len(done.json["files"]) == COUNT
        assert len(restored) == count and "the same command tries again what failed" in done.err


def test_another_command_is_refused_unless_it_starts_anew(
    sagd, inputs, unbroken, stopped, restored, tmp_path
):
    shutil.copytree(inputs / "folder", tmp_path / "in")
    command = ("omit", tmp_path / "in", *OMIT, "--output", tmp_path / "o")
    stopped(2, *command)
    before = files(tmp_path / "o")
    other = sagd(*command, "--estimate", "notch")
    assert (
        other.code == 2
        and "o was begun with --estimate wiener, now with --estimate notch" in other.err
        and "--force" in other.err
    )
    (tmp_path / "in" / "7.tif").write_bytes((tmp_path / "in" / "6.tif").read_bytes())
    other = sagd(*command)
    assert other.code == 2 and "7.tif is not what it was when" in other.err and "--force" in other.err
    (tmp_path / "in" / "7.tif").unlink()
    assert files(tmp_path / "o") == before
    restored.clear()
    done = sagd(*command, "--force")
    assert done.code == 0 and len(restored) == COUNT
    assert files(tmp_path / "o") == unbroken(sagd, "folder")[0]
    assert sagd(*command).code == 2, "what is whole is not replaced"


def test_noise_that_was_found_and_the_figure_are_the_same(sagd, stopped, monkeypatch, tmp_path):
    """Its first images were restored before."""
    y, x = np.mgrid[:48, :48]
    (tmp_path / "in").mkdir()
    for k in range(3):
        rough = np.random.default_rng(k).normal(0.5, 1, (48, 48))
        plane = np.fft.irfft2(np.fft.rfft2(rough) / (1 + 400 * FrequencyGrid((48, 48)).radius ** 2))
        plane += 0.2 * np.cos(2 * np.pi * (12 * y + 7 * x) / 48 + k)
        tifffile.imwrite(tmp_path / "in" / f"{k}.tif", plane.astype(np.float32))
    monkeypatch.setattr(folder_work, "PIXELS_AT_ONCE", 1)
    found, drawn = {}, []
    monkeypatch.setattr(omit, "_draw", lambda result, shown, path, force: drawn.extend(shown))
    for name, is_stopped in (("a", False), ("b", True)):
        place = tmp_path / name
        place.mkdir()
        command = ("omit", tmp_path / "in", "--band", "auto", *OMIT[2:], "--output", place / "o")
        command = (*command, "--figure", place / "f.png", "--truth", tmp_path / "in")
        if is_stopped:
            stopped(3, *command)
            monkeypatch.setattr(measuring, "find_thin", None)
        done = sagd(*command)
        assert done.code == 0, done.err
        found[name] = files(place / "o"), done.out.replace(str(place), "PLACE")
    assert found["a"] == found["b"]
    assert [one.name for one in drawn] == 2 * [f"{k}.tif" for k in range(3)]
    for one, other in zip(drawn[:3], drawn[3:], strict=True):
        for key in ("before", "after", "truth"):
            np.testing.assert_array_equal(getattr(one, key), getattr(other, key))


def test_the_kept_images_of_a_stack_are_counted_once(tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr(KeptImages, "count", lambda self: counts.append(self) or 9)
    done = [[journal.WrittenImage("a.tif", page, {}, {"out.tif": None})] for page in range(9)]
    assert len(journal.Journal(tmp_path, {}, str, {}, batches=done).done) == 9
    assert len(counts) == 1


def test_a_file_that_was_changed_since_is_not_overwritten(sagd, inputs, unbroken, stopped, tmp_path):
    command = ("omit", inputs / "folder", *OMIT, "--output", tmp_path / "o")
    stopped(3, *command)
    mine = tmp_path / "o" / "1.tif"
    mine.write_bytes(b"my own work")
    refused = sagd(*command)
    assert refused.code == 2 and "1.tif was changed since" in refused.err and "--force" in refused.err
    assert mine.read_bytes() == b"my own work"
    mine.unlink()
    assert sagd(*command).code == 0 and files(tmp_path / "o") == unbroken(sagd, "folder")[0]


@pytest.mark.parametrize("mended", ["replaced", "removed"])
def test_a_file_that_could_not_be_read_may_be_mended(sagd, inputs, unbroken, tmp_path, mended):
    """And a folder that holds another true image then; what was measured on stays compared."""
    for name in ("in", "true"):
        shutil.copytree(inputs / "folder", tmp_path / name)
    bad = tmp_path / "in" / "3.tif"
    bad.write_bytes(b"no image")
    command = ("omit", tmp_path / "in", *OMIT, "--truth", tmp_path / "true", "--output", tmp_path / "o")
    assert sagd(*command).code == 1
    (tmp_path / "in" / "2.tif").touch()
    other = sagd(*command)
    assert other.code == 2 and "2.tif is not what it was when" in other.err
    shutil.copystat(inputs / "folder" / "2.tif", tmp_path / "in" / "2.tif")
    if mended == "replaced":
        shutil.copy2(inputs / "folder" / "3.tif", bad)
    else:
        bad.unlink()
    done = sagd(*command)
    assert done.code == 0 and len(done.json["files"]) == COUNT - (mended == "removed"), done.err
    expected, written = unbroken(sagd, "folder")[0], files(tmp_path / "o")
    assert len(written) == COUNT - (mended == "removed")
    assert all(len(expected[name]) == len(data) for name, data in written.items())
    assert not (tmp_path / ".o-omission").exists()


def test_what_was_restored_of_a_mended_file_is_compared_from_then_on(sagd, inputs, stopped, tmp_path):
    shutil.copytree(inputs / "folder", tmp_path / "in")
    (tmp_path / "in" / "0.tif").write_bytes(b"no image")
    command = ("omit", tmp_path / "in", *OMIT, "--output", tmp_path / "o")
    assert sagd(*command).code == 1
    shutil.copy2(inputs / "folder" / "0.tif", tmp_path / "in" / "0.tif")
    (tmp_path / "o" / "6.tif").unlink()
    stopped(2, *command)
    (tmp_path / "in" / "0.tif").touch()
    other = sagd(*command)
    assert other.code == 2 and "0.tif is not what it was when" in other.err


def test_another_command_begins_anew_where_nothing_was_restored(sagd, inputs, unbroken, stopped, tmp_path):
    command = ("omit", inputs / "folder", "--output", tmp_path / "o")
    stopped(1, *command, "--band", "stripe:vertical,0,0", *OMIT[2:])
    shutil.rmtree(tmp_path / "o")
    assert (tmp_path / ".o-omission" / "journal.jsonl").exists()
    done = sagd(*command, *OMIT)
    assert done.code == 0 and files(tmp_path / "o") == unbroken(sagd, "folder")[0], done.err
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_says_how_to_go_on(sagd, inputs, monkeypatch, tmp_path, signum):
    monkeypatch.setattr(journal.Journal, "add", lambda *_: os.kill(os.getpid(), signum))
    command = ("omit", inputs / "folder", *OMIT[:-1], "--output", tmp_path / "o")
    stop = sagd(*command)
    assert stop.code == 128 + signum and "Run the same command again to go on" in stop.err
    monkeypatch.setattr(measuring, "noise_levels", lambda *_: os.kill(os.getpid(), signum))
    stop = sagd(*command[:-1], tmp_path / "p" / "q")
    assert stop.code == 128 + signum and "stopped" in stop.err and "go on" not in stop.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [".o-omission", "o"]


def test_two_commands_do_not_write_the_same_output(sagd, inputs, tmp_path):
    command = ("omit", inputs / "stack", *OMIT, "--output", tmp_path / "o")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / ".sagd-1.tif").write_bytes(b"of the other")
    with sole_user(tmp_path / ".o-omission"):
        busy = sagd(*command)
    assert busy.code == 2 and "another command writes the same output" in busy.err
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_paths_may_be_spelled_otherwise(sagd, inputs, unbroken, stopped, restored, monkeypatch, tmp_path):
    expected, said = unbroken(sagd, "both")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(inputs / "both", "in")
    stopped(3, "omit", "in", *OMIT, "--output", "o", "--removed", "r")
    (tmp_path / "d").mkdir()
    monkeypatch.chdir("d")
    restored.clear()
    command = ("omit", "../in", *OMIT, "--output", "../o")
    for options, words in (
        ((), "with --removed r, now without --removed"),
        (("--removed", "x"), "--removed x"),
    ):
        other = sagd(*command, *options)
        assert other.code == 2 and words in other.err and not restored
    done = sagd(*command, "--removed", tmp_path / "r")
    assert done.code == 0 and len(restored) < len(json.loads(said)["files"]), done.err
    assert files(tmp_path / "o") == expected
    told = json.loads(done.out.replace(f"{tmp_path}/r/", ""))["files"]
    for record in told:
        record.pop("removed")
    assert json.dumps(told).replace("../in", str(inputs / "both")).replace("../o", "PLACE/o") == json.dumps(
        json.loads(said)["files"]
    )


@pytest.mark.parametrize("is_there", [False, True])
def test_where_no_journal_can_be_kept_one_fault_is_said(sagd, inputs, monkeypatch, tmp_path, is_there):
    place, make = tmp_path / "p", Path.mkdir
    (place / "o" if is_there else place).mkdir(parents=True)

    def refuse(path, **options):
        if path.parent == place and not path.exists():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = sagd("omit", inputs / "folder", *OMIT, "--output", place / "o")
    assert done.code == (0 if is_there else 1)
    assert ("starts anew" in done.err) == is_there and ("o cannot be written" in done.err) != is_there


@pytest.mark.parametrize("command", ["omit", "corrupt"])
def test_a_finished_output_is_refused_before_the_images_are_looked_at(
    sagd, inputs, tmp_path, monkeypatch, command
):
    options = {"omit": OMIT, "corrupt": CORRUPT}[command]
    shutil.copytree(inputs / "folder", tmp_path / "o")
    monkeypatch.setattr(folders, "output_name", pytest.fail)
    monkeypatch.setattr(journal, "file_state", pytest.fail)
    done = sagd(command, inputs / "folder", *options, "--output", tmp_path / "o")
    assert done.code == 2 and "exists already" in done.err, done.err
