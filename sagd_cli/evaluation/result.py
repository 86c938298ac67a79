"""The results of `sagd fid` as files: what a result that was read is known to hold."""

import sys
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from sagd_cli.config.documents import Document, Number, check_document
from sagd_cli.errors import DataError, SagdError, UsageError
from sagd_cli.metrics.catalogue import figures
from sagd_cli.system.files import read_json

RESULTS = "evaluation"  # the folder of a run that holds its results
LARGEST_RESULT = 100_000_000  # bytes of a file that may hold a result


class Figures(Document):
    """An object whose figures, where it has any, are numbers."""

    @model_validator(mode="after")
    def _has_numbers(self) -> Self:
        for key in (key for figure in figures() for key in figure.keys):
            value = (self.model_extra or {}).get(key)
            if value is not None and not _is_number(value):
                raise ValueError(f"its {key} is not a finite number")
        return self


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) <= sys.float_info.max


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


class _Result(Figures):
    label: str
    receipt: _Receipt
    repeats: _Repeats | None = None
    spectra: _Spectra | None = None


def check_result(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the `document` that was read from the file `name`; raise DataError unless it is a result of `sagd fid`."""
    hint = "Write one with `sagd fid … --output FILE.json`."
    check_document(_Result, document, name, "result of sagd fid", hint)
    return document


def read_result(path: Path) -> dict[str, Any]:
    """Read what `sagd fid --json` printed.

    Raises UsageError when the file cannot be read, DataError when it does not hold such a result.
    """
    try:
        return check_result(read_json(path, LARGEST_RESULT), str(path))
    except DataError:
        raise
    except SagdError as error:
        raise UsageError(error.message) from None
