"""Data sets: what is in them, where they are looked for, what is said when they are not there or damaged."""

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import DatasetConfig
from sagd_cli.datasets.loading import load_drawable, load_images, stream_images
from sagd_cli.errors import DataError, UsageError


def load(text):
    return load_images(parse_dataset(text))


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, count=5, pack=lambda data: data, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return images


def test_digits_are_split_by_a_fixed_rule():
    from sklearn.datasets import load_digits

    train, test = load("digits"), load("digits:test")
    assert train.images.shape == (1500, 1, 8, 8) and test.images.shape == (297, 1, 8, 8)
    both = np.concatenate([train.images, test.images])[:, 0]
    assert np.array_equal(both, np.rint(load_digits().images * 255 / 16).astype(np.uint8))
    assert np.array_equal(np.concatenate([train.labels, test.labels]), load_digits().target)


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize(("pack", "suffix"), [(lambda data: data, ""), (gzip.compress, ".gz")])
def test_mnist_is_found_in_the_usual_places(tmp_path, place, pack, suffix, monkeypatch):
    images = write_mnist(tmp_path / place, pack=pack, suffix=suffix)
    for text in (f"mnist:test,root={tmp_path}", "mnist:test"):
        monkeypatch.setenv("SAGD_DATA", str(tmp_path))
        assert np.array_equal(load(text).images[:, 0], images)


def test_damaged_mnist_is_named(tmp_path):
    write_mnist(tmp_path, pack=gzip.compress, suffix=".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for data in (whole[:100], b"hello", gzip.compress(idx(np.zeros((2, 28), np.uint8))), gzip.compress(b"")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
            load(f"mnist:root={tmp_path}")
    path.write_bytes(gzip.compress(idx(np.zeros((7, 28, 28), np.uint8))))
    with pytest.raises(DataError, match="7 images but 5 labels"):
        load(f"mnist:root={tmp_path}")


def test_missing_mnist_says_where_it_looked_and_what_to_do(tmp_path):
    with pytest.raises(DataError, match="is not in") as error:
        load(f"mnist:root={tmp_path}")
    assert "--download" in error.value.hint and "SAGD_DATA" in error.value.hint


def test_real_mnist(data_root):
    train, test = load(f"mnist:root={data_root}"), load(f"mnist:test,root={data_root / 'mnist'}")
    assert train.images.shape == (60_000, 1, 28, 28) and test.images.shape == (10_000, 1, 28, 28)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """A python-batch CIFAR-10 of two images a batch, whose hashes torchvision is told to expect."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    hashes = {}
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        data = np.random.default_rng(i).integers(0, 256, (2, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": [i, 9 - i]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    for path in folder.iterdir():
        hashes[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(
        CIFAR10, "train_list", [[f"data_batch_{k}", hashes[f"data_batch_{k}"]] for k in range(1, 6)]
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", hashes["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": hashes["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return tmp_path


def test_cifar10_is_channels_first_and_in_order(cifar10):
    train = load(f"cifar10:root={cifar10}")
    assert train.images.shape == (10, 3, 32, 32) and train.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert train.class_names == tuple("abcdefghij")
    first = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    assert np.array_equal(train.images[:2], first.reshape(2, 3, 32, 32))
    assert len(load(f"cifar10:test,root={cifar10 / 'cifar-10-batches-py'}").images) == 2


def test_a_changed_cifar10_batch_is_not_unpickled(cifar10):
    (cifar10 / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(print))
    with pytest.raises(DataError, match="hashes do not match"):
        load(f"cifar10:root={cifar10}")


def test_a_folder_and_the_array_made_of_it_are_the_same(tmp_path, sagd):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    assert sagd("data", "prepare", folder, "--output", tmp_path / "images.npy").code == 0
    assert np.array_equal(load(str(folder)).images, load(str(tmp_path / "images.npy")).images)
    np.savez(tmp_path / "images.npz", images=load(str(folder)).images)
    assert np.array_equal(load(str(tmp_path / "images.npz")).images, load(str(folder)).images)
    with pytest.raises(UsageError, match="no held-out split"):
        load_images(parse_dataset(str(folder)).model_copy(update={"split": "test"}))


def write_shades(folder, **shades):
    """Folders of one grey image each."""
    for name, grey in shades.items():
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), grey, np.uint8)).save(folder / name / "a.png")


def test_folders_in_a_folder_are_classes(tmp_path, sagd):
    write_shades(tmp_path / "tree", dark=10, bright=200)
    Image.fromarray(np.full((4, 4), 30, np.uint8)).save(tmp_path / "tree" / "dark" / "b.png")
    (tmp_path / "tree" / "README.txt").touch()
    data = load(str(tmp_path / "tree"))
    assert data.images[:, 0, 0, 0].tolist() == [200, 10, 30]
    assert data.labels.tolist() == [0, 1, 1] and data.class_names == ("bright", "dark")
    assert [image.max() for image in stream_images(parse_dataset(str(tmp_path / "tree")))] == [200, 10, 30]
    packed = tmp_path / "packed.npz"
    assert sagd("data", "prepare", tmp_path / "tree", "--output", packed).code == 0
    again = load(str(packed))
    assert np.array_equal(again.images, data.images) and again.labels.tolist() == [0, 1, 1]
    assert again.class_names == data.class_names
    info = [sagd("data", "info", source, "--json").json for source in (tmp_path / "tree", packed)]
    assert info[0]["classes"] == info[1]["classes"] == 2 and info[0]["sha256"] == info[1]["sha256"]


def test_a_folder_with_images_of_its_own_has_no_classes(tmp_path):
    write_shades(tmp_path, dark=10)
    for name in ("own.png", "another.png", "third.png", "fourth.png"):
        Image.fromarray(np.full((4, 4), 30, np.uint8)).save(tmp_path / name)
    assert load(str(tmp_path)).labels is None and len(load(str(tmp_path)).images) == 4


def test_an_empty_class_is_named(tmp_path):
    write_shades(tmp_path, dark=10)
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="none holds no image"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1], (), r"a.npz are int64 of shape \(2,\), not integers of shape \(3,\)"),
        ([0.0, 1.0, 2.0], (), "are float64 of shape"),
        ([0, -1, 2], (), "go from -1 to 2, not from 0"),
        ([[0, 1], [1, 0], [1, 0]], (), r"of shape \(3, 2\)"),
        ([0, 1, 30_000_000], (), "go from 0 to 30000000, not from 0 to at most 9999"),
        ([0, 1, 2], ("a", "b"), "go from 0 to 2, not from 0 to at most 1"),
        ([0, 1, 1], ("a", "a"), "gives two classes the same name"),
    ],
)
def test_labels_that_fit_no_images_are_refused(tmp_path, labels, names, message):
    arrays = {"images": np.zeros((3, 1, 4, 4), np.uint8), "labels": np.array(labels)}
    np.savez(tmp_path / "a.npz", **arrays, class_names=np.array(names, dtype=np.str_))
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((4, 8, 8), "float32"), ((2, 8, 8), "uint8"), ((3, 40), "float16"), ((1, 8, 8, 8), "uint8")],
)
def test_other_fields_than_grey_and_rgb_images_are_not_drawn(tmp_path, shape, dtype):
    np.save(tmp_path / "a.npy", np.zeros((2, *shape), dtype))
    config = parse_dataset(str(tmp_path / "a.npy"))
    with pytest.raises(UsageError, match=rf"a\.npy holds {dtype} fields of shape .*, not grey or RGB images"):
        load_drawable(config)
    as_grey = load_drawable(config, lambda index, image: image.reshape(1, -1, 8))
    assert as_grey.images.shape == (2, 1, np.prod(shape) // 8, 8)


def test_nothing_is_downloaded_unless_told(tmp_path, monkeypatch):
    import torchvision.datasets.utils as utils

    def refuse(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(utils, "download_url", refuse)
    for name in ("mnist", "cifar10"):
        with pytest.raises(DataError):
            load(f"{name}:root={tmp_path}")


def test_download_is_refused_where_there_is_nothing_to_fetch(sagd):
    result = sagd("data", "info", "digits", "--download")
    assert result.code == 2 and "nothing to download" in result.err


def write_photographs(folder, **pixels):
    folder.mkdir()
    for name, values in pixels.items():
        Image.fromarray(values).save(folder / f"{name}.png")
    return folder


def test_patches_are_squares_of_the_photographs_by_area_and_the_same_each_time(tmp_path):
    """Pixels hold their own place, so that a patch says where it is from."""
    rows, columns = np.indices((60, 90), dtype=np.uint8)
    large = np.stack([rows, columns, np.full_like(rows, 1)], axis=-1)
    small = large[:30, :30] * np.uint8([1, 1, 2])
    folder = write_photographs(tmp_path / "photos", a=small, b=large)
    patches = load(f"patches:path={folder},size=16,count=900").images
    assert patches.shape == (900, 3, 16, 16) and patches.dtype == np.uint8
    top, left = patches[:, 0, :1, :1].astype(int), patches[:, 1, :1, :1].astype(int)
    assert np.array_equal(patches[:, 0], np.broadcast_to(top + np.arange(16)[:, None], (900, 16, 16)))
    assert np.array_equal(patches[:, 1], np.broadcast_to(left + np.arange(16), (900, 16, 16)))
    of_large = patches[:, 2, 0, 0] == 1
    share = 5400 / 6300
    assert abs(of_large.mean() - share) < 5 * (share * (1 - share) / 900) ** 0.5
    assert top[of_large].max() == 44 and left[of_large].max() == 74 and top.min() == left.min() == 0
    assert np.array_equal(patches, load(f"patches:path={folder},size=16,count=900").images)
    assert not np.array_equal(patches, load(f"patches:path={folder},size=16,count=900,seed=1").images)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            np.zeros((40, 12), np.uint8),
            "b.png is 12 x 40 pixels of uint8, and patches are 16 pixels of 8 bits",
        ),
        (np.zeros((40, 40), np.uint16), "pixels of uint16"),
        (np.zeros((40, 40, 3), np.uint8), "b.png has other colours than the first image"),
    ],
)
def test_photographs_that_give_no_patches_are_named(tmp_path, second, message):
    folder = write_photographs(tmp_path / "photos", a=np.zeros((40, 40), np.uint8), b=second)
    with pytest.raises(DataError, match=message):
        load(f"patches:path={folder},size=16")


def test_photographs_become_grey_or_rgb_alike(tmp_path):
    """RGB repeats grey pixels, L takes the mean of the colours; without a mode they have to be alike."""
    colours = np.full((20, 20, 3), [10, 20, 60], np.uint8)
    folder = write_photographs(tmp_path / "photos", a=np.full((20, 20), 7, np.uint8), b=colours)
    for mode, wanted in (("RGB", {(7, 7, 7), (10, 20, 60)}), ("L", {(7,), (30,)})):
        patches = load(f"patches:path={folder},size=16,count=40,mode={mode}").images
        assert {tuple(patch[:, 0, 0].tolist()) for patch in patches} == wanted
        assert (patches == patches[:, :, :1, :1]).all()


def test_photographs_that_a_file_names_are_left_out(tmp_path):
    images = {name: np.full((20, 20), level, np.uint8) for name, level in (("a", 1), ("b", 2), ("c", 3))}
    folder = write_photographs(tmp_path / "photos", **images)
    (tmp_path / "validation.txt").write_text("b.png\nnot-there.png\n")
    patches = load(f"patches:path={folder},size=16,count=60,exclude={tmp_path / 'validation.txt'}").images
    assert set(np.unique(patches)) == {1, 3}


def test_patches_have_no_test_split_and_need_a_folder(tmp_path):
    folder = write_photographs(tmp_path / "photos", a=np.zeros((40, 40), np.uint8))
    with pytest.raises(UsageError, match="no held-out split"):
        load_images(DatasetConfig(name="patches", split="test", options={"path": str(folder), "size": 16}))
    with pytest.raises(UsageError, match="is not a folder of images"):
        load(f"patches:path={tmp_path / 'missing'}")
