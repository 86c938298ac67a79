"""The results of `sagd fid` as files: what of one may be relied on once it was read."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sagd_cli.config import validate
from sagd_cli.errors import ConfigError, DataError, SagdError, UsageError
from sagd_cli.files import read_json

LARGEST = 100_000_000  # bytes of a file that may hold a result

Number = Annotated[float, Field(allow_inf_nan=False)]


class _Lenient(BaseModel):
    """Text is no number here, and keys that are not named here may be there."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Sampling(_Lenient):
    checkpoint: str
    sampler: str
    steps: int
    spacing: str
    seeds: Annotated[list[int], Field(min_length=2, max_length=2)]


class _Images(_Lenient):
    path: str
    count: int | None = None
    shape: list[int] | None = None
    sha256: str | None = None
    sampling: _Sampling | None = None


class _Receipt(_Lenient):
    generated: _Images
    reference: _Images
    features: str
    layer: str
    weights_sha256: str
    versions: dict[str, str]


class _Repeats(_Lenient):
    count: Annotated[int, Field(ge=2)]
    deviation: dict[str, Number]


class _Band(_Lenient):
    ratio: Number
    ratio_se: Number


class _Spectra(_Lenient):
    bands: dict[str, _Band]


class _Result(_Lenient):
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
    try:
        validate(_Result, document, name)
    except ConfigError as error:
        raise DataError(
            f"{name} holds no result of sagd fid: {error.message.removeprefix(f'{name}: ')}",
            "Write one with `sagd fid … --output FILE.json`.",
        ) from None
    return document


def read_result(path: Path) -> dict[str, Any]:
    """Read what `sagd fid --json` printed; raise UsageError when there is no file, DataError when it is no result."""
    try:
        return check_result(read_json(path, LARGEST), str(path))
    except DataError:
        raise
    except SagdError as error:
        raise UsageError(error.message) from None
