"""Distances against closed forms, receipts that identify what was compared, weights read safely."""

import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sagd_plugins.features import inception
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from sagd_cli.console import Output
from sagd_cli.errors import DataError, SagdError
from sagd_cli.evaluation import fidelity
from sagd_cli.evaluation.fidelity import ImageSource, evaluate
from sagd_cli.evaluation.receipt import describe_images, hash_weights
from sagd_cli.plugin.registry import registry

CPU, QUIET = torch.device("cpu"), Output(quiet=True)


def digits(part, name="digits"):
    from sklearn.datasets import load_digits

    images = np.rint(load_digits().images[part, None] * (255 / 16)).astype(np.uint8)
    return ImageSource(name, images)


def distance(one, two, metrics=("fid",), features="digits-cnn", **options):
    return evaluate(one, two, metrics, features, options, None, CPU, QUIET)


class Pixels(FeatureExtractorBase):
    """Features that are the pixels themselves, so that their moments are known."""

    def __init__(self):
        super().__init__("pixels", ["pixels"])
        self.unused = torch.nn.Parameter(torch.zeros(1))

    @staticmethod
    def get_provided_features_list():
        return ("pixels",)

    def forward(self, x):
        return (x.flatten(1).double(),)


def test_frechet_distance_of_gaussians_with_known_moments():
    """||mu_1 - mu_2||^2 + sum (s_1 - s_2)^2 for diagonal covariances."""
    plugin = registry().get("feature", "digits-cnn")
    plugin = replace(plugin, layers=("pixels",), build=lambda options, layers: Pixels())
    rows = np.array([[a, b] for a in (-1, 1) for b in (-1, 1)], float)

    def source(mean, deviation):
        values = mean + rows * deviation
        return ImageSource("grid", values.astype(np.uint8).reshape(-1, 1, 1, 2))

    one, two = source([100, 60], [10, 20]), source([90, 65], [30, 5])
    extracted = [fidelity._extract(Pixels(), ("pixels",), side, plugin, QUIET) for side in (one, two)]
    found = fidelity._figures(["fid"], extracted[0], extracted[1], "pixels")["fd"]
    unbiased = 4 / 3  # np.cov divides by N - 1
    exact = 10**2 + 5**2 + unbiased * ((10 - 30) ** 2 + (20 - 5) ** 2)
    assert found == pytest.approx(exact, rel=1e-9)


def test_a_set_has_no_distance_to_itself_and_order_does_not_matter():
    one = digits(slice(0, 400))
    shuffled = ImageSource("shuffled", one.images[np.random.default_rng(0).permutation(400)])
    assert abs(distance(one, shuffled)["fd"]) < 1e-4


def test_distances_rank_damage():
    real, held_out = digits(slice(0, 800)), digits(slice(800, 1600))
    noisy = held_out.images + np.random.default_rng(0).normal(0, 25, held_out.images.shape)
    noisy = ImageSource("noisy", noisy.clip(0, 255).astype(np.uint8))
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
    assert receipt["generated"] == describe_images("a", one.images)
    changed = one.images.copy()
    changed[3, 0, 1, 1] ^= 1
    assert describe_images("a", changed)["sha256"] != receipt["generated"]["sha256"]
    assert receipt["features"] == "digits-cnn" and receipt["layer"] == "64"
    assert set(receipt["versions"]) == {"sagd", "torch", "torch-fidelity", "numpy"}


@pytest.mark.parametrize(
    ("one", "two", "fragment"),
    [
        (np.zeros((1, 1, 8, 8)), np.zeros((9, 1, 8, 8)), "has 1 images"),
        (np.zeros((9, 1, 8, 8)), np.zeros((9, 1, 9, 9)), "resizing or recolouring"),
        (np.zeros((9, 3, 8, 8)), np.zeros((9, 3, 8, 8)), "is in colour"),
        (np.zeros((9, 2, 8, 8)), np.zeros((9, 2, 8, 8)), "not grey or RGB"),
    ],
)
def test_sets_that_cannot_be_compared(one, two, fragment):
    with pytest.raises(DataError, match=fragment):
        distance(ImageSource("one", one.astype(np.uint8)), ImageSource("two", two.astype(np.uint8)))


def test_few_images_for_many_features_are_warned_of(capsys):
    evaluate(
        digits(slice(0, 20)), digits(slice(20, 90)), ["fid"], "digits-cnn", {}, None, CPU, Output(quiet=True)
    )
    assert "covariance is singular" in capsys.readouterr().err


def test_the_gate_exits_3_after_printing_the_figure(sagd, tmp_path):
    np.save(tmp_path / "black.npy", np.zeros((80, 1, 8, 8), np.uint8))
    result = sagd("fid", tmp_path / "black.npy", "digits:test", "--max-fid", 1, "--json")
    assert result.code == 3 and result.json["fd"] > 1
    assert sagd("fid", "digits:test", "digits:test", "--max-fid", 1, "--max-kid", 0.1).code == 0


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """A state dict of Inception-v3 with random weights, as .pth and as .safetensors."""
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    state = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False).state_dict()
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state, folder / "inception.pth")
    save_file(state, folder / "inception.safetensors")
    return folder


def test_inception_takes_pytorch_fid_weights_in_both_formats(random_inception):
    random = np.random.default_rng(0)
    sides = [ImageSource(f"s{i}", random.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)) for i in range(2)]
    found = [
        evaluate(*sides, ["fid"], "inception", {"weights": random_inception / name}, "64", CPU, QUIET)
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
    assert torch.equal(theirs(x)[0], ours(x)[0]) and hash_weights(theirs) == hash_weights(ours)


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
            inception.read_weights(path)
    assert not canary.exists()


def _saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_weights_of_another_architecture_are_named(tmp_path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="does not hold the weights of the FID's Inception-v3"):
        inception.build(inception.InceptionOptions(weights=tmp_path / "other.pth"), ("2048",))
