"""The record of `digits-cnn`; the network itself, which needs torch, is in `digits_cnn`."""

from collections.abc import Iterable

from sagd_cli.plugin import FeaturePlugin, Options, hookimpl


@hookimpl
def sagd_features() -> Iterable[FeaturePlugin]:
    """Provide `digits-cnn`."""
    yield FeaturePlugin(
        "digits-cnn",
        "64 features of a small MNIST classifier of ours, for grey images up to 32 pixels",
        Options,
        "sagd_plugins.features.digits_cnn:build",
        layers=("64",),
        channels=1,
        distance="fd-digits-cnn",
        logits="logits",
    )
