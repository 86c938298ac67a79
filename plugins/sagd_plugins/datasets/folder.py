"""A folder of images, or a folder of such folders, each of which is a class."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import Field

from sagd_cli.data.folders import images_by_class
from sagd_cli.data.images import images_in
from sagd_cli.files.formats import FORMATS
from sagd_cli.plugin import DatasetPlugin, LazyImageSet, Split, hookimpl
from sagd_cli.system.choices import listing
from sagd_plugins.datasets._picture_sets import PictureImages, PictureOptions, PictureSet, no_test_split


class FolderOptions(PictureOptions):
    """Which folder, and the size, colour model and range to bring its images to."""

    path: Path = Field(
        Path("images"),
        description=f"Folder of {listing(FORMATS)} files, or of such folders, each a class.",
    )


def build(options: FolderOptions, split: Split) -> LazyImageSet:
    """Find the images of the folder; where it holds folders of images, each of these is a class, in the order of names.

    Raises UsageError for the test split, when there is no image, and when most images are in folders beside some that
    are not. Reading raises what `PictureSet.alike` says.
    """
    return _found(options, split).alike(options)


def stream(options: FolderOptions, split: Split) -> PictureImages:
    """Return the images as `PictureSet.as_they_are` says. Raises what `build` raises."""
    return _found(options, split).as_they_are(options)


def _found(options: FolderOptions, split: Split) -> PictureSet:
    no_test_split(options.path, split)
    folders = images_by_class(options.path)
    files = {folder: [*chain(*map(images_in, paths))] for folder, paths in folders.items()}
    places = [*chain(*files.values())]
    if [*files] == [options.path]:
        return PictureSet(places)
    labels = np.repeat(np.arange(len(files)), [*map(len, files.values())])
    return PictureSet(places, labels, tuple(folder.name for folder in files))


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `folder`."""
    yield DatasetPlugin(
        "folder",
        "images of one size in a folder, or of any size with size=N; folders in it are classes",
        FolderOptions,
        build,
        stream=stream,
    )
