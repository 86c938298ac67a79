"""Arrays in .npy and .npz files: an order of axes in doubt is not guessed; usual types and names are read."""

import tracemalloc
import zipfile

import numpy as np
import pytest
from support.expectations import refused

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.config.run import RunConfig
from sagd_cli.datasets import writing
from sagd_cli.datasets.loading import hash_images, load_images, stream_images
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.features.moments import write_moments
from sagd_cli.system.console import Output, use_output

RNG = np.random.default_rng(0)


def values(*shape, dtype=np.uint8):
    return RNG.integers(0, 256, shape).astype(dtype)


def load(path, options=""):
    return load_images(parse_dataset(f"{path}{options}"))


@pytest.fixture
def save(tmp_path):
    def write(array, name="a.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return write


# What the axes are

DOUBTS = {
    (20, 16, 16, 3): ("20 images of 16x3 in 16 channels (nchw)", "20 images of 16x16 in 3 channels (nhwc)"),
    (20, 16, 16, 4): ("in 16 channels (nchw)", "in 4 channels (nhwc)"),
    (20, 48, 64, 2): ("20 images of 64x2 in 48 channels (nchw)", "20 images of 48x64 in 2 channels (nhwc)"),
    (20, 28, 28, 1): ("in 28 channels (nchw)", "20 images of 28x28 in 1 channel (nhwc)"),
    (20, 28, 28): ("20 signals of length 28 in 28 channels (nct)", "20 images of 28x28 in 1 channel (nhw)"),
    (20, 500, 2): ("in 500 channels (nct)", "20 signals of length 500 in 2 channels (ntc)"),
    (32, 48, 3): ("32 signals of length 3 in 48", "1 image of 32x48 in 3 channels (hwc)"),
    (16, 32, 32, 13): ("in 32 channels (nchw)", "16 images of 32x32 in 13 channels (nhwc)"),
    (16, 16, 16, 8): ("in 16 channels (nchw)", "16 images of 16x16 in 8 channels (nhwc)"),
    (32, 32, 3, 60): ("in 32 channels (nchw)", "60 images of 32x32 in 3 channels (hwcn)"),
    (28, 28, 1, 500): ("in 28 channels (nchw)", "500 images of 28x28 in 1 channel (hwcn)"),
    (50, 32, 3, 32): ("in 32 channels (nchw)", "50 images of 32x32 in 3 channels (nhcw)"),
    (4, 12, 3, 16, 16): ("in 12 channels (ncdhw)", "4 volumes of 12x16x16 in 3 channels (ndchw)"),
    (2, 16, 16, 16, 8): ("in 16 channels (ncdhw)", "2 volumes of 16x16x16 in 8 channels (ndhwc)"),
    (2, 9, 8, 7, 1): ("2 volumes of 8x7x1 in 9 channels (ncdhw)", "2 volumes of 9x8x7 in 1 channel (ndhwc)"),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", DOUBTS, ids=str)
def test_a_doubtful_order_is_refused_with_both_readings(save, shape, dtype):
    path = save(values(*shape, dtype=dtype))
    for read in (load_images, stream_images):
        with pytest.raises(DataError) as error:
            read(parse_dataset(str(path)))
        assert all(reading in error.value.message for reading in DOUBTS[shape])
        likely = DOUBTS[shape][1].rpartition("(")[2].rstrip(")")
        assert f"{path},layout={likely if len(shape) > 3 else ''}" in error.value.hint
        stream_images(parse_dataset(f"{path},layout={likely}"))


@pytest.mark.parametrize(
    "shape",
    [
        *((20, 1, 28, 28), (20, 3, 32, 32), (20, 4, 32, 32), (20, 16, 16, 16), (20, 3, 8, 4), (20, 1, 4, 4)),
        *((20, 512, 4, 4), (20, 64, 1, 1), (20, 5, 3, 3), (20, 1, 1, 9), (20, 1, 9, 1), (20, 48, 64, 5)),
        *((20, 1, 100), (20, 2, 100), (20, 4, 7), (20, 1, 8, 8, 8), (20, 3, 8, 8, 2), (20, 16, 4, 4, 4)),
        *(
            (20, 1, 3, 9),
            (20, 2, 2, 5),
            (20, 1, 32, 32, 32),
            (20, 3, 12, 16, 16),
            (20, 16, 20, 24),
            (20, 3, 100),
        ),
    ],
    ids=str,
)
def test_what_is_not_doubtful_stays_what_it_was(save, shape):
    for array in (values(*shape), RNG.normal(size=shape).astype(np.float32)):
        images = load(save(array)).images
        np.testing.assert_array_equal(images, array, strict=True)
        assert hash_images(images) == hash_images(array)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, ">f8"])
@pytest.mark.parametrize(
    ("layout", "shape", "axes"),
    [
        ("nhwc", (5, 6, 7, 3), (0, 3, 1, 2)),
        ("nchw", (5, 16, 16, 3), (0, 1, 2, 3)),
        ("nhw", (5, 6, 7), (0, None, 1, 2)),
        ("nct", (5, 6, 7), (0, 1, 2)),
        ("ntc", (5, 60, 2), (0, 2, 1)),
        ("hwc", (6, 7, 3), (None, 2, 0, 1)),
        ("hwcn", (6, 7, 3, 5), (3, 2, 0, 1)),
        ("hw", (6, 7), (None, None, 0, 1)),
        ("nt", (5, 7), (0, None, 1)),
        ("t", (7,), (None, None, 0)),
        ("ndhwc", (2, 5, 6, 7, 3), (0, 4, 1, 2, 3)),
        ("ndhw", (2, 5, 6, 7), (0, None, 1, 2, 3)),
    ],
)
def test_a_layout_is_believed(save, layout, shape, axes, dtype):
    """`axes`: for each axis of the result, the axis of the file that it is, or None for a new one."""
    array = values(*shape, dtype=dtype)
    path = save(array)
    expected = array.transpose([axis for axis in axes if axis is not None])
    expected = np.expand_dims(expected, [i for i, a in enumerate(axes) if a is None])
    images = load(path, f",layout={layout}").images
    np.testing.assert_array_equal(images, expected)
    again = load_images(parse_dataset(f"npy:path={path},layout={layout}")).images
    assert hash_images(images) == hash_images(again) == hash_images(np.ascontiguousarray(images))
    streamed = [*stream_images(parse_dataset(f"{path},layout={layout}"))]
    np.testing.assert_array_equal(np.stack(streamed), expected)


@pytest.mark.parametrize("layout", ["nn", "xyz", "nc", "nhwt", "nhhw", "ndw", "''"])
def test_what_is_no_layout_is_wrong_use(save, layout):
    with pytest.raises(UsageError, match="a layout is the letters"):
        load(save(values(5, 6, 7, 3)), f",layout={layout}")


def test_a_layout_of_other_axes_is_wrong_use(save):
    with pytest.raises(UsageError, match=r"has 4 axes, \(5, 6, 7, 3\), and layout=nhw 3"):
        load(save(values(5, 6, 7, 3)), ",layout=nhw")


def test_the_hints_keep_the_options_that_were_typed(tmp_path):
    path, options = tmp_path / "a.npz", ",array=x,labels=y,range=0:255"
    np.savez(path, x=values(9, 8, 8, 3), y=np.arange(9))
    with pytest.raises(DataError) as error:
        load(path, options)
    assert f"{path},array=x,labels=y,range=" in error.value.hint and ",layout=nhwc." in error.value.hint
    typed = error.value.hint.split("example ")[1].rstrip(".")
    assert load_images(parse_dataset(typed)).images.shape == (9, 3, 8, 8)
    with pytest.raises(DataError) as error:
        load(path, ",array=x,labels=z")
    assert error.value.hint == f"Name one: {path},array=x,labels=x"


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_in_one_column_are_labels(tmp_path, dtype):
    path, labels = tmp_path / "a.npz", np.arange(9).astype(dtype) % 4
    for images in (values(9, 1, 8, 8), values(9, 8, 8, 3)):
        np.savez(path, images=images, labels=labels[:, None])
        found = load(path, "" if images.shape[1] == 1 else ",layout=nhwc").labels
        assert found.dtype == np.int64 and found.tolist() == labels.tolist()
    for wrong in (labels[None], np.stack([labels, labels], axis=1), labels[:8, None], labels[:, None, None]):
        np.savez(path, images=values(9, 1, 8, 8), labels=wrong)
        with pytest.raises(DataError, match="the labels of"):
            load(path)


def test_bytes_of_two_axes_may_be_an_image_and_floats_are_signals(save):
    for dtype in (np.uint8, np.uint16, bool):
        with pytest.raises(DataError, match=r"9 signals of length 8 .*\(nt\) or 1 image of 9x8 .*\(hw\)"):
            stream_images(parse_dataset(str(save(values(9, 8, dtype=dtype)))))
    for dtype in (np.float32, np.int16):
        signals = stream_images(parse_dataset(str(save(values(9, 8, dtype=dtype)))))
        assert [signal.shape for signal in signals] == [(1, 8)] * 9


COMMANDS = {
    "info": ["data", "info", "DATA"],
    "prepare": ["data", "prepare", "DATA", "--output", "OUT.npy"],
    "spectrum": ["spectrum", "DATA"],
    "fit": ["filter", "fit", "DATA", "--output", "OUT.yaml"],
    "show": ["filter", "show", "white", "--data", "DATA"],
    "corrupt": ["corrupt", "DATA", "--band", "high", "--strength", 1, "--output", "OUT.npy"],
    "fid": ["fid", "DATA", "DATA", "--features", "pixels", "--metrics", "fid"],
    "omit": ["omit", "missing", "--band", "high", "--reference", "DATA"],
    "train": ["train", "--dataset", "DATA", "--steps", 1, "--output", "OUT"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_doubts_and_takes_the_layout(sagd, save, tmp_path, name):
    path = save(values(20, 8, 6, 3))

    def run(data):
        words = {"DATA": data, **{word: tmp_path / word for word in ("OUT", "OUT.npy", "OUT.yaml")}}
        return sagd(*(words.get(word, word) for word in COMMANDS[name]))

    doubted = run(path)
    assert "(nchw) or 20 images of 8x6 in 3 channels (nhwc)" in doubted.err and "Traceback" not in doubted.err
    assert doubted.code == 1 and [*tmp_path.iterdir()] == [path]
    if name in ("train", "omit"):
        return  # what they do with images is theirs
    told = run(f"{path},layout=nhwc")
    assert told.code == 0 and "(nhwc)" not in told.err, told
    if name == "prepare":
        np.testing.assert_array_equal(np.load(tmp_path / "OUT.npy"), np.load(path).transpose(0, 3, 1, 2))


def test_settings_of_runs_without_a_layout_are_what_they_were():
    config = RunConfig(dataset=parse_dataset("data/a.npy"))
    assert config.document()["dataset"]["options"] == {"path": "data/a.npy"}
    assert config.default_name == "npy-powerlaw-ccb2b14b"


# Types


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("stored", "used"),
    [
        ("f8", "f4"),
        (">f8", "f4"),
        (">f4", "f4"),
        (">f2", "f2"),
        ("longdouble", "f4"),
        ("f4", "f4"),
        ("u1", "u1"),
    ],
)
def test_types_are_converted_and_the_hash_is_that_of_what_is_used(save, stored, used, order):
    array = values(7, 3, 6, 5, dtype=stored)
    path = save(np.asarray(array, order=order))
    images = load(path).images
    np.testing.assert_array_equal(images, array.astype(used), strict=True)
    assert hash_images(images) == hash_images(array.astype(used))


def test_truth_values_are_black_and_white(save):
    mask = values(7, 1, 6, 5) > 99
    path = save(mask)
    np.testing.assert_array_equal(load(path).images, np.where(mask, np.uint8(255), np.uint8(0)), strict=True)
    np.testing.assert_array_equal(np.stack([*stream_images(parse_dataset(str(path)))]), np.uint8(255) * mask)


REFUSED_TYPES = {
    "int16": ("int16", "FILE.npy,range=0:4095"),
    "complex64": ("complex64", "two channels of float32"),
    "datetime64[s]": ("datetime64[s]", ""),
    "S3": ("S3", ""),
}


@pytest.mark.parametrize("dtype", REFUSED_TYPES)
def test_other_types_are_refused_with_the_remedy(save, dtype):
    named, remedy = REFUSED_TYPES[dtype]
    with pytest.raises(DataError, match="not uint8, float16 or float32") as error:
        load(save(values(4, 1, 6, 5, dtype="i8").astype(dtype)))
    assert named in error.value.message and remedy in error.value.hint


def test_what_float32_cannot_hold_is_refused(save):
    with pytest.raises(DataError, match=r"image 1 of .* not finite"):
        load(save(np.stack([np.zeros((1, 4, 4)), np.full((1, 4, 4), 1e200)])))


@pytest.mark.parametrize(("options", "dtype"), [("", "f8"), (",layout=nhwc", "u1"), (",layout=nhwc", ">f4")])
def test_converting_is_done_part_by_part(sagd, tmp_path, monkeypatch, options, dtype):
    """1,500 images of 3 x 32 x 32 are 4.6 million values: a copy would be at least that many bytes."""
    monkeypatch.setattr(writing, "WRITTEN_AT_ONCE", 1 << 20)
    shape = (1500, 32, 32, 3) if options else (1500, 3, 32, 32)
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", dtype, shape)[-1] = 1
    sagd("data", "info", "digits:test")  # what is imported and built once is not counted
    tracemalloc.start()
    try:
        assert (
            sagd("data", "prepare", f"{tmp_path / 'a.npy'}{options}", "--output", tmp_path / "b.npy").code
            == 0
        )
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    assert np.load(tmp_path / "b.npy", mmap_mode="r").shape == (1500, 3, 32, 32)


# Archives


def test_an_archive_without_images_lists_its_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, values(9, 3, 8, 8), y_train=np.arange(9))
    with pytest.raises(DataError) as error:
        load(path)
    assert "has no array 'images'; its arrays are " in error.value.message
    assert (
        "y_train (int64 (9,))" in error.value.message and "arr_0 (uint8 (9, 3, 8, 8))" in error.value.message
    )
    assert f"{path},array=" in error.value.hint
    with pytest.raises(DataError, match=r"has no array 'x'; its arrays are .*arr_0"):
        load(path, ",array=x")
    with pytest.raises(DataError, match=r"has no array 'y'; its arrays are .*arr_0"):
        load(path, ",array=arr_0,labels=y")
    np.savez(path)
    with pytest.raises(DataError, match="holds no arrays"):
        load(path)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_array_of_an_archive_is_named(tmp_path, write):
    images, other, labels = values(9, 8, 6, 3), values(4, 1, 5, 5), np.arange(9)
    write(tmp_path / "a.npz", x_train=images, images=other, y_train=labels, arr_0=images.astype("f8"))
    read = load(tmp_path / "a.npz", ",array=x_train,labels=y_train,layout=nhwc")
    np.testing.assert_array_equal(read.images, images.transpose(0, 3, 1, 2))
    assert read.labels.tolist() == labels.tolist()
    assert np.array_equal(load(tmp_path / "a.npz").images, other) and load(tmp_path / "a.npz").labels is None
    assert load(tmp_path / "a.npz", ",array=arr_0,layout=nhwc").images.dtype == np.float32


def test_a_single_array_has_no_names(save):
    with pytest.raises(UsageError, match="holds one array"):
        load(save(values(9, 1, 8, 8)), ",array=x")


def damaged(path, kind):
    images = values(50, 1, 8, 8)
    np.savez_compressed(path, images=images)
    data = bytearray(path.read_bytes())
    if kind == "pickled":
        np.savez(path, images=np.array([{}, []], dtype=object), allow_pickle=True)
    elif kind == "cut short":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "one bit":
        data[len(data) // 2] ^= 16
        path.write_bytes(data)
    elif kind == "no array":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"no array at all")
    elif kind == "encrypted":
        data[6] |= 1
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
    elif kind == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.parametrize("kind", ["pickled", "cut short", "one bit", "no array", "encrypted", "empty"])
def test_a_damaged_archive_is_one_sentence(sagd, tmp_path, kind):
    path = damaged(tmp_path / "a.npz", kind)
    result = sagd("data", "info", path)
    refused(result, 1, f"{path} cannot be read")
    assert "allow_pickle" not in result.err
    assert ("Python objects" in result.err) == (kind == "pickled")


# Suffixes


@pytest.mark.parametrize("name", ["D.NPY", "D.Npz", "d.npy", "d.npz"])
def test_what_is_written_is_read_whatever_the_case_of_its_suffix(sagd, tmp_path, name):
    assert sagd("data", "prepare", "digits:test", "--output", tmp_path / name).code == 0
    beside = {"d.labels.npy"} if name.lower() == "d.npy" else set()
    assert {path.name.replace("D.l", "d.l") for path in tmp_path.iterdir()} == {name, *beside}
    infos = [sagd("data", "info", data, "--json").json for data in (tmp_path / name, "digits:test")]
    assert infos[0]["sha256"] == infos[1]["sha256"]


def test_filters_figures_and_statistics_in_capitals(sagd, tmp_path):
    filter_, figure = tmp_path / "F.YAML", tmp_path / "F.PNG"
    assert sagd("filter", "design", "--type", "white", "--output", filter_).code == 0
    assert sagd("filter", "show", filter_, "--plot", figure).code == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    refused(sagd("filter", "show", "MISSING.YML"), 2, "cannot read MISSING.YML")

    from torch import eye, zeros

    from sagd_cli.evaluation.statistics import is_statistics
    from sagd_cli.features.moments import Gaussian

    write_moments(tmp_path / "S.NPZ", Gaussian(zeros(2), eye(2), 5))
    assert is_statistics(str(tmp_path / "S.NPZ")) and not (tmp_path / "S.NPZ.npz").exists()


def test_errors_of_the_family_only(save):
    """Every shape of up to six short axes is read or refused in one sentence."""
    for ndim in range(7):
        path = save(values(*RNG.integers(0, 6, ndim)))
        for read in (load_images, stream_images):
            try:
                read(parse_dataset(str(path)))
            except SagdError as error:
                assert "\n" not in error.message


@pytest.mark.parametrize(
    ("scale", "offset", "kind"),
    [(1, 0, "float32"), (8, -1000, "float64"), (16, 0, "uint16"), (8, -1000, "int16")],
)
def test_the_range_of_an_array_can_be_said(tmp_path, scale, offset, kind):
    bytes_ = np.arange(2 * 64, dtype=np.uint8).reshape(2, 1, 8, 8) * 2
    values = (bytes_.astype(float) * scale + offset).astype(kind)
    np.save(tmp_path / "a.npy", values)
    said = f"{tmp_path}/a.npy,range={offset}:{255 * scale + offset}"
    for images in (load_images(parse_dataset(said)).images, np.stack([*stream_images(parse_dataset(said))])):
        np.testing.assert_allclose(images, bytes_ / 127.5 - 1, atol=1e-6)
        assert images.dtype == np.float32


@pytest.mark.parametrize(
    ("low", "high", "is_said"),
    [(0, 255, True), (0, 1, True), (-1000, 3000, True), (-1, 1, False), (-5, 40, False)],
)
def test_floats_that_do_not_look_like_signals_are_said(tmp_path, capfd, low, high, is_said):
    use_output(Output())
    np.save(tmp_path / "a.npy", np.linspace(low, high, 64, dtype=np.float32).reshape(1, 1, 8, 8))
    load_images(parse_dataset(f"{tmp_path}/a.npy"))
    assert ("range=" in capfd.readouterr().err) == is_said


def test_integers_that_use_a_small_part_of_their_type_are_asked_about_everywhere(tmp_path, sagd):
    np.save(tmp_path / "a.npy", np.arange(3 * 64, dtype=np.uint16).reshape(3, 1, 8, 8) * 20)
    commands = (["data", "info"], ["spectrum"], ["filter", "fit"])
    for command in (
        *commands,
        ["corrupt", "--band", "high", "--strength", 1, "--output", tmp_path / "o.npy"],
    ):
        result = sagd(*command, tmp_path / "a.npy")
        assert result.code == 1 and f"{tmp_path}/a.npy,range=0:3820" in result.err.replace("\n", " ")
    assert sagd("data", "info", f"{tmp_path}/a.npy,range=0:3820").code == 0


@pytest.mark.parametrize("options", ["", ",range=0:2040"])
def test_missing_data_in_an_array_are_refused(tmp_path, options):
    array = np.linspace(0, 2000, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    array[0, 0, 2, 2] = -9999
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match="holds -9999 at 1 of its values"):
        load(tmp_path / "a.npy", options)
