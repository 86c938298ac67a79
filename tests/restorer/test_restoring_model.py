"""The restorer in the package, on photographs that it never saw, and the laws of what serves from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sagd_cli.config.noise_spectrum import NoisePart, NoiseSpectrum
from sagd_cli.damage.measured_noise import MeasuredNoise
from sagd_cli.errors import UsageError
from sagd_cli.restoration.quality import psnr
from sagd_cli.restorer.restorer import Restorer
from sagd_cli.restorer.restoring import Restoring
from sagd_cli.restorer.restoring_model import pack, packaged_model, packed_model
from sagd_cli.spectral.grid import FrequencyGrid

CPU, SIDE = torch.device("cpu"), 128
of = NoiseSpectrum.parse
NOISES = [
    "high:level=0.3",
    "mid:level=0.3",
    "white:level=0.15",
    "powerlaw:alpha=-1,level=0.15",
    "stripe:horizontal,0,0:level=0.7",
    "white:level=0.08+stripe:vertical,0,0:level=0.7+notch:0.2,0.11,0.002:level=3",
]


@pytest.fixture(scope="module")
def photographs():
    """Two squares of scikit-learn's photographs, (2, 3, 128, 128) on [-1, 1]."""
    from sklearn.datasets import load_sample_images

    squares = [image[150 : 150 + SIDE, 250 : 250 + SIDE] for image in load_sample_images().images]
    return torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2) / 127.5 - 1).float()


def damaged(x, noise, seed=0):
    power = torch.from_numpy(noise.power(FrequencyGrid(tuple(x.shape[2:])))).float().nan_to_num(posinf=0)
    white = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return x + torch.fft.irfft2(torch.fft.rfft2(white) * power.sqrt(), s=x.shape[2:])


def restored(y, noise, is_clipped=False, **how):
    names = [str(i) for i in range(len(y))]
    return Restorer(packaged_model(CPU), Restoring(**how)).restore(y, [noise] * len(y), names, is_clipped)


def gains(x, y, estimate):
    return [
        psnr(e.numpy(), t.numpy()) - psnr(d.numpy(), t.numpy())
        for e, d, t in zip(estimate, y, x, strict=True)
    ]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_are_nearer_to_the_truth(photographs, noise, channels):
    """By 2 dB at least, each of them; by 1 where the noise is strongest at low frequencies, as images are."""
    x, told = photographs[:, :channels], NoiseSpectrum.parse(noise)
    y = damaged(x, told)
    assert min(gains(x, y, restored(y, told).estimate)) > (1 if "alpha=-1" in noise else 2)


@pytest.mark.parametrize("noise", [NOISES[0], NOISES[4], "0.6:1:level=inf"])
def test_frequencies_without_noise_come_back_and_the_mean_stays(photographs, noise):
    told = NoiseSpectrum.parse(noise)
    y = damaged(photographs, told)
    clear = torch.from_numpy(told.power(FrequencyGrid((SIDE, SIDE))) == 0)
    change = torch.fft.rfft2(restored(y, told).estimate.double() - y.double(), norm="ortho")
    assert clear[0, 0] and float(change[..., clear].abs().max()) < 1e-4


@pytest.mark.parametrize(("scale", "offset"), [(0.02, -0.6), (5.0, 3.0)])
def test_a_dim_image_is_restored_as_a_bright_one(photographs, scale, offset):
    """Image and noise in other units: the estimate is the same in those units."""
    told = NoiseSpectrum.parse("white:level=0.1+stripe:horizontal,0,0:level=0.5")
    other = told.with_levels([scale * level for level in told.levels])
    y = damaged(photographs, told)
    one, two = restored(y, told).estimate, restored(scale * y + offset, other).estimate
    torch.testing.assert_close((two - offset) / scale, one, rtol=0, atol=1e-3)


def test_noise_that_was_clipped_is_told_to_the_network(photographs):
    """White noise on dark images, in 8 bits: knowing of the clipping is better than not."""
    x, told = photographs * 0.3 - 0.7, NoiseSpectrum.parse("white:level=0.4")
    y = (damaged(x, told).clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1
    known, unknown = (
        np.mean(gains(x, y, restored(y, told, is_clipped).estimate)) for is_clipped in (True, False)
    )
    assert known > unknown and known > 6


def test_draws_differ_where_there_is_noise_and_their_mean_is_near_the_estimate(photographs):
    told = NoiseSpectrum.parse("high:level=0.3")
    y = damaged(photographs[:1], told)
    found = restored(y, told, estimate="sample", samples=4, steps=8, uncertain=True)
    mean = torch.stack([found.estimate, *found.draws]).mean(0)
    difference, spread = (mean - restored(y, told).estimate).std(), found.deviation.square().mean().sqrt()
    assert 0.003 < float(spread) < 0.2 and float(difference) < 1.5 * float(spread)


def test_what_is_packed_is_what_comes_back(tmp_path, photographs):
    model, told = packaged_model(CPU), NoiseSpectrum.parse(NOISES[0])
    pack(model.model, tmp_path / "again.safetensors")
    again = packed_model(tmp_path / "again.safetensors", CPU)
    assert again.settings == model.settings and again.shape == model.shape
    y = damaged(photographs[:1], told)
    same = Restorer(again, Restoring()).restore(y, [told], ["0"]).estimate
    assert torch.equal(same, restored(y, told).estimate)
    assert (tmp_path / "again.safetensors").stat().st_size < 4 << 20
    assert b"/" not in (tmp_path / "again.safetensors").read_bytes()[8:200]


def trained_for(*bands, **settings):
    """The model of the package, as if it had been trained for these noises only."""
    model = packaged_model(CPU)
    settings = model.settings.model_copy(update={"bands": bands, **settings})
    config = model.model.config.model_copy(update={"restoration": settings})
    return replace(model, model=replace(model.model, config=config))


def test_it_knows_any_noise_and_a_model_of_a_band_does_not():
    model = packaged_model(CPU)
    for noise in NOISES:
        model.check(NoiseSpectrum.parse(noise))
    narrow = trained_for("mid")
    narrow.check(of("mid:level=0.5"))
    with pytest.raises(UsageError, match="trained for the bands mid, not for white"):
        narrow.check(of("white:level=0.5"))
    narrow = trained_for("high:level=1+from:dark.tif:level=0.1", strengths=(0.5, 0.5))
    dark = NoisePart(MeasuredNoise("dark.tif", ()), 0.05)
    narrow.check(NoiseSpectrum((dark, *of("high:level=0.5+low:level=0").parts)))
    with pytest.raises(
        UsageError, match=r"trained for strengths from 0\.5 to 0\.5, and needed are 0\.3 to 0\.5"
    ):
        narrow.check(NoiseSpectrum((dark, *of("high:level=0.3").parts)))
    with pytest.raises(UsageError, match=r"not for 0\.5:1"):
        narrow.check(of("high:level=0.5"))


@pytest.mark.parametrize(
    ("bands", "noise", "fits"),
    [
        (["white:level=2+high"], "high:level=0.5+white:level=1", True),
        (["white:level=2+high"], "high:level=0.5+white:level=1.2", True),
        (["white:level=2+high"], "high:level=1+white:level=0.04", False),
        (["white:level=2+high", "white+high:level=25"], "high:level=1+white:level=0.04", True),
        (["white:level=2+high:level=4"], "white:level=1", False),
        (["white:level=2+high:level=4"], "white:level=1+high:level=0", False),
        (["white"], "white:level=1+high:level=0", True),
        (["high:level=0.3+high:level=0.4"], "high:level=1", True),
        (["high"], "high:level=1.5+high:level=2", True),
        (["high"], "high:level=2+high:level=2", False),
        (["rings"], "high:level=1.5+high:level=2", True),
        (["low+mid"], "low:level=1+mid:level=1", True),
        (["(low+0.2:0.6)"], "0:0.6:level=1", True),
        (["(low+0.2:0.6)"], "low:level=1+0.2:0.6:level=2", False),
        (["white"], "powerlaw:alpha=0,level=0.5", True),
        (["powerlaw:alpha=0"], "0:1:level=0.5", True),
        (["white"], "powerlaw:alpha=-1,level=0.5", False),
        (["stripe:horizontal,0,0"], "stripe:0,0,0:level=1", True),
        (["stripe:horizontal,0,0"], "stripe:vertical,0,0:level=1", False),
        (["rings"], "0.3:0.5:level=1+0.5:0.7:level=1", True),
        (["rings"], "(0.3:0.5+0.6:0.8):level=1", False),
        (["rings"], "0.3:0.35:level=1", False),
        (["rings"], "white:level=1", True),
        (["rings"], "powerlaw:alpha=-1,level=1", False),
        (["low"], "low:level=inf", False),
    ],
    ids=str,
)
def test_parts_have_one_strength_and_equal_ones_add_in_power(bands, noise, fits):
    model = trained_for(*bands, strengths=(0.02, 2.0))
    if fits:
        model.check(of(noise))
        return
    with pytest.raises(UsageError, match="was trained for"):
        model.check(of(noise))


def test_what_was_trained_is_told_of_equal_parts_as_one():
    model = trained_for("high:level=0.3+high:level=0.4", strengths=(0.5, 0.5))
    assert model.as_trained(of("high:level=0.2+high:level=0.1+low:level=0")) == of("high:level=0.25")
