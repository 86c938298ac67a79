"""Image files that lie in other files: members of archives, cells of tables."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagd_cli.data.images import Image, image_in
from sagd_cli.errors import DataError
from sagd_cli.system.files import shown_path


@dataclass(frozen=True)
class Member:
    """The image file `name` in the file `path`. `contents` returns its bytes; its errors lack their subject."""

    path: Path
    name: str
    contents: Callable[[], bytes]

    @property
    def shown(self) -> str:
        """The names of both files, as text for a message."""
        return f"{shown_path(Path(self.name))} in {shown_path(self.path)}"

    def read(self) -> Image:
        """Read the image as `read_image` reads a file; raise DataError where it cannot be read or is empty."""
        try:
            image = image_in(self.contents(), self.path)
            if image.is_empty:
                raise DataError("holds nothing but missing data in one of its channels")
        except DataError as error:
            raise DataError(f"{self.shown} {error.message}", error.hint) from error
        return image
