"""What one call of `sagd omit` learns: stopped and resumed, never mixed with what another call learns."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from support.interruption import stop_at

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.config.run import DatasetConfig
from sagd_cli.damage.fields import make_fields
from sagd_cli.damage.measured_noise import measured_noise
from sagd_cli.errors import Interrupted, UsageError
from sagd_cli.model import ema
from sagd_cli.restoration import learning
from sagd_cli.restoration.learning import Lesson, Turned, restoration_task, views_of
from sagd_cli.restoration.omission import omit_files
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.places import Places
from sagd_cli.restoration.prepare import Preparation
from sagd_cli.restorer import calibration, estimates
from sagd_cli.restorer.restoring_model import open_model
from sagd_cli.run.manifest import has_run, newest
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import band_noise
from sagd_cli.system.console import Output
from sagd_cli.training import held_out

CPU, QUIET, STEPS = torch.device("cpu"), Output(quiet=True), 6


@pytest.fixture(autouse=True, scope="module")
def little_work():
    """Batches of 8 images, a look at the images held out after each step, and few draws of noise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "PIXELS_A_STEP", 512)
        patch.setattr(learning, "LOOKED", 1)
        patch.setattr(held_out, "HELD_OUT_DRAWS", 9)
        patch.setattr(estimates, "DRAWS", 2)
        yield


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """90 images of 8x8 pixels with white noise, of which 9 are held out."""
    folder = tmp_path_factory.mktemp("damaged") / "in"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(90):
        smooth = random.normal(0.5, 0.1, (2, 2)).repeat(4, 0).repeat(4, 1)
        tifffile.imwrite(
            folder / f"{i:02d}.tiff", (smooth + random.normal(0, 0.1, (8, 8))).astype(np.float32)
        )
    return folder


def omitted(damaged, folder, output=QUIET, noise="high:level=0.2", **options):
    told = {
        "noise": NoiseSpectrum.parse(noise, measured_noise),
        "learns": True,
        "steps": STEPS,
        "keeps_model": "run" in options,
    }
    omit_files(Omission(**told), Places(damaged, folder, **options), (lambda: CPU), False, output)
    return np.stack([tifffile.imread(path) for path in sorted(folder.iterdir())])


@pytest.fixture(scope="module")
def at_once(damaged, tmp_path_factory):
    return omitted(damaged, tmp_path_factory.mktemp("once") / "o")


def test_the_same_command_goes_on_where_it_was_stopped(damaged, at_once, tmp_path):
    """The images are the same as without a stop, and what was learned leaves no trace."""
    with pytest.raises(Interrupted, match=f"stopped at step 4 of {STEPS}; the state is saved") as stop:
        omitted(damaged, tmp_path / "o", stop_at(4))
    assert stop.value.exit_code == 128 + signal.SIGTERM and "same command" in stop.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [".o-omission"]
    assert np.array_equal(omitted(damaged, tmp_path / "o"), at_once)
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_another_noise_is_learned_anew(damaged, at_once, tmp_path):
    with pytest.raises(Interrupted):
        omitted(damaged, tmp_path / "o", stop_at(1), noise="mid:level=0.2")
    (stopped,) = (tmp_path / ".o-omission").iterdir()
    assert has_run(stopped)
    assert np.array_equal(omitted(damaged, tmp_path / "o"), at_once)
    assert [path.name for path in tmp_path.iterdir()] == ["o"], "what was stopped went with the rest"


def test_what_was_learned_is_kept_where_an_image_failed(damaged, tmp_path, capsys):
    shutil.copytree(damaged, tmp_path / "in")
    (tmp_path / "in" / "b.tiff").write_bytes(b"no image")
    omitted(tmp_path / "in", tmp_path / "o", Output())
    assert "the same command tries again what failed" in capsys.readouterr().err
    assert len([path for path in (tmp_path / ".o-omission").iterdir() if path.is_dir()]) == 1


def test_a_model_that_is_kept_goes_on_too_and_serves_again_but_for_nothing_else(damaged, at_once, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"is saved in {run}"):
        omitted(damaged, tmp_path / "o", stop_at(1), run=run)
    assert np.array_equal(omitted(damaged, tmp_path / "o", run=run), at_once)
    assert np.array_equal(omitted(damaged, tmp_path / "p", run=run), at_once)
    assert open_model(run, CPU, QUIET).settings.damage == 0.2
    with pytest.raises(UsageError, match="other settings: restoration") as other:
        omitted(damaged, tmp_path / "q", run=run, noise="mid:level=0.2")
    assert other.value.hint == "Choose another --save-model."
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("measures", [False, True])
def test_noise_of_several_levels_is_learned_and_its_model_serves_at_these(damaged, tmp_path, measures):
    """White noise beside a band, or beside what was measured on a file, and nothing else that the file holds later."""
    dark, run = tmp_path / "dark.tif", tmp_path / "run"
    tifffile.imwrite(dark, np.random.default_rng(1).normal(0.5, 0.05, (8, 8)).astype(np.float32))

    def told():
        return f"white:level=0.2+{f'from:{dark}' if measures else 'high:level=0.1'}"

    first = omitted(damaged, tmp_path / "o", run=run, noise=told())
    settings = open_model(run, CPU, QUIET).settings
    assert (
        settings.strengths == ((1.0, 1.0) if measures else (0.2, 0.2))
        and settings.damage == settings.strengths[1]
    )
    assert (settings.measured is not None) == measures
    assert np.array_equal(omitted(damaged, tmp_path / "p", run=run, noise=told()), first)
    noise = NoiseSpectrum.parse(told(), measured_noise)
    omission = Omission(noise=noise, model=open_model(run, CPU, QUIET))
    omit_files(omission, Places(damaged, tmp_path / "q"), (lambda: CPU), False, QUIET)
    again = np.stack([tifffile.imread(path) for path in sorted((tmp_path / "q").iterdir())])
    np.testing.assert_allclose(again, first, rtol=0, atol=1e-6)
    if measures:
        tifffile.imwrite(dark, np.random.default_rng(2).normal(0.5, 0.05, (8, 8)).astype(np.float32))
        with pytest.raises(UsageError, match=r"other settings: restoration\.measured differ"):
            omitted(damaged, tmp_path / "r", run=run, noise=told())
        other = replace(omission, noise=NoiseSpectrum.parse(told(), measured_noise))
        with pytest.raises(UsageError, match="trained for other noise than what was measured now"):
            omit_files(other, Places(damaged, tmp_path / "r"), (lambda: CPU), False, QUIET)
        assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("bands", "shape", "count"),
    [
        (["high"], (8, 8), 3),
        (["high"], (8, 12), 2),
        (["stripe:horizontal"], (8, 8), 2),
        (["stripe:horizontal+stripe:vertical"], (8, 8), 3),
        (["stripe:horizontal", "stripe:vertical"], (8, 8), 2),
        (["high", "notch:0.25,0.125,0.01"], (8, 8), 0),
        (["notch:0.25,0.25,0.01"], (8, 8), 1),
    ],
    ids=str,
)
def test_images_are_only_turned_into_views_with_the_same_noise(bands, shape, count):
    """A view that moves a band would teach the network damage the images do not have."""
    parsed, grid = [Band.parse(band) for band in bands], FrequencyGrid(shape)
    views = views_of([band.mask(grid).astype(float) for band in parsed], grid)
    assert len(views) == count
    for band in parsed:
        noise = band_noise(band, shape)
        eps = noise.draw((16, 1, *shape), torch.Generator().manual_seed(0))
        for view in views:
            torch.testing.assert_close(noise.project(view(eps)), view(eps))


def test_a_learning_that_no_longer_gained_is_finished(damaged, tmp_path, monkeypatch, capsys):
    """It ended before the last step, and the same command does not say that it goes on."""
    run = tmp_path / "run"
    monkeypatch.setattr(ema, "PATIENCE", 2)
    monkeypatch.setattr(ema.Best, "offer", lambda best, average, loss: best.misses.add_(1))
    first = omitted(damaged, tmp_path / "o", run=run)
    assert newest(run / "checkpoints", QUIET).step == 3 < STEPS
    capsys.readouterr()
    assert np.array_equal(omitted(damaged, tmp_path / "p", Output(), run=run), first)
    said = capsys.readouterr().err
    assert f"{run} is finished" in said and "resuming" not in said


def test_fields_are_cut_to_the_squares_that_are_recorded():
    """Fields of 24 pixels are learned from as squares of 16."""
    fields = make_fields([np.zeros((1, 24, width), np.float32) for width in (24, 40)])
    noise = NoiseSpectrum.parse("white:level=0.1")
    data = DatasetConfig(name="digits")
    lesson = Lesson.of(noise, [], False)
    task = restoration_task(fields, fields.extent, data, lesson, False, Omission(noise=noise))
    assert fields.shape == (24, 24) and task.config.training.crops == (16,)
    assert task.batches(CPU, [range(8)]).at(0, range(8)).images.shape == (8, 1, 16, 16)


@pytest.mark.parametrize(
    "noise",
    [
        "stripe:horizontal,0,0",
        "stripe:30",
        "notch:0.17,0.09,0.002",
        "0.3:0.34",
        "high",
        "white",
        "powerlaw:alpha=-1",
    ],
)
@pytest.mark.parametrize("learns", [False, True])
def test_crops_are_learned_from_with_the_noise_that_whole_images_have_there(monkeypatch, noise, learns):
    """Of 200 x 256 pixels, in squares of 32: as much of it as in any crop of noise of the whole."""
    whole, told = FrequencyGrid((200, 256)), NoiseSpectrum.parse(f"{noise}:level=0.5")
    signals = [np.zeros((1, *shape), np.float32) for shape in (whole.shape, (32, 40))]
    fields, lesson = make_fields(signals), Lesson.of(told, [], False)
    task = restoration_task(
        fields,
        whole.shape,
        DatasetConfig(name="digits"),
        lesson,
        None if learns else False,
        Omission(noise=told),
    )
    loss, drawn = task.start(CPU)[1], []
    assert task.config.training.crops == (32,) == fields.shape[:1]
    if learns:
        own = 0.5**2 * loss._spectra.unit(FrequencyGrid((32, 32)), CPU)
        assert FrequencyGrid((32, 32)).mean(own.numpy()) == pytest.approx(
            whole.mean(told.power(whole)), rel=1e-5
        )
    kept = loss._damaged
    monkeypatch.setattr(loss, "_damaged", lambda x, added, draw: drawn.append(added) or kept(x, added, draw))
    loss.errors(lambda x, t: 0 * x[:, :1], torch.zeros(600, 1, 32, 32), torch.Generator().manual_seed(0))
    variance, expected = drawn[0].square().mean((1, 2, 3)), whole.mean(told.power(whole))
    assert abs(float(variance.mean()) - expected) < 5 * float(variance.std()) / 600**0.5
    assert float(variance.std()) < 2 * expected
    if noise == "stripe:horizontal,0,0":
        assert float(drawn[0].std(-1).max()) < 1e-5


def test_deviations_are_calibrated_with_the_noise_that_whole_images_have(monkeypatch):
    """Of 200 x 256 pixels, on clean images of 32 x 40."""
    whole, told, seen = FrequencyGrid((200, 256)), NoiseSpectrum.parse("stripe:horizontal,0,0:level=0.5"), []
    damaged, clean = (np.zeros((1, *shape), np.float32) for shape in (whole.shape, (32, 40)))
    reference = SimpleNamespace(signals=lambda images: [clean])
    omission = Omission(noise=told, reference=reference, uncertain=True)
    images = [SimpleNamespace(signal=damaged, pixels=damaged)]

    def calibrated(restorer, fields, chosen, noise):
        seen.append((FrequencyGrid(fields.shape), noise))
        return SimpleNamespace(floor=0.0)

    monkeypatch.setattr(calibration, "calibrated", calibrated)
    preparation = Preparation(omission, Path(), images, CPU, QUIET, Path())
    preparation._with_uncertainty(replace(preparation._without_model(told, None), model=SimpleNamespace))
    ((grid, noise),) = seen
    assert grid.mean(noise.power(grid)) == pytest.approx(whole.mean(told.power(whole)))


def test_turning_keeps_pixels_and_leaves_a_third_alone():
    x = torch.arange(600 * 16, dtype=torch.float32).view(600, 1, 4, 4)
    grid = FrequencyGrid((4, 4))
    turned = Turned(views=views_of([np.ones(grid.half_shape)], grid))
    result = turned.at(x, range(600), seed=0, step=5)
    assert torch.equal(turned.at(x[100:200], range(100, 200), seed=0, step=5), result[100:200])
    assert torch.equal(result.flatten(1).sort().values, x.flatten(1))
    untouched = float((result == x).flatten(1).all(1).float().mean())
    # A third is never touched, and an eighth of the rest is turned by the identity.
    assert untouched == pytest.approx(1 / 3 + 2 / 3 / 8, abs=5 * (0.25 / 600) ** 0.5)
