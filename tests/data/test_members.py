"""Image files in other files are read as files are, and named with the file they lie in."""

from pathlib import Path

import numpy as np
import pytest
from support.image_files import noise, save

from sagd_cli.data.images import read_image
from sagd_cli.data.members import Member
from sagd_cli.errors import DataError


@pytest.mark.parametrize("samples", [noise((5, 7, 1), "uint16"), noise((5, 7, 4), "uint8")])
def test_a_member_is_read_as_a_file_is(tmp_path, samples):
    save(tmp_path / "a.png", samples)
    member = Member(tmp_path / "a.tar", "x/a.png", (tmp_path / "a.png").read_bytes)
    there, here = read_image(tmp_path / "a.png"), member.read()
    np.testing.assert_array_equal(here.pixels, there.pixels, strict=True)
    np.testing.assert_array_equal(here.opaque, there.opaque, strict=True)


def test_faults_name_both_files(tmp_path):
    save(tmp_path / "empty.tif", np.full((4, 4, 1), np.nan, np.float32))
    for contents, message in {
        lambda: b"": "is empty",
        lambda: b"GIF89a": "is not a readable GIF file",
        (tmp_path / "empty.tif").read_bytes: "holds nothing but missing data",
    }.items():
        with pytest.raises(DataError, match=rf"^x\.png in a\.tar {message}"):
            Member(Path("a.tar"), "x.png", contents).read()
    assert Member(Path("a.tar"), "\x1b[2J", bytes).shown == r"'\x1b[2J' in a.tar"
