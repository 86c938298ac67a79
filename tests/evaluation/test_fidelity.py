"""Distances against closed forms, receipts that identify what was compared, weights read safely."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sagd_plugins.features import inception
from sagd_plugins.features._weights import read_weights

from sagd_cli.data.images import write_array
from sagd_cli.datasets.loading import hash_images
from sagd_cli.design.radial_power import PowerAverage
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.cache import FeatureCache
from sagd_cli.features.extractor import FeatureSink, load_extractor
from sagd_cli.features.image_source import array_source
from sagd_cli.features.receipt import hash_weights
from sagd_cli.plugin.registry import registry
from sagd_cli.spectral.band import Band
from sagd_cli.spectral.grid import FrequencyGrid
from sagd_cli.system.console import Output

CPU, QUIET = torch.device("cpu"), Output(quiet=True)


def digits(part, name="digits"):
    from sklearn.datasets import load_digits

    images = np.rint(load_digits().images[part, None] * (255 / 16)).astype(np.uint8)
    return array_source(name, images)


def distance(one, two, metrics=("fid",), features="digits-cnn", **settings):
    return evaluate(one, two, Measures(metrics, features, **settings), CPU, QUIET)


def images_of(source):
    return np.stack([*source.read([range(source.count)], QUIET)])


def test_frechet_distance_of_gaussians_with_known_moments():
    """Features that are the pixels: ||mu_1 - mu_2||^2 + sum (s_1 - s_2)^2 for diagonal covariances."""
    rows = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)], float)

    def source(mean, deviation):
        values = mean + rows * deviation
        return array_source("grid", values.astype(np.uint8).reshape(-1, 1, 1, 2))

    found = distance(source([100, 60], [10, 20]), source([90, 65], [30, 5]), features="pixels")
    unbiased = 4 / 3  # the covariance divides by N - 1
    exact = (10**2 + 5**2 + unbiased * ((10 - 30) ** 2 + (20 - 5) ** 2)) / 127.5**2
    assert found["fd"] == pytest.approx(exact, rel=1e-6)


def test_a_set_has_no_distance_to_itself_and_order_does_not_matter():
    one = digits(slice(0, 400))
    shuffled = array_source("shuffled", images_of(one)[np.random.default_rng(0).permutation(400)])
    assert abs(distance(one, shuffled)["fd"]) < 1e-4


def test_distances_rank_damage():
    real, held_out = digits(slice(0, 800)), digits(slice(800, 1600))
    noisy = images_of(held_out) + np.random.default_rng(0).normal(0, 25, (held_out.count, *held_out.shape))
    noisy = array_source("noisy", noisy.clip(0, 255).astype(np.uint8))
    clean = distance(held_out, real, ("fid", "kid"))
    damaged = distance(noisy, real, ("fid", "kid"))
    assert damaged["fd"] > 3 * clean["fd"] and damaged["kid"] > clean["kid"] + 3 * clean["kid_std"]


def test_all_metrics_and_their_ranges():
    found = distance(digits(slice(0, 300)), digits(slice(300, 600)), ("fid", "kid", "prc", "isc"))
    assert 0 <= found["precision"] <= 1 and 0 <= found["recall"] <= 1
    assert 1 <= found["isc"] <= 10  # between one class and ten equal ones


def test_a_figure_of_digits_cnn_is_never_called_fid():
    found = distance(digits(slice(0, 100)), digits(slice(100, 250)))
    assert found["label"] == "fd-digits-cnn@100"


def test_the_receipt_names_images_weights_and_versions():
    one, two = digits(slice(0, 100), "a"), digits(slice(100, 200), "b")
    receipt = distance(one, two)["receipt"]
    hashed = {"path": "a", "count": 100, "shape": [1, 8, 8], "sha256": hash_images(images_of(one))}
    assert receipt["generated"] == hashed
    changed = images_of(one)
    changed[3, 0, 1, 1] ^= 1
    other = distance(array_source("a", changed), two)["receipt"]
    assert other["generated"]["sha256"] != receipt["generated"]["sha256"]
    assert other["reference"] == receipt["reference"]
    assert receipt["features"] == "digits-cnn" and receipt["layer"] == "64"
    assert set(receipt["versions"]) == {"sagd", "torch", "torch-fidelity", "numpy"}


@pytest.mark.parametrize(
    ("one", "two", "fragment"),
    [
        (np.zeros((1, 1, 8, 8)), np.zeros((9, 1, 8, 8)), "has 1 image; fid need at least 2"),
        (np.zeros((9, 1, 8, 8)), np.zeros((9, 1, 9, 9)), "resizing or recolouring"),
        (np.zeros((9, 3, 8, 8)), np.zeros((9, 3, 8, 8)), "is in colour"),
        (np.zeros((9, 2, 8, 8)), np.zeros((9, 2, 8, 8)), "not grey or RGB"),
    ],
)
def test_sets_that_cannot_be_compared(one, two, fragment):
    with pytest.raises(DataError, match=fragment):
        distance(array_source("one", one.astype(np.uint8)), array_source("two", two.astype(np.uint8)))


@pytest.mark.parametrize("side", ["generated", "reference"])
@pytest.mark.parametrize("form", ["folder", "float16", "float64"])
def test_float_images_are_measured_as_bytes_and_what_is_clipped_is_said(sagd, tmp_path, form, side):
    pixels = images_of(digits(slice(0, 40)))
    np.save(tmp_path / "bytes.npy", pixels)
    signals = pixels / 127.5 - 1
    signals[:2, 0, 0, :3] = [-1.5, 1.25, 7]  # these become black, white and white
    pixels[:2, 0, 0, :3] = [0, 255, 255]
    np.save(tmp_path / "clipped.npy", pixels)
    source = tmp_path / ("floats" if form == "folder" else "floats.npy")
    np.save(tmp_path / "floats.npy", signals.astype("float32" if form == "folder" else form))
    if form == "folder":
        assert sagd("data", "prepare", tmp_path / "floats.npy", "--output", source).code == 0

    def measured(path):
        sets = [path, tmp_path / "bytes.npy"][:: 1 if side == "generated" else -1]
        return sagd("fid", *sets, "--metrics", "fid", "--json")

    found, expected = measured(source), measured(tmp_path / "clipped.npy")
    assert found.code == 0, found.err
    assert found.json["fd"] == expected.json["fd"]
    assert found.json["receipt"][side]["sha256"] == expected.json["receipt"][side]["sha256"]
    said = " ".join(found.err.split())
    assert (
        said.count(f"the values of {source} are taken as signals, black -1 and white 1; 6 of 2,560 were") == 1
    )
    assert "taken as signals" not in expected.err


def test_few_images_for_many_features_are_warned_of(capsys):
    assert distance(digits(slice(0, 20)), digits(slice(20, 90)))["fd_floor"] is None
    assert "covariance is singular" in capsys.readouterr().err
    found = distance(digits(slice(0, 400)), digits(slice(400, 800)))
    assert 0.1 * found["fd"] < found["fd_floor"] < found["fd"]
    said = capsys.readouterr().err
    assert f"about {found['fd_floor']:.2g} is what so few images show by chance" in said and "KID" in said


def test_the_gate_exits_3_after_printing_the_figure(sagd, tmp_path):
    np.save(tmp_path / "black.npy", np.zeros((80, 1, 8, 8), np.uint8))
    result = sagd("fid", tmp_path / "black.npy", "digits:test", "--max-fid", 1, "--json")
    assert result.code == 3 and result.json["fd"] > 1
    assert sagd("fid", "digits:test", "digits:test", "--max-fid", 1, "--max-kid", 0.1).code == 0


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """A state dict of Inception-v3 with random weights, as .pth and as .safetensors.

    With torch's own initial weights what passes through the network fades away, and distances are rounding.
    """
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    network = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    state = network.state_dict()
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state, folder / "inception.pth")
    save_file(state, folder / "inception.safetensors")
    return folder


def test_inception_takes_pytorch_fid_weights_in_both_formats(random_inception):
    random = np.random.default_rng(0)
    sides = [array_source(f"s{i}", random.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)) for i in range(2)]
    found = [
        distance(*sides, features="inception", options={"weights": random_inception / name}, layer="64")
        for name in ("inception.pth", "inception.safetensors")
    ]
    assert found[0]["fd"] == found[1]["fd"]
    assert found[0]["receipt"]["weights_sha256"] == found[1]["receipt"]["weights_sha256"]
    assert found[0]["label"] == "FID-64@6"


def test_inception_features_equal_torch_fidelity_loading_the_file_itself(random_inception):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = random_inception / "inception.pth"
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["192"], feature_extractor_weights_path=path)
    ours = inception.build(inception.InceptionOptions(weights=path), ("192",))
    x = torch.randint(0, 256, (2, 3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(theirs(x)[0], ours(x)[0], rtol=1e-5, atol=1e-6)
    assert hash_weights(theirs) == hash_weights(ours)


@pytest.mark.slow
def test_figures_equal_those_of_torch_fidelity_on_the_command_line(sagd, random_inception, tmp_path):
    random = np.random.default_rng(0)
    waves = np.sin(
        np.arange(16) * random.uniform(0.2, 1.5, (40, 3, 16, 1))
    )  # images that differ in more than noise
    images = (100 + 60 * waves + random.normal(0, 20, (40, 3, 16, 16))).clip(0, 255).astype(np.uint8)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, part in zip(folders, (images[:20], images[20:]), strict=True):
        folder.mkdir()
        for index, image in enumerate(part):
            write_array(image, folder / f"{index}.png")
    weights = random_inception / "inception.pth"
    command = [
        "fidelity",
        "--input1",
        *folders[:1],
        "--input2",
        *folders[1:],
        "--fid",
        "--kid",
        "--prc",
        "--cpu",
        "--json",
    ]
    command += ["--feature-extractor", "inception-v3-compat", "--feature-extractor-weights-path", weights]
    command += [word for metric in ("fid", "kid", "prc") for word in (f"--feature-layer-{metric}", "192")]
    command += ["--kid-subset-size", 10, "--no-cache"]
    main = "import sys; from torch_fidelity.fidelity import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main, *map(str, command[1:])], capture_output=True, text=True, check=True
    )
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    ours = sagd(
        "fid",
        *folders,
        "--metrics",
        "fid,kid,prc",
        "--features",
        "inception",
        "--layer",
        "192",
        "--weights",
        weights,
        "--json",
    ).json
    network = inception.build(inception.InceptionOptions(weights=weights), ("192",))
    features = network(torch.from_numpy(images))[0].double()
    largest = float((features @ features.T / features.shape[1] + 1).pow(3).max())
    for key, name in {
        "fd": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "kid_std": "kernel_inception_distance_std",
        "precision": "precision",
        "recall": "recall",
    }.items():
        # Features are rounded to single precision, in batches of other sizes. KID may be next to 0, being a sum of four
        # means of terms (x.y / D + 1)^3: the rounding of x or y changes a term by three times its own size, and both
        # sides round.
        rounding = 4 * 3 * 2 * 2 * float(np.finfo(np.float32).eps) * largest if key.startswith("kid") else 0
        assert ours[key] == pytest.approx(theirs[name], rel=1e-3, abs=rounding), key


class Canary:
    """Unpickling this creates a file: proof that code ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_disguised_as_weights_does_not_run(tmp_path):
    canary = tmp_path / "canary"
    for name, data in {
        "raw.pth": pickle.dumps(Canary(canary)),
        "zip.pth": _saved({"w": Canary(canary)}),
        "text.pth": b"not weights",
        "empty.safetensors": b"",
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(SagdError, match=name):
            read_weights(path, "the official file")
    assert not canary.exists()


def _saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_weights_of_another_architecture_are_named(tmp_path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="does not hold the weights of the FID's Inception-v3"):
        inception.build(inception.InceptionOptions(weights=tmp_path / "other.pth"), ("2048",))


@pytest.mark.slow
@pytest.mark.parametrize("features", ["digits-cnn", "spectrum", "pixels", "inception"])
def test_features_do_not_depend_on_the_batch(random_inception, features):
    options = {"weights": random_inception / "inception.pth"} if features == "inception" else {}
    plugin = registry().get("feature", features)
    images = images_of(digits(slice(0, 16)))
    found = []
    for size, count in ((16, 16), (7, 14), (1, 2)):
        extractor = load_extractor(plugin, options, plugin.layers[-1:], CPU, size)
        parts = [extractor([*images[i : i + size]]) for i in range(0, count, size)]
        found.append(torch.cat([part[plugin.layers[-1]] for part in parts]))
    largest = float(found[0].abs().max())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0][: len(other)], rtol=1e-5, atol=1e-5 * largest)


def test_blocks_are_neighbours_whatever_the_batch():
    """The moments of each third of 31 images, of which one is left over."""
    plugin = registry().get("feature", "pixels")
    images = images_of(digits(slice(0, 31)))
    for size in (1, 4, 64):
        extractor = load_extractor(plugin, {}, ("32",), CPU, size)
        sink = FeatureSink(extractor, "32", 31, 3, {})
        for start in range(0, 31, size):
            sink.add(extractor.features(images[start : start + size]))
        for k, found in enumerate(sink.gaussians()):
            block = images[10 * k : 10 * k + 10].reshape(10, -1) / 127.5 - 1
            np.testing.assert_allclose(found.mean, block.mean(axis=0), atol=1e-7)
            np.testing.assert_allclose(found.covariance, np.cov(block, rowvar=False), atol=1e-6)


@pytest.mark.slow
def test_repeats_give_mean_and_deviation_over_disjoint_parts():
    real, generated = digits(slice(0, 600)), digits(slice(600, 1500))
    found = distance(generated, real, ("fid", "kid"), repeats=3)
    parts = [distance(digits(slice(600 + 300 * k, 900 + 300 * k)), real, ("fid", "kid")) for k in range(3)]
    assert found["label"] == "fd-digits-cnn@300"
    assert [block["fd"] for block in found["repeats"]["blocks"]] == pytest.approx([p["fd"] for p in parts])
    assert found["fd"] == pytest.approx(np.mean([part["fd"] for part in parts]))
    assert found["repeats"]["deviation"]["kid"] == pytest.approx(np.std([p["kid"] for p in parts], ddof=1))


def test_the_power_of_damaged_bands_is_seen():
    """Noise of amplitude g in a band adds g^2 to its power, and nothing elsewhere."""
    real, other = (
        array_source("pale", images_of(digits(part)) // 4 + 96) for part in (slice(0, 700), slice(700, 1400))
    )
    mask = Band.parse("high").mask(FrequencyGrid((8, 8)))
    white = np.random.default_rng(0).standard_normal((700, 1, 8, 8))
    noise = 15 * np.fft.irfft2(np.fft.rfft2(white) * mask, s=(8, 8))
    noisy = array_source("noisy", np.rint(images_of(other) + noise).astype(np.uint8))
    clean, damaged = (distance(side, real, spectra=True)["spectra"]["bands"] for side in (other, noisy))
    average = PowerAverage(real.shape)
    for image in images_of(real):
        average.add(image)
    added = (15 / 127.5) ** 2 / average.result().bands[2]
    assert damaged["high"]["ratio"] - clean["high"]["ratio"] == pytest.approx(added, rel=0.1)
    for name in ("low", "mid"):
        assert damaged[name]["ratio"] == pytest.approx(clean[name]["ratio"], rel=0.02)


def test_a_second_measurement_computes_no_features_of_stored_images(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path))
    sides = digits(slice(0, 120)), digits(slice(120, 300))
    first = distance(*sides, ("fid", "kid", "prc"))
    monkeypatch.setattr(FeatureSink, "add", None)
    assert distance(*sides, ("fid", "kid", "prc")) == first
    with pytest.raises(TypeError):
        distance(*sides, ("fid", "kid", "prc"), cache=False)
    with pytest.raises(TypeError):  # other images are others, whatever their name
        distance(digits(slice(1, 121)), sides[1], ("fid", "kid", "prc"))


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("moments.npz", lambda data: b""),
        ("moments.npz", lambda data: data[: len(data) // 2]),
        ("rows-*.npy", lambda data: data[: len(data) // 2]),
        ("rows-*.npy", lambda data: b"nothing"),
        ("rows-*.npy", None),
    ],
)
def test_damaged_features_are_computed_anew(tmp_path, monkeypatch, pattern, damage):
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path))
    sides = digits(slice(0, 80)), digits(slice(80, 160))
    first = distance(*sides, ("fid", "kid"))
    files = [*tmp_path.glob(f"features/*/{pattern}")]
    assert len(files) == 2
    for file in files:
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(file.read_bytes()))
    assert distance(*sides, ("fid", "kid")) == first
    monkeypatch.setattr(FeatureSink, "add", None)
    assert distance(*sides, ("fid", "kid")) == first  # what was damaged is whole again


PLUGIN = """
import torch
from sagd_cli.plugin import FeaturePlugin, Options, hookimpl

class Mean(torch.nn.Module):
    def forward(self, images):
        return (images.double().mean(dim=(2, 3)) * {factor},)

@hookimpl
def sagd_features():
    fields = {{"layers": ("c",), "channels": None, "distance": "fd-means"}}
    yield FeaturePlugin("means", "Means.", Options, lambda options, layers: Mean(), **fields)
"""


def test_features_of_a_plugin_without_a_version_are_not_kept(sagd, tmp_path):
    """A file has none: what it computes may be another thing the next time."""
    found = []
    for factor in (1, 10):
        path = tmp_path / f"means-{factor}.py"
        path.write_text(PLUGIN.format(factor=factor))
        command = ["--plugin", path, "fid", "digits", "digits:test", "--features", "means"]
        found.append(sagd(*command, "--json").json)
    # A distance is a difference of squares and traces of features that are rounded to 6e-8 of themselves.
    assert found[1]["fd"] == pytest.approx(100 * found[0]["fd"], rel=1e-3)
    assert found[0]["receipt"]["distribution"].endswith("means-1.py")


def test_the_cache_forgets_what_was_not_used_for_longest(tmp_path, monkeypatch):
    monkeypatch.setattr("sagd_cli.features.cache.LARGEST_CACHE", 2500)
    monkeypatch.setattr("sagd_cli.features.cache.IN_USE", -1)
    cache = FeatureCache(tmp_path)
    for name in "abc":
        if name == "c":
            assert cache.find({"name": "a"})
        folder = cache.begin(1000)
        (folder / "rows.npy").write_bytes(b"x" * 1000)
        kept = cache.keep(folder, {"name": name})
        os.utime(kept, (time.time() - 60, time.time() - 60))  # clocks of file systems may be coarse
    assert cache.find({"name": "a"}) and cache.find({"name": "c"}) and not cache.find({"name": "b"})
    assert cache.begin(10_000) is None
    monkeypatch.setattr("sagd_cli.features.cache.IN_USE", 60)
    cache.keep(cache.begin(1000), {"name": "d"})
    assert cache.find({"name": "a"}) and cache.find({"name": "c"})  # another process may be reading them
    cache.drop(cache.find({"name": "d"}))
    assert not cache.find({"name": "d"})
    assert len([*(tmp_path / "features").iterdir()]) == 2


def test_a_run_is_measured_without_writing_anything(sagd, tiny_run):
    before = sorted(tiny_run.rglob("*"))
    command = ["fid", tiny_run, "digits:test", "-n", 30, "--steps", 2, "--json"]
    found = sagd(*command, "--repeats", 2, "--seed", 7)
    assert found.code == 0, found.err
    assert sorted(tiny_run.rglob("*")) == before
    sampling = found.json["receipt"]["generated"]["sampling"]
    assert sampling["seeds"] == [7, 66] and sampling["steps"] == 2 and sampling["sampler"] == "dpmpp"
    alone = sagd(*command, "--seed", 37).json  # the second block
    # In a batch of another size a pixel may be rounded to the next of 256 levels; other images differ by far more.
    first, second = found.json["repeats"]["blocks"]
    assert alone["fd"] == pytest.approx(second["fd"], rel=1e-3) != pytest.approx(first["fd"], rel=1e-3)


def test_a_run_is_measured_as_its_samples_are(sagd, tiny_run, tmp_path):
    sagd("sample", tiny_run, "-n", 40, "--steps", 3, "--output", tmp_path / "samples")
    written = sagd("fid", tmp_path / "samples", "digits:test", "--json").json
    drawn = sagd("fid", tiny_run, "digits:test", "-n", 40, "--steps", 3, "--json").json
    assert drawn["fd"] == written["fd"] and drawn["kid"] == written["kid"]
    assert drawn["receipt"]["generated"]["sha256"] == written["receipt"]["generated"]["sha256"]


def test_the_results_file_and_the_summary(sagd, tmp_path):
    hostile = tmp_path / "a|b <script>`x`.npy"
    np.save(hostile, images_of(digits(slice(0, 100))))
    (tmp_path / "summary.md").write_text("before\n")
    command = ["fid", hostile, "digits:test", "--output", tmp_path / "deep" / "a.json"]
    found = sagd(*command, "--summary-md", tmp_path / "summary.md", "--json")
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == found.json
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("before\n### fd-digits-cnn@100") and "<script>" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(re.sub(r"\\\\.", "", row).count("|") in (3, 4) for row in rows)
    assert sagd(*command).code == 2  # an existing file is not replaced
    assert sagd(*command[:3], "--summary-md", "-").out.startswith("### fd-digits-cnn@100")
    assert sagd(*command, "--force").code == 0


def test_statistics_stand_for_their_images(sagd, tmp_path):
    saved = sagd("fid", "digits:test", "--save-stats", tmp_path / "s.npz", "--json")
    assert saved.code == 0 and saved.json["dimensions"] == 64
    known = sagd("fid", "digits", tmp_path / "s.npz", "--json").json
    whole = sagd("fid", "digits", "digits:test", "--json").json
    assert known["fd"] == pytest.approx(whole["fd"], rel=1e-9)
    assert known["fd_floor"] == pytest.approx(whole["fd_floor"], rel=1e-9)
    assert "kid" not in known
    assert known["receipt"]["reference"]["sha256"] == whole["receipt"]["reference"]["sha256"]
    with np.load(tmp_path / "s.npz") as archive:
        np.savez(tmp_path / "others.npz", mu=archive["mu"], sigma=archive["sigma"])
    others = sagd("fid", "digits", tmp_path / "others.npz", "--json")
    assert others.json["fd"] == known["fd"] and "taken on trust" in others.err
    reference = others.json["receipt"]["reference"]
    assert reference["count"] is None and reference["sha256"] != known["receipt"]["reference"]["sha256"]
    with np.load(tmp_path / "s.npz") as archive:
        np.savez(tmp_path / "near.npz", mu=archive["mu"], sigma=archive["sigma"].astype(np.float32))
    near = sagd(
        "fid", "digits", tmp_path / "near.npz", "--json"
    ).json  # rounded, and still no negative variance
    assert near["fd"] == pytest.approx(known["fd"], rel=1e-4)
    assert near["receipt"]["reference"]["sha256"] != reference["sha256"]


def test_statistics_that_do_not_fit_are_refused(sagd, tmp_path):
    np.savez(tmp_path / "small.npz", mu=np.zeros(3), sigma=np.eye(3))
    np.savez(tmp_path / "skew.npz", mu=np.zeros(64), sigma=np.triu(np.ones((64, 64))))
    np.savez(tmp_path / "nan.npz", mu=np.zeros(64), sigma=np.full((64, 64), np.nan))
    np.savez(tmp_path / "shape.npz", mu=np.zeros(64), sigma=np.eye(63))
    np.savez(tmp_path / "negative.npz", mu=np.zeros(64), sigma=np.diag([-1.0, *np.ones(63)]))
    for name, receipt in {"list": "[1]", "torn": "{", "deep": "[" * 20_000}.items():
        np.savez(tmp_path / f"{name}.npz", mu=np.zeros(64), sigma=np.eye(64), receipt=np.array(receipt))
    sagd("fid", "digits", "--save-stats", tmp_path / "pixels.npz", "--features", "pixels")
    for name, words in {
        "small.npz": "3 features, and layer 64 of digits-cnn has 64",
        "skew.npz": "not symmetric",
        "nan.npz": "not finite",
        "shape.npz": "of shape (63, 63)",
        "pixels.npz": "made with features pixels, not digits-cnn",
        "negative.npz": "negative eigenvalues",
        "list.npz": "receipt is not a JSON object",
        "torn.npz": "cannot be read as statistics",
        "deep.npz": "cannot be read as statistics",
    }.items():
        refused = sagd("fid", "digits:test", tmp_path / name)
        assert refused.code == 1 and words in refused.err, (name, refused.err)
    assert "needs the images" in sagd("fid", "digits:test", tmp_path / "small.npz", "--metrics", "kid").err


def test_pickled_statistics_do_not_run(sagd, tmp_path):
    canary = tmp_path / "canary"
    np.savez(tmp_path / "s.npz", mu=np.array([Canary(canary)], dtype=object), sigma=np.eye(1))
    assert sagd("fid", "digits:test", tmp_path / "s.npz").code == 1
    assert not canary.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits:test",), "give a REFERENCE"),
        (("digits", "digits:test", "--save-stats", "x.npz"), "give a REFERENCE"),
        (
            ("digits", "--save-stats", "x.npz", "--repeats", "2", "--spectra"),
            "--repeats, --spectra cannot be",
        ),
        (("digits", "--save-stats", "x.npz", "--output", "x.json"), "so --output cannot be had"),
        (("digits", "--save-stats", "x.npz", "--max-fid", "0"), "so --max-fid cannot be had"),
        (("digits", "digits:test", "--json", "--summary-md", "-"), "so --summary-md - cannot be had"),
        (("digits", "digits:test", "--metrics", "fdi"), "unknown metric 'fdi'. Did you mean fid?"),
        (("digits", "digits:test", "--metrics", "isc", "--features", "pixels"), "not those of a classifier"),
        (("digits", "digits:test", "--steps", "3"), "digits is not a run"),
        (("digits", "digits:test", "-n", "5000"), "fewer than the 5000 asked for"),
        (("digits", "digits:test", "--max-kid", "1", "--metrics", "fid"), "--max-kid needs kid"),
        (("digits", "digits:test", "--features", "inceptoin"), "Did you mean inception?"),
        (("digits", "digits:test", "--layer", "65"), "no layer '65'"),
    ],
)
def test_wrong_use_is_said_before_any_work(sagd, arguments, words):
    refused = sagd("fid", *arguments)
    assert refused.code == 2 and words in refused.err


def test_runs_and_statistics_have_their_side(sagd, tiny_run, tmp_path):
    sagd("fid", "digits:test", "--save-stats", tmp_path / "s.npz")
    refused = sagd("fid", "digits:test", tiny_run)
    assert refused.code == 2 and "is a run, and REFERENCE" in refused.err
    refused = sagd("fid", tmp_path / "s.npz", "digits:test")
    assert refused.code == 2 and "GENERATED has to be images" in refused.err


def test_a_folder_may_have_any_name(sagd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "images.npy", images_of(digits(slice(0, 9))))
    for name in ("default", "other"):
        (tmp_path / name).mkdir()
        write_array(images_of(digits(slice(0, 9)))[0], tmp_path / name / "a.png")
        refused = sagd("fid", name, "images.npy", "--metrics", "fid")
        assert refused.code == 1 and f"{name} has 1 image" in refused.err


def test_the_score_needs_no_images_beside(capsys):
    found = distance(digits(slice(0, 100)), digits(slice(100, 102)), ("isc",))
    assert found["isc"] == distance(digits(slice(0, 100)), digits(slice(100, 300)), ("isc",))["isc"]


def test_what_was_measured_is_shown_when_it_cannot_be_written(sagd):
    found = sagd("fid", "digits", "digits:test", "--output", "/proc/a.json", "--json")
    assert found.code == 1 and "could not be written" in found.err and found.json["fd"] > 0


def test_too_many_repeats_are_refused():
    with pytest.raises(DataError, match="has 1 image in each of 100 blocks"):
        distance(digits(slice(0, 100)), digits(slice(0, 100)), repeats=100)


def test_a_score_needs_a_classifier():
    with pytest.raises(UsageError, match="not those of a classifier"):
        distance(digits(slice(0, 100)), digits(slice(0, 100)), ("isc",), features="spectrum")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """Rows of 30,000 images of 256 features are 29 MiB.

    What counts is the process's own memory: pages of files that are mapped, such as the images, are given back.
    """
    random = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", random.integers(0, 256, (30_000, 1, 16, 16), dtype=np.uint8))
    code = """
import sys, threading, time, torch
from pathlib import Path
from sagd_cli.config.arguments import parse_dataset
from sagd_cli.metrics import kernel
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.image_source import data_source
from sagd_cli.system.console import Output
most = 0

def watch():
    global most
    while True:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        most = max(most, int(fields["RssAnon"].split()[0]) * 1024)
        time.sleep(0.0005)

threading.Thread(target=watch, daemon=True).start()
kernel.SUBSETS = 3
for count in (*[2000] * 8, 30_000):  # the first ones show all the memory that is taken for a moment
    source = data_source(parse_dataset(sys.argv[1]), count=count)
    how = Measures(("fid", "kid"), "pixels", batch_size=100, cache=False)
    evaluate(source, source, how, torch.device("cpu"), Output(quiet=True))
    print(most)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.npy"], capture_output=True, text=True, check=True
    )
    *_, few, many = map(int, done.stdout.split())
    assert many - few < 15 * 2**20


def test_a_reference_whose_features_are_known_is_not_read_again(sagd, tmp_path, monkeypatch):
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sagd_cli.datasets.known_hash.SETTLED", -(10**12))
    for name, part in {"one": slice(0, 90), "two": slice(90, 180)}.items():
        np.save(tmp_path / f"{name}.npy", images_of(digits(part)))
    command = ["fid", tmp_path / "one.npy", tmp_path / "two.npy", "--json"]
    first = sagd(*command).json
    monkeypatch.setattr("sagd_cli.datasets.alike.AlikeImages.at", None)
    assert sagd(*command).json == first
    assert sagd(*command, "--no-cache").code != 0
    np.save(tmp_path / "two.npy", images_of(digits(slice(91, 181))))
    assert sagd(*command).code != 0
