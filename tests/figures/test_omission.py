"""The figure of `sagd omit`: what is drawn is what was given, and any image, band and name can be drawn."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from sagd_cli.data.outcome import RestoredImage
from sagd_cli.figures.omission import LINES, MOST_ROWS, omission_figure
from sagd_cli.figures.style import save_figure
from sagd_cli.spectral.annuli import Annuli
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.spectrum import power_spectrum

HOSTILE = "a $x_{ \\frac & <b> %s \udcff\n.png"


def restored(shape=(1, 32, 48), band="high", name="a.png", truth=True, deviation=True):
    """A white image, with three times the amplitude in the band before, and half of it after."""
    random = np.random.default_rng(0)
    true = np.clip(0.4 * random.standard_normal(shape), -1, 1)
    grid = FrequencyGrid(shape[1:])
    inside = np.fft.rfftn(true, axes=(1, 2)) * (Band.parse(band).mask(grid) & (grid.radius > 0))
    part = np.fft.irfftn(inside, grid.shape, axes=(1, 2))
    record = {"psnr_before": 12.25, "psnr": 23.5} if truth else {}
    known = (true if truth else None, np.abs(part) if deviation else None)
    return RestoredImage(name, true + 2 * part, true - part / 2, record, *known)


def draw(band, images, title="a title"):
    figure = omission_figure(title, Band.parse(band), images)
    FigureCanvasAgg(figure).draw()
    return figure


def panel(figure, *titles):
    """The panels of a figure whose titles begin so, in their order."""
    return [axes for axes in figure.findobj(Axes) if axes.get_title().startswith(titles)]


def curves(figure):
    (axes,) = [axes for axes in panel(figure, "") if axes.get_ylabel() == "power (dB)"]
    return {name: line.get_ydata() for name, line in zip(LINES, axes.lines[: len(LINES)], strict=True)}


def test_the_spectra_are_radial_averages_inside_and_outside_the_band():
    image = restored()
    figure = draw("high", [image])
    grid = FrequencyGrid((32, 48))
    outside = ~Band.parse("high").mask(grid)
    annuli, power = Annuli(grid), power_spectrum(image.truth, grid)
    expected = annuli.mean(power * outside)[1:] / np.maximum(annuli.mean(outside)[1:], 1e-9)
    found = curves(figure)
    shown = np.isfinite(found[LINES[0]][1:])
    assert np.array_equal(shown, annuli.mean(outside)[1:] > 0)
    np.testing.assert_allclose(found[LINES[0]][1:][shown], 10 * np.log10(expected[shown]), atol=1e-6)
    inside = np.isfinite(found[LINES[3]])
    np.testing.assert_allclose((found[LINES[1]] - found[LINES[3]])[inside], 20 * np.log10(3), atol=1e-6)
    np.testing.assert_allclose((found[LINES[2]] - found[LINES[3]])[inside], 20 * np.log10(0.5), atol=1e-6)


def test_titles_give_names_psnr_and_the_gain_by_which_the_difference_is_shown():
    image = restored()
    figure = draw("high", [image])
    titles = [axes.get_title() for axes in panel(figure, "before", "after", "uncertainty")]
    assert titles[:2] == ["before, 12.25 dB", "after, 23.50 dB"]
    assert titles[2] == f"uncertainty, 0 to {image.deviation.max():.2g}"
    assert any(t.get_text() == "a.png" for t in figure.findobj(Text))
    (axes,) = panel(figure, "removed")
    gain = float(axes.get_title().split("×")[1])
    shown = axes.images[0]
    np.testing.assert_allclose(shown.get_array(), gain * (image.before - image.after)[0], atol=1e-6)
    assert shown.get_clim() == (-1, 1)
    assert 0.4 <= gain * np.percentile(np.abs(image.before - image.after), 98) <= 1


@pytest.mark.parametrize("band", ["notch:0.2,0.1,0.05", "stripe:horizontal", "mid+stripe:vertical,0.1"])
def test_notches_and_stripes_have_their_surroundings_drawn_on_one_scale(band):
    figure = draw(band, [restored((3, 64, 48), band)])
    before, after = panel(figure, "power")
    assert before.images[0].get_clim() == after.images[0].get_clim()
    difference = np.subtract(*(np.asarray(axes.images[0].get_array()) for axes in (before, after)))
    assert difference.max() == pytest.approx(20 * np.log10(6), abs=0.1) and np.abs(difference).min() < 1e-6


def test_rings_alone_have_no_such_panels():
    assert panel(draw("low+0.6:0.7", [restored(band="low+0.6:0.7")]), "power") == []


@pytest.mark.parametrize(
    ("shape", "suffix"),
    [((1, 8, 8), ".png"), ((3, 5, 90), ".svg"), ((1, 90, 4), ".png"), ((3, 33, 17), ".png")],
)
def test_all_shapes_and_hostile_names_are_drawn_and_saved(shape, suffix, tmp_path):
    figure = omission_figure(
        HOSTILE, Band.parse("high"), [restored(shape, name=HOSTILE), restored((1, 16, 16))]
    )
    save_figure(figure, tmp_path / f"figure{suffix}")
    assert (tmp_path / f"figure{suffix}").stat().st_size > 10_000


def test_constant_and_unchanged_images_are_drawn():
    flat = np.full((1, 16, 16), 0.25)
    draw("high+notch:0.1,0.1,0.05", [RestoredImage("flat.png", flat, flat, {})])


def test_four_rows_are_drawn_at_most_and_their_texts_do_not_overlap():
    images = [restored(name=f"{i}_{'name_' * 40}.png") for i in range(6)]
    figure = draw("high", images)
    assert len(figure.subfigs) == MOST_ROWS
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    boxes = {t: t.get_window_extent() for t in texts}
    whole = figure.bbox.padded(1)
    assert all(whole.contains(*box.min) and whole.contains(*box.max) for box in boxes.values())
    for one, other in combinations((t for t in texts if t.get_fontsize() > 9), 2):  # the titles
        assert not boxes[one].overlaps(boxes[other]), (one, other)
