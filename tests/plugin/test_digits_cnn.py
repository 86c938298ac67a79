"""The digits-cnn features: exact shapes, batch independence, and a classifier that knows real digits."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch_fidelity
from safetensors import safe_open
from sagd_plugins.features.digits_cnn import (
    FEATURES,
    SIDE,
    WEIGHTS,
    DigitsCNN,
    DigitsFeatures,
    load_digits_cnn,
    prepare,
)
from torch.utils.data import Dataset
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from benchmarks.train_digits_cnn import accuracy, read_idx, read_mnist, read_sklearn_digits, reduce
from sagd_cli.errors import DataError, UsageError

DATA = Path(os.environ.get("SAGD_DATA") or Path(__file__).parents[3] / "shared" / "data")


class Images(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.fixture(scope="module")
def model():
    return load_digits_cnn()


@pytest.fixture(scope="module")
def digits():
    return read_sklearn_digits()


def frechet_distance(first, second):
    """torch-fidelity's Fréchet distance of the "64" layer, through its public registry."""
    return torch_fidelity.calculate_metrics(
        input1=Images(first),
        input2=Images(second),
        fid=True,
        feature_extractor="digits-cnn-test",
        cuda=False,
        save_cpu_ram=True,
        cache=False,
        verbose=False,
    )["frechet_inception_distance"]


def test_weights_are_small_float32_and_name_their_origin():
    assert WEIGHTS.stat().st_size < 1_000_000
    with safe_open(WEIGHTS, framework="pt") as file:
        assert {"training_data", "seed", "epochs", "accuracy"} <= file.metadata().keys()
        dtypes = {key: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118 (not a mapping)
    assert {d for key, d in dtypes.items() if not key.endswith("num_batches_tracked")} == {torch.float32}


def test_loaded_classifier_is_frozen_and_in_evaluation_mode(model):
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_logits_are_the_classifier_of_the_64_features(model, digits):
    x = prepare(digits[0][:5])
    features = model.features(x)
    assert features.shape == (5, 64) == (5, FEATURES)
    assert features.dtype == torch.float32
    assert torch.equal(model(x), model.classifier(features))


def test_prepare_leaves_28x28_alone():
    images = torch.arange(SIDE * SIDE).remainder(256).to(torch.uint8).view(1, 1, SIDE, SIDE)
    assert torch.equal(prepare(images), images.float() / 255)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (9, 31)])
def test_prepare_keeps_constants_and_the_range(size):
    constant = torch.full((1, 1, *size), 51, dtype=torch.uint8)
    torch.testing.assert_close(prepare(constant), torch.full((1, 1, SIDE, SIDE), 0.2))
    noise = torch.randint(0, 256, (4, 1, *size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert prepare(noise).amin() >= 0
    assert prepare(noise).amax() <= 1


@pytest.mark.parametrize(
    ("images", "word"),
    [
        (torch.zeros(1, 1, 8, 8), "uint8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "grey"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), "grey"),
        (torch.zeros(1, 1, 8, 33, dtype=torch.uint8), "32x32"),
    ],
)
def test_prepare_refuses_what_the_classifier_cannot_read(images, word):
    with pytest.raises(DataError, match=word):
        prepare(images)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_features_do_not_depend_on_the_batch_size(model, digits, batch):
    x = prepare(digits[0][:128])
    in_batches = torch.cat([model.features(part) for part in x.split(batch)])
    torch.testing.assert_close(in_batches, model.features(x), rtol=0, atol=1e-5)


def test_accuracy_on_real_8x8_digits_it_was_not_trained_on(model, digits):
    assert accuracy(model, *digits) >= 0.94


@pytest.mark.parametrize("layers", [["64"], ["logits"], ["logits", "64"]])
def test_extractor_returns_the_requested_layers_in_order(model, digits, layers):
    images = digits[0][:6]
    expected = {"64": model.features(prepare(images)), "logits": model(prepare(images))}
    found = DigitsFeatures("digits-cnn", layers)(images)
    assert isinstance(found, tuple)
    assert len(found) == len(layers)
    for layer, value in zip(layers, found, strict=True):
        assert torch.equal(value, expected[layer])


def test_extractor_refuses_other_weights():
    with pytest.raises(UsageError, match="own weights"):
        DigitsFeatures("digits-cnn", ["64"], feature_extractor_weights_path="other.pth")


def test_frechet_distance_grows_with_damage(digits, monkeypatch):
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "digits-cnn-test", DigitsFeatures)
    images = digits[0]
    first, second = images[0::2], images[1::2]
    noise = torch.randn(second.shape, generator=torch.Generator().manual_seed(0))
    noisy = [
        (second + sigma * 255 * noise).round().clamp(0, 255).to(torch.uint8) for sigma in (0.05, 0.1, 0.2)
    ]
    distances = [frechet_distance(first, other) for other in (first, second, *noisy)]
    assert abs(distances[0]) < 1e-3
    assert all(2 * near < far for near, far in pairwise(distances[1:]))


def test_untrained_weights_do_not_pass_the_accuracy_test(digits):
    torch.manual_seed(0)
    assert accuracy(DigitsCNN().eval(), *digits) < 0.3


def test_truncated_idx_file_is_refused(tmp_path):
    (tmp_path / "labels").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 5, 1, 2, 3)))
    with pytest.raises(DataError, match="cut short"):
        read_idx(tmp_path, "labels")


@pytest.mark.slow
def test_accuracy_on_all_mnist_test_images(model):
    if not any((DATA / "mnist").glob("t10k-*")):
        pytest.skip(f"no MNIST test files in {DATA / 'mnist'} (set SAGD_DATA to the folder that has mnist/)")
    images, labels = read_mnist(DATA / "mnist", "t10k")
    assert len(images) == 10_000
    assert accuracy(model, images, labels) >= 0.99
    assert accuracy(model, reduce(images[:2000], 8), labels[:2000]) >= 0.96
