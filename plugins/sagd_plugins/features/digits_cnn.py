"""`digits-cnn`: 64 features of small grey images, from a classifier of 28x28 digits, for Fréchet distances.

The features are the globally averaged, rectified outputs of the last convolution, as Inception-v3's 2048
are in the usual FID (Heusel et al. 2017, arXiv 1706.08500). The weights beside this module are made by
`python benchmarks/train_digits_cnn.py`.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from sagd_cli.errors import DataError, UsageError
from sagd_cli.plugin import Options

WEIGHTS = Path(__file__).with_name("digits_cnn.safetensors")
SIDE = 28
LARGEST_SIDE = 32
FEATURES = 64
CLASSES = 10


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution, batch normalisation and rectification."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class DigitsCNN(nn.Module):
    """Convolutional classifier of 28x28 grey digits with a 64-dimensional penultimate layer.

    Both `features` and `forward` take a float tensor (N, 1, 28, 28) in [0, 1], white strokes on black.
    """

    def __init__(self) -> None:
        """Build the network with torch's random initial weights."""
        super().__init__()
        self.blocks = nn.Sequential(
            _block(1, 16),
            _block(16, 32, stride=2),
            _block(32, 64),
            _block(64, 64, stride=2),
            _block(64, 64),
            _block(64, FEATURES),
        )
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the penultimate layer: non-negative features, shape (N, 64)."""
        features: torch.Tensor = self.blocks(x).mean(dim=(-2, -1))
        return features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the unnormalised log-probabilities of the ten digits, shape (N, 10)."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits


def prepare(images: torch.Tensor) -> torch.Tensor:
    """Scale and resize images for `DigitsCNN`.

    Args:
        images: uint8 (N, 1, H, W), H and W at most 32.

    Returns:
        float32 (N, 1, 28, 28) in [0, 1]: antialiased bilinear resampling, the values / 255 alone at 28x28.

    Raises:
        DataError: if the images are not uint8, not grey or larger than 32x32.
    """
    shape = tuple(images.shape)
    if images.dtype != torch.uint8:
        raise DataError(f"digits-cnn reads uint8 images, not {images.dtype}.", "Scale them to 0..255.")
    if images.ndim != 4 or shape[1] != 1:
        raise DataError(f"digits-cnn reads grey images (N, 1, H, W), not {shape}.", "Use other features.")
    if max(shape[-2:]) > LARGEST_SIDE:
        raise DataError(
            f"digits-cnn reads images of at most {LARGEST_SIDE}x{LARGEST_SIDE} pixels, not {shape[-2:]}.",
            "Use other features for larger images.",
        )
    scaled = images.float() / 255
    if shape[-2:] == (SIDE, SIDE):
        return scaled
    return F.interpolate(scaled, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


def load_digits_cnn() -> DigitsCNN:
    """Return the packaged classifier on the CPU, in evaluation mode, its parameters frozen."""
    model = DigitsCNN()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval().requires_grad_(False)


class DigitsFeatures(FeatureExtractorBase):
    """`DigitsCNN` as a feature extractor of torch-fidelity, with the layers "64" and "logits"."""

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | None = None,
        **settings: object,
    ) -> None:
        """Load the packaged weights.

        Args:
            name: the name under which the class is registered with torch-fidelity.
            features_list: the layers to return, in this order.
            feature_extractor_weights_path: must be None; the weights are the packaged ones.
            **settings: the other settings of torch-fidelity's run, which it passes to every extractor.

        Raises:
            UsageError: if a path of other weights is given.
        """
        super().__init__(name, features_list)
        if feature_extractor_weights_path is not None:
            raise UsageError(f"{name} has its own weights.", "Leave feature_extractor_weights_path out.")
        self.model = load_digits_cnn()

    def forward(self, input: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the requested layers of uint8 images (N, 1, H, W): "64" (N, 64), "logits" (N, 10)."""
        features = self.model.features(prepare(input))
        layers = {"64": features, "logits": self.model.classifier(features)}
        return tuple(layers[layer] for layer in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Return the names of the layers."""
        return "64", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Return the layer that `metric` ("isc", "fid", "kid" or "prc") is computed from."""
        return {"isc": "logits", "fid": "64", "kid": "64", "prc": "64"}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """Return False: the network is too small for a compilation to pay."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> torch.Tensor:
        """Return uint8 images (1, 1, 28, 28)."""
        return torch.zeros(1, 1, SIDE, SIDE, dtype=torch.uint8)


def build(options: Options, layers: tuple[str, ...]) -> DigitsFeatures:
    """Return the extractor of `layers`."""
    return DigitsFeatures("digits-cnn", list(layers))
