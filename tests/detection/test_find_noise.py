"""The noise that is found where nothing is told, on Gaussian fields and on photographs."""

import numpy as np
import pytest
from support.photographs import kodak_centres
from support.synthetic import gaussian_fields, wave

from sagd_cli.detection.find_noise import find_noise
from sagd_cli.spectral.band import Band, Notch, Ring, Stripe
from sagd_cli.spectral.grid import FrequencyGrid

SHAPE = (192, 224)
GRID = FrequencyGrid(SHAPE)
LAW = 2.4e-4 * (GRID.radius + 0.005) ** -2.9


def clean(seed=0, shape=SHAPE):
    grid = FrequencyGrid(shape)
    return gaussian_fields(1, shape, 2.4e-4 * (grid.radius + 0.005) ** -2.9, seed)[0]


def found_in(*images):
    return {part.text: part.strength for part in find_noise([image.astype(np.float32) for image in images])}


def rounded(image):
    return np.clip(np.round((image + 1) * 127.5), 0, 255) / 127.5 - 1


def part_of(text):
    (part,) = Band.parse(text).parts
    return part


@pytest.mark.parametrize("seed", range(3))
def test_gaussian_images_have_no_noise(seed):
    assert found_in(clean(seed)) == {}
    assert found_in(*(clean(seed + 10 * k, (96, 64 + 8 * k)) for k in range(3))) == {}


@pytest.mark.parametrize("side", [1, 3, 15])
def test_tiny_and_constant_images_have_no_noise(side):
    assert find_noise([]) == []
    noisy = np.random.default_rng(0).standard_normal((1, side, 64)).astype(np.float32)
    assert find_noise([noisy, np.full((3, 64, 64), 0.2, np.float32)]) == []


@pytest.mark.parametrize("shape", [(64, 96), (48, 700), (192, 224)])
def test_white_noise_is_found(shape):
    noise = 0.1 * np.random.default_rng(101).standard_normal(shape)
    found = found_in(rounded(clean(1, shape) / 2 + noise))
    assert list(found) == ["white"] and found["white"].value == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_an_offset_of_each_row_is_one_bin_wide(direction):
    offsets = 0.06 * np.random.default_rng(2).standard_normal((SHAPE[0], 1))
    image = clean(2) + offsets
    found = found_in(image if direction == "horizontal" else image.swapaxes(1, 2))
    (text, strength), *more = found.items()
    assert text == f"stripe:{direction},0,0" and not more
    assert strength.value == pytest.approx(offsets.std() * SHAPE[1] ** 0.5, rel=0.1)


def test_the_width_of_stripes_that_are_not_exact_is_measured():
    planted = Stripe("horizontal", 4.5 / SHAPE[1])
    noise = gaussian_fields(1, SHAPE, planted.mask(GRID).astype(float), 103)[0]
    ((text, strength),) = found_in(clean(3) + noise).items()
    assert part_of(text).width == pytest.approx(planted.width, abs=2.1 / SHAPE[1])
    assert strength.value == pytest.approx(1.0, rel=0.2)


def test_a_horizon_and_a_frame_are_no_offsets_of_rows():
    image = clean(4) / 2
    image[:, 90:] += 0.7
    image[:, :3] = -1
    assert found_in(image) == {}


@pytest.mark.parametrize(("ring", "level"), [("0.4:0.6", 0.2), ("0.5:1", 0.3), ("0.25:0.5", 0.5)])
def test_rings_are_found_with_their_edges(ring, level):
    noise = level * gaussian_fields(1, SHAPE, Band.parse(ring).mask(GRID).astype(float), 105)[0]
    found = {part_of(text): s for text, s in found_in(clean(5) + noise).items()}
    ((part, strength),) = found.items()
    expected = part_of(ring)
    assert isinstance(part, Ring) and (part.low, part.high) == pytest.approx(
        (expected.low, expected.high), abs=0.021
    )
    assert strength.value == pytest.approx(level, rel=0.15) and strength.cautious < 1.1 * level


def test_images_that_were_filtered_have_no_rings():
    kept = ~Band.parse("0.3:0.5").mask(GRID)
    found = found_in(np.fft.irfft2(np.fft.rfft2(clean(6)) * kept, s=SHAPE))
    assert set(found) <= {"white"}


def test_waves_are_found_and_hold_the_power_that_they_have():
    image = (
        clean(7)
        + 0.08 * wave(SHAPE, (0.125, 0.3125))
        + 0.02 * np.random.default_rng(107).standard_normal(SHAPE)
    )
    found = {part_of(text): s for text, s in found_in(image).items() if text != "white"}
    ((part, strength),) = found.items()
    assert isinstance(part, Notch) and part.center == pytest.approx((0.125, 0.3125), abs=1 / 190)
    assert strength.value**2 * GRID.mean(part.mask(GRID)) == pytest.approx(0.08**2 / 2, rel=0.25)


def test_what_nobody_sees_of_a_mosaic_is_no_tone():
    checks = np.indices(SHAPE).sum(axis=0) % 2 * 2 - 1
    assert found_in(clean(7) / 2 + 0.2 / 127.5 * checks) == {}
    (text,) = found_in(clean(7) / 2 + 0.5 / 127.5 * checks)
    assert text.startswith("notch:0.5,0.5")


def test_clean_photographs_are_let_alone(data_root):
    """White noise of a grey level is in many photographs and not looked at."""
    texts = [set(found_in(image)) - {"white"} for image in kodak_centres(data_root, 5)]
    assert sum(map(bool, texts)) <= 1


def test_damage_of_photographs_is_found(data_root):
    for index, image in enumerate(kodak_centres(data_root, 9)):
        random = np.random.default_rng(index)
        offsets = 16 / 255 * random.standard_normal((256, 1))
        found = found_in(rounded(image + offsets + 20 / 255 * random.standard_normal(image.shape)))
        assert set(found) == {"white", "stripe:horizontal,0,0"}
        assert found["white"].cautious == pytest.approx(20 / 255, rel=0.25)
        assert found["stripe:horizontal,0,0"].cautious == pytest.approx(offsets.std() * 16, rel=0.25)


def page(size=128):
    """Lines of dark marks on white paper, with a left margin."""
    random = np.random.default_rng(7)
    paper = np.full((size, size), 255, np.uint8)
    for top in range(10, size - 10, 9):
        for left in range(12, size - 12, 6):
            paper[top : top + 5, left : left + 4][random.random((5, 4)) < 0.5] = 20
    return paper


def graph_paper(size=128):
    """Thin lines, the same in both directions."""
    paper = np.full((size, size), 240, np.uint8)
    paper[::8] = paper[:, ::8] = 120
    return paper


@pytest.mark.parametrize(
    "drawn",
    [
        page(),
        graph_paper(),
        np.repeat(np.repeat(np.arange(16, dtype=np.uint8) * 16, 8)[:, None], 128, 1),
        255 * (np.random.default_rng(0).random((128, 128)) < 0.4).astype(np.uint8),
    ],
    ids=["text", "graph paper", "bars", "dither"],
)
def test_what_is_drawn_has_flat_areas_and_so_no_noise(drawn):
    assert find_noise([drawn[None].astype(np.float32) / 127.5 - 1]) == []
    noisy = drawn / 127.5 - 1 + 0.1 * np.random.default_rng(1).standard_normal(drawn.shape)
    assert "white" in found_in(noisy[None])


def test_many_peaks_are_a_texture_and_no_tones():
    dots = np.zeros((1, 128, 128))
    dots[:, 3::9, ::7] = 0.5
    assert [text for text in found_in(clean(8, (128, 128)) / 2 + dots) if text != "white"] == []
