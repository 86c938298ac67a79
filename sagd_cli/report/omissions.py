"""What a report shows of an omission: the JSON record of `sagd omit`, and images that are still where they were."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagd_cli.data.images import read_image
from sagd_cli.data.outcome import RestoredImage
from sagd_cli.data.ranges import Range, Signal, image_signal
from sagd_cli.errors import DataError, SagdError

MOST_PAIRS = 4


@dataclass(frozen=True, eq=False)
class OmissionRecord:
    """The JSON object of a `sagd omit`, by the name of its file, and some of its images."""

    name: str
    result: dict[str, Any]
    images: Sequence[RestoredImage]

    @property
    def lacks_images(self) -> bool:
        """Whether none of its images is where it was."""
        return bool(self.result["files"]) and not self.images


def read_omission(name: str, found: dict[str, Any]) -> OmissionRecord:
    """Return what was `found` in the file `name`, with the first of its images; raise DataError on anything else."""
    if not (isinstance(found.get("files"), list) and "band" in found):
        raise DataError("it is no result of sagd fid or sagd omit")
    return OmissionRecord(name, found, _first_images(found["files"]))


def file_name(record: dict[str, Any]) -> str:
    """Return the name of the file that was restored, without its folders."""
    return str(record["input"]).rpartition("/")[2]


def _first_images(records: Sequence[Any]) -> list[RestoredImage]:
    """Return the first images that are still where they were."""
    found: list[RestoredImage] = []
    for record in records:
        if len(found) == MOST_PAIRS:
            break
        try:
            before, after = _signal_of(record, "input"), _signal_of(record, "output")
            found.append(RestoredImage(file_name(record), before, after, record))
        except (SagdError, KeyError, TypeError):
            continue
    return found


def _signal_of(record: dict[str, Any], key: str) -> Signal:
    values = Range(*record["range"]) if "range" in record else None
    return image_signal(read_image(Path(record[key])).pixels, values)
