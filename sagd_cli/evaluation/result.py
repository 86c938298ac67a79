"""The results of `sagd fid` as files: what of one may be relied on once it was read."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from sagd_cli.config.documents import Document, Number, check_document
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.system.files import read_json

LARGEST_RESULT = 100_000_000  # bytes of a file that may hold a result


class _Sampling(Document):
    checkpoint: str
    sampler: str
    steps: int
    spacing: str
    seeds: Annotated[list[int], Field(min_length=2, max_length=2)]


class _Images(Document):
    path: str
    count: int | None = None
    shape: list[int] | None = None
    sha256: str | None = None
    sampling: _Sampling | None = None


class _Receipt(Document):
    generated: _Images
    reference: _Images
    features: str
    layer: str
    weights_sha256: str
    versions: dict[str, str]


class _Repeats(Document):
    count: Annotated[int, Field(ge=2)]
    deviation: dict[str, Number]


class _Band(Document):
    ratio: Number
    ratio_se: Number


class _Spectra(Document):
    bands: dict[str, _Band]


class _Result(Document):
    label: str
    receipt: _Receipt
    fd: Number | None = None
    fd_floor: Number | None = None
    kid: Number | None = None
    kid_std: Number | None = None
    precision: Number | None = None
    recall: Number | None = None
    isc: Number | None = None
    isc_std: Number | None = None
    repeats: _Repeats | None = None
    spectra: _Spectra | None = None


def check_result(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what was read from the file `name`; raise DataError when it is no result of `sagd fid`."""
    hint = "Write one with `sagd fid … --output FILE.json`."
    check_document(_Result, document, name, "result of sagd fid", hint)
    return document


def read_result(path: Path) -> dict[str, Any]:
    """Read what `sagd fid --json` printed; raise UsageError when there is no file, DataError when it is no result."""
    try:
        return check_result(read_json(path, LARGEST_RESULT), str(path))
    except DataError:
        raise
    except SagdError as error:
        raise UsageError(error.message) from None
