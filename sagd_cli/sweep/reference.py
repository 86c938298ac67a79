"""What the samples of a sweep are compared with by default. No torch."""

from sagd_cli.config.run import DatasetConfig
from sagd_cli.datasets.loading import open_images
from sagd_cli.errors import SagdError
from sagd_cli.system.console import Output


def held_out(dataset: DatasetConfig, output: Output) -> DatasetConfig:
    """Return the held-out images of a data set; when it has none, return those that are trained on, and say so."""
    test = dataset.model_copy(update={"split": "test"})
    try:
        open_images(test)
    except SagdError:
        output.note(
            f"{dataset.subject} has no held-out images: samples are compared with those that are trained on"
        )
        return dataset
    return test
