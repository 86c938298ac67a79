"""A folder of images."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from sagd_cli.errors import UsageError
from sagd_cli.images import read_folder
from sagd_cli.plugin import DatasetPlugin, ImageSet, Options, Split, hookimpl


class FolderOptions(Options):
    """Which folder, and the size to bring its images to."""

    path: Path = Field(Path("images"), description="Folder of PNG, JPEG, WebP, TIFF, BMP or PGM files.")
    size: int | None = Field(None, ge=2, description="Crop the centre square and resize it to this side.")


def build(options: FolderOptions, split: Split) -> ImageSet:
    """Read every image of the folder; raise DataError on mixed sizes without `size` and on unreadable files."""
    if split == "test":
        raise UsageError(
            f"the folder {options.path} has no held-out split", "Name the folder of the test images."
        )
    return ImageSet(read_folder(options.path, options.size))


@hookimpl
def sagd_datasets() -> Iterable[DatasetPlugin]:
    """Provide `folder`."""
    yield DatasetPlugin(
        "folder", "images of one size in a folder, or of any size with size=N", FolderOptions, build
    )
