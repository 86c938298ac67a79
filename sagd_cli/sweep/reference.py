"""What the samples of a sweep are compared with when nothing is said. Imports no torch."""

from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.datasets import open_images
from sagd_cli.errors import SagdError
from sagd_cli.system.console import Output


def held_out(dataset: DatasetConfig, output: Output) -> DatasetConfig:
    """The held-out images of a data set, where it has any, else with a note the images that are trained on."""
    test = dataset.model_copy(update={"split": "test"})
    try:
        open_images(test)
    except SagdError:
        output.note(
            f"{dataset.subject} has no held-out images: samples are compared with those that are trained on"
        )
        return dataset
    return test
