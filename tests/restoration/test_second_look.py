"""Looking again at what was restored: what was hidden is found, what adds nothing is not done, and the rest is said."""

import numpy as np
import pytest
import tifffile
from support.synthetic import gaussian_fields, wave

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.errors import DataError
from sagd_cli.library.arrays import Knowledge, restore
from sagd_cli.restoration import prepared
from sagd_cli.restoration.second_look import Looked, look_again
from sagd_cli.spectral.grid import FrequencyGrid

GRID = FrequencyGrid((64, 64))
TONES = [(0.25, 0.125), (0.125, 0.375), (-0.25, 0.25), (0.375, 0.0625)]


def notch(f_y, f_x, level):
    return NoiseSpectrum.parse(f"notch:{f_y},{f_x},0.001:level={level}")


def without(signal, noise):
    return np.fft.irfft2(np.where(noise.power(GRID) > 0, 0, np.fft.rfft2(signal)), s=GRID.shape)


def strongest(signal):
    """A detection that the strongest tone hides all others from."""
    power = np.abs(np.fft.rfft2(signal)) ** 2 / GRID.size
    top = np.unravel_index(np.argmax(power), power.shape)
    found = [float(axis.ravel()[index]) for axis, index in zip(GRID.axes, top, strict=True)]
    return notch(*found, np.sqrt(power[top])) if power[top] > 1e-6 else None


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_tone_that_another_hides_is_found_and_what_is_left_after_three_passes_is_told(count):
    signal = sum(0.5**k * wave(GRID.shape, tone) for k, tone in enumerate(TONES[:count]))
    first = strongest(signal)
    seen = look_again(
        Looked(first, without(signal, first)), lambda noise: without(signal, noise), strongest, GRID
    )
    assert len(seen.noise.parts) == min(count, 3)
    assert (seen.left is not None) == (count == 4)
    assert np.abs(seen.restored).max() < (0.13 if count == 4 else 1e-6)


def test_what_was_restored_stays_as_it_is_where_nothing_is_found():
    first = Looked(notch(0.25, 0.125, 1), object())
    assert look_again(first, pytest.fail, lambda _: None, GRID) == first


def test_there_is_no_second_look_at_what_was_put_in_place_of_what_is_lost():
    first = Looked(NoiseSpectrum.parse("0.3:1:level=inf"), "first")
    assert look_again(first, pytest.fail, pytest.fail, GRID) == first


@pytest.mark.parametrize("level", [0.5, 0.6])
def test_a_pass_that_leaves_as_much_is_not_done(level):
    first, found = Looked(notch(0.25, 0.125, 1), "first"), iter([0.5, level])
    seen = look_again(first, lambda _: "second", lambda _: notch(0.25, 0.25, next(found)), GRID)
    assert (seen.noise, seen.restored) == (first.noise, "first")
    assert seen.left == notch(0.25, 0.25, 0.5)


def test_a_pass_that_cannot_be_done_leaves_what_was_restored():
    def restore(_):
        raise DataError("the band leaves no frequency to compare it with")

    first = Looked(notch(0.25, 0.125, 1), "first")
    seen = look_again(first, restore, lambda _: NoiseSpectrum.parse("white:level=0.1"), GRID)
    assert (seen.noise, seen.restored, seen.left) == (
        first.noise,
        "first",
        NoiseSpectrum.parse("white:level=0.1"),
    )


def test_tones_among_lines_that_were_taken_away_are_the_images_own():
    first = Looked(NoiseSpectrum.parse("stripe:horizontal,0,0:level=1"), "first")
    assert look_again(first, pytest.fail, lambda _: notch(0.25, 0.015625, 1), GRID).left is None
    beside = look_again(first, lambda _: "second", lambda _: notch(0.25, 0.25, 1), GRID)
    assert beside.left == notch(0.25, 0.25, 1)


def test_a_tone_that_drifts_is_followed_behind_the_first_disc(sagd, tmp_path):
    """Its ends come up when its middle is gone."""
    shape = (256, 256)
    law = 2.4e-4 * (FrequencyGrid(shape).radius + 0.005) ** -2.9
    clean = gaussian_fields(1, shape, law, 3)[0, 0]
    rows, columns = np.indices(shape)
    tone = 0.08 * np.cos(2 * np.pi * (0.2 * rows + 0.15 * columns) + 6 * np.sin(columns / 60))
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", (clean + tone).astype(np.float32))
    drift = ("omit", tmp_path / "in", "--band", "auto", "--estimate", "wiener", "--range", "-2:2")
    result = sagd(*drift, "--output", tmp_path / "o", "--json")
    assert result.code == 0, result.err
    (record,) = result.json["files"]
    assert "found behind it" in result.err and record["left"] is None
    error = tifffile.imread(tmp_path / "o" / "a.tif") - clean
    assert error.std() < 0.3 * tone.std()


def test_arrays_and_files_are_looked_at_again_alike(sagd, tmp_path, monkeypatch):
    """Nobody told the noise, and one tone hides the other."""
    monkeypatch.setattr(prepared, "found_noise", lambda signals: strongest(signals[0][0]))
    image = sum(0.6 * 0.5**k * wave(GRID.shape, tone) for k, tone in enumerate(TONES[:2])).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", image)
    options = ("--estimate", "notch", "--range", "-1:1")
    assert sagd("omit", tmp_path / "a.tif", *options, "--output", tmp_path / "o").code == 0
    written = tifffile.imread(tmp_path / "o" / "a.tif")
    restored = restore(image[None, None], None, estimate="notch", known=Knowledge(range=(-1, 1)))
    assert np.array_equal(restored[0, 0], written) and np.abs(written).max() < 1e-5


def test_a_clean_image_stays_bit_for_bit(sagd, tmp_path):
    law = 2.4e-4 * (FrequencyGrid((128, 160)).radius + 0.005) ** -2.9
    tifffile.imwrite(tmp_path / "a.tif", gaussian_fields(1, (128, 160), law, 5)[0, 0].astype(np.float32))
    result = sagd("omit", tmp_path / "a.tif", "--output", tmp_path / "o", "--range", "-2:2", "--json")
    (record,) = result.json["files"]
    assert (record["method"], record["parts"], record["left"]) == ("unchanged", [], None)
    assert np.array_equal(tifffile.imread(tmp_path / "o" / "a.tif"), tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize("estimate", ["wiener", "notch"])
def test_white_noise_stays_where_no_model_restores_and_offsets_are_taken(sagd, tmp_path, estimate):
    """It leaves no frequency to compare it with: an image that has some besides is not refused, nor emptied."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:128, :128]
    image = 100 + 60 * np.sin(x / 40) * np.cos(y / 30) + 8 * random.standard_normal((128, 128))
    offsets = 12 * random.standard_normal((128, 1))
    for name, pixels in (("a", image + offsets), ("b", image)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "x.tif", np.clip(np.round(pixels), 0, 255).astype(np.uint8))
        done = sagd(
            "omit", tmp_path / name, "--estimate", estimate, "--output", tmp_path / f"{name}o", "--json"
        )
        assert done.code == 0 and "white noise was found, and stays" in done.err
        noise, restored = done.json["files"][0]["noise"], tifffile.imread(tmp_path / f"{name}o" / "x.tif")
        if name == "a":
            assert noise.startswith("stripe:horizontal") and "white" not in noise
            rows = [np.std(np.diff(np.mean(each, axis=1))) for each in (image + offsets, restored)]
            along = [np.std(np.diff(each.astype(float), axis=1)) for each in (image, restored)]
            assert rows[1] < 0.3 * rows[0] and along[1] == pytest.approx(along[0], rel=0.05)
        else:
            assert noise is None and np.array_equal(restored, tifffile.imread(tmp_path / "b" / "x.tif"))


def test_what_is_found_is_said_once(sagd, tmp_path):
    law = 2.4e-4 * (FrequencyGrid((96, 96)).radius + 0.005) ** -2.9
    tone = gaussian_fields(1, (96, 96), law, 5)[0, 0] + 0.2 * wave((96, 96), (0.25, 0.125))
    tifffile.imwrite(tmp_path / "a.tif", tone.astype(np.float32))
    auto = ("omit", tmp_path / "a.tif", "--band", "auto", "--range", "-2:2", "--output", tmp_path / "o")
    result = sagd(*auto)
    assert result.code == 0, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("found")]
    assert any(line.startswith("found notch") for line in lines)
    assert len(lines) == len({*lines})
