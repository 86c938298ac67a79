"""The parts of noise in words: what a person sees of a planted part is what is told of it."""

import numpy as np
import pytest
from support.synthetic import gaussian_fields, wave

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.restoration.parts import named_parts, part_records
from sagd_cli.spectral.grid import FrequencyGrid

SHAPE = (192, 224)
CLEAN = gaussian_fields(1, SHAPE, 2.4e-4 * (FrequencyGrid(SHAPE).radius + 0.005) ** -2.9, 1)[0]


def records(noise, damage, left=None, looked=True):
    before = (CLEAN + damage).astype(np.float32)
    return part_records(NoiseSpectrum.parse(noise), before, CLEAN.astype(np.float32), left, looked)


@pytest.mark.parametrize(
    ("frequency", "direction"), [((0.2, 0), 0), ((0.2, 0.2), 45), ((0, 0.25), 90), ((0.2, -0.2), 135)]
)
def test_a_tone_has_the_direction_of_its_crests_its_period_and_its_strength(frequency, direction):
    """45 degrees rises to the right, like /."""
    (record,) = records(
        f"notch:{frequency[0]},{frequency[1]},0.01:level=1", 20 / 127.5 * wave(SHAPE, frequency)
    )
    assert (record["kind"], record["direction"]) == ("tone", direction)
    assert record["period"] == pytest.approx(1 / np.hypot(*frequency), rel=1e-3)
    assert record["grey_levels_before"] == pytest.approx(20 / 2**0.5, rel=0.05)
    assert record["grey_levels_after"] < 1
    share = named_parts(NoiseSpectrum.parse(record["part"] + ":level=1"), SHAPE, SHAPE)[0].share
    assert record["strength_before"] * share**0.5 * 127.5 == pytest.approx(
        record["grey_levels_before"], rel=1e-3
    )


@pytest.mark.parametrize(
    ("direction", "lines", "angle"), [("horizontal", "rows", 0), ("vertical", "columns", 90)]
)
def test_offsets_of_lines_have_the_level_that_was_found_whatever_lines_the_image_has(direction, lines, angle):
    """A horizon and waves have much more power at the frequencies of the offsets than these."""
    axis, across = (0, SHAPE[1]) if lines == "rows" else (1, SHAPE[0])
    places = np.arange(SHAPE[axis])
    image = CLEAN + np.expand_dims(0.5 * (places > 80) + 0.3 * np.sin(places / 15), 1 - axis)
    offsets = np.expand_dims(np.random.default_rng(0).normal(0, 8 / 127.5, len(places)), 1 - axis)
    level = offsets.std() * np.sqrt(across)
    noise = NoiseSpectrum.parse(f"stripe:{direction},0,0:level={level}")
    before, clean = (np.asarray(values, np.float32) for values in (image + offsets, image))
    (record,) = part_records(noise, before, clean, None, False)
    assert (record["kind"], record["direction"], record["period"]) == (f"offsets of {lines}", angle, None)
    assert record["strength_before"] == pytest.approx(level, rel=1e-3)
    assert record["grey_levels_before"] == pytest.approx(127.5 * offsets.std(), rel=0.01)
    assert record["strength_after"] == record["grey_levels_after"] == 0
    (record,) = part_records(noise, before, before, None, False)
    assert record["grey_levels_after"] == pytest.approx(127.5 * offsets.std(), rel=0.3)
    left = NoiseSpectrum.parse(f"stripe:{direction},{4.5 / across:.4g},0:level=0.1")
    (record,) = part_records(noise, before, clean, left, True)
    assert record["grey_levels_after"] == pytest.approx(12.75 * np.sqrt(5 / across), rel=0.1)
    assert part_records(noise, before, clean, None, True)[0]["grey_levels_after"] == 0


def test_wide_parts_have_the_strength_they_were_restored_with_and_what_is_left_of_them():
    noise, left = "white:level=0.1+0.5:1:level=0.2", NoiseSpectrum.parse("0.5:1:level=0.01")
    white, ring = records(noise, 0, left)
    assert (white["kind"], white["strength_before"], white["strength_after"]) == ("white noise", 0.1, 0)
    assert white["grey_levels_before"] == pytest.approx(12.75)
    assert (ring["kind"], ring["strength_before"], ring["strength_after"]) == ("ring", 0.2, 0.01)
    untold, lost = records("white:level=0.1+0.5:1:level=inf", 0, looked=False)
    assert untold["strength_after"] is None and lost["strength_before"] is None


def test_pieces_of_one_direction_are_one_part_and_parts_without_noise_are_none():
    noise = "stripe:20,0.01,0.1,0.3:level=1+stripe:20,0.02,0.3:level=1+notch:0.25,0.25,0.01:level=0"
    (record,) = records(noise, 0)
    assert (record["kind"], record["direction"]) == ("stripes at 20 degrees", 20)
    assert record["part"] == "stripe:20,0.01,0.1,0.3+stripe:20,0.02,0.3"


def test_many_tones_on_a_lattice_are_told_as_one():
    first, second = np.array([0.11, 0.03]), np.array([-0.03, 0.11])
    pairs = [(n, m) for n in range(3) for m in range(-2, 3) if (n, m) > (0, 0)]
    tones = [n * first + m * second for n, m in pairs]
    noise = "+".join(f"notch:{f_y:.4f},{f_x:.4f},0.008:level=1" for f_y, f_x in [*tones, (0.4, 0.445)])
    damage = sum(5 / 127.5 * wave(SHAPE, tuple(tone)) for tone in tones)
    lattice, other = records(noise, damage)
    assert (lattice["kind"], other["kind"]) == (f"lattice of {len(tones)} tones", "tone")
    assert lattice["period"] == pytest.approx(1 / np.hypot(*first), rel=0.02)
    assert lattice["grey_levels_before"] == pytest.approx(5 * np.sqrt(len(tones) / 2), rel=0.1)
