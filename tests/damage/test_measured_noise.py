"""Noise measured on dark frames: its power and grid, and what is refused or doubted."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.measured_noise import measured_hash, measured_noise
from sagd_cli.data.images import write_array
from sagd_cli.data.ranges import Range
from sagd_cli.errors import ConfigError, DataError, UsageError
from sagd_cli.spectral.grid import FrequencyGrid

GRID = FrequencyGrid((96, 128))
SIGNED = Range(-1, 1)  # of the files written here, whose values are signals


def frame(path, power, shape=GRID.shape, seed=0):
    """Write 0.2 plus noise with `power` as float TIFF."""
    grid = FrequencyGrid(shape)
    white = np.random.default_rng(seed).normal(size=shape)
    noise = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(np.broadcast_to(power, grid.half_shape)), s=shape)
    write_array((noise + 0.2).astype(np.float32)[None], path)
    return path


@pytest.fixture
def said(monkeypatch):
    """What is said, as (kind, message)."""
    from sagd_cli.damage import measured_noise as module
    from sagd_cli.system.console import Output

    said = []

    class Heard(Output):
        def note(self, message):
            said.append(("note", message))

        def warn(self, message):
            said.append(("warning", message))

    output = Heard()
    monkeypatch.setattr(module, "output", lambda: output)
    return said


def test_a_dark_frame_has_the_power_of_its_noise_about_its_mean(tmp_path, said):
    power = (GRID.radius + 0.05) ** -1.0 * 1e-3
    noise = measured_noise(str(frame(tmp_path / "dark.tif", power)), SIGNED)
    shown = noise.power(GRID)
    assert shown[0, 0] == 0 and np.std(np.log(shown.ravel()[1:] / power.ravel()[1:])) < 0.2
    assert GRID.mean(shown) == pytest.approx(GRID.mean(power), rel=0.1)
    assert not said and str(noise) == f"from:{tmp_path}/dark.tif"


def test_images_of_a_folder_are_averaged_and_sizes_brought_together(tmp_path, said):
    for seed, shape in enumerate([(96, 128)] * 3 + [(64, 64)]):
        frame(tmp_path / f"{seed}.tif", 1e-4 * (seed + 1), shape, seed)
    shown = measured_noise(str(tmp_path), SIGNED).power(GRID)
    assert GRID.mean(shown) == pytest.approx(2.5e-4, rel=0.03)
    assert said == [("note", f"from:{tmp_path}: measured on 64x64, interpolated to 96x128")]


def test_channels_are_averaged(tmp_path):
    noise = np.random.default_rng(0).normal(size=(3, 64, 64)) * np.array([0.01, 0.02, 0.03])[:, None, None]
    write_array(noise.astype(np.float32), tmp_path / "dark.tif")
    grid = FrequencyGrid((64, 64))
    shown = measured_noise(str(tmp_path / "dark.tif"), SIGNED).power(grid)
    assert grid.mean(shown) == pytest.approx(1e-4 * 14 / 3, rel=0.05)


def test_its_level_multiplies_it_and_is_1_unless_given(tmp_path):
    path = frame(tmp_path / "dark.tif", 1e-3)
    once, twice = (
        NoiseSpectrum.parse(f"from:{path}{level}", lambda name: measured_noise(name, SIGNED))
        for level in ("", ":level=2")
    )
    np.testing.assert_allclose(twice.power(GRID), 4 * once.power(GRID))
    assert str(once) == f"from:{path}" and str(twice) == f"from:{path}:level=2"


def test_an_image_without_noise_is_refused_by_name(tmp_path):
    frame(tmp_path / "a.tif", 1e-3)
    write_array(np.full((1, 32, 32), 0.1, np.float32), tmp_path / "flat.tif")
    with pytest.raises(DataError, match=r"flat\.tif is constant"):
        measured_noise(str(tmp_path))


def test_a_file_that_cannot_be_read_is_not_passed_over(tmp_path, said):
    frame(tmp_path / "a.tif", 1e-3)
    (tmp_path / "b.tif").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b\.tif"):
        measured_noise(str(tmp_path))
    with pytest.raises(UsageError, match="missing"):
        measured_noise(str(tmp_path / "missing"))


def test_its_hash_is_the_same_on_processors_that_round_differently(tmp_path):
    power = np.where(GRID.rho < 0.8, 1e-3 / (GRID.radius + 0.05), 0)
    noise = measured_noise(str(frame(tmp_path / "dark.tif", power)), SIGNED)

    def hashed(factor):
        (found, count) = noise.spectra[0]
        other = replace(noise, spectra=((replace(found, smooth=found.smooth * factor + 1e-20), count),))
        return measured_hash(NoiseSpectrum((NoisePart(other, 1.0),)), GRID)

    rounding = 1 + 1e-13 * np.random.default_rng(0).normal(size=GRID.shape)
    assert hashed(rounding) == hashed(1) != hashed(1.02)
    assert measured_hash(NoiseSpectrum.parse("white"), GRID) is None


def test_it_is_for_images(tmp_path):
    noise = measured_noise(str(frame(tmp_path / "dark.tif", 1e-3)), SIGNED)
    with pytest.raises(ConfigError, match="measured on images"):
        noise.power(FrequencyGrid((64,)))


def tone(power):
    power[20, 30] = 1.0
    return power


@pytest.mark.parametrize(
    "power",
    [
        np.full(GRID.half_shape, 1e-3),
        1e-6 * (GRID.radius + 0.01) ** -2.0,
        1e-3 * (GRID.rho < 0.25),
        1e-3 * (GRID.rho > 0.5),
        np.where(GRID.axes[1] == 0, 0.1, 1e-3) * np.ones(GRID.half_shape),
        np.where(GRID.axes[1] == 0, 0.1, 0) * np.ones(GRID.half_shape),
        tone(np.full(GRID.half_shape, 1e-4)),
    ],
    ids=["white", "pink", "low", "high", "rows", "rows-only", "tone"],
)
def test_noise_looks_like_noise(tmp_path, said, power):
    for seed in range(3):
        measured_noise(str(frame(tmp_path / "dark.tif", power, seed=seed)), SIGNED)
    assert not said


def pictures():
    y, x = np.mgrid[-1:1:96j, -1:1:128j]
    white = np.random.default_rng(0).normal(size=y.shape)
    yield "ramp", y + 0 * x
    yield "ramp-with-noise", y + 0.3 * white
    yield "vignette", -(x**2) - y**2 + 0.1 * white
    for name in ("china.jpg", "flower.jpg"):
        yield name, load_sample_image(name)[100:300, 200:400, 1] / 255.0


@pytest.mark.parametrize(
    ("name", "picture"), [*pictures()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_no_noise_is_doubted(tmp_path, said, name, picture):
    write_array(picture.astype(np.float32)[None], tmp_path / "a.tif")
    measured_noise(str(tmp_path / "a.tif"), SIGNED)
    assert [kind for kind, _ in said] == ["warning"] and "does not look like noise" in said[0][1]


def test_a_frame_whose_white_is_not_known_is_warned_of(tmp_path, said):
    counts = np.random.default_rng(0).normal(300, 5, (64, 64)).astype(np.uint16)
    Image.fromarray(counts).save(tmp_path / "dark.png")
    measured_noise(str(tmp_path / "dark.png"), Range(0, 4095))
    assert not said
    measured_noise(str(tmp_path / "dark.png"))
    assert any(kind == "warning" and "--range LO:HI" in message for kind, message in said)
