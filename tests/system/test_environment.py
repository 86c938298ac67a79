"""Without a home, a name, a cache, a terminal or a clock, the work is done or refused in a sentence."""

import ast
import getpass
import os
import pwd
import re
import shutil
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sagd_plugins.datasets._roots import default_root
from support.settings import TINY

from sagd_cli.features.cache import FeatureCache
from sagd_cli.system.environment import cache_folder, complete_environment, home_folder, rank, world_size

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """Be a user without a home, a name and an entry in the list of users, as in many containers."""
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "XDG_CACHE_HOME", "SAGD_CACHE"):
        monkeypatch.setenv(name, "")  # so that it comes back in the end
        monkeypatch.delenv(name)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(RuntimeError):
        Path.home()
    return folder


def test_who_has_no_home_has_one_among_the_temporary_files(nobody):
    home = home_folder()
    assert home == home_folder() and home.parent == nobody
    assert home.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == home / ".cache" / "sagd"


@pytest.mark.parametrize("other", ["folder", "link"])
def test_a_home_that_somebody_else_made_is_not_used(nobody, monkeypatch, tmp_path, other):
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    trap = nobody / "sagd-54321"
    trap.mkdir() if other == "folder" else trap.symlink_to(tmp_path)
    assert home_folder() not in (trap, tmp_path) and home_folder().parent == nobody


def test_an_empty_variable_is_one_that_is_not_set(nobody, monkeypatch):
    """An empty path would be the current folder, or the root of the file system, and an empty number is none."""
    for name in ("HOME", "XDG_CACHE_HOME", "SAGD_CACHE", "SAGD_DATA", "WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "")
    assert default_root() == Path("data") and cache_folder() == home_folder() / ".cache" / "sagd"
    assert home_folder().parent == nobody and rank() == 0 and world_size() == 1
    complete_environment()
    assert Path.home() == home_folder()


def test_folders_that_are_named_need_no_home(nobody, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "sagd"
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert list(nobody.iterdir()) == []


def test_libraries_and_started_processes_find_a_home_and_a_name(nobody):
    complete_environment()
    assert Path.home().parent == nobody and Path("~/x").expanduser().parent == Path.home()
    assert getpass.getuser() == str(os.getuid())


def test_a_home_and_a_name_are_kept(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("USER", "me")
    complete_environment()
    assert (os.environ["HOME"], os.environ["USER"]) == ("/somewhere", "me")


@pytest.mark.parametrize("named", [False, True])
def test_fid_works_for_nobody(nobody, sagd, monkeypatch, tmp_path, named):
    if named:
        monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "cache"))
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).save(tmp_path / name / f"{i}.png")
    result = sagd("fid", tmp_path / "a", tmp_path / "b", "--json")
    assert result.code == 0, result.err
    entries = (tmp_path / "cache" if named else nobody).rglob("moments.npz")
    assert len([*entries]) == 1


def test_a_sweep_works_for_nobody(nobody, sagd, tmp_path):
    settings = [
        part for key, value in {**TINY, "training.images": 8}.items() for part in ("--set", f"{key}={value}")
    ]
    command = ["sweep", "--grid", "filter.options.alpha=0", "--count", 20, "--device", "cpu", *settings]
    result = sagd(*command, "--output", tmp_path / "sweep", "--json")
    assert result.code == 0, result.err
    assert [run["state"] for cell in result.json["cells"] for run in cell["runs"]] == ["done"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file")
    assert cache.begin(10) is None and cache.find({"name": "a"}) is None


def test_without_any_folder_for_temporary_files_that_is_said(sagd, monkeypatch, tmp_path):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_get_default_tempdir", none)
        result = sagd("fid", "digits:test", "digits:test")
    assert result.code == 1 and "there is no folder for temporary files. Name one" in result.err


@pytest.mark.parametrize("size", ["0", "-3", "1", "", "wide", "1e3", "\N{SUPERSCRIPT TWO}", "9" * 30])
def test_senseless_sizes_of_a_terminal_do_not_count(monkeypatch, size):
    monkeypatch.setenv("COLUMNS", size)
    monkeypatch.setenv("LINES", size)
    complete_environment()
    assert "COLUMNS" not in os.environ and "LINES" not in os.environ
    assert shutil.get_terminal_size().columns > 1


def test_sensible_sizes_count(monkeypatch):
    monkeypatch.setenv("COLUMNS", "132")
    complete_environment()
    assert os.environ["COLUMNS"] == "132"


@pytest.mark.parametrize("terminal", ["dumb", "unset", ""])
def test_help_is_for_any_terminal(sagd, monkeypatch, terminal):
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("COLUMNS", "0")
    result = sagd("--help")
    assert result.code == 0 and "spectrum" in result.out and "\x1b" not in result.out


def opens_text_in_the_encoding_of_the_locale(call):
    """Whether a call opens a file as text and does not say how it is encoded."""
    name = call.func.attr
    given = [part.value for part in call.args if isinstance(part, ast.Constant)]
    if name == "open":
        as_text = not any("b" in str(mode) for mode in given)
        elsewhere = ast.unparse(call.func) in ("os.open", "Image.open", "Pillow.open", "archive.open")
    else:
        as_text, elsewhere = name in ("read_text", "write_text"), False
    chosen = "utf-8" in given or any(keyword.arg == "encoding" for keyword in call.keywords)
    return as_text and not elsewhere and not chosen


def test_text_is_utf_8_whatever_the_locale_is():
    """Every file that is opened as text says so, but for those of /proc and /sys, which are ASCII.

    FITS files and Zarr stores are opened by their libraries, as bytes.
    """
    found = set()
    for path in [*(ROOT / "sagd_cli").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_method and opens_text_in_the_encoding_of_the_locale(node):
                found.add((path.name, ast.unparse(node)))
    assert {name for name, _ in found} <= {"devices.py", "gpus.py", "fits.py", "zarr.py"}, found


def test_a_clock_that_stands_at_1970_writes_archives(sagd, monkeypatch, tmp_path):
    """The format of zip has no dates before 1980."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert sagd("data", "prepare", "digits:test", "--output", tmp_path / "a.npz").code == 0
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None


def test_a_clock_that_was_set_back_loses_nothing_of_the_cache(monkeypatch, tmp_path):
    cache = FeatureCache(tmp_path)
    monkeypatch.setattr("sagd_cli.features.cache.LARGEST_CACHE", 1)
    for name in "ab":
        folder = cache.begin(1)
        (folder / "rows.npy").write_bytes(b"x")
        monkeypatch.setattr(time, "time", lambda: 0.0)
        cache.keep(folder, {"name": name})
    assert cache.find({"name": "a"}) and cache.find({"name": "b"})


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2"}, "there is no RANK. Start them with torchrun, or unset WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "process 1: WORLD_SIZE says .* there is no MASTER_ADDR"),
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE=abc, which is no number"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK=-1, which is no number"),
        ({"RANK": "3"}, "error: nowhere is not a folder"),
        ({"WORLD_SIZE": "1", "RANK": "0x"}, "error: nowhere is not a folder"),
    ],
)
def test_variables_that_torchrun_would_set_are_refused_in_a_sentence(sagd, monkeypatch, variables, words):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    refused = sagd("omit", "nowhere")
    assert refused.code == 2 and re.search(words, refused.err), refused.err
    assert refused.err.count("error:") == 1 and "internal" not in refused.err
