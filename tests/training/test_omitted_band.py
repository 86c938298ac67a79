"""The paper's form of omission: a band without noise, a network that is blind there, and what fills it at the end."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from support.interruption import hashes, stop_at

from sagd_cli.config.filter import FilterConfig
from sagd_cli.config.layers import resolve
from sagd_cli.config.run import RunConfig
from sagd_cli.data.ranges import array_signal
from sagd_cli.datasets.loading import load_images
from sagd_cli.design.advice import data_moments, warn_of_omitted_signal
from sagd_cli.diffusion.catalogue import PREDICTIONS
from sagd_cli.diffusion.denoiser import NetworkDenoiser
from sagd_cli.diffusion.loss import DiffusionLoss
from sagd_cli.diffusion.prediction import make_prediction
from sagd_cli.diffusion.process import ForwardProcess
from sagd_cli.diffusion.schedule import make_schedule
from sagd_cli.errors import Interrupted, UsageError
from sagd_cli.restorer.prior import band_prior
from sagd_cli.restorer.restoring_model import RestoringModel
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.sampling.samples import default_folder
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.spectral.noise import SpectralNoise, random_stream
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
BAND, SHAPE = "0.25:0.5", (8, 8)
GRID = FrequencyGrid(SHAPE)
INSIDE = Band.parse(BAND).mask(GRID)


def content(seed, count, inside=INSIDE, strength=1.0):
    """Fields (count, 1, 8, 8) of that strength a frequency, confined to the band, or outside it."""
    white = np.random.default_rng(seed).normal(size=(count, 1, *SHAPE))
    field = np.fft.irfft2(np.fft.rfft2(white) * inside, s=SHAPE)
    return (strength * field).astype(np.float32)


def spectrum(fields):
    """Magnitudes |F x| / sqrt(N) on the half spectrum."""
    return np.abs(np.fft.rfft2(np.asarray(fields, dtype=np.float64), norm="ortho"))


@pytest.fixture(scope="module")
def settings(tiny_settings):
    return {**tiny_settings, "filter": {"type": "white", "omit": BAND}, "training.images": 32}


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """A run of 4 steps on the digits, with the band omitted; its samples are of the digits' scale, as it says x0."""
    path = tmp_path_factory.mktemp("runs") / "omitted"
    run_training(resolve({**settings, "prediction": "x0"}), path, CPU, QUIET)
    return open_run(path, QUIET)


@pytest.fixture(scope="module")
def prior_run(tiny_settings, tmp_path_factory):
    """A run of 4 steps that learns to draw the band of the digits."""
    path = tmp_path_factory.mktemp("runs") / "prior"
    restoration = {"restoration.bands": [BAND], "restoration.strengths": [0.01, 100]}
    run_training(resolve({**tiny_settings, **restoration, "training.images": 32}), path, CPU, QUIET)
    return open_run(path, QUIET)


class Silent(torch.nn.Module):
    """A network that says nothing: the estimate is then that of a white Gaussian field in the band."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timestep):
        return torch.zeros_like(x)


def generator_of(run, prior=None, **chosen):
    return ImageGenerator(run.model(CPU), sampling_of(run.config, {"steps": 3, **chosen}), prior=prior)


@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (9,), (4, 5, 6)])
@pytest.mark.parametrize("units", ["rho", "cycles"])
def test_the_filter_is_zero_on_the_band_and_its_family_elsewhere(shape, units):
    """At unit power; the edges of the band are in rho whatever the unit of the filter's own."""
    plain = FilterConfig(type="powerlaw", options={"alpha": -0.5}, units=units)
    inside = Band.parse(BAND).mask(FrequencyGrid(shape))
    w, v = (config.weights(shape) for config in (plain.model_copy(update={"omit": BAND}), plain))
    assert np.array_equal(w.support, ~inside)
    assert w.power == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(
        w.weight[~inside] / v.weight[~inside], np.sqrt(1 / v.grid.mean((v.weight * ~inside) ** 2))
    )


def test_a_filter_that_omits_nothing_is_what_it_was():
    """These hashes and this name were given before there was `omit`; a band has one hash however it is written."""
    white = FilterConfig(type="white")
    assert white.sha256() == "575992ca29fde2dbde50cb84a92a3de355d0e4e339de6240b721d96ebfceeb86"
    assert RunConfig(filter=white).default_name == "digits-white-bfa6a490"
    assert "omit" not in white.document()
    named = [FilterConfig(type="white", omit=text) for text in ("high", "0.50:1", " 0.5:1.0 ")]
    assert {config.sha256() for config in named} == {named[0].sha256()} != {white.sha256()}
    assert named[0].document()["omit"] == "0.5:1"


def test_the_flag_wins_over_the_file_and_a_filter_that_is_given_replaces_another_whole(sagd, tmp_path):
    file, config = tmp_path / "filter.yaml", tmp_path / "config.yaml"
    file.write_text("type: white\nomit: mid\n")
    config.write_text("filter: {type: white, omit: mid}\n")

    def omitted(*arguments):
        data = ("--dataset", tmp_path / "none.npy")  # not there, and so nothing is estimated
        return sagd("train", *data, *arguments, "--dry-run", "--json").json["config"]["filter"]["omit"]

    assert omitted("--filter", file) == omitted("--config", config) == "0.25:0.5"
    assert omitted("--filter", file, "--omit-band", "high") == "0.5:1"
    assert omitted("--config", config, "--filter", "white") is None


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_blind_network_does_not_see_the_band_and_another_does(name):
    """Loss to rounding, for what else there is in the band; a network that is not blind answers to it."""
    schedule, noise = (
        make_schedule("linear"),
        SpectralNoise(FilterConfig(type="white", omit=BAND).weights(SHAPE)),
    )
    x0 = torch.from_numpy(content(0, 16, ~INSIDE) + content(1, 16))
    other = x0 + torch.from_numpy(content(2, 16))
    rule = make_prediction(name, np.ones(GRID.half_shape) * noise.support, noise)

    def network(x_t, timestep):
        return torch.tanh(x_t + 0.5 * x_t.roll(1, -1) ** 2)

    def changed(blind):
        loss, stream = (
            DiffusionLoss(ForwardProcess(schedule, noise), rule, blind=blind),
            random_stream("cpu", 3),
        )
        t, eps = 0.2 + 0.6 * torch.rand(len(x0), generator=stream), noise.draw(x0.shape, stream)
        tries = [loss.errors_at(network, x, t, eps) for x in (x0, other)]
        denoiser = NetworkDenoiser(network, ForwardProcess(schedule, noise), rule, blind=blind)
        eps = [denoiser(x, torch.tensor(0.5))[1] for x in (x0, other)]
        objectives = [loss.objective(errors) for errors in tries]
        return float(abs(objectives[1] / objectives[0] - 1)), float((eps[1] - eps[0]).abs().max())

    assert max(changed(blind=True)) < 1e-4
    assert min(changed(blind=False)) > 1e-2


@pytest.mark.parametrize("prediction", ["eps", "edm"])
def test_a_blind_run_is_the_same_whatever_the_images_hold_in_the_band(settings, tmp_path, prediction):
    """Losses and samples, to rounding; the fill is not the network's, and does differ."""
    outside, found = content(4, 32, ~INSIDE), {}
    for blind in (True, False):
        for name, inside in (("empty", 0), ("full", content(5, 32) + content(6, 1))):
            file, path = tmp_path / f"{name}.npy", tmp_path / f"{name}-{blind}"
            np.save(file, (outside + inside).astype(np.float32))
            data = {"dataset": {"name": "npy", "options": {"path": str(file)}}, "prediction": prediction}
            run_training(resolve({**settings, **data, "blind": blind}), path, CPU, QUIET)
            losses = [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]
            samples = generator_of(open_run(path, QUIET)).signals(range(4)).numpy()
            found[name, blind] = (np.array(losses), samples)
    for blind, close in ((True, True), (False, False)):
        for a, b in zip(found["empty", blind], found["full", blind], strict=True):
            assert (np.abs(a - b).max() < 1e-3 * np.abs(a).max()) == close


def test_stopping_and_resuming_a_blind_run_changes_nothing(settings, tmp_path):
    config = resolve({**settings, "blind": True})
    run_training(config, tmp_path / "whole", CPU, QUIET)
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "run", CPU, stop_at(2))
    run_training(config, tmp_path / "run", CPU, QUIET)
    assert hashes(tmp_path / "run", 4) == hashes(tmp_path / "whole", 4)


def test_the_band_of_the_samples_is_its_fill(run, settings, tmp_path):
    """Within 1e-5 a frequency, of images and of float data; the other frequencies are the same."""
    file = tmp_path / "floats.npy"
    values = content(7, 32, ~INSIDE) + content(8, 32) + 3 * content(9, 1)
    np.save(file, values)
    floats = {"dataset": {"name": "npy", "options": {"path": str(file)}}, "prediction": "x0"}
    run_training(resolve({**settings, **floats}), tmp_path / "floats", CPU, QUIET)
    digits = array_signal(load_images(run.config.dataset).images)
    for trained, data in ((run, digits), (open_run(tmp_path / "floats", QUIET), values)):
        zero, mean = (generator_of(trained, fill=fill).signals(range(4)).numpy() for fill in ("zero", "mean"))
        assert spectrum(zero)[..., INSIDE].max() < 1e-5
        wanted = np.fft.irfft2(np.fft.rfft2(data.mean(axis=0)) * INSIDE, s=SHAPE)
        assert spectrum(wanted).max() > 0.1
        assert spectrum(mean - zero - wanted).max() < 1e-5


def test_a_prior_fills_the_band_of_each_sample_from_its_own_seed(run, prior_run):
    """The rest is the sample's; what is drawn does not depend on the batch, and differs from one seed to the next."""
    prior = band_prior(RestoringModel(prior_run.model(CPU)), run.model(CPU), 3)
    generator = generator_of(run, prior, fill="prior")
    filled, empty = generator.signals(range(4)), generator_of(run).signals(range(4))
    added = filled - empty
    assert spectrum(added)[..., ~INSIDE].max() < 1e-5
    alone = torch.cat([generator.signals(range(i, i + 1)) for i in range(4)])
    assert (alone - filled).abs().max() < 1e-4  # rounding
    same = prior.fill(empty[:1].expand(4, -1, -1, -1), range(4))
    assert (same[1:] - same[0]).std() > 0.1
    assert generator.network_evaluations == 6


def test_a_prior_that_knows_no_image_fills_the_band_with_the_power_that_the_rest_suggests(run, prior_run):
    """Of fields of a power law, that of the law; the few frequencies of a small image leave it uncertain."""
    restoring = RestoringModel(replace(prior_run.model(CPU), network=Silent()))
    prior = band_prior(restoring, run.model(CPU), 40)
    count, weight = 500, GRID.multiplicity[INSIDE]
    power = 0.01 * ((GRID.radius + 0.005) / 0.105) ** -2.9
    fields = torch.from_numpy(content(12, count, np.sqrt(power) * ~INSIDE))
    drawn = spectrum(prior.fill(fields, range(count)))[..., INSIDE] ** 2
    found, wanted = (np.average(p, weights=weight) for p in (drawn.mean(axis=(0, 1)), power[INSIDE]))
    assert wanted / 2 < found < 2 * wanted


def test_a_fill_is_named_where_samples_are(sagd, run, prior_run):
    names = [default_folder(run, generator_of(run, **fill), range(2)).name for fill in ({}, {"fill": "zero"})]
    assert names == ["dpmpp-3-uniform-seed0-n2"] * 2
    drawn = sagd("sample", run.path, "-n", 2, "--steps", 3, "--fill", "mean", "--json").json
    assert drawn["fill"] == "mean" and drawn["output"].endswith("dpmpp-3-uniform-fill-mean-seed0-n2")
    assert drawn["filter_sha256"] == FilterConfig(type="white", omit=BAND).sha256()
    chosen = ("--fill", "prior", "--prior", prior_run.path)
    drawn = sagd("sample", run.path, "-n", 2, "--steps", 3, *chosen, "--json").json
    assert (drawn["fill"], drawn["prior"], drawn["network_evaluations"]) == ("prior", str(prior_run.path), 6)
    assert drawn["output"].endswith("dpmpp-3-uniform-fill-prior-prior-seed0-n2")


def test_it_warns_where_the_band_is_no_clear_damage(capfd):
    """Fields of the spectrum 0.01 r^-2 with damage of so many times their own power in the band."""
    power = 0.01 * np.maximum(GRID.radius, 1 / 8) ** -2.0
    signal = np.average(power[INSIDE], weights=GRID.multiplicity[INSIDE])
    for times in (0, 0.25, 1, 10):
        images = content(10, 1024, np.sqrt(power)) + content(11, 1024, strength=np.sqrt(times * signal))
        warn_of_omitted_signal(data_moments(images)["power_about_mean"], INSIDE, GRID, Output())
        heard = capfd.readouterr().err
        if times == 10:
            assert heard == ""
            continue
        assert "restore the images with `sagd omit`" in " ".join(heard.split())
        held, law, left = (float(word) for word in re.findall(r"\d[\d.]*", heard))
        assert held == pytest.approx((1 + times) * signal, rel=0.1)
        assert law == pytest.approx(signal, rel=0.1)
        assert left == pytest.approx(times * signal, abs=0.1 * signal)


def test_what_cannot_be_is_refused_in_a_sentence(sagd, run, tiny_run, settings, tmp_path):
    tiny = [
        f"--set={key}={value}" for key, value in settings.items() if key not in ("filter", "backbone.options")
    ]
    tiny += ["--set=backbone.options.channels=[8,8]", "--output", tmp_path / "run"]

    def message(*arguments, code=2):
        done = sagd(*arguments)
        assert done.code == code
        return done.err

    assert "unknown band 'hihg'. Did you mean high?" in message("train", *tiny, "--omit-band", "hihg")
    assert "the band 0.01:0.02 holds no frequency" in message("train", *tiny, "--omit-band", "0.01:0.02")
    assert "without the band 0:1 is zero at every frequency" in message("train", *tiny, "--omit-band", "0:1")
    assert "a blind network needs a filter with a gap" in message("train", *tiny, "--blind")
    learned = message("train", *tiny, "--filter", "learned", "--omit-band", "high")
    assert "a learned filter cannot omit a band" in learned
    assert not (tmp_path / "run").exists()
    for fill in ("zero", "mean"):
        assert "there is nothing to fill" in message("sample", tiny_run, "--fill", fill)
    assert "fill" in message("sample", run.path, "--fill", "men")
    # Clean digits hold signal in the band, which the run says before it trains.
    assert "the omitted band holds" in message("train", *tiny, "--omit-band", "high", code=0)


def test_a_prior_that_does_not_fit_is_refused_in_a_sentence(run, tiny_run, prior_run):
    fitting, model = RestoringModel(prior_run.model(CPU)), run.model(CPU)

    def trained(**settings):
        restoration = fitting.settings.model_copy(update=settings)
        config = fitting.model.config.model_copy(update={"restoration": restoration})
        return RestoringModel(replace(fitting.model, config=config))

    for other, message in (
        (trained(bands=("high",)), "was trained for the bands high, not for 0.25:0.5"),
        (trained(strengths=(0.05, 1.0)), r"strengths from 0.05 to 1, and needed are 0.0\d+ to 100"),
        (trained(damage=1.0), "was trained on damaged images, and cannot draw a band"),
        (
            RestoringModel(replace(fitting.model, shape=(1, 10, 10))),
            r"shape \(1, 10, 10\), and .* on \(1, 8, 8\)",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            band_prior(other, model, 3)
    with pytest.raises(UsageError, match="is not one BAND"):
        band_prior(fitting, open_run(tiny_run, QUIET).model(CPU), 3)
    with pytest.raises(UsageError, match="--fill prior needs a model"):
        generator_of(run, fill="prior")
    for fill in ("zero", "mean"):
        with pytest.raises(UsageError, match="is for --fill prior"):
            generator_of(run, band_prior(fitting, model, 3), fill=fill)


def test_a_run_of_before_there_were_mean_images_is_filled_with_zeros_only(run, tmp_path):
    old = open_run(shutil.copytree(run.path, tmp_path / "old"), QUIET)
    moments = load_file(old.checkpoint.path / "data.safetensors")
    del moments["mean"]
    save_file(moments, old.checkpoint.path / "data.safetensors")
    assert torch.equal(generator_of(old).signals(range(2)), generator_of(run).signals(range(2)))
    with pytest.raises(UsageError, match="before the mean image of the data was kept"):
        generator_of(old, fill="mean")
