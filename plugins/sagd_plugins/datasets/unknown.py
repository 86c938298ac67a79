"""The data of a model that was trained elsewhere: they are not known."""

from collections.abc import Iterable
from typing import NoReturn

from sagd_cli.errors import UsageError
from sagd_cli.plugin import DatasetPlugin, Options, Split, hookimpl


def build(options: Options, split: Split) -> NoReturn:
    """Raise UsageError: there are no images."""
    raise UsageError(
        "the data that this model was trained on are not known",
        "Name them: `--data DATA` of `sagd import`, `--dataset DATA` of `sagd train`.",
    )


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `unknown`."""
    yield DatasetPlugin(
        "unknown", "the data of an imported model, which are not named; holds no image", Options, build
    )
