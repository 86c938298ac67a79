"""Ranges of pixels: black is -1 and white is 1, whatever holds the image."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.image_files import noise

from sagd_cli.data.ranges import (
    BYTES as BYTE_RANGE,
)
from sagd_cli.data.ranges import (
    UNIT,
    Range,
    RangeSurvey,
    ToBytes,
    array_signal,
    changed_pixels,
    clipped_values,
    image_pixels,
    image_signal,
    to_bytes,
    type_range,
)
from sagd_cli.data.tensors import tensor_pixels, tensor_signal
from sagd_cli.errors import DataError, UsageError
from sagd_cli.files.layout import IMAGE_TYPES

BYTES = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)


@pytest.mark.parametrize(("kind", "value"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_black_and_white_are_the_ends_of_the_signal(kind, value):
    dtype = np.dtype(kind)
    assert type_range(dtype) == Range(0, value)
    ends = np.array([0, value], dtype)
    assert image_signal(ends).tolist() == [-1, 1]
    np.testing.assert_array_equal(image_pixels(np.array([-1.0, 1.0]), dtype), ends, strict=True)


def test_types_that_images_do_not_have_have_no_range():
    for kind in ("int64", "complex64", "bool"):
        with pytest.raises(KeyError):
            type_range(np.dtype(kind))


def test_images_arrays_and_tensors_of_bytes_have_one_signal_and_come_back_the_same():
    signals = image_signal(BYTES), array_signal(BYTES), tensor_signal(torch.from_numpy(BYTES)).numpy()
    for signal in signals:
        np.testing.assert_allclose(signal, signals[1], atol=1e-7)
        np.testing.assert_array_equal(image_pixels(signal, BYTES.dtype), BYTES, strict=True)
        np.testing.assert_array_equal(ToBytes()(0, signal), BYTES, strict=True)
        np.testing.assert_array_equal(tensor_pixels(torch.from_numpy(signal)), BYTES, strict=True)
    assert to_bytes(BYTES) is BYTES


def test_floats_are_signals_in_arrays_and_tensors_and_pixels_in_image_files():
    values = np.array([-3, -1, 0, 0.5, 1, 3], np.float32)
    assert (
        array_signal(values).tolist() == tensor_signal(torch.from_numpy(values)).tolist() == values.tolist()
    )
    assert image_signal(values).tolist() == [-7, -3, -1, 0, 1, 5]
    to = ToBytes()
    assert to(0, values).tolist() == [0, 0, 128, 191, 255, 255]
    assert to.clipped == 2
    assert to_bytes(values).tolist() == [0, 0, 0, 128, 255, 255]


@pytest.mark.parametrize("values", [np.array([True]), np.array([1j]), np.array(["a"])])
def test_arrays_that_are_no_numbers_are_refused(values):
    with pytest.raises(DataError, match="are no image"):
        array_signal(values)


@pytest.mark.parametrize("text", ["0:4095", "-1000:3000", "0.5:1e3"])
def test_a_range_is_text_and_back(text):
    low, high = map(float, text.split(":"))
    assert Range.parse(text) == Range(low, high) == Range.parse(str(Range(low, high)))


@pytest.mark.parametrize("text", ["", "4095", "1:1", "2:1", "0:nan", "0:inf", "a:b", "0:1:2", ":"])
def test_text_that_is_no_range_is_wrong_use(text):
    with pytest.raises(UsageError, match="is not a range LO:HI"):
        Range.parse(text)


@given(st.floats(-1e4, 1e4), st.floats(1, 1e4), st.sampled_from(["uint8", "uint16", "float32"]))
def test_black_and_white_of_a_range_are_the_ends_of_the_signal(low, span, kind):
    values = Range(low, low + span)
    pixels = np.array(values.ends).astype(kind)
    signal = image_signal(pixels, values)
    exact = (pixels.astype(np.float64) - low) / span * 2 - 1
    np.testing.assert_allclose(signal, exact, atol=1e-6 * (1 + abs(low) / span) * np.abs(exact).max())
    again = image_pixels(exact, pixels.dtype, values)
    if kind == "float32":
        np.testing.assert_allclose(again, pixels, rtol=1e-6, atol=1e-6 * span)
    else:
        np.testing.assert_array_equal(again, pixels, strict=True)


def test_integers_are_clipped_by_their_type_and_not_by_the_range():
    values, kind = Range(0, 4095), np.dtype(np.uint16)
    signal = np.array([-1.5, -1, 1, 2, 40])
    assert image_pixels(signal, kind, values).tolist() == [0, 0, 4095, 6142, 65535]
    assert clipped_values(signal, kind, values) == 2


def decided(image):
    survey = RangeSurvey()
    survey.add(image)
    return survey.decided().of(image.dtype), len(survey.decided().remarks)


SPREAD = np.linspace(0, 1, 100)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (SPREAD, "float32", UNIT),
        (SPREAD * 0.2 + 0.1, "float32", UNIT),
        (SPREAD * 100, "uint8", BYTE_RANGE),
        (SPREAD * 40000, "uint16", Range(0, 65535)),
        (SPREAD * 0, "uint16", Range(0, 65535)),
    ],
)
def test_a_range_that_is_plain_needs_no_remark(values, kind, expected):
    assert decided(values.astype(kind)) == (expected, 0)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (SPREAD * 1.4 - 0.2, "float32", UNIT),  # noise has left it
        (SPREAD * 255, "float32", BYTE_RANGE),
        (SPREAD * 330 - 40, "float32", BYTE_RANGE),
        (SPREAD * 2040 - 1000, "float32", Range(-1000, 1040)),
        (SPREAD * 4080, "float32", Range(0, 4080)),
        (SPREAD * 4080, "uint16", Range(0, 4080)),
        (SPREAD * 30 + 20, "float32", Range(20, 50)),
    ],
)
def test_a_range_that_is_found_is_said(values, kind, expected):
    found, remarks = decided(values.astype(kind))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert remarks == 1


@pytest.mark.parametrize("low", [1.0, 1e6, -3.0])
def test_what_is_said_of_a_range_tells_its_ends_apart(low):
    survey = RangeSurvey()
    survey.add(np.array([low, low + 2.6e-7 * abs(low)]))
    said = re.search(r"from (\S+) to (\S+): .* as (\S+) and white as (\S+)$", survey.decided().remarks[0])
    first, second, black, white = said.groups()
    assert first == black == f"{low:.7g}" and second == white and float(white) > float(black)


def test_what_the_user_says_goes_first_and_what_a_file_states_second():
    image, stated = (SPREAD * 300).astype(np.float32), Range(0, 1000)
    survey = RangeSurvey()
    for one in (image, image * 3):
        survey.add(one, stated)
    assert survey.decided().of(image.dtype, stated) == stated and not survey.decided().remarks
    survey.add(image)
    assert survey.decided().of(image.dtype, stated) == stated
    assert survey.decided().of(image.dtype) == BYTE_RANGE
    told = RangeSurvey(Range(0, 500))
    told.add(image, stated)
    told.add(np.zeros(3, np.uint8))
    assert told.decided().of(image.dtype, stated) == Range(0, 500)
    assert told.decided().of(np.dtype(np.uint8)) == BYTE_RANGE
    alone = RangeSurvey(Range(0, 100))
    alone.add(np.zeros(3, np.uint8))
    assert alone.decided().of(np.dtype(np.uint8)) == Range(0, 100)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (SPREAD * 2, Range(0, 2)),
        (SPREAD * 510, Range(0, 510)),
        (SPREAD * 400, Range(0, 400)),
        (SPREAD * 1.4 - 0.84, Range(-1, 1)),
        (SPREAD * 2 - 1, Range(-1, 1)),
        (SPREAD * 3 - 1, UNIT),  # [0, 1] with noise of half its length on both sides
        (SPREAD * 1e-7 + 1, UNIT),
    ],
)
def test_a_range_is_no_wider_or_narrower_than_the_values_tell(values, expected):
    found, _ = decided(values.astype(np.float32))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize(
    ("low", "high"), [(3e-9, 2.5e-7), (-2e-7, 2e-7), (0.5, 0.501), (0, 0.01), (1e6, 1e6 + 1)]
)
def test_values_that_fill_little_of_a_range_have_one_of_their_own(low, high, kind):
    """Or most of their digits would be lost on it: those of a signal of 32 bits."""
    values = np.linspace(low, high, 4096, dtype=kind)
    (found, remarks) = decided(values)
    assert found == Range(float(values[0]), float(values[-1])) and remarks == 1
    signal = image_signal(values, found)
    np.testing.assert_allclose(signal, (values.astype(float) - found.low) * 2 / found.span - 1, atol=1e-6)
    assert len(np.unique(signal)) == len(np.unique(values))


@pytest.mark.parametrize("kind", IMAGE_TYPES)
def test_pixels_that_do_not_change_keep_all_their_digits(kind):
    pixels = noise((4, 50), kind)
    values = Range(float(pixels.min()), float(pixels.max()))
    signal = image_signal(pixels, values)
    np.testing.assert_array_equal(changed_pixels(pixels, signal - signal, values), pixels, strict=True)
    # A step of the range from its lowest value on is its highest one.
    low = np.full(3, values.low).astype(kind)
    np.testing.assert_array_equal(
        changed_pixels(low, np.full(3, 2.0), values), np.full(3, values.high).astype(kind)
    )


def test_changed_pixels_are_clipped_by_their_type_and_finite():
    for kind in ("uint8", "int16", "uint32", "float16"):
        ends = np.array([-1e9, 1e9]) if kind != "uint32" else np.array([-3.0, 3.0])
        changed = changed_pixels(np.zeros(2, kind), ends).astype(float)
        whole = np.finfo(kind) if kind == "float16" else np.iinfo(kind)
        assert changed.tolist() == [whole.min, whole.max]
    with pytest.raises(DataError, match="not finite"):
        changed_pixels(np.zeros(1, np.uint8), np.array([np.nan]))


def test_dark_pictures_of_16_bits_are_not_stretched():
    assert decided((SPREAD * 28270).astype(np.uint16)) == (Range(0, 65535), 0)
