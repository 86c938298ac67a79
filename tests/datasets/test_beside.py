"""Labels, names of classes and what made latents lie beside a .npy file; what does not fit it is refused."""

import json

import numpy as np
import pytest

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.datasets.beside import facts_path, labels_path, read_beside, refuse_others, write_beside
from sagd_cli.datasets.loading import hash_images, load_images, open_images
from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin.records import LazyImageSet
from sagd_cli.system.console import Output, use_output

IMAGES = np.random.default_rng(1).integers(0, 256, (6, 1, 8, 8)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
DATA = LazyImageSet(IMAGES, LABELS, ("a", "b", "c"), {"scale": 0.18, "channels": 4})


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    return tmp_path / "images.npy"


def test_what_is_written_is_read(path):
    write_beside(path, DATA)
    found = open_images(parse_dataset(str(path)))
    assert found.labels.tolist() == LABELS.tolist() and found.labels.dtype == np.int64
    assert not found.labels.flags.writeable  # a view of the file
    assert (found.class_names, found.latents) == (DATA.class_names, DATA.latents)
    loaded = load_images(parse_dataset(str(path)))
    assert loaded.latents == DATA.latents and np.array_equal(loaded.images, IMAGES)


def test_the_hash_of_the_images_is_theirs_alone(path):
    alone = hash_images(open_images(parse_dataset(str(path))).images)
    write_beside(path, DATA)
    assert hash_images(open_images(parse_dataset(str(path))).images) == alone == hash_images(IMAGES)


def test_a_file_alone_has_no_labels(path):
    found = open_images(parse_dataset(str(path)))
    assert found.labels is None and found.class_names == () and found.latents is None


@pytest.mark.parametrize(
    "data",
    [LazyImageSet(IMAGES), LazyImageSet(IMAGES, LABELS), LazyImageSet(IMAGES, latents={"scale": 2.0})],
)
def test_nothing_stays_of_other_data(path, data):
    write_beside(path, DATA)
    write_beside(path, data)
    found = open_images(parse_dataset(str(path)))
    assert (found.labels is None) == (data.labels is None)
    assert (found.class_names, found.latents) == (data.class_names, data.latents)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (LABELS[:5], r"int64 of shape \(5,\), and the labels of .* are int64 of shape \(6,\)"),
        (LABELS[:, None], "of shape"),
        (LABELS.astype(np.float64), "is float64"),
        (LABELS.astype(np.int32), "is int32"),
        (LABELS + 1, "go from 1 to 3, not from 0 to at most 2"),
        (LABELS - 1, "go from -1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(path, labels, says):
    write_beside(path, DATA)
    np.save(labels_path(path), labels)
    with pytest.raises(DataError, match=says):
        open_images(parse_dataset(str(path)))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"PK\3\4"])
def test_damaged_labels_are_named(path, content):
    labels_path(path).write_bytes(content)
    with pytest.raises(DataError, match=r"images\.labels\.npy cannot be read as an array"):
        open_images(parse_dataset(str(path)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"class_names": ["a", ', "is damaged: it is no JSON"),
        (b"[" * 20_000, "is damaged: it is no JSON"),
        (b"\xff\xfe", "is not a text file"),
        (b'{"class_names": "abc"}', "is no description of an array of images"),
        (b'{"class_names": [1, 2, 3]}', "is no description of an array of images"),
        (b'{"latents": 4}', "is no description of an array of images"),
        (b'{"class_names": ["a", "b"]}', "go from 0 to 2, not from 0 to at most 1"),
    ],
)
def test_damaged_facts_are_named(path, content, says):
    write_beside(path, DATA)
    facts_path(path).write_bytes(content)
    with pytest.raises(Exception, match=says) as error:
        open_images(parse_dataset(str(path)))
    assert "images" in error.value.message


def test_names_of_classes_need_labels(path):
    write_beside(path, DATA)
    labels_path(path).unlink()
    with pytest.raises(DataError, match=r"images\.labels\.npy is not there"):
        read_beside(path, IMAGES)


@pytest.mark.parametrize("document", [[], {}, {"title": "photos"}, {"classes": 3}, 1])
def test_a_json_file_of_others_is_left_alone(path, document):
    facts_path(path).write_text(json.dumps(document))
    assert open_images(parse_dataset(str(path))).class_names == ()
    with pytest.raises(UsageError, match="it holds something else"):
        refuse_others(path, force=True)
    write_beside(path, LazyImageSet(IMAGES))
    assert json.loads(facts_path(path).read_text()) == document


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"class_names": 3}', b'{"latents": 4}', b"{}"])
def test_a_json_file_of_others_is_not_used_and_named(path, content, capfd):
    use_output(Output())
    facts_path(path).write_bytes(content)
    assert read_beside(path, IMAGES).class_names == ()
    words = " ".join(capfd.readouterr().err.split())
    assert "images.json does not describe" in words and "is not used" in words


def test_what_is_there_is_not_replaced_without_force(path):
    refuse_others(path, force=False)
    write_beside(path, DATA)
    with pytest.raises(UsageError, match=r"images\.labels\.npy exists already"):
        refuse_others(path, force=False)
    labels_path(path).unlink()
    with pytest.raises(UsageError, match=r"images\.json exists already"):
        refuse_others(path, force=False)
    refuse_others(path, force=True)
