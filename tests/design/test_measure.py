"""The spectrum of a data set: what is summed, over which images, in how much memory, and what is refused."""

import pickle
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.data.images import ImagePlace
from sagd_cli.data.ranges import array_signal
from sagd_cli.datasets.loading import hash_images, load_images, stream_images
from sagd_cli.design.measure import measure_diffused, measure_texture
from sagd_cli.errors import DataError, UsageError
from sagd_cli.spectral.spectrum import hann_taper
from sagd_cli.system.console import Output

QUIET = Output(quiet=True)
RNG = np.random.default_rng


def saved(path, array):
    np.save(path, array)
    return str(path)


def write_pngs(folder, images):
    """Images (C, H, W) of uint8 as PNG files in their order."""
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        pixels = np.moveaxis(image, 0, 2) if len(image) == 3 else image[0]
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    return str(folder)


def direct(signals):
    """|F (x - mean)|^2 / N over images and channels, times M / (M - 1): signals (M, C, *spatial)."""
    axes = tuple(range(2, signals.ndim))
    fields = signals - signals.mean(axis=0)
    power = np.abs(np.fft.rfftn(fields, axes=axes)) ** 2 / np.prod(signals.shape[2:])
    return power.mean(axis=(0, 1)) * len(signals) / (len(signals) - 1)


def assert_same_power(power, expected):
    np.testing.assert_allclose(power, expected, rtol=1e-9, atol=1e-11 * expected.max())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


@given(
    st.lists(st.integers(2, 9), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(2, 6),
    st.sampled_from(["uint8", "uint16", "int16", "float32", "float64"]),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_diffused_power_is_that_about_the_mean_image_dc_included(folder, sides, channels, count, dtype):
    values = RNG(count).integers(0, 200, (count, channels, *sides)).astype(dtype)
    values *= np.array(257 if dtype == "uint16" else 1).astype(dtype)
    data = saved(folder / "any.npy", values)
    measured = measure_diffused(data, QUIET)
    expected = direct(array_signal(values).reshape(values.shape))
    assert measured.spectrum.grid.shape == tuple(sides)
    assert_same_power(measured.spectrum.power, expected)
    assert measured.spectrum.power[(0,) * len(sides)] > 0
    assert (measured.source.data, measured.source.images) == (data, count)


@pytest.mark.parametrize(
    ("dtype", "values", "signals"),
    [
        ("uint8", [0, 255], [-1, 1]),
        ("uint16", [0, 65535], [-1, 1]),
        ("int16", [-32768, 0, 16384], [-1, 0, 0.5]),
        ("float32", [-3.5, 0.25], [-3.5, 0.25]),
    ],
)
def test_integers_span_minus_one_to_one_and_floats_stay(dtype, values, signals):
    assert array_signal(np.array(values, dtype)).tolist() == signals


def test_the_factor_makes_the_power_unbiased(folder):
    """M images vary about their own mean like M - 1: white noise of variance 1 keeps power 1, for M = 2 too."""
    fields = RNG(0).standard_normal((400, 2, 1, 64, 64))
    power = [
        measure_diffused(saved(folder / "two.npy", pair), QUIET).spectrum.power.mean() for pair in fields[:40]
    ]
    # Each mean is over 4,096 squares of one degree of freedom.
    assert abs(np.mean(power) - 1) < 5 * np.sqrt(2 / 4096 / 40)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_streams_to_the_same_spectrum_and_hash_as_an_array(sagd, tmp_path, channels):
    images = RNG(1).integers(0, 256, (7, channels, 12, 9), dtype=np.uint8)
    pngs, array = write_pngs(tmp_path / "pngs", images), saved(tmp_path / "same.npy", images)
    infos = {sagd("data", "info", data, "--json").json["sha256"] for data in (pngs, array)}
    for measure in (measure_diffused, measure_texture):
        first, second = measure(pngs, QUIET), measure(array, QUIET)
        assert np.array_equal(first.spectrum.power, second.spectrum.power)
        assert np.array_equal(first.spectrum.replicates, second.spectrum.replicates)
        assert {first.source.sha256, second.source.sha256} == infos
        assert first.source.images == second.source.images == 7


def test_the_hash_tells_order_shape_and_values_apart():
    images = RNG(2).integers(0, 256, (6, 1, 4, 6), dtype=np.uint8)
    changed = images.copy()
    changed[3, 0, 1, 1] += 1
    variants = [images, images[::-1], images.reshape(6, 1, 6, 4), images.reshape(3, 2, 4, 6), changed]
    assert (
        len({hash_images(variant) for variant in [*variants, [*images[:3], images[3].reshape(1, 6, 4)]]}) == 6
    )
    assert hash_images(list(images)) == hash_images(np.asfortranarray(images)) == hash_images(images)


def test_the_hash_tells_types_apart_and_not_the_order_of_bytes():
    images = np.full((2, 1, 4, 4), 100, np.uint8)
    variants = [images, images.view(np.int8), images.view(np.uint16), images.astype(np.float32)]
    assert len({hash_images(variant) for variant in variants}) == 4
    assert hash_images(variants[3].astype(">f4")) == hash_images(variants[3])


def test_digits_are_measured_with_the_hash_of_data_info(sagd):
    measured = measure_diffused("digits", QUIET)
    assert measured.source.sha256 == sagd("data", "info", "digits", "--json").json["sha256"]
    images = load_images(parse_dataset("digits")).images
    assert_same_power(measured.spectrum.power, direct(images / 127.5 - 1))


SIZES = [(40, 24), (32, 48), (33, 25)]


def welch(signal, tile):
    """Mean Hann power of the half-overlapping tiles of one image (C, H, W), each about its own mean."""
    starts = [
        sorted({*range(0, side - t, t // 2), side - t})
        for side, t in zip(signal.shape[1:], tile, strict=True)
    ]
    taper = np.multiply.outer(*map(hann_taper, tile))
    powers = []
    for plane in signal:
        for y in starts[0]:
            for x in starts[1]:
                cut = plane[y : y + tile[0], x : x + tile[1]]
                powers.append(np.abs(np.fft.rfft2((cut - cut.mean()) * taper)) ** 2 / np.sum(taper**2))
    return np.mean(powers, axis=0)


def test_images_of_different_sizes_are_covered_by_tiles_of_the_smallest_sides(tmp_path):
    images = [
        RNG(i).integers(0, 256, (1 + 2 * (i % 2), *size), dtype=np.uint8) for i, size in enumerate(SIZES)
    ]
    measured = measure_texture(write_pngs(tmp_path / "mixed", images), QUIET)
    assert measured.spectrum.grid.shape == (32, 24) and measured.spectrum.count == 3
    assert_same_power(
        measured.spectrum.power, np.mean([welch(image / 127.5 - 1, (32, 24)) for image in images], axis=0)
    )


def test_images_of_different_sizes_are_refused_as_diffused_fields(tmp_path):
    images = [np.zeros((1, *size), np.uint8) for size in SIZES]
    data = write_pngs(tmp_path / "mixed", images)
    for measure in (measure_diffused, lambda data, output: measure_texture(data, output, "none")):
        with pytest.raises(DataError, match="differ in size or colours") as error:
            measure(data, QUIET)
        assert "sagd data prepare" in error.value.hint and "--size" in error.value.hint


def test_the_advice_on_different_sizes_works(sagd, tmp_path):
    images = [RNG(i).integers(0, 256, (1, *size), dtype=np.uint8) for i, size in enumerate(SIZES)]
    data, target = write_pngs(tmp_path / "mixed", images), tmp_path / "same.npy"
    assert sagd("data", "prepare", data, "--size", 16, "--output", target).code == 0
    assert measure_diffused(str(target), QUIET).spectrum.grid.shape == (16, 16)


def peak_of(measure, data):
    measure(data, QUIET)  # caches and imports are no part of the measurement
    tracemalloc.start()
    try:
        measure(data, QUIET)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("measure", [measure_diffused, measure_texture])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, measure):
    images = RNG(0).standard_normal((1500, 1, 24, 24)).astype(np.float32)
    few, many = (saved(tmp_path / f"{n}.npy", images[:n]) for n in (150, 1500))
    small, large = peak_of(measure, few), peak_of(measure, many)
    assert large < 1.05 * small + 2_000
    assert large < images.nbytes / 4


def test_a_folder_is_read_one_image_at_a_time(tmp_path, monkeypatch):
    data = write_pngs(tmp_path / "many", np.zeros((30, 1, 6, 6), np.uint8) + np.arange(6, dtype=np.uint8))
    read, original = [], ImagePlace.read
    monkeypatch.setattr(ImagePlace, "read", lambda place: read.append(place.name) or original(place))
    images = stream_images(parse_dataset(data))
    assert len(images) == 30 and read == []
    stream = iter(images)
    next(stream), next(stream)
    assert read == ["000.png", "001.png"]
    read.clear()
    measure_texture(data, QUIET)
    assert read == 2 * [f"{i:03d}.png" for i in range(30)]


def test_signals_are_arrays_of_one_or_two_axes(tmp_path):
    signals = RNG(3).standard_normal((5, 40))
    several = measure_diffused(saved(tmp_path / "nt.npy", signals), QUIET)
    assert several.spectrum.grid.shape == (40,) and several.source.images == 5
    assert_same_power(several.spectrum.power, direct(signals[:, None]))
    whole = measure_diffused(saved(tmp_path / "nct.npy", signals[:, None]), QUIET)
    assert np.array_equal(whole.spectrum.power, several.spectrum.power)
    assert whole.source.sha256 == several.source.sha256
    one = measure_texture(saved(tmp_path / "t.npy", signals[0]), QUIET)
    taper = hann_taper(40)
    expected = np.abs(np.fft.rfft((signals[0] - signals[0].mean()) * taper)) ** 2 / np.sum(taper**2)
    assert one.spectrum.count == 1
    assert_same_power(one.spectrum.power, expected)


def test_large_images_and_signals_are_cut_into_tiles(tmp_path):
    array = saved(tmp_path / "long.npy", RNG(0).standard_normal(20_000).astype(np.float32))
    measured = measure_texture(array, QUIET).spectrum
    assert measured.grid.shape == (8192,) and measured.fields == 2
    assert abs(measured.power[5:-5].mean() - 1) < 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_names_its_image(tmp_path, value):
    images = np.zeros((9, 1, 4, 4), np.float32)
    images[6, 0, 2, 2] = value
    data = saved(tmp_path / "nan.npy", images)
    for measure in (measure_diffused, measure_texture):
        with pytest.raises(DataError, match=re.escape(f"image 6 of {data} holds values that are not finite")):
            measure(data, QUIET)


def test_one_image_has_no_spectrum_about_the_mean(tmp_path):
    data = saved(tmp_path / "one.npy", RNG(0).integers(0, 256, (1, 1, 8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match="holds one image"):
        measure_diffused(data, QUIET)


@pytest.mark.parametrize("level", [0.0, 0.1, -1e6])
@pytest.mark.parametrize("count", [2, 1000])
def test_images_that_are_all_alike_are_refused(tmp_path, level, count):
    image = level * np.linspace(0.3, 1, 64).reshape(1, 8, 8)
    data = saved(tmp_path / "alike.npy", np.repeat(image[None], count, axis=0))
    with pytest.raises(DataError, match="all alike"):
        measure_diffused(data, QUIET)


@pytest.mark.parametrize("scale", [1e-13, 1e-3, 1e9])
def test_the_unit_of_floats_does_not_matter(tmp_path, scale):
    """Volts, tesla or counts: the spectrum goes with the square of the unit, and faint is not constant."""
    signals = RNG(4).standard_normal((20, 1, 64))
    power = measure_diffused(saved(tmp_path / "unit.npy", scale * signals), QUIET).spectrum.power
    assert_same_power(power, scale**2 * direct(signals))
    texture = measure_texture(saved(tmp_path / "unit.npy", scale * signals), QUIET).spectrum.power
    assert_same_power(
        texture, scale**2 * measure_texture(saved(tmp_path / "one.npy", signals), QUIET).spectrum.power
    )


def test_flat_images_of_different_brightness_have_power_at_dc_alone(tmp_path):
    levels = RNG(5).standard_normal((30, 1, 1, 1))
    power = measure_diffused(
        saved(tmp_path / "flat.npy", np.ones((30, 1, 6, 8)) * levels), QUIET
    ).spectrum.power
    assert power[0, 0] == pytest.approx(48 * levels.var(ddof=1), rel=1e-12)
    assert power.ravel()[1:].max() < 1e-25


def hostile(path, kind):
    if not isinstance(kind, str):
        np.save(path, kind)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"images": [1, 2]}))
    elif kind == "object":
        np.save(path, np.array([[1], [2, 3]], dtype=object), allow_pickle=True)
    elif kind == "truncated":
        np.save(path, np.zeros((4, 1, 8, 8), np.uint8))
        path.write_bytes(path.read_bytes()[:-10])
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hello\n" * 100)
    return str(path)


@pytest.mark.parametrize(
    "kind",
    [
        "pickle",
        "object",
        "truncated",
        "empty file",
        "text",
        np.zeros((2, 1, 2, 2, 2, 2), np.uint8),
        np.zeros((0, 1, 8, 8), np.uint8),
        np.zeros((4, 1, 0, 8), np.uint8),
        np.float64(3.0),
        np.zeros((2, 1, 4, 4), bool),
        np.zeros((2, 1, 4, 4), complex),
        np.zeros((2, 1, 4, 4), [("a", "f8")]),
        np.full((2, 1, 4, 4), "text"),
        np.full((2, 1, 4, 4), 1e200),
    ],
    ids=lambda kind: kind if isinstance(kind, str) else f"{kind.dtype.kind}{kind.shape}",
)
def test_hostile_arrays_are_one_sentence(sagd, tmp_path, kind):
    data = hostile(tmp_path / "hostile.npy", kind)
    for command in (["spectrum", data], ["filter", "fit", data], ["filter", "show", "white", "--data", data]):
        result = sagd(*command)
        assert result.code == 1 and result.out == ""
        assert "Traceback" not in result.err and len(result.err.splitlines()) == 1
        assert result.err.startswith("error:")
        assert not re.search(r"internal|allow_pickle=True", result.err), result.err


def test_an_unknown_window_is_said_before_the_data_are_read():
    with pytest.raises(UsageError, match="unknown window 'hamming'") as error:
        measure_texture("no-such-file.npy", QUIET, "hamming")
    assert "hann" in error.value.hint


def test_the_hash_of_the_digits_is_what_it_always_was():
    """Runs and receipts hold it: another definition would refuse to resume them."""
    expected = "0c1bf8659ad7842e8d08535f84aaba6175acdbbd0cf1060ad96c69d15307f39f"
    assert hash_images(load_images(parse_dataset("digits")).images) == expected
