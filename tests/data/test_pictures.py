"""Image files as training data: alike, on one range, and nothing left out in silence."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from sagd_plugins.datasets._pictures import Pictures
from support.image_files import noise, save

from sagd_cli.data.folders import images_by_class, list_images
from sagd_cli.data.images import ImagePlace, read_image
from sagd_cli.data.ranges import Range
from sagd_cli.errors import DataError, UsageError
from sagd_cli.system.console import Output, use_output


@pytest.fixture
def said(capfd):
    """Return what was printed on standard error; each test has an Output of its own."""
    use_output(Output())
    return lambda: " ".join(capfd.readouterr().err.split())


def read_all(paths, size=None, **wanted):
    return np.stack([*Pictures([ImagePlace(path) for path in paths], size, **wanted).alike()])


@pytest.mark.parametrize("count", [1, 3])
def test_read_folder_stacks_8_bits_in_the_order_of_names(tmp_path, count):
    samples = [noise((5, 7, count), "uint8", seed) for seed in range(3)]
    for name, sample in zip(("b", "c", "a"), samples, strict=True):
        save(tmp_path / f"{name}.png", sample)
    expected = np.stack([np.moveaxis(samples[i], 2, 0) for i in (2, 0, 1)])
    np.testing.assert_array_equal(read_all(list_images(tmp_path)), expected, strict=True)


def test_mixed_sizes_name_two_files_and_the_option(tmp_path):
    save(tmp_path / "a.png", noise((5, 7, 1), "uint8"))
    save(tmp_path / "b.png", noise((5, 7, 1), "uint8"))
    save(tmp_path / "c.png", noise((6, 9, 1), "uint8"))
    with pytest.raises(DataError, match=r"a\.png is 7 x 5 pixels and .*c\.png is 9 x 6") as caught:
        read_all(list_images(tmp_path))
    assert "--size N" in caught.value.hint
    assert read_all(list_images(tmp_path), size=4).shape == (3, 1, 4, 4)


def test_mixed_grey_and_colour_name_two_files(tmp_path):
    save(tmp_path / "a.png", noise((5, 7, 1), "uint8"))
    save(tmp_path / "b.png", noise((5, 7, 3), "uint8"))
    with pytest.raises(DataError, match=r"a\.png is grey and .*b\.png is RGB"):
        read_all(list_images(tmp_path), size=4)


def test_an_unreadable_file_in_a_folder_is_named(tmp_path):
    save(tmp_path / "a.png", noise((5, 7, 1), "uint8"))
    (tmp_path / "b.png").write_text("not an image")
    with pytest.raises(DataError, match=r"b\.png is not an image"):
        read_all(list_images(tmp_path))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 255), st.integers(1, 40), st.integers(1, 40), st.integers(1, 30))
def test_a_constant_image_stays_constant_at_every_size(tmp_path_factory, value, height, width, size):
    folder = tmp_path_factory.mktemp("constant")
    save(folder / "a.png", np.full((height, width, 3), value, np.uint8))
    np.testing.assert_array_equal(
        read_all(list_images(folder), size), np.full((1, 3, size, size), value, np.uint8)
    )


def test_size_takes_the_central_square(tmp_path):
    samples = np.zeros((4, 10, 1), np.uint8)
    samples[:, 3:7] = 200
    save(tmp_path / "a.png", samples)
    np.testing.assert_array_equal(read_all(list_images(tmp_path), 4), np.full((1, 1, 4, 4), 200, np.uint8))


def test_size_antialiases_a_step_and_a_checkerboard(tmp_path):
    step = np.zeros((64, 64, 1), np.uint8)
    step[:, 28:] = 255  # inside the fourth of eight columns: half of it is white
    save(tmp_path / "a.png", step)
    row = read_all(list_images(tmp_path), 8)[0, 0, 4].astype(int)
    assert 90 < row[3] < 165
    assert (row[[0, 1]] < 10).all() and (row[[6, 7]] > 245).all()
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
    save(tmp_path / "a.png", board)
    inner = read_all(list_images(tmp_path), 8)[0, 0, 1:-1, 1:-1].astype(int)
    assert (abs(inner - 127.5) <= 1).all()  # aliasing would give 0 or 255


@pytest.mark.usefixtures("said")
def test_integers_become_bytes_by_rounding_and_floats_stay_floats(tmp_path):
    deep = noise((16, 16, 3), "uint16")
    save(tmp_path / "a.png", deep)
    expected = np.rint(np.moveaxis(deep, 2, 0).astype(np.float64) / 257)
    np.testing.assert_array_equal(read_all(list_images(tmp_path))[0], expected.astype(np.uint8), strict=True)
    (tmp_path / "a.png").unlink()
    save(tmp_path / "a.tif", np.array([[[-1.0], [0.0]], [[0.25], [3.0]]], np.float32))
    np.testing.assert_array_equal(
        read_all(list_images(tmp_path)), np.array([[[[-3, -1], [-0.5, 5]]]], np.float32), strict=True
    )


@pytest.mark.parametrize(
    ("scale", "offset", "depth"),
    [
        (1, 0, "float32"),
        (8, -1000, "float32"),
        (1 / 255, 0, "float32"),
        (16, 0, "uint16"),
        (257, 0, "uint16"),
    ],
)
def test_one_picture_is_the_same_data_on_every_range(tmp_path, said, scale, offset, depth):
    picture = np.arange(256).reshape(16, 16, 1)
    save(tmp_path / "a.tif", (picture * scale + offset).astype(depth))
    image = read_all([tmp_path / "a.tif"])
    values = image if depth == "float32" else image / 127.5 - 1
    np.testing.assert_allclose(values, picture.reshape(1, 1, 16, 16) / 127.5 - 1, atol=2e-7)
    assert ("black is taken as" in said()) == ((depth == "float32" and scale >= 1) or scale == 16)


def test_one_range_is_for_all_images_of_a_set(tmp_path, said):
    """Each image on its own range would lose which one is brighter."""
    for name, top in (("a", 1000.0), ("b", 500.0)):
        save(tmp_path / f"{name}.tif", np.linspace(0, top, 16, dtype=np.float32).reshape(4, 4, 1))
    assert read_all(list_images(tmp_path)).max(axis=(1, 2, 3)).tolist() == [1, 0]
    assert said().count("go from 0 to 1000") == 1
    told = read_all(list_images(tmp_path), given=Range(0, 2000))
    assert told.max(axis=(1, 2, 3)).tolist() == [0, -0.5]


def test_values_beyond_the_range_that_was_told_are_counted(tmp_path, said):
    save(tmp_path / "a.tif", np.array([[[0], [100]], [[4095], [5000]]], np.uint16))
    assert read_all([tmp_path / "a.tif"], given=Range(0, 4095)).ravel().tolist() == [0, 6, 255, 255]
    assert "1 values are outside the range 0:4095" in said()


@pytest.mark.usefixtures("said")
def test_floats_and_integers_do_not_mix_in_silence(tmp_path):
    save(tmp_path / "a.png", noise((4, 4, 1), "uint8"))
    save(tmp_path / "b.tif", np.full((4, 4, 1), 0.5, np.float32))
    with pytest.raises(DataError, match=r"a\.png holds integer values and .*b\.tif float ones"):
        read_all(list_images(tmp_path))


def test_all_unreadable_files_are_named_at_once(tmp_path, said):
    for name in "abcd":
        save(tmp_path / f"{name}.png", noise((4, 4, 1), "uint8"))
    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "d.png").write_bytes((tmp_path / "d.png").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"2 of 4 images cannot be read: .*b\.png is empty; .*d\.png is not"):
        read_all(list_images(tmp_path))


def test_modes(tmp_path, said):
    save(tmp_path / "a.png", np.array([[[10], [20]]], np.uint8))
    save(tmp_path / "b.png", np.array([[[255, 0, 0], [7, 7, 7]]], np.uint8))
    rgb = read_all(list_images(tmp_path), mode="rgb")
    assert rgb[0, :, 0].tolist() == [[10, 20]] * 3
    assert rgb[1, :, 0].tolist() == [[255, 7], [0, 7], [0, 7]]
    grey = read_all(list_images(tmp_path), mode="grey")
    assert grey[:, 0, 0].tolist() == [[10, 20], [76, 7]]  # 0.299 * 255
    expected = np.asarray(Pillow.open(tmp_path / "b.png").convert("L"))
    np.testing.assert_allclose(grey[1, 0].astype(int), expected, atol=1)


@pytest.mark.parametrize(("suffix", "depth"), [("png", "uint8"), ("tif", "float32")])
def test_colours_under_full_transparency_are_white(tmp_path, said, suffix, depth):
    top = 255 if depth == "uint8" else 1
    save(tmp_path / f"a.{suffix}", (np.array([[[0, 0], [0, 1], [1, 0.4]]]) * top).astype(depth))
    values = read_all([tmp_path / f"a.{suffix}"]).astype(float).ravel()
    assert values.tolist() == ([255, 0, 255] if depth == "uint8" else [1, -1, 1])
    assert "1 of 1 images are transparent somewhere: they were laid on white" in said()


def test_what_is_left_out_of_a_folder_is_named_once(tmp_path, said):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / name, noise((4, 4, 1), "uint8"))
    for name in ("a.heic", "x.cr2", "notes.txt", ".hidden.cr2", "README"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "more").mkdir()
    for _ in range(2):
        assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.png", "c.png"]
    words = said()
    assert words.count("3 image(s); left out:") == 1
    for named in ("1 .heic", "1 .cr2", "1 .txt", "1 without suffix", "1 folder(s)"):
        assert named in words


@pytest.mark.usefixtures("said")
def test_a_folder_of_which_most_would_be_left_out_is_refused(tmp_path):
    save(tmp_path / "a.png", noise((4, 4, 1), "uint8"))
    for name in ("b.cr2", "c.cr2", "d.heic"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=r"most of .* left out: 2 \.cr2, 1 \.heic, beside 1 image"):
        list_images(tmp_path)


def test_companions_and_documents_may_be_most(tmp_path, said):
    save(tmp_path / "a.png", noise((4, 4, 1), "uint8"))
    for name in ("a.lab", "a.points", "a.wld", "README.md", "sums.txt", "labels.csv"):
        (tmp_path / name).write_bytes(b"x")
    assert len(list_images(tmp_path)) == 1
    assert "1 .lab" in said()


@pytest.mark.usefixtures("said")
def test_a_stray_picture_beside_class_folders_does_not_replace_them(tmp_path):
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, noise((4, 4, 1), "uint8"))
    assert {folder.name: len(paths) for folder, paths in images_by_class(tmp_path).items()} == {
        "cats": 2,
        "dogs": 1,
    }
    save(tmp_path / "stray.png", noise((4, 4, 1), "uint8"))
    with pytest.raises(UsageError, match=r"holds 1 image\(s\) \(stray\.png\) beside folders with 3"):
        images_by_class(tmp_path)


def test_pictures_beside_a_small_folder_are_the_set_and_the_folder_is_named(tmp_path, said):
    for name in ("a.png", "b.png", "thumbnails/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, noise((4, 4, 1), "uint8"))
    assert [*images_by_class(tmp_path)] == [tmp_path]
    assert "2 image(s); left out: 1 folder(s)" in said()


@pytest.mark.usefixtures("said")
@pytest.mark.parametrize(
    ("grey", "cover", "kind", "white"),
    [
        (255, 255, "float32", 255),
        (255, 1, "float32", 255),
        (4095, 4095, "uint16", 4095),
        (4095, 65535, "uint16", 4095),
    ],
)
def test_alpha_has_the_scale_of_its_type_or_of_the_pixels(tmp_path, grey, cover, kind, white):
    values, alpha = np.linspace(0, grey, 64), np.where(np.arange(64) < 32, cover, 0)
    save(tmp_path / "a.tif", np.stack([values, alpha], axis=-1).reshape(8, 8, 2).astype(kind))
    image = read_all([tmp_path / "a.tif"]).ravel()
    signals = image if kind == "float32" else image / 127.5 - 1
    expected = np.where(alpha > 0, values / white * 2 - 1, 1)
    np.testing.assert_allclose(signals, expected, atol=1e-6 if kind == "float32" else 0.0045)


@pytest.mark.parametrize(
    ("kind", "value", "stated"),
    [
        ("uint16", 65535, "65535"),
        ("uint16", 51, "51"),
        ("float32", 77.0, "77"),
        ("float32", -999.0, None),
        ("float32", -3.4028231e38, None),
        ("float32", 1e30, None),
    ],
)
def test_values_for_missing_data_are_filled(tmp_path, said, kind, value, stated):
    values = np.linspace(0, 50, 64).reshape(8, 8).astype(kind)
    values[2, 3:6] = value
    tags = [] if stated is None else [(42113, "s", 0, stated, True)]
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=tags)
    image = read_image(tmp_path / "a.tif")
    assert f"missing data ({value:.7g} at 3 of its values) are filled" in said()
    assert image.pixels.max() <= 50 and image.pixels.min() >= 0
    np.testing.assert_array_equal(image.missing.put_back(image.pixels)[0], values)


def test_one_bright_pixel_is_a_value(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0] = 30  # one bright star
    tifffile.imwrite(tmp_path / "b.tif", values)
    assert read_image(tmp_path / "b.tif").pixels.max() == 30


def test_the_folders_that_are_left_out_count_by_what_they_hold(tmp_path, said):
    for name in ("a.png", "b.png", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, noise((4, 4, 1), "uint8"))
    assert len(list_images(tmp_path)) == 2
    assert "left out: 1 folder(s) with 1 image(s)" in said()
    for name in ("sub/b.png", "sub/c.png"):
        save(tmp_path / name, noise((4, 4, 1), "uint8"))
    with pytest.raises(UsageError, match=r"most of .* would be left out: 1 folder\(s\) with 3 image\(s\)"):
        list_images(tmp_path)


@pytest.mark.usefixtures("said")
def test_pictures_without_a_suffix_count(tmp_path):
    save(tmp_path / "a.png", noise((4, 4, 1), "uint8"))
    for name in ("b", "c"):
        (tmp_path / name).write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "README").write_text("these are three pictures")
    with pytest.raises(UsageError, match="most of"):
        list_images(tmp_path)
