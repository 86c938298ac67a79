"""Runs on class labels: labels stay with their images, classes are drawn by seed, guidance does what it says."""

import json
import shutil

import numpy as np
import pytest
import torch
from support.interruption import hashes, stop_at

from sagd_cli.config.layers import resolve
from sagd_cli.errors import ConfigError, Interrupted, UsageError
from sagd_cli.model.classes import Classes
from sagd_cli.model.network import build_backbone
from sagd_cli.plugin import ImageSet
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator, sampling_of
from sagd_cli.sampling.samples import default_folder
from sagd_cli.system.console import Output
from sagd_cli.training.batches import Batches, Labels
from sagd_cli.training.train import run_training

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
NAMES = ("dark", "medium", "bright")
SHARES = (0.5, 0.125, 0.375)


@pytest.fixture(scope="module")
def shades(tmp_path_factory):
    """An archive of 96 images of one grey each, 48 dark ones, 12 medium, 36 bright."""
    labels = np.repeat([0, 1, 2], [48, 12, 36])
    greys = np.array([50, 128, 205])[labels] + np.random.default_rng(0).integers(-5, 6, 96)
    images = np.broadcast_to(greys.astype(np.uint8)[:, None, None, None], (96, 1, 8, 8))
    path = tmp_path_factory.mktemp("data") / "shades.npz"
    np.savez(path, images=images, labels=labels, class_names=NAMES)
    return path


@pytest.fixture(scope="module")
def settings(tiny_settings, shades):
    return {
        **tiny_settings,
        "dataset": {"name": "npy", "options": {"path": str(shades)}},
        "class_conditional": True,
    }


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    """A run of 150 steps, after which a network that says x0 knows the shades."""
    path = tmp_path_factory.mktemp("runs") / "shades"
    enough = {
        "backbone.options": {"channels": [16], "layers_per_block": 1},
        "prediction": "x0",
        "training.images": 150 * 16,
        "training.batch_size": 16,
        "training.warmup_images": 64,
        "training.learning_rate": 5e-3,
        "training.ema_half_life_images": 200,
        "training.checkpoint_images": 10**9,
    }
    run_training(resolve({**settings, **enough}), path, CPU, QUIET)
    return open_run(path, QUIET)


def brightness(run, classes=None, n=48, **chosen):
    """Mean of each image of a sample, in [-1, 1]."""
    generator = ImageGenerator(run.model(CPU), sampling_of(run.config, chosen), classes)
    return generator.signals(range(n)).mean(dim=(1, 2, 3)).numpy(), generator.labels(range(n))


def test_a_class_is_drawn_when_it_is_asked_for(run):
    """Nine of ten images are within 0.1 of its grey; the shades are 0.6 apart."""
    for name, grey in zip(NAMES, (50, 128, 205), strict=True):
        values, labels = brightness(run, name)
        assert set(labels) == {NAMES.index(name)}
        assert np.quantile(np.abs(values - (grey / 127.5 - 1)), 0.9) < 0.1, name


def test_classes_are_taken_in_turn_by_their_seed(run):
    together, labels = brightness(run, "bright,dark", 6)
    assert labels.tolist() == [2, 0, 2, 0, 2, 0]
    assert np.all(np.diff(together) * [-1, 1, -1, 1, -1] > 0.6)
    generator = ImageGenerator(run.model(CPU), run.config.sampling, "bright,dark")
    single = generator.signals(range(3, 4)).mean()
    assert float(single) == pytest.approx(together[3], abs=1e-5)


def test_without_a_choice_classes_are_as_frequent_as_in_the_data(run):
    """Within 5 standard errors over 2,000 seeds, and a seed's class does not depend on the others."""
    generator = ImageGenerator(run.model(CPU), run.config.sampling)
    labels = generator.labels(range(2000))
    for k, share in enumerate(SHARES):
        assert np.mean(labels == k) == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 2000))
    assert [generator.labels(range(i, i + 1))[0] for i in range(20)] == labels[:20].tolist()


def test_guidance_0_forgets_the_class(run):
    """It draws all shades, none of them labelled, and refuses to be asked for one."""
    values, labels = brightness(run, guidance=0)
    assert labels is None
    assert np.mean(values > 0.3) > 0.1 and np.mean(values < -0.3) > 0.1
    with pytest.raises(UsageError, match="guidance 0 leaves classes out"):
        brightness(run, "dark", guidance=0)


def test_guidance_moves_away_from_what_has_no_class(run):
    by_scale = [brightness(run, "dark", guidance=scale)[0].mean() for scale in (0.25, 0.5, 1, 2)]
    assert np.all(np.diff(by_scale) < 0), by_scale


def test_guidance_doubles_the_network_evaluations_and_no_more(sagd, run, tmp_path, monkeypatch):
    generator = ImageGenerator(run.model(CPU), sampling_of(run.config, {"guidance": 2.0, "steps": 3}))
    assert (generator.evaluations, generator.network_evaluations) == (3, 6)
    calls = []
    handle = generator.model.network.register_forward_hook(lambda *_: calls.append(1))
    generator.signals(range(2))
    handle.remove()
    assert len(calls) == 6
    target = tmp_path / "drawn"
    drawn = sagd(
        *("sample", run.path, "-n", 3, "--steps", 3, "--class", "dark,bright", "--guidance", 2),
        *("--format", "npz", "--output", target, "--json"),
    )
    assert drawn.code == 0
    assert (drawn.json["steps"], drawn.json["network_evaluations"], drawn.json["guidance"]) == (3, 6, 2)
    with np.load(target / "samples.npz") as archive:
        assert drawn.json["labels"] == archive["labels"].tolist() == [0, 2, 0]
        assert archive["class_names"].tolist() == list(NAMES)


@pytest.mark.slow
def test_stopping_and_resuming_keeps_the_order_of_labels(settings, tmp_path):
    """Bit for bit, dropped labels included, with both networks."""

    for name, options in (("unet", settings["backbone.options"]), ("dit", {"depth": 1, "heads": 1})):
        config = resolve({**settings, "backbone.name": name, "backbone.options": options})
        run_training(config, tmp_path / f"{name}-whole", CPU, QUIET)
        with pytest.raises(Interrupted):
            run_training(config, tmp_path / name, CPU, stop_at(3))
        run_training(config, tmp_path / name, CPU, QUIET)
        assert hashes(tmp_path / name) == hashes(tmp_path / f"{name}-whole")


def test_labels_go_with_their_images():
    """Images that show their own label, over epochs, batches across their border and dropped labels."""
    count = 50
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)
    batches = Batches(images, 16, seed=1, labels=Labels(torch.arange(count), no_class=count, share=0.3))
    dropped = []
    for step in range(400):
        x0, labels = batches.at(step)
        shown = ((x0.flatten() + 1) * 127.5).round().long()
        is_dropped = labels == count
        assert torch.equal(shown[~is_dropped], labels[~is_dropped])
        assert torch.equal(batches.at(step).labels, labels)
        dropped.append(is_dropped.float().mean())
    standard_error = np.sqrt(0.3 * 0.7 / (400 * 16))
    assert float(torch.stack(dropped).mean()) == pytest.approx(0.3, abs=5 * standard_error)


@pytest.mark.parametrize("name", ["unet", "dit"])
def test_a_network_of_classes_uses_its_labels_and_drops_none_itself(name):
    from sagd_cli.config.run import BackboneConfig

    options = {"channels": [8, 8]} if name == "unet" else {"depth": 1, "heads": 1}
    network = build_backbone(BackboneConfig(name=name, options=options), (1, 8, 8), classes=3).train()
    for parameter in network.parameters():  # DiT starts at zero by design
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    x, t = torch.ones((64, 1, 8, 8)), torch.full((64,), 500.0)

    def said(label):
        out = network(x, t, torch.full((64,), label))
        return out if isinstance(out, torch.Tensor) else out.sample

    outputs = [said(label) for label in range(4)]
    for label, out in enumerate(outputs):
        torch.testing.assert_close(out, out[:1].expand_as(out), rtol=1e-4, atol=1e-4)
        assert all((out - other).abs().max() > 1e-3 for other in outputs[label + 1 :])


def test_a_run_is_told_by_its_training_and_its_sampling_may_be_changed(sagd, run, settings, tmp_path):
    """In config.yaml, for the next `sample`; a budget of steps given there is no other training."""
    copy = shutil.copytree(run.path, tmp_path / "copy")
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(
        text.replace("  steps: 20", "  steps: 3").replace("guidance: 1.0", "guidance: 2.0")
    )
    drawn = sagd("sample", copy, "-n", 1, "--json").json
    assert (drawn["steps"], drawn["network_evaluations"]) == (3, 6)
    names = {resolve({**settings, **more}).default_name for more in ({}, {"sampling.steps": 3})}
    assert len(names) == 1 and names != {resolve({**settings, "training.seed": 1}).default_name}


@pytest.mark.parametrize("wrong", [{"class_conditional": False}, {"training.label_dropout": 0.0}])
def test_a_run_is_not_set_to_guidance_that_it_is_not_trained_for(settings, wrong):
    with pytest.raises(ConfigError, match=r"guidance other than 1 needs class_conditional"):
        resolve({**settings, "sampling.guidance": 2.0, **wrong})


def test_the_folder_of_samples_says_how_they_were_drawn(run):
    def name(chosen, classes=None):
        return default_folder(
            run, ImageGenerator(run.model(CPU), sampling_of(run.config, chosen), classes), range(5, 9)
        ).name

    assert name({}) == "dpmpp-20-uniform-seed5-n4"
    ddim = {"sampler": "ddim", "steps": 7, "eta": 0.5, "guidance": 2.0}
    assert name(ddim, "bright") == "ddim-7-uniform-eta0.5-guidance2-class2-seed5-n4"
    long = [name({}, ",".join(NAMES[i % 3] for i in range(n))) for n in (60, 61)]
    assert long[0] != long[1] and all(len(folder) < 100 for folder in long)


def test_what_cannot_be_is_refused(sagd, run, settings, tiny_run, tmp_path):
    def message(*arguments):
        refused = sagd("sample", *arguments, "--output", tmp_path / "x")
        assert refused.code == 2 and not (tmp_path / "x").exists()
        return refused.err

    assert "no class 'drak' among its 3. Did you mean dark?" in message(run.path, "--class", "dark,drak")
    assert "no class '3' among its 3" in message(run.path, "--class", "3")
    assert "trained without classes" in message(tiny_run, "--class", "3")
    assert "trained without classes" in message(tiny_run, "--guidance", "2")
    certain = tmp_path / "certain"
    run_training(resolve({**settings, "training.label_dropout": 0.0}), certain, CPU, QUIET)
    assert "label_dropout 0" in message(certain, "--guidance", "2")
    with pytest.raises(UsageError, match="has no class labels"):
        np.save(tmp_path / "bare.npy", np.zeros((9, 1, 8, 8), np.uint8))
        bare = {"name": "npy", "options": {"path": str(tmp_path / "bare.npy")}}
        run_training(resolve({**settings, "dataset": bare}), tmp_path / "y", CPU, QUIET)


def test_a_network_without_classes_is_refused_by_name(sagd, shades, tmp_path):
    plugin = tmp_path / "plain.py"
    plugin.write_text(
        "from sagd_cli.plugin import BackbonePlugin, Options, hookimpl\n"
        "@hookimpl\n"
        "def sagd_backbones():\n"
        "    yield BackbonePlugin('plain', 'no classes', Options, 'torch.nn:Identity')\n"
    )
    refused = sagd(
        *("--plugin", plugin, "train", "--dataset", shades, "--class-conditional"),
        *("--backbone", "plain", "--output", tmp_path / "run"),
    )
    assert (
        refused.code == 2
        and "the backbone plain takes no classes. Use diffusers or dit or unet." in refused.err
    )


def test_other_labels_of_the_same_images_are_refused(settings, shades, tmp_path):
    copy = shutil.copy(shades, tmp_path / "copy.npz")
    config = resolve({**settings, "dataset": {"name": "npy", "options": {"path": str(copy)}}})
    with pytest.raises(Interrupted):
        run_training(config, tmp_path / "run", CPU, stop_at(2))
    with np.load(copy) as archive:
        arrays = dict(archive)
    np.savez(copy, **{**arrays, "labels": arrays["labels"][::-1]})
    with pytest.raises(UsageError, match="or their labels, are not those"):
        run_training(config, tmp_path / "run", CPU, QUIET)


def test_the_manifest_says_what_the_classes_were(run):
    manifest = json.loads((run.checkpoint.path / "manifest.json").read_text())
    assert manifest["classes"]["names"] == list(NAMES)
    assert manifest["classes"]["counts"] == [48, 12, 36]


def test_a_class_without_images_cannot_be_drawn():
    images = ImageSet(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 2]), NAMES)
    classes = Classes.of(images, "few")
    assert classes.index("bright") == classes.index("2") == 2
    assert classes.chosen("bright, dark") == [2, 0]
    with pytest.raises(UsageError, match="no image of the class medium"):
        classes.index("medium")
    assert {classes.of_seed(seed) for seed in range(50)} == {0, 2}


def test_names_come_before_numbers():
    """Folders called 3 and 8 are those classes: no number then stands for another."""
    images = ImageSet(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), ("3", "8"))
    classes = Classes.of(images, "digits")
    assert classes.chosen("8,3") == [1, 0]
    with pytest.raises(UsageError, match="no class '1'"):
        classes.index("1")
    with_comma = Classes(("cat, small", "dog"), (1, 1), "")
    assert with_comma.chosen("cat, small") == [0] and with_comma.chosen("dog,0") == [1, 0]


def test_a_seed_draws_a_class_of_a_thousand_in_their_shares():
    """ImageNet's number of classes: names are suggested, not listed."""
    images = ImageSet(np.zeros((1000, 1, 2, 2), np.uint8), np.arange(1000))
    classes = Classes.of(images, "many")
    assert len({classes.of_seed(seed) for seed in range(1000)}) > 550  # 632 expected
    with pytest.raises(UsageError) as refused:
        classes.index("cat")
    assert len(refused.value.hint) < 300
