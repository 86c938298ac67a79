"""The band that `--band auto` finds, against planted damage and the damaged images of real instruments."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.damage.texture import texture_of
from sagd_cli.data.images import read_image
from sagd_cli.detection import find_band
from sagd_cli.detection.find_band import find_thin
from sagd_cli.detection.line_shape import ShortLines
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Notch, Stripe
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.lattice import Lattice

SHAPE = (192, 256)


def photograph(seed=0, shape=SHAPE):
    """A field with a natural image's spectrum, in levels: mean 128, standard deviation 30."""
    radius = np.maximum(FrequencyGrid(shape).radius, 1 / 256)
    white = np.random.default_rng(seed).standard_normal(shape)
    field = np.fft.irfft2(np.fft.rfft2(white) / radius, s=shape)
    return 128 + 30 * (field - field.mean()) / field.std()


def save(levels, path):
    Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8)).save(path)
    return path


def band_of(path):
    return find_thin([read_image(path)], path).band


def test_planted_tones_and_stripes_are_the_band(tmp_path):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    tone = 8 * np.sin(2 * np.pi * (0.125 * rows + 0.3125 * columns))
    lines = np.random.default_rng(1).normal(0, 10, (SHAPE[0], 1))
    band = band_of(save(photograph() + tone + lines, tmp_path / "damaged.png"))
    (notch,) = [part for part in band.parts if isinstance(part, Notch) and part.center[1] > 0.02]
    assert notch.center == pytest.approx((0.125, 0.3125), abs=1 / 256)
    assert [part.direction for part in band.parts if isinstance(part, Stripe)] == ["horizontal"]


@pytest.mark.parametrize(("amplitude", "drift"), [(10, 0.0), (60, 0.0), (20, 0.06), (40, 0.06)])
def test_one_strong_tone_is_no_strip_of_lines(tmp_path, amplitude, drift):
    rows, columns = np.mgrid[:448, :512]
    turns = 0.09 * rows + (0.17 - drift / 2) * columns + drift / 2 * columns**2 / 512
    field = photograph(shape=(448, 512)) / 2 + 64
    (part,) = band_of(save(field + amplitude * np.sin(2 * np.pi * turns), tmp_path / "tone.png")).parts
    assert isinstance(part, Notch) and part.center == pytest.approx((0.09, 0.17), abs=1 / 448 + drift / 3)


def test_short_lines_come_with_their_levels_and_a_tone_beside_them_without(tmp_path):
    shape = (448, 512)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    power = NoiseSpectrum(tuple(ShortLines(30.0, 17.0, 1.3, 12.0).parts)).power(FrequencyGrid(shape))
    white = np.fft.rfft2(np.random.default_rng(2).standard_normal(shape))
    lines = np.fft.irfft2(white * np.sqrt(power), s=shape)
    tone = 10 * np.sin(2 * np.pi * (0.19 * rows + 0.27 * columns))
    path = save(photograph(shape=shape) / 2 + 64 + lines + tone, tmp_path / "both.png")
    noise = find_thin([read_image(path)], path)
    strips = [part for part in noise.parts if isinstance(part.source.parts[0], Stripe)]
    (notch,) = [part for part in noise.parts if part not in strips]
    assert notch.level is None
    grid = FrequencyGrid(shape)
    variance = grid.mean(NoiseSpectrum(tuple(strips)).power(grid))
    assert np.sqrt(variance) == pytest.approx(12 / 127.5, rel=0.3)


def test_nothing_found_is_said(tmp_path):
    with pytest.raises(DataError, match="no isolated peaks or stripes"):
        band_of(save(photograph(), tmp_path / "clean.png"))


def test_what_nobody_sees_of_a_mosaic_is_no_peak(tmp_path):
    checks, smooth = np.indices(SHAPE).sum(axis=0) % 2 * 2 - 1, gaussian_filter(photograph(), 1) / 2
    with pytest.raises(DataError, match="no isolated peaks or stripes"):
        band_of(save(smooth + 0.2 * checks, tmp_path / "faint.png"))
    assert str(band_of(save(smooth + 0.5 * checks, tmp_path / "seen.png"))).startswith("notch:0.5,0.5")


def test_constant_images_are_said_to_be_so(tmp_path):
    with pytest.raises(DataError, match="constant"):
        band_of(save(np.full(SHAPE, 77.0), tmp_path / "flat.png"))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("mariner6_mars_interference.png", Notch),
        ("florida_satellite_scanlines.tif", Stripe),
        ("sinogram_neutron_stripes.tif", Stripe),
    ],
)
def test_the_damage_of_instruments_is_found(data_root, name, part):
    band = band_of(data_root / "corrupted" / name)
    assert any(isinstance(found, part) for found in band.parts)


def test_the_disc_of_a_tone_that_drifts_grows_to_what_is_there(tmp_path):
    rows, columns = np.mgrid[:320, :400]
    field = np.tile(photograph(), (2, 2))[:320, :400]
    drifting = 8 * np.sin(2 * np.pi * (0.1 * rows + 0.2 * columns + 4e-5 * (columns - 200) ** 2))
    (part,) = band_of(save(field + drifting, tmp_path / "drifting.png")).parts
    power = np.abs(np.fft.rfft2(drifting)) ** 2
    grid = FrequencyGrid(drifting.shape)
    assert grid.total(power * part.mask(grid)) > 0.9 * grid.total(power)


def halftone(period=8.0, angle=30, blur=0.0, contrast=1.0):
    """One bit for each pixel: round dots on a screen at an angle; blurred, a grey scan of them."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    turn = np.radians(angle)
    first, second = (
        np.cos(2 * np.pi / period * (a * rows + b * columns))
        for a, b in ((np.sin(turn), np.cos(turn)), (np.cos(turn), -np.sin(turn)))
    )
    tones = contrast * (photograph() - 128)
    return gaussian_filter(np.where(tones > 45 * (first + second), 255.0, 0.0), blur)


@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_a_screen_that_carries_the_image_is_noise_about_the_points_of_its_lattice(tmp_path, blur):
    path = save(halftone(blur=blur), tmp_path / "halftone.png")
    noise = find_thin([read_image(path)], path)
    grid = FrequencyGrid(SHAPE)
    power, angles = noise.power(grid), np.radians([30, 120])
    screen = [Notch((np.sin(a) / 8, np.cos(a) / 8), 0.004).mask(grid) for a in angles]
    assert all(power[disc].min() > 100 * power[grid.radius < 0.02].max() for disc in screen)
    assert np.all(power[grid.radius > 0.125 / np.sqrt(2)] > 0) and power[0, 0] == 0
    assert max(len(part.source.parts) for part in noise.parts) > 10
    assert len(noise.shown) < len(str(noise)) / 2


def test_a_flat_picture_has_a_screen_too(tmp_path):
    path = save(halftone(contrast=0.35), tmp_path / "flat.png")
    assert max(len(part.source.parts) for part in find_thin([read_image(path)], path).parts) > 10


def test_a_screen_as_coarse_as_a_small_image_keeps_all_its_power(monkeypatch):
    """One of its rings holds no bin."""
    for name in ("_carries", "_are_halftones"):
        monkeypatch.setattr(find_band, name, lambda *given: True)
    image = (photograph()[None, :24, :28] / 127.5 - 1).astype(np.float32)
    spectrum = texture_of([image], [image.shape[1:]])
    lattice = Lattice(np.array([[1 / 24, 2 / 28], [-2 / 24, 1 / 28]]), 1 / np.array(image.shape[1:]))
    parts = find_band._screen([Notch((1 / 24, 2 / 28), 0.06)], lattice, spectrum, [image])
    (first, *_), grid = parts, spectrum.grid
    level = np.mean(spectrum.power[first.source.mask(grid)])
    assert sum(part.level**2 for part in parts) == pytest.approx(find_band.OVER**2 * level)


def graph_paper():
    """Thin grey lines on paper, the same in both directions, and a curve of black ones."""
    image = Image.new("L", SHAPE[::-1], 250)
    draw = ImageDraw.Draw(image)
    for at in range(0, max(SHAPE), 8):
        draw.line([(at, 0), (at, SHAPE[0])], fill=150)
        draw.line([(0, at), (SHAPE[1], at)], fill=150)
    draw.line([(0, 150), (60, 90), (120, 120), (200, 30), (255, 45)], fill=0, width=2)
    return np.asarray(image)


def knit():
    """A grey texture, the same in both directions."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    stitches = np.abs(np.sin(np.pi * rows / 8)) * np.abs(np.sin(np.pi * columns / 6 + np.pi * rows / 8))
    return 60 + 100 * stitches + 0.1 * photograph()


def two_toned_tiles():
    """Two tones whose density is the same all over."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    grain = np.random.default_rng(0).normal(0, 3, SHAPE)
    return np.where((rows % 8 < 4) ^ (columns % 8 < 4), 40.0, 200.0) + grain


@pytest.mark.parametrize("clean", [graph_paper, knit, two_toned_tiles])
def test_graph_paper_and_textures_are_the_image_s_own(tmp_path, clean):
    with pytest.raises(DataError, match="nothing was changed"):
        band_of(save(clean(), tmp_path / "clean.png"))


def test_bricks_stay_beside_a_tone(data_root, tmp_path):
    bricks = np.asarray(Image.open(data_root / "kodak" / "kodim01.png").convert("L"), float)
    rows, columns = np.indices(bricks.shape)
    tone = 10 * np.sin(2 * np.pi * (0.11 * rows + 0.17 * columns))
    (part,) = band_of(save(bricks + tone, tmp_path / "bricks.png")).parts
    assert part.center == pytest.approx((0.11, 0.17), abs=1 / 512)


def test_a_texture_of_bricks_is_let_alone(data_root):
    with pytest.raises(DataError, match="no isolated peaks"):
        band_of(data_root / "kodak" / "kodim01.png")


def test_a_print_is_a_halftone(data_root):
    path = data_root / "damaged" / "david_halftone.png"
    assert None not in find_thin([read_image(path)], path).levels
