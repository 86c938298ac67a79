"""Numbered parts of one set, as of FFHQ, EDM's sets and samples, are no classes; classes stay classes."""

import pytest

from sagd_cli.data.entries import SAMPLES_RECORD
from sagd_cli.data.folders import images_by_class, list_images
from sagd_cli.data.images import images_in
from sagd_cli.errors import UsageError
from sagd_cli.system.console import Output, use_output


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "names",
    [
        ["00000/00000.png", "00000/00999.png", "01000/01000.png", "69000/69999.png"],
        ["00000/img00000000.png", "00000/img00000999.png", "00001/img00001000.png"],
        ["00000/00000.png", "99000/99000.png", "100000/100000.png"],
        ["000000/000001.png", "001000/001000.png", SAMPLES_RECORD],
    ],
)
def test_numbered_parts_are_one_set_in_the_order_of_their_numbers(tmp_path, capfd, names):
    use_output(Output())
    touch(tmp_path, *names)
    expected = [tmp_path / name for name in names if name != SAMPLES_RECORD]
    assert images_by_class(tmp_path) == {tmp_path: expected}
    assert list_images(tmp_path) == expected
    said = "parts of one set, by the numbers of their images" in " ".join(capfd.readouterr().err.split())
    assert said == (SAMPLES_RECORD not in names)


@pytest.mark.parametrize(
    "names",
    [
        ["0/00000.png", "1/00001.png"],  # digits
        ["00000/a.png", "00001/b.png"],  # no numbers
        ["00000/00000.png", "01000/00001.png"],  # other numbers
        ["00000/00000.png", "cats/00001.png"],
        ["n01440764/n01440764_00000.JPEG", "n02110341/n02110341_1.JPEG"],
    ],
)
def test_other_folders_are_classes(tmp_path, names):
    touch(tmp_path, *names)
    assert [*images_by_class(tmp_path)] == [(tmp_path / name).parent for name in names]


def test_a_thousand_classes_are_listed_without_reading_a_file(tmp_path, monkeypatch):
    """As ImageNet's are: in the order of WordNet ids, of which the first may have the fewest images."""
    names = [f"n{1000003 * k % 99999999:08d}" for k in range(1, 1001)]
    touch(tmp_path, *(f"{name}/{name}_{k}.JPEG" for name in names for k in (1, 2)))
    monkeypatch.setattr("pathlib.Path.open", None)
    found = images_by_class(tmp_path)
    assert [folder.name for folder in found] == sorted(names)
    assert sum(len(images_in(path)) for paths in found.values() for path in paths) == 2000


def test_parts_without_images_are_no_set(tmp_path):
    touch(tmp_path, "00000/notes.txt")
    with pytest.raises(UsageError, match="holds no image"):
        images_by_class(tmp_path)
