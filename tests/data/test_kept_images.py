"""Images that are kept until their stack is whole: what was added comes back, and nothing that is damaged."""

from pathlib import Path

import numpy as np
import pytest

from sagd_cli.data.kept_images import KeptImages
from sagd_cli.errors import SagdError
from sagd_cli.files.layout import IMAGE_TYPES
from sagd_cli.files.metadata import NOTHING, Metadata, Tag

METADATA = Metadata(
    b"icc",
    (Tag(270, 2, b"ImageJ=1\0"), Tag(34665, 4, b"", (Tag(33434, 5, bytes(8)),))),
    (72.0, 96.0),
    ((b"tEXt", b"a\0b"),),
    (0.0, 1e-7),
    has_copies=True,
)


def images():
    random = np.random.default_rng(0)
    for k, kind in enumerate(IMAGE_TYPES):
        samples = np.moveaxis(random.integers(0, 100, (1 + k % 3, 5, 4 + k)), 0, 2).astype(kind)
        yield samples, NOTHING if k % 2 else METADATA


def same(found, expected):
    assert len(found) == len(expected)
    for (samples, metadata), (samples_0, metadata_0) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(samples, samples_0, strict=True)
        assert metadata == metadata_0


def test_what_was_added_comes_back_and_what_is_beyond_is_removed(tmp_path):
    kept, given = KeptImages(tmp_path / "a"), [*images()]
    assert kept.count() == 0 and [*kept.first(3)] == []
    for image in given:
        kept.add(*image)
    assert kept.count() == len(given)
    same([*kept.first(4)], given[:4])
    assert kept.count() == 4
    kept.add(*given[5])
    same([*kept.first(9)], [*given[:4], given[5]])
    kept.remove()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("at", [0.02, 0.3, 0.6, 0.99])
def test_nothing_behind_a_fault_comes_back(tmp_path, at):
    kept, given = KeptImages(tmp_path / "a"), [*images()]
    ends = []
    for image in given:
        kept.add(*image)
        ends.append(kept.path.stat().st_size)
    whole = kept.path.read_bytes()
    place = int(at * len(whole))
    sound = sum(end <= place for end in ends)
    for damaged in (whole[:place], whole[:place] + bytes(200) + whole[place + 200 :]):
        kept.path.write_bytes(damaged)
        assert kept.count() == sound
        same([*kept.first(99)], given[:sound])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said_and_the_folder_named(tmp_path):
    (tmp_path / "a").symlink_to("/dev/full")
    with pytest.raises(SagdError, match="No space left on device") as failed:
        KeptImages(tmp_path / "a").add(np.zeros((99, 99, 3)), NOTHING)
    assert str(tmp_path) in failed.value.message and "room" in failed.value.hint
