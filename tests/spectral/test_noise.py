"""Shaped noise: its covariance is the declared one, and its maps are the linear algebra they are named after."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.config.filter import FilterConfig
from sagd_cli.errors import ConfigError
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream

laws = settings(deadline=None, derandomize=True, max_examples=50)
shapes = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)

FAMILIES = {
    "white": FilterConfig(type="white"),
    "powerlaw": FilterConfig(type="powerlaw", options={"alpha": -0.5}),
    "powerlaw-rising": FilterConfig(type="powerlaw", options={"alpha": 0.5}),
    "powerlaw-raw": FilterConfig(type="powerlaw", options={"alpha": -1}, normalize="none"),
    "exponential": FilterConfig(type="exponential", options={"beta": 2}),
    "lowpass": FilterConfig(type="lowpass", options={"cutoff": 0.6}),
    "highpass": FilterConfig(type="highpass", options={"cutoff": 0.3, "floor": 0.1}),
    "bandpass": FilterConfig(type="bandpass", options={"low": 0.2, "high": 0.7}),
    "bandstop": FilterConfig(type="bandstop", options={"low": 0.2, "high": 0.6, "transition": 0.1}),
    "twoband": FilterConfig(type="twoband", options={"gamma_low": 0.2}),
    "twoband-gap": FilterConfig(type="twoband", options={"gamma_low": 0.3, "b_low": 0.3, "a_high": 0.6}),
    "radial": FilterConfig(type="radial", options={"knots": [[0, 0.5], [0.4, 2], [1, 1]]}),
    "notch": FilterConfig(type="notch", options={"centers": [[0.25, 0.125], [-0.1, 0.5]], "radius": 0.1}),
    "notch-inverted": FilterConfig(
        type="notch",
        options={"centers": [[0.2, -0.3]], "radius": 0.15, "transition": 0.05, "invert": True},
    ),
    "stripe-horizontal": FilterConfig(type="stripe", options={"axis": -2, "floor": 0.2}),
    "stripe-vertical": FilterConfig(type="stripe", options={"axis": -1, "width": 0.2}),
    "stripe-inverted": FilterConfig(type="stripe", options={"axis": -2, "width": 0.1, "invert": True}),
    "matched": FilterConfig(
        type="matched", options={"kappa": 1, "power": [[0, 100], [0.05, 10], [0.3, 0.1], [1, 0.01]]}
    ),
    "learned": FilterConfig(type="learned", options={"knots": [[0, 2], [0.1, 1.5], [0.4, 0.3], [1, 0.8]]}),
}
families = st.sampled_from(sorted(FAMILIES))
ALMOST_WHITE = 1 + 1e-9  # too far from 1 for the shortcut of white noise, too near to be seen in float32


def weights_of(name, shape):
    """The family's filter; on a line the frequencies and axes of an image fall back to the last one."""
    config = FAMILIES[name]
    options = dict(config.options)
    if len(shape) == 1 and config.type == "notch":
        options["centers"] = [center[-1:] for center in options["centers"]]
    if len(shape) == 1 and config.type == "stripe":
        options["axis"] = -1
    return config.model_copy(update={"options": options}).weights(shape)


def noise_of(name, shape):
    """The family's noise; a ramp where the family has no frequency at so small a shape."""
    try:
        return SpectralNoise(weights_of(name, shape))
    except ConfigError:
        grid = FrequencyGrid(shape)
        return SpectralNoise(SpectralFilter.from_weight(grid, 0.5 + grid.rho))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rfftn(x, ndim):
    """X(f) / sqrt(N), complex128: white noise has E|X|^2 = 1 at every frequency."""
    axes = tuple(range(-ndim, 0))
    x = x.double().numpy() if isinstance(x, torch.Tensor) else x
    return np.fft.rfftn(x, axes=axes) / np.sqrt(np.prod(x.shape[-ndim:]))


def own_mirror(grid):
    """Bins with f = -f, where X is real."""
    index = np.arange(np.prod(grid.half_shape)).reshape(grid.half_shape)
    return (grid.multiplicity == 1) & (grid.mirrored(index) == index)


def one_of_each_pair(grid):
    """Bins of which no two are each other's mirror."""
    index = np.arange(np.prod(grid.half_shape)).reshape(grid.half_shape)
    return (grid.multiplicity == 2) | (index <= grid.mirrored(index))


def dense(apply, shape):
    """The matrix of a linear map of fields."""
    n = int(np.prod(shape))
    basis = torch.eye(n).reshape(n, 1, *shape)
    return apply(basis).reshape(n, n).T.double().numpy()


def scale(noise):
    """Rounding of whiten in float32 grows with max w / min w."""
    return float(np.sqrt(noise.filter.condition))


# -- (a) white noise is the white draw -----------------------------------------------------------------


@given(shapes, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
@laws
def test_white_noise_is_the_very_draw(shape, batch, channels, seed):
    noise = SpectralNoise(FilterConfig(type="white").weights(shape))
    expected = torch.randn((batch, channels, *shape), generator=generator(seed))
    assert torch.equal(noise.draw((batch, channels, *shape), generator(seed)), expected)


@given(shapes, st.integers(0, 2**31))
@laws
def test_almost_white_noise_passes_the_transforms_unchanged(shape, seed):
    grid = FrequencyGrid(shape)
    noise = SpectralNoise(SpectralFilter.from_weight(grid, np.full(grid.half_shape, ALMOST_WHITE)))
    expected = torch.randn((2, 3, *shape), generator=generator(seed))
    drawn = noise.draw((2, 3, *shape), generator(seed))
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-6)


# -- (b) the empirical covariance is the declared one ----------------------------------------------------


@pytest.fixture(scope="module")
def draws():
    """4096 draws of a family at a shape, one channel, as spectra X / sqrt(N)."""

    def draw(name, shape):
        noise = SpectralNoise(weights_of(name, shape))
        eps = noise.draw((4096, 1, *shape), random_stream("cpu", 20, *shape))
        return noise.filter, eps, rfftn(eps, len(shape))[:, 0]

    return draw


def test_every_built_in_family_is_among_those_drawn():
    names = registry().names("filter")
    built_in = {n for n in names if registry().entry("filter", n).provider.module.startswith("sagd_plugins.")}
    assert built_in == {config.type for config in FAMILIES.values()}


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (31, 17), (64,), (8, 9, 10)], ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_empirical_covariance_is_within_five_standard_errors(draws, name, shape):
    """|X(f)|^2 / N has mean w^2; its standard deviation is w^2 (exponential), and sqrt(2) w^2 where X is real.

    The draws before colouring are the same for every family: about 1,200 bins are compared with one seed, and
    P(|z| > 5) is 6e-7.
    """
    f, eps, spectrum = draws(name, shape)
    grid, w, m = f.grid, f.weight, len(spectrum)
    power = np.mean(np.abs(spectrum) ** 2, axis=0)
    real = own_mirror(grid)
    standard_error = w**2 * np.where(real, np.sqrt(2), 1) / np.sqrt(m)
    assert np.all(np.abs(power - w**2)[f.support] <= 5 * standard_error[f.support])
    assert np.all(power[~f.support] <= 1e-12), "frequencies without noise are empty to float precision"

    # The mean of a sample is 0, its variance the mean of w^2; averaged over N samples, of chi-square bins.
    variance_error = np.sqrt(2 * grid.total(w**4) / m) / grid.size
    assert eps.double().square().mean().item() == pytest.approx(f.power, abs=5 * variance_error)

    # Cross-covariances of distinct bins: E X(f) conj(X(g)) = 0, with r.m.s. error w(f) w(g) / sqrt(m).
    candidates = np.flatnonzero(one_of_each_pair(grid) & f.support)
    chosen = np.random.default_rng(0).choice(candidates, min(24, len(candidates)), replace=False)
    x = spectrum.reshape(m, -1)[:, chosen] / w.ravel()[chosen]
    cross = x.conj().T @ x / m
    np.fill_diagonal(cross, 0)
    assert np.abs(cross).max() <= 5 / np.sqrt(m)


def test_channels_and_images_are_independent():
    noise = noise_of("powerlaw", (8, 8))
    eps = noise.draw((4096, 3, 8, 8), generator(3))
    f = rfftn(eps, 2)[:, :, 2, 1] / noise.filter.weight[2, 1]
    channels = f.T.conj() @ f / len(f)
    np.testing.assert_allclose(channels, np.eye(3), atol=5 / np.sqrt(len(f)))
    neighbours = np.mean(f[1:].conj() * f[:-1])
    assert abs(neighbours) <= 5 / np.sqrt(f.size)


# -- (c) linear algebra ----------------------------------------------------------------------------------


@given(families, shapes, st.integers(0, 99))
@laws
def test_whiten_after_color_projects(name, shape, seed):
    noise = noise_of(name, shape)
    x = torch.randn((2, 1, *shape), generator=generator(seed))
    projected = noise.project(x)
    atol = 4e-6 * scale(noise)
    torch.testing.assert_close(noise.whiten(noise.color(x)), projected, rtol=0, atol=atol)
    torch.testing.assert_close(noise.color(noise.whiten(x)), projected, rtol=0, atol=atol)
    torch.testing.assert_close(noise.project(projected), projected, rtol=0, atol=3e-6)
    colored = noise.color(x)
    torch.testing.assert_close(noise.project(colored), colored, rtol=0, atol=4e-6 * noise.filter.weight.max())
    if noise.filter.rank == noise.filter.grid.size:
        torch.testing.assert_close(projected, x, rtol=0, atol=0)


@given(families, shapes, st.integers(0, 99), st.sampled_from(["color", "whiten", "project"]))
@laws
def test_maps_are_self_adjoint(name, shape, seed, which):
    apply = getattr(noise_of(name, shape), which)
    a, b = torch.randn((2, 1, *shape), generator=generator(seed))
    left, right = (a * apply(b)).sum(dtype=torch.float64), (apply(a) * b).sum(dtype=torch.float64)
    size = apply(a).norm() * b.norm() + a.norm() * apply(b).norm()
    assert abs(left - right) <= 1e-6 * size


@given(
    families,
    st.one_of(
        st.tuples(st.integers(1, 24)),
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
    ),
)
@laws
def test_dense_matrices_are_the_circulant_ones(name, shape):
    noise = noise_of(name, shape)
    f = noise.filter
    axes = tuple(range(-len(shape), 0))
    n = f.grid.size

    def circulant(values):
        fields = np.eye(n).reshape(n, *shape)
        return np.fft.irfftn(values * np.fft.rfftn(fields, axes=axes), s=shape, axes=axes).reshape(n, n).T

    top = f.weight.max()
    np.testing.assert_array_equal(noise.covariance().numpy(), (f.weight**2).astype(np.float32))
    color = dense(noise.color, shape)
    np.testing.assert_allclose(color, circulant(f.weight), atol=2e-6 * top)
    np.testing.assert_allclose(
        color @ color, circulant(noise.covariance().double().numpy()), atol=4e-6 * top**2
    )
    np.testing.assert_allclose(dense(noise.project, shape), circulant(f.support), atol=2e-6)
    inverse = np.linalg.pinv(circulant(f.weight), rcond=1e-9)
    np.testing.assert_allclose(dense(noise.whiten, shape), inverse, atol=2e-6 * np.abs(inverse).max() * n)
    _, logdet = np.linalg.slogdet(circulant(f.weight**2) + circulant(~f.support))
    assert noise.logdet() == pytest.approx(logdet, abs=1e-8 * n)


# -- (d) one generator an image ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(28, 28), (31, 17), (64,), (8, 9, 10)], ids=str)
@pytest.mark.parametrize("name", ["white", "powerlaw", "bandpass"])
def test_an_image_is_the_same_to_the_bit_in_any_batch(name, shape):
    noise = SpectralNoise(FAMILIES[name].weights(shape))

    def batch(seeds):
        return noise.draw((len(seeds), 2, *shape), [random_stream("cpu", s, "sample") for s in seeds])

    whole = batch(range(64))
    assert torch.equal(batch(range(7)), whole[:7])
    assert torch.equal(batch([63, 5, 17]), whole[[63, 5, 17]])
    for i in (0, 5, 63):
        assert torch.equal(batch([i])[0], whole[i])


def test_each_draw_from_generators_of_images_advances_them():
    noise = noise_of("powerlaw", (8, 8))
    streams = [random_stream("cpu", s, "sample") for s in (0, 1)]
    first, second = (noise.draw((2, 1, 8, 8), streams) for _ in range(2))
    assert (first - second).abs().max() > 0.1


def test_streams_are_a_function_of_seed_and_key_alone_and_differ_by_each():
    keys = [
        (0,),
        (1,),
        (0, "train", 0),
        (0, "train", 1),
        (0, "sample"),
        (0, "sample", 0),
        (1, "train", 0),
        (0, "0"),
        (0, 0),
    ]
    keys += [
        (0, "train", "1"),
        (10, "train"),
        (1, 0, "train"),
        (0, "a", "b"),
        (0, "ab"),
        (0, "a,b"),
        (0, 'a", "b'),
    ]
    states = [random_stream("cpu", *key).initial_seed() for key in keys]
    assert len(set(states)) == len(keys)
    assert states == [random_stream("cpu", *key).initial_seed() for key in keys]
    x = torch.stack([torch.randn(4096, generator=random_stream("cpu", *key)) for key in keys]).double()
    np.testing.assert_allclose(x @ x.T / 4096, np.eye(len(keys)), atol=5 * np.sqrt(2 / 4096))


def test_streams_are_those_of_earlier_versions():
    """A seed in a receipt must give the same images for ever."""
    assert random_stream("cpu", 0, "sample").initial_seed() == 3590122358597790171
    assert random_stream("cpu", 7, "train", 3).initial_seed() == 5245700742289047138


# -- (e) precision, (f) gradients ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["white", "powerlaw", "bandpass"])
@pytest.mark.parametrize("shape", [(16, 16), (31, 17)], ids=str)
def test_autocast_changes_nothing(name, shape):
    noise = SpectralNoise(FAMILIES[name].weights(shape))
    x = torch.randn((2, 1, *shape), generator=generator())
    maps = (noise.color, noise.whiten, noise.project, lambda x: noise.draw(x.shape, generator(1)))
    outside = [apply(x) for apply in maps]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [apply(x) for apply in maps]
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == b.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["white", "powerlaw", "bandpass"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_maps_take_any_floating_type_and_return_float32(name, dtype):
    noise = SpectralNoise(FAMILIES[name].weights((16, 16)))
    x = torch.randn((2, 1, 16, 16), generator=generator()).to(dtype)
    for apply in (noise.color, noise.whiten, noise.project):
        assert apply(x).dtype == torch.float32
        assert torch.equal(apply(x), apply(x.float()))


@given(families, shapes, st.integers(0, 99), st.sampled_from(["color", "whiten", "project"]))
@laws
def test_the_gradient_of_a_dot_product_is_the_map_itself(name, shape, seed, which):
    """d <a, T x> / dx = T a, as T is self-adjoint."""
    apply = getattr(noise_of(name, shape), which)
    a, x = torch.randn((2, 1, 1, *shape), generator=generator(seed))
    x.requires_grad_()
    (a * apply(x)).sum().backward()
    expected = apply(a)
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=4e-6 * max(1.0, float(expected.abs().max())))


def test_maps_leave_their_argument_as_it_was():
    noise = noise_of("bandpass", (8, 8))
    x = torch.randn((1, 1, 8, 8), generator=generator())
    before = x.clone()
    for apply in (noise.color, noise.whiten, noise.project):
        apply(x)
    assert torch.equal(x, before)
