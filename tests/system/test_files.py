"""Folders appear whole or not at all, and what they replace is there until then."""

from contextlib import suppress
from pathlib import Path

import pytest

from sagd_cli.system.files import atomic_folder, remove_left_over


def replaced(path: Path, text: str) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text(text)


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("leads_to", ["store", "nowhere"])
def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_stays(tmp_path, leads_to):
    replaced(tmp_path / "store", "old")
    (tmp_path / "a.zarr").symlink_to(tmp_path / leads_to)
    replaced(tmp_path / "a.zarr", "new")
    assert not (tmp_path / "a.zarr").is_symlink()
    assert texts(tmp_path) == {"store/a": "old", "a.zarr/a": "new"}
    assert names(tmp_path) == ["a.zarr", "store"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_folder_that_a_kill_left_half_replaced_is_whole_again(tmp_path, monkeypatch, renames):
    replaced(tmp_path / "a.zarr", "old")
    rename, left = Path.rename, [*range(renames)]

    class Killed(BaseException):
        pass

    def until_killed(path, target):
        if not left:
            raise Killed
        left.pop()
        rename(path, target)

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr("sagd_cli.system.files._remove", lambda path: None)
        patch.setattr("sagd_cli.system.files._settle", lambda path: None)
        patch.setattr(Path, "rename", until_killed)
        replaced(tmp_path / "a.zarr", "new")
    assert len(names(tmp_path)) == 2
    remove_left_over(tmp_path)
    assert texts(tmp_path) == {"a.zarr/a": "new" if renames == 2 else "old"}
    replaced(tmp_path / "a.zarr", "newer")
    assert texts(tmp_path) == {"a.zarr/a": "newer"}
    assert names(tmp_path) == ["a.zarr"]


def test_a_folder_stays_where_its_successor_cannot_have_its_name(tmp_path, monkeypatch):
    replaced(tmp_path / "a.zarr", "old")
    rename = Path.rename

    def full(path, target):
        if target == tmp_path / "a.zarr" and "old-" not in path.name:
            raise OSError
        rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError):
        replaced(tmp_path / "a.zarr", "new")
    assert texts(tmp_path) == {"a.zarr/a": "old"} and names(tmp_path) == ["a.zarr"]
