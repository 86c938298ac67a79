"""The spectra of noise to train on: those that were asked for, each as often, and possible ones."""

from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.noise_kinds import kinds_of

from sagd_cli.denoising.random_spectra import LOST, WIDEST_LOST, RandomSpectra, _Here
from sagd_cli.errors import ConfigError
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid

GRID = FrequencyGrid((16, 16))
CPU = torch.device("cpu")


def drawn(bands, count, grid=GRID, levels=(0.1, 0.1), seed=0):
    """Powers (count, *half spectrum)."""
    stream = torch.Generator().manual_seed(seed)
    return RandomSpectra(kinds_of(bands), levels).draw(
        grid, lambda: torch.rand(count, generator=stream), CPU
    )[:, 0]


def mask(name, grid=GRID):
    return torch.as_tensor(Band.parse(name).mask(grid))


def assert_share(are, share):
    """Within 5 standard errors."""
    assert abs(float(are.float().mean()) - share) < 5 * (share * (1 - share) / len(are)) ** 0.5


def equal(spectra, power):
    return (spectra - power).abs().flatten(1).amax(1) < 1e-6


def test_the_bands_are_those_of_the_command_line_each_as_often():
    names = ["low", "0.6:0.8", "notch:0.25,0.125,0.1", "stripe:horizontal,0.1"]
    spectra = drawn(names, 4000)
    for name in names:
        assert_share(equal(spectra, 0.01 * mask(name)), 0.25)


def test_rings_and_bands_take_turns():
    # A ring may be that very band.
    low = equal(drawn(["rings", "low"], 4000), 0.01 * mask("low"))
    assert_share(low, 0.5 + 0.5 * float(equal(drawn(["rings"], 4000), 0.01 * mask("low")).float().mean()))


@given(st.tuples(st.integers(2, 24), st.integers(2, 24)), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_rings_are_whole_rings_and_never_empty(shape, seed):
    """All bins between two radii: on small grids too, where many a ring lies between two neighbouring radii."""
    grid = FrequencyGrid(shape)
    radius = torch.as_tensor(grid.rho, dtype=torch.float32)
    for ring in drawn(["rings"], 100, grid, seed=seed) > 0:
        low, high = radius[ring].min(), radius[ring].max()
        assert torch.equal(ring, (radius >= low) & (radius <= high))


def test_rings_begin_and_end_everywhere():
    rings = drawn(["rings"], 2000) > 0
    assert rings[:, 0, 0].any() and rings[:, 8, 8].any()  # DC and the corner
    share = rings.float().mean(0)
    assert float(share.min()) > 0.05 and float(share.max()) < 0.8


def test_levels_are_log_uniform_between_the_two_that_are_given():
    levels = drawn(["0:1"], 4000, levels=(0.02, 2.0)).amax((-2, -1)).sqrt()
    assert float(levels.min()) >= 0.02 and float(levels.max()) <= 2.0
    assert_share(levels < 0.2, 0.5)


def test_a_spectrum_keeps_its_shape_at_all_levels_and_is_lost_where_it_may_reach_what_stands_for_lost():
    """A power of 4 in one band and of 0.01 in another, and frequencies that are lost whatever the level."""
    high, mid, low = (mask(name).double().numpy() for name in ("high", "mid", "low"))
    power = 4 * high + 0.01 * mid
    spectra = drawn([lambda grid: power], 300, levels=(0.1, 10.0))
    level = spectra[:, 8, 8].sqrt() / 2
    torch.testing.assert_close(spectra, level.view(-1, 1, 1) ** 2 * torch.as_tensor(power).float())
    assert float(level.min()) < 0.15 and float(level.max()) > 7
    lost = drawn([lambda grid: 1.0 * low + 0.01 * mid], 4000, levels=(0.1, 100.0))
    assert_share(lost[:, 0, 1].isinf(), LOST)
    assert not lost[:, 0, 0].isinf().any() and not lost[:, mask("mid")].isinf().any()
    always = drawn([lambda grid: np.where(low > 0, inf, mid)], 5, levels=(0.5, 0.5))
    assert bool(always[:, 0, 1].isinf().all()) and bool((always[:, mask("mid")] == 0.25).all())


def test_bands_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="no band to train for"):
        RandomSpectra([], (0.1, 1.0))
    with pytest.raises(ConfigError, match="holds no frequency"):
        drawn(["0.01:0.02"], 1)


@pytest.mark.parametrize("shape", [(8, 8), (16, 16), (9, 15), (31, 12), (20, 33)], ids=str)
def test_noise_of_any_kind_is_the_power_of_real_fields_on_every_grid(shape):
    """N(f) = N(-f), not negative; a frequency may be lost, but never the mean."""
    grid = FrequencyGrid(shape)
    spectra = drawn(["any"], 400, grid)
    stored = [0, -1] if shape[1] % 2 == 0 else [0]  # the columns whose mirror is stored as well
    assert bool((spectra >= 0).all()) and not spectra.isnan().any()
    assert not spectra[:, 0, 0].isinf().any()
    for spectrum in spectra.numpy():
        np.testing.assert_allclose(grid.mirrored(spectrum)[:, stored], spectrum[:, stored], rtol=1e-5)


def test_noise_of_any_kind_is_of_all_kinds():
    """White, in a power law, in rings, in strips along both axes, in discs, and sums; each in a share of the images."""
    grid = FrequencyGrid((32, 32))
    spectra = drawn(["any"], 2000, grid)
    finite = spectra.nan_to_num(posinf=9.0)
    whole, somewhere = (finite > 0).flatten(1).all(1), (finite > 0).flatten(1).any(1)
    flat = finite.flatten(1).std(1) < 1e-6 * finite.flatten(1).amax(1)
    # A single kind in 4 of 5 images: white in 20 %, or both parts of a sum white; a ring may be as wide.
    assert abs(float((whole & flat).float().mean()) - (0.8 * 0.2 + 0.2 * 0.2**2)) < 0.04
    # A power law is alone in 15 %, and a sum fills the spectrum unless neither part is white or a law (65 %).
    filled = 0.8 * 0.15 + 0.2 * (1 - 0.65**2 - 0.2**2)
    assert abs(float((whole & ~flat).float().mean()) - filled) < 0.04
    assert float(somewhere.float().mean()) > 0.95
    across, along = (finite[:, 0, 1:] > 0).all(1), (finite[:, 1:, 0] > 0).all(1)
    only_row, only_column = (
        part & ~whole & (finite[:, *place] == 0) for part, place in ((across, (8, 8)), (along, (8, 8)))
    )
    assert float(only_row.float().mean()) > 0.02 and float(only_column.float().mean()) > 0.02


def test_stripes_run_along_the_axes_and_at_any_angle():
    """Power of variance 1 in a strip through DC; half fill one line of frequencies, as do narrow ones of the others, of
    which 40 % are oblique."""
    grid = FrequencyGrid((32, 33))
    stream = torch.Generator().manual_seed(0)
    stripes = _Here(grid, lambda: torch.rand(2000, generator=stream), CPU)._strips()[0]
    share = torch.as_tensor(grid.multiplicity / grid.size)
    torch.testing.assert_close((share * stripes).flatten(1).sum(1), torch.ones(2000, dtype=torch.float64))
    fy, fx = (torch.as_tensor(axis) for axis in grid.axes)
    one_line = [(stripes * off).flatten(1).amax(1) == 0 for off in (fy != 0, fx != 0)]
    assert 0.5 < float((one_line[0] | one_line[1]).float().mean()) < 0.8
    weights = share * stripes
    moments = [(weights * product).flatten(1).sum(1) for product in (fy * fy, fx * fx, fy * fx)]
    angle = 0.5 * torch.atan2(2 * moments[2], moments[1] - moments[0])
    turned = (angle.sin() * angle.cos()).abs() > 0.05
    assert 0.1 < float(turned.float().mean()) < 0.2


def test_what_is_lost_is_a_part_of_the_spectrum_in_less_than_a_tenth_of_the_images():
    spectra = drawn(["any"], 4000)
    lost = spectra == inf
    share = lost.flatten(1).any(1).float().mean()
    assert LOST / 3 < float(share) < LOST
    multiplicity = torch.as_tensor(GRID.multiplicity / GRID.size)
    assert float((lost * multiplicity).flatten(1).sum(1).max()) <= WIDEST_LOST


def test_an_image_has_the_same_noise_in_any_batch():
    """Each call draws one number for each image, so the first of two do not depend on how many follow."""
    numbers = torch.rand(200, 8, generator=torch.Generator().manual_seed(0))

    def spectra(images):
        rows = iter(numbers)
        spectra = RandomSpectra(kinds_of(["any", "rings", "low"]), (0.02, 2.0))
        return spectra.draw(GRID, lambda: next(rows)[images], CPU)

    whole = spectra(slice(None))
    assert torch.equal(torch.cat([spectra(slice(0, 3)), spectra(slice(3, 8))]), whole)
