"""The strength of noise by the means there are, on Gaussian fields with noise of known strength."""

from pathlib import Path

import numpy as np
import pytest
from support.synthetic import gaussian_fields

from sagd_cli.damage.fields import make_fields
from sagd_cli.damage.gauge import Gauge
from sagd_cli.damage.thin import is_thin, thin_strength
from sagd_cli.data.images import Image
from sagd_cli.errors import DataError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid

MID = Band.parse("mid")


def images(shape, gammas, band=MID, seed=0):
    """One Gaussian field of a power law each, (1, *shape), with noise of these strengths in the band."""
    grid = FrequencyGrid(shape)
    law = 0.02 * np.maximum(grid.radius, 1e-2) ** -2
    return [
        gaussian_fields(1, shape, law + gamma**2 * band.mask(grid), [seed, i])[0].astype(np.float32)
        for i, gamma in enumerate(gammas)
    ]


@pytest.mark.parametrize("shape", [(48, 40), (190, 150)], ids=["whole", "crops"])
@pytest.mark.parametrize("with_reference", [True, False])
def test_the_interval_of_all_holds_the_truth_and_each_image_has_its_own(shape, with_reference):
    """Of eight images: the 95 % intervals of at least six hold theirs (fewer is 4 deviations below)."""
    reference = images(shape, [0] * 12, seed=1) if with_reference else []
    alike = make_fields(images(shape, [0.4] * 8), reference)
    clean = make_fields(reference, images(shape, [0])) if with_reference else None
    together = Gauge(alike, clean, MID).all()
    assert together.low <= 0.4 <= together.high and together.value == pytest.approx(0.4, rel=0.05)

    gammas = [0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5]
    different = images(shape, gammas, seed=2)
    gauge = Gauge(make_fields(different, reference), clean, MID)
    found = [gauge.one(image) for image in different]
    assert sum(s.low <= gamma <= s.high for s, gamma in zip(found, gammas, strict=True)) >= 6
    assert [s.value for s in found[2:]] == pytest.approx(gammas[2:], rel=0.2)


def test_images_without_noise_and_without_content_have_none_of_their_own():
    reference = images((48, 40), [0] * 12, seed=1)
    damaged = images((48, 40), [0.4] * 8)
    gauge = Gauge(make_fields(damaged, reference), make_fields(reference, damaged), MID)
    assert gauge.one(np.full((1, 48, 40), 0.3, np.float32)).value == 0
    assert gauge.one(images((48, 40), [0], seed=5)[0]).value < 0.1
    assert gauge.one(damaged[0][:, :30]) is None
    with pytest.raises(DataError, match="no more power than the reference explains"):
        Gauge(make_fields(reference, damaged), make_fields(reference, damaged), MID).all()


def test_stripes_have_the_strength_that_was_planted():
    band = Band.parse("stripe:horizontal,0.02")
    assert is_thin(band) and not is_thin(Band.parse("stripe:horizontal+high"))
    for gamma in (0.5, 2.0):
        striped = [Image(x, None, Path("a.tiff")) for x in images((160, 200), [gamma] * 3, band)]
        found = thin_strength([Image(i.pixels / 2 + 0.5, None, i.path) for i in striped], band)
        assert found.low <= gamma <= found.high and found.value == pytest.approx(gamma, rel=0.25)
    clean = [Image(x / 2 + 0.5, None, Path("a.tiff")) for x in images((160, 200), [0], band)]
    with pytest.raises(DataError, match="no more power than the spectrum around it explains"):
        thin_strength(clean, band)
