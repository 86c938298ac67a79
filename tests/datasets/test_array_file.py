"""An array that is written in parts appears whole or not at all, and what a kill left is gone on with."""

import subprocess
import sys

import numpy as np
import pytest
from support.full_disk import little_room

from sagd_cli.datasets import array_file
from sagd_cli.datasets.array_file import ArrayFile
from sagd_cli.datasets.beside import read_beside, write_beside
from sagd_cli.errors import SagdError, UsageError
from sagd_cli.plugin.records import LazyImageSet

SHAPE, PART = (23, 2, 3, 3), 4
VALUES = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)


def file_at(tmp_path, **changed):
    """Return the file to write; `changed` are other settings."""
    own = {"dtype": np.dtype(np.float32), "decides": {"size": 3}} | changed
    return ArrayFile(tmp_path / "out" / "images.npy", SHAPE, **own)


def parts(left):
    return [range(at, min(at + PART, run.stop)) for run in left for at in range(run.start, run.stop, PART)]


def written(file, values=VALUES, most=None, force=False, data=None):
    """Write what is left, or the first `most` parts of it, and return the parts that were written."""
    with file:
        todo = parts(file.begin(force))[:most]
        for part in todo:
            file.write(part.start, values[part.start : part.stop], file.source_of(part))
        if most is None:
            file.finish(data)
    return todo


def expected(tmp_path):
    np.save(tmp_path / "expected.npy", VALUES)
    return (tmp_path / "expected.npy").read_bytes()


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", ">f4"])
def test_it_is_what_numpy_writes_and_nothing_else_stays(tmp_path, dtype):
    values = VALUES.astype(dtype)
    file = file_at(tmp_path, dtype=values.dtype)
    written(file, values)
    np.save(tmp_path / "expected.npy", values)
    assert file.path.read_bytes() == (tmp_path / "expected.npy").read_bytes()
    assert [*file.path.parent.iterdir()] == [file.path]


def test_it_appears_when_it_is_whole(tmp_path):
    file = file_at(tmp_path)
    with file:
        todo = parts(file.begin())
        for part in todo[1:]:
            file.write(part.start, VALUES[part.start : part.stop])
        with pytest.raises(SagdError, match="lacks 4 of its 23 images"):
            file.finish()
        assert not file.path.exists()
        file.write(0, VALUES[:PART])
        assert not file.path.exists()
        file.finish()
    assert file.path.read_bytes() == expected(tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_kills_change_nothing(tmp_path, monkeypatch, seed):
    """At any time: before, in the middle of and after the bytes and the line of a part; in disorder of parts."""
    random = np.random.default_rng(seed)
    real_pwrite, real_line = array_file.os.pwrite, array_file.add_line
    fuse = 0

    def burn():
        nonlocal fuse
        fuse -= 1
        if fuse < 0:
            raise KeyboardInterrupt

    def pwrite(handle, data, place):
        real_pwrite(handle, data[: len(data) // 2], place)
        burn()
        real_pwrite(handle, data[len(data) // 2 :], place + len(data) // 2)
        burn()
        return len(data)

    def add_line(path, document):
        if path.name == "0.jsonl" and fuse == 0:
            with path.open("a") as journal:
                journal.write('\n{"part": [0, 23], "cr')
        burn()
        real_line(path, document)

    monkeypatch.setattr(array_file.os, "pwrite", pwrite)
    monkeypatch.setattr(array_file, "add_line", add_line)
    for _ in range(100):
        fuse, file = int(random.integers(0, 9)), file_at(tmp_path)
        try:
            with file:
                todo = parts(file.begin())
                random.shuffle(todo)
                for part in todo:
                    file.write(part.start, VALUES[part.start : part.stop])
                file.finish()
        except KeyboardInterrupt:
            assert not file.path.exists()
            continue
        break
    assert file.path.read_bytes() == expected(tmp_path)


def test_what_is_done_is_not_asked_for_again(tmp_path):
    first = written(file_at(tmp_path), most=3)
    second = written(file_at(tmp_path))
    assert not {*first} & {*second} and first + second == parts([range(23)])


def test_bytes_that_a_crash_lost_are_written_again(tmp_path):
    file = file_at(tmp_path)
    written(file, most=4)
    data = tmp_path / "out" / ".images.npy.part" / "array.npy"
    bytes_ = bytearray(data.read_bytes())
    bytes_[-300] ^= 1
    data.write_bytes(bytes_[:-100])
    assert written(file_at(tmp_path)) == parts([range(23)])[2:]
    assert file.path.read_bytes() == expected(tmp_path)


@pytest.mark.parametrize("name", ["images.labels.npy", "images.json"])
def test_files_that_appeared_meanwhile_are_not_replaced(tmp_path, name):
    written(file_at(tmp_path), most=2)
    theirs = tmp_path / "out" / name
    theirs.write_text('{"class_names": ["mine"]}')
    with pytest.raises(UsageError, match=f"{name} exists already"):
        written(file_at(tmp_path))
    assert theirs.read_text() == '{"class_names": ["mine"]}'
    written(file_at(tmp_path), force=True)


def test_a_kill_while_it_finishes_is_gone_on_from(tmp_path, monkeypatch):
    data = LazyImageSet((), np.arange(23), tuple("abc"))

    def killed(*given):
        write_beside(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(array_file, "write_beside", killed)
        written(file_at(tmp_path), data=data)
    assert written(file_at(tmp_path), data=data) == []
    assert (tmp_path / "out" / "images.npy").read_bytes() == expected(tmp_path)


def test_parts_whose_source_changed_are_written_again(tmp_path):
    written(file_at(tmp_path, source=lambda part: f"{part.start}"), most=3)
    changed = file_at(tmp_path, source=lambda part: f"{part.start}" if part.start != 4 else "other")
    assert written(changed) == [range(4, 8), *parts([range(23)])[3:]]
    assert changed.path.read_bytes() == expected(tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"decides": {"size": 4}}, "was begun with size 3, now size 4"),
        ({"decides": {}}, "was begun with size 3, now no size"),
        ({"dtype": np.dtype(np.float16)}, "was begun with type <f4, now type <f2"),
    ],
)
def test_what_another_command_has_begun_is_not_gone_on_with(tmp_path, changed, says):
    written(file_at(tmp_path), most=3)
    other = file_at(tmp_path, **changed)
    with pytest.raises(UsageError, match=says):
        written(other)
    assert written(file_at(tmp_path)) == parts([range(23)])[3:]
    other.path.unlink()
    written(file_at(tmp_path), most=3)
    assert written(other, VALUES.astype(other.dtype), force=True) == parts([range(23)])


def test_a_file_that_is_there_is_replaced_with_force_only(tmp_path):
    file = file_at(tmp_path)
    written(file, data=LazyImageSet((), np.arange(23), ("a", "b")))
    with pytest.raises(UsageError, match="exists already"):
        written(file_at(tmp_path))
    written(file_at(tmp_path), most=2, force=True)
    assert len(read_beside(file.path, VALUES).labels) == 23  # the old ones, until the new are whole
    assert written(file_at(tmp_path), force=True) == parts([range(23)])[2:]
    assert [*file.path.parent.iterdir()] == [file.path]


def test_two_processes_and_a_second_command(tmp_path):
    """The parts of each other process are known by its own journal; another command is refused meanwhile."""
    file = file_at(tmp_path)
    np.save(tmp_path / "values.npy", VALUES)
    code = f"""
import sys
import numpy as np
from pathlib import Path
from sagd_cli.datasets.array_file import ArrayFile
values = np.load({str(tmp_path / "values.npy")!r})
with ArrayFile(Path({str(file.path)!r}), {SHAPE}, values.dtype, {{"size": 3}}, int(sys.argv[1])) as file:
    for start in range({PART} * int(sys.argv[1]), 23, {3 * PART}):
        file.write(start, values[start : start + {PART}])
"""
    with file:
        file.begin()
        with pytest.raises(UsageError, match="another command writes"):
            file_at(tmp_path).begin()
        others = [subprocess.Popen([sys.executable, "-c", code, str(rank)]) for rank in (1, 2)]
        for start in range(0, 23, 3 * PART):
            file.write(start, VALUES[start : start + PART])
        assert [other.wait() for other in others] == [0, 0]
        file.finish()
    assert file.path.read_bytes() == expected(tmp_path)


def test_a_full_disk_is_an_error_and_the_same_command_goes_on(tmp_path):
    file = file_at(tmp_path)
    with little_room(128 + PART * 72 + 30), pytest.raises(SagdError, match="File too large") as error:
        written(file)
    assert error.value.hint == "Make room and run the command again." and not file.path.exists()
    assert written(file_at(tmp_path)) == parts([range(23)])[1:]
    assert file.path.read_bytes() == expected(tmp_path)


def test_too_little_room_is_said_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(array_file.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1655}))
    with pytest.raises(SagdError, match="its disk has room for"):
        written(file_at(tmp_path))
    assert [*(tmp_path / "out").iterdir()] == []
    monkeypatch.setattr(array_file.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1656}))
    written(file_at(tmp_path))


def test_values_that_do_not_fit_are_an_error(tmp_path):
    with file_at(tmp_path) as file:
        file.begin()
        for start, values in ((20, VALUES[:4]), (0, VALUES[:, :1]), (0, VALUES.astype(np.float64))):
            with pytest.raises(ValueError, match="is no part of"):
                file.write(start, values)
