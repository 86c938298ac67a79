"""Figures: what is drawn is what was computed, it can be read, and equal figures are equal files."""

import errno
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, Rectangle
from matplotlib.text import Text
from PIL import Image

from sagd_cli.errors import SagdError, UsageError
from sagd_cli.figures.filters import compare_figure, filter_figure
from sagd_cli.figures.spectrum import spectrum_figure
from sagd_cli.figures.style import save_figure
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.filter import SpectralFilter
from sagd_cli.spectral.grid import FrequencyGrid

LONG = "a filter called powerlaw:alpha=-0.5,delta=0.01 in /home/somebody/$experiments/" + "very_long_" * 9


def powerlaw(shape, alpha=-0.2):
    grid = FrequencyGrid(shape)
    return SpectralFilter.from_weight(grid, (grid.radius + 0.01) ** alpha, "power")


def gap(shape):
    grid = FrequencyGrid(shape)
    return SpectralFilter.from_weight(grid, (grid.rho < 0.3) | (grid.rho >= 0.5), "power")


def stripe(shape):
    """Zero where |f_y| < 0.1: a weight that depends on direction."""
    grid = FrequencyGrid(shape)
    weight = np.broadcast_to(np.abs(grid.axes[0]) >= 0.1, grid.half_shape)
    return SpectralFilter.from_weight(grid, weight, "power")


def figure_of(spectral_filter, title="a filter", initial=None):
    draw = np.random.default_rng(0).standard_normal(spectral_filter.grid.shape)
    return filter_figure(title, spectral_filter, draw, spectral_filter.profile(), initial)


def spectrum_of(peaks=(), error=0.021):
    grid = FrequencyGrid((32, 48))
    power = (grid.radius + 0.003) ** -2.0
    rho, amplitude = np.array(SpectralFilter(grid, np.sqrt(power)).profile()).T
    law = (2.0, error, rho[2:20], rho[2:20] ** -2.0)
    return spectrum_figure("a spectrum", rho, amplitude**2, law, peaks, grid.full(power))


PEAKS = [
    (0.1, 0.2, 0.02, "notch:0.1,0.2,0.02"),
    (0.1, 0.28, 0.02, "notch:0.1,0.28,0.02"),
    (-0.3, 0.4, 0.02, "notch:-0.3,0.4,0.02"),
    (0.47, 0.47, 0.02, "notch:0.47,0.47,0.02"),
    (0.0, None, 0.02, "stripe:horizontal,0.01"),
    (None, 0.25, 0.02, "stripe:vertical,0.01"),
]
FIGURES = {
    "radial": lambda: figure_of(powerlaw((32, 32)), LONG, powerlaw((32, 32), 0.3)),
    "steep": lambda: figure_of(powerlaw((28, 28), -1.0)),
    "gap": lambda: figure_of(gap((28, 28))),
    "directional": lambda: figure_of(stripe((24, 31))),
    "1-D": lambda: figure_of(powerlaw((64,))),
    "3-D": lambda: figure_of(powerlaw((8, 9, 10))),
    "8x8": lambda: figure_of(powerlaw((8, 8), 0.5)),
    "thin": lambda: figure_of(powerlaw((5, 128))),
    "compare": lambda: compare_figure(
        ["white", LONG, "_gap", "$x$", "stripe"],
        [powerlaw((32, 32), 0), powerlaw((32, 32), -0.5), gap((32, 32)), gap((32, 32)), stripe((32, 32))],
        powerlaw((32, 32), -1).weight ** 2,
        4e-5,
    ),
    "profiles": lambda: compare_figure([LONG, "b"], [powerlaw((9,)), gap((9,))]),
    "spectrum": spectrum_of,
    "peaks": lambda: spectrum_of(PEAKS),
    "many peaks": lambda: spectrum_of([(0.4 - i / 24, 0.3, 0.02, f"peak {i}") for i in range(20)]),
}


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def panel(figure, start):
    return next(axes for title, axes in panels(figure).items() if title.startswith(start))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), st.integers(0, 99))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_the_full_spectrum_of_a_field_is_that_of_fftn(shape, seed):
    field = np.random.default_rng(seed).standard_normal(shape)
    full = FrequencyGrid(shape).full(np.abs(np.fft.rfftn(field)))
    np.testing.assert_allclose(full, np.abs(np.fft.fftn(field)), atol=1e-12)


def marked(f_y, f_x):
    """A weight that differs from frequency to frequency, f and -f apart, which no filter can tell apart."""
    y, x = 2 * np.pi * f_y, 2 * np.pi * f_x
    return 2 + np.abs(np.sin(y) + 0.3 * np.sin(x)) + 0.2 * np.cos(y) + 0.05 * np.cos(x)


@pytest.mark.parametrize("shape", [(8, 8), (9, 9), (7, 12), (12, 7)])
def test_every_pixel_of_the_weight_lies_at_its_frequency(shape):
    grid = FrequencyGrid(shape)
    spectral_filter = SpectralFilter.from_weight(grid, marked(*grid.axes))
    image = panel(figure_of(spectral_filter), "Weight").images[0]
    values, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    assert values.shape == shape
    assert (bottom > top) == (image.origin == "upper")
    f_y = top + (np.arange(shape[0]) + 0.5) * (bottom - top) / shape[0]
    f_x = left + (np.arange(shape[1]) + 0.5) * (right - left) / shape[1]
    np.testing.assert_allclose(values, marked(f_y[:, None], f_x), atol=1e-12)
    row, column = np.argmin(np.abs(f_y)), np.argmin(np.abs(f_x))
    assert (row, column) == (shape[0] // 2, shape[1] // 2)
    assert abs(f_y[row]) + abs(f_x[column]) < 1e-12


@pytest.mark.parametrize(("n", "column"), [(8, 6), (12, 9), (28, 21)])
def test_a_quarter_of_the_sampling_rate_lies_at_a_quarter(n, column):
    grid = FrequencyGrid((n, n))
    weight = ((grid.axes[0] == 0) & (np.abs(grid.axes[1] - 0.25) < 1e-9)) + 0.5
    image = panel(figure_of(SpectralFilter.from_weight(grid, weight)), "Weight").images[0]
    left, right, *_ = image.get_extent()
    assert np.argmax(np.asarray(image.get_array())[n // 2, n // 2 :]) + n // 2 == column
    assert left + (column + 0.5) * (right - left) / n == pytest.approx(0.25, abs=1e-12)


def test_a_line_is_drawn_against_its_frequency_and_volumes_by_their_middle_planes():
    one = powerlaw((9,))
    f, w = panel(figure_of(one), "Weight").lines[0].get_data()
    np.testing.assert_allclose(f, np.arange(-4, 5) / 9, atol=1e-15)
    np.testing.assert_array_equal(w, one.weight[np.abs(np.arange(-4, 5))])
    three = powerlaw((8, 9, 10))
    draw = np.random.default_rng(0).standard_normal((8, 9, 10))
    figure = filter_figure("", three, draw, three.profile())
    weight, noise = panel(figure, "Weight"), panel(figure, "One draw")
    assert "f_z$ = 0" in weight.get_title()
    assert "slice z = 4" in noise.get_title()
    np.testing.assert_array_equal(noise.images[0].get_array(), draw[4])
    plane = np.fft.fftshift(three.grid.full(three.weight)[0])
    np.testing.assert_array_equal(weight.images[0].get_array(), plane)


@pytest.mark.parametrize("make", [powerlaw, gap, stripe])
def test_profiles_and_measurements_are_drawn_as_they_are(make):
    declared, before = make((20, 21)), powerlaw((20, 21), 0.4)
    measured = [(rho, 1.1 * w) for rho, w in declared.profile()]
    figure = filter_figure("", declared, np.zeros((20, 21)), measured, before)
    profile, spectrum = panel(figure, "Radial"), panel(figure, "Spectrum")
    np.testing.assert_array_equal(profile.lines[0].get_xydata(), declared.profile())
    np.testing.assert_array_equal(profile.lines[1].get_xydata(), before.profile())
    assert profile.lines[1].get_linestyle() == "--"
    annuli = Annuli(declared.grid)
    rms = annuli.mean(declared.weight**2) ** 0.5
    np.testing.assert_array_equal(spectrum.lines[0].get_xydata(), np.stack([annuli.rho, rms], axis=1))
    points = next(line for line in spectrum.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(points.get_xydata(), measured)
    assert points.get_linestyle() == "None"
    for axes in (profile, spectrum):  # nothing is cut off
        bottom, top = axes.get_ylim()
        data = np.concatenate([line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2])
        assert bottom < data.min() <= data.max() < top


def test_only_a_directional_weight_is_called_a_mean_over_directions():
    for make, label in ((powerlaw, "w"), (gap, "w"), (stripe, "w (rms over directions)")):
        assert panel(figure_of(make((20, 30))), "Radial").get_ylabel() == label
    before = panel(figure_of(powerlaw((20, 30)), initial=stripe((20, 30))), "Radial")
    assert before.get_ylabel() == "w (rms over directions)"


def test_a_steep_weight_is_drawn_in_decades_and_its_gap_stays_empty():
    grid = FrequencyGrid((16, 16))
    weight = (grid.radius + 0.01) ** -1.3 * (np.abs(grid.rho - 0.4) > 0.1)
    figure = figure_of(SpectralFilter.from_weight(grid, weight, "power"))
    axes = panel(figure, "Weight")
    assert axes.get_title() == "Weight w(f) (white: w = 0)"
    image = axes.images[0]
    np.testing.assert_array_equal(
        np.ma.getmaskarray(image.norm(image.get_array())), np.fft.fftshift(grid.full(weight) == 0)
    )
    assert panel(figure, "Radial").get_yscale() == panel(figure, "Spectrum").get_yscale() == "log"
    assert panel(figure_of(powerlaw((16, 16), -0.05)), "Radial").get_yscale() == "linear"


def test_terminal_ratios_are_ratios_of_annulus_powers():
    """For S = s and w = 1 the ratio is level * s; where a filter is zero there is no point."""
    grid = FrequencyGrid((32, 32))
    filters = [powerlaw((32, 32), 0), gap((32, 32))]
    figure = compare_figure(["a", "b"], filters, np.full(grid.half_shape, 3.0), 0.002)
    axes = panel(figure, "Terminal")
    white, holed = axes.lines[:2]
    np.testing.assert_allclose(white.get_ydata(), 0.006, rtol=1e-12)
    rho, ratio = holed.get_data()
    assert np.isnan(ratio[(rho > 0.35) & (rho < 0.45)]).all()
    clear = (rho < 0.25) | (rho > 0.6)
    np.testing.assert_allclose(ratio[clear], 0.006 / filters[1].weight.max() ** 2, rtol=1e-12)
    bound = next(line for line in axes.lines if np.array_equal(line.get_ydata(), [0.01, 0.01]))
    assert bound.is_dashed()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["bound 0.01"]


def test_compared_profiles_keep_their_order_labels_and_styles():
    filters = [powerlaw((16, 16), alpha / 10) for alpha in range(-5, 5)]
    labels = [f"_{i} $x$" for i in range(10)]
    figure = compare_figure(labels, filters)
    lines = figure.axes[0].lines[:10]
    for line, spectral_filter in zip(lines, filters, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), spectral_filter.profile())
    shown = figure.legends[0].get_texts()
    assert [text.get_text().strip("\u200a") for text in shown] == labels
    assert not any(text.get_parse_math() for text in shown)
    styles = {(line.get_color(), str(line.get_linestyle()), str(line._dash_pattern)) for line in lines}
    assert len(styles) == 10


def test_peaks_and_their_mirrors_are_circled_and_stripes_framed():
    axes = panel(spectrum_of(PEAKS), "Power of")
    circles = {tuple(np.round(p.center, 9)) for p in axes.patches if isinstance(p, Circle)}
    assert circles == {(s * x, s * y) for y, x, *_ in PEAKS[:4] for s in (1, -1)}
    frames = [p.get_bbox() for p in axes.patches if isinstance(p, Rectangle)]
    for f_y, f_x, *_ in PEAKS[4:]:
        for sign in (1, -1):
            centre = [sign * (f or 0.0) for f in (f_x, f_y)]
            assert any(np.allclose((frame.p0 + frame.p1) / 2, centre, atol=1e-12) for frame in frames)
    assert axes.get_xlim()[0] == pytest.approx(-0.5 - 0.5 / 48)  # marks at the border do not widen the image


def test_the_law_is_drawn_and_its_error_given_only_when_known():
    for error, text in ((0.021, "power law, β = 2 ± 0.021 (s.e.)"), (None, "power law, β = 2")):
        axes = panel(spectrum_of(error=error), "Radially")
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert text in [label.get_text() for label in axes.get_legend().get_texts()]
        rho, power = axes.lines[1].get_data()
        np.testing.assert_allclose(power, rho**-2.0, rtol=1e-12)


def test_power_is_shown_in_decibels_and_empty_frequencies_do_not_take_the_scale():
    power = np.full((16, 16), 100.0)
    power[0, 0] = 0
    power[0, 4] = 1e4
    image = panel(spectrum_figure("", np.array([0.5]), np.array([1.0]), power2d=power), "Power of").images[0]
    assert np.asarray(image.get_array())[8, 12] == 40
    assert (image.norm.vmin, image.norm.vmax) == (20, 40)
    empty = spectrum_figure("", np.array([0.0, 0.5]), np.zeros(2), power2d=np.zeros((4, 4)))
    FigureCanvasAgg(empty).draw()  # constant images: nothing to show, and no warning


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_named_with_units(name):
    figure = FIGURES[name]()
    for title, axes in panels(figure).items():
        labels = axes.get_xlabel(), axes.get_ylabel()
        assert all(labels), title
        if axes.images and "draw" not in title:
            unit = "cycles/pixel" if title.startswith("Power") else "cycles/sample"
            assert all(f"({unit})" in label for label in labels)
        elif title.startswith(("Radial", "Spectrum", "Terminal")):
            assert labels[0] == "rho (1 = corner of the spectrum)"
    bars = [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert set(bars) <= {"w", "noise", "power (dB)"}
    assert len(bars) == sum(bool(axes.images) for axes in panels(figure).values())


def visible_texts(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, frame = canvas.get_renderer(), figure.bbox
    for text in figure.findobj(Text):
        box = text.get_window_extent(renderer)
        if text.get_visible() and text.get_text().strip() and box.width and box.overlaps(frame):
            yield text, box
    for legend in [axes.get_legend() for axes in figure.axes if axes.get_legend()] + figure.legends:
        yield legend, legend.get_window_extent(renderer)


def tick_texts(axis):
    ticks = [*axis.majorTicks, *axis.minorTicks]
    return [text for tick in ticks for text in (tick.label1, tick.label2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_no_texts_overlap_or_leave_the_figure(name):
    figure = FIGURES[name]()
    everything = list(visible_texts(figure))
    axes = [*figure.axes, *(child for ax in figure.axes for child in ax.child_axes)]
    hidden = set()
    for axis in (a for ax in axes for a in (ax.xaxis, ax.yaxis)):
        drawn = {id(t) for tick in axis._update_ticks() for t in (tick.label1, tick.label2)}
        hidden |= {id(text) for text in tick_texts(axis)} - drawn
    inside = {
        id(t) for legend in figure.findobj(lambda a: hasattr(a, "get_texts")) for t in legend.get_texts()
    }
    shown = [(artist, box) for artist, box in everything if id(artist) not in hidden | inside]
    assert len(shown) > 10
    for (one, box_1), (two, box_2) in combinations(shown, 2):
        # A pixel of tolerance: boxes of neighbouring tick labels may touch.
        assert not box_1.padded(-1).overlaps(box_2.padded(-1)), (one, two)
    for artist, box in shown:
        assert figure.bbox.padded(1).fully_containsx(box.x0), artist
        assert figure.bbox.padded(1).fully_containsx(box.x1), artist
        assert figure.bbox.padded(1).fully_containsy(box.y0), artist
        assert figure.bbox.padded(1).fully_containsy(box.y1), artist


@pytest.mark.parametrize("suffix", [".PNG", ".svg"])
def test_equal_figures_are_equal_files_without_a_date(tmp_path, suffix):
    one, two = tmp_path / f"one{suffix}", tmp_path / "a" / "new folder" / f"two{suffix}"
    for path in (one, two):
        save_figure(figure_of(gap((12, 12)), "日本 \udc80 $x"), path)
    assert one.read_bytes() == two.read_bytes()
    assert b"date" not in one.read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"a", one.name}
    if suffix == ".svg":
        root = ElementTree.parse(one).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    else:
        with Image.open(one) as image:
            assert image.size == (1425, 1140)
            assert {round(dots) for dots in image.info["dpi"]} == {150}


def test_saving_leaves_matplotlibs_settings_as_they_were(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    save_figure(figure_of(gap((12, 12))), tmp_path / "a.svg")
    assert dict(mpl.rcParams) == before


def test_an_existing_file_is_kept_unless_forced(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        save_figure(figure_of(gap((12, 12))), path)
    assert path.read_text() == "mine"
    save_figure(figure_of(gap((12, 12))), path, force=True)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.png.gz", ".png"])
def test_another_suffix_is_refused_before_anything_is_made(tmp_path, name):
    path = tmp_path / "folder" / name
    with pytest.raises(UsageError, match=r"ends in neither \.png nor \.svg") as error:
        save_figure(figure_of(gap((12, 12))), path, force=True)
    assert str(path) in error.value.message
    assert not path.parent.exists()


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    figure, path = figure_of(gap((12, 12))), tmp_path / "a.png"

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(SagdError, match="could not be written: No space left on device") as error:
        save_figure(figure, path)
    assert not isinstance(error.value, UsageError)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written: .* is a file"):
        save_figure(figure_of(gap((12, 12))), tmp_path / "file" / "a.png")
