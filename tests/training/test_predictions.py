"""Runs with every schedule, prediction and loss train, are saved with what they need, and are sampled from."""

import json

import numpy as np
import pytest
import torch

from sagd_cli.config.layers import resolve
from sagd_cli.diffusion.catalogue import SAMPLERS
from sagd_cli.errors import ConfigError
from sagd_cli.run.checkpoint import has_moments, load_moments
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
SETTINGS = {
    "linear-x0": {"schedule": "linear", "prediction": "x0", "loss": "min-snr"},
    "cosine-v": {"schedule": "cosine", "prediction": "v", "loss": "plain"},
    "edm": {"schedule": "edm", "prediction": "edm", "loss": "plain"},
    "edm-eps": {"schedule": "edm", "prediction": "eps", "loss": "whitened"},
    "edm-spectral": {"schedule": "linear", "prediction": "edm-spectral", "loss": "plain"},
    "learned": {"prediction": "edm", "filter.type": "learned"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_settings):
    """A run of 8 steps for each of the settings, made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(name):
        if name not in made:
            run_training(resolve({**tiny_settings, **SETTINGS[name]}), folder / name, CPU, QUIET)
            made[name] = open_run(folder / name, QUIET)
        return made[name]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_image_i_is_the_same_in_batches_of_1_7_and_64(runs, name):
    """Whatever the sampler, and any single one can be drawn again by its seed.

    To the rounding of convolutions, which depends on the batch size: 1e-5 after training, up to 2e-4 with networks as
    raw as these.
    """
    run = runs(name)
    for sampler in SAMPLERS:
        amount = SAMPLERS[sampler].amount
        chosen = {"sampler": sampler, "steps": 5, **({amount: 0.3} if amount else {})}
        generator = ImageGenerator(run.model(CPU), sampling_of(run.config, chosen))
        together = generator.signals(range(64))
        sevens = torch.cat([generator.signals(range(i, i + 7)) for i in (0, 7, 57)])
        torch.testing.assert_close(sevens, together[[*range(14), *range(57, 64)]], rtol=0, atol=2e-4)
        alone = torch.cat([generator.signals(range(i, i + 1)) for i in (0, 6, 7, 63)])
        torch.testing.assert_close(alone, together[[0, 6, 7, 63]], rtol=0, atol=2e-4)
        assert float((sevens - together[[*range(14), *range(57, 64)]]).abs().mean()) < 1e-6, sampler
        assert len({image.numpy().tobytes() for image in together}) == 64, sampler


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear-x0", "cosine-v", "edm", "edm-spectral"])
def test_training_lowers_the_loss(tmp_path, tiny_settings, name):
    """Within 80 steps: the target can be learned from the input. Most of edm-spectral's is Gaussian noise, loss 1."""
    settings = {**tiny_settings, **SETTINGS[name], "training.images": 80 * 16, "training.batch_size": 16}
    run_training(resolve({**settings, "training.checkpoint_images": 10**9}), tmp_path / "run", CPU, QUIET)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert np.mean(losses[-30:]) < (0.98 if name == "edm-spectral" else 0.8) * np.mean(losses[:10])


def test_a_checkpoint_holds_the_mean_and_the_spectra_of_its_data(runs):
    moments = load_moments(runs("edm").checkpoint)
    shapes = {name: values.shape for name, values in moments.items()}
    assert shapes == {"mean": (1, 8, 8), "power": (8, 5), "power_about_mean": (8, 5)}
    # Off DC a mean image adds its own power; about it the data have less.
    assert np.all(moments["power"] >= moments["power_about_mean"] - 1e-9)


def test_a_filter_that_is_learned_cannot_be_part_of_the_preconditioning(tiny_settings, tmp_path):
    settings = resolve({**tiny_settings, "filter.type": "learned", "prediction": "edm-spectral"})
    with pytest.raises(ConfigError, match="which a learned filter changes"):
        run_training(settings, tmp_path / "run", CPU, QUIET)


def test_steps_are_network_evaluations(runs):
    for sampler, steps, evaluations in (("dpmpp", 8, 8), ("heun", 8, 7), ("heun", 9, 9), ("heun", 1, 1)):
        chosen = sampling_of(runs("edm").config, {"sampler": sampler, "steps": steps})
        assert ImageGenerator(runs("edm").model(CPU), chosen).evaluations == evaluations


def test_amounts_belong_to_their_samplers(sagd, runs, tmp_path):
    run = runs("edm").path
    draw = ["sample", run, "-n", 1, "--steps", 3]
    refused = sagd(*draw, "--sampler", "dpmpp", "--eta", 0.5, "--output", tmp_path / "a")
    assert refused.code == 2 and "dpmpp takes no --eta. It belongs to ddim." in refused.err
    churned = sagd(
        *draw,
        "--sampler",
        "heun",
        "--churn",
        0.2,
        "--spacing",
        "karras",
        "--json",
        "--output",
        tmp_path / "b",
    )
    assert churned.code == 0 and churned.json["steps"] == 3
    wrong = sagd(*draw, "--spacing", "karas", "--output", tmp_path / "c")
    assert wrong.code == 2 and "Did you mean karras?" in wrong.err
    wrong = sagd(*draw, "--sampler", "huen", "--output", tmp_path / "c")
    assert wrong.code == 2 and "Did you mean heun?" in wrong.err


def test_sampling_warns_of_data_that_showed_through_the_noise(sagd, tiny_settings, tmp_path):
    """As design and training do: w is small where the digits are strong, and no number of steps repairs that."""
    blue = {"filter.type": "powerlaw", "filter.options": {"alpha": 3.0}}
    run_training(resolve({**tiny_settings, **blue}), tmp_path / "run", CPU, QUIET)
    draw = ["sample", tmp_path / "run", "-n", 1, "--steps", 1, "--output"]
    assert "the data still show through the noise at t = 1 in the band low" in sagd(*draw, tmp_path / "a").err
    checkpoint = open_run(tmp_path / "run", QUIET).checkpoint
    assert has_moments(checkpoint)
