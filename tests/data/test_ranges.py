"""Ranges of pixels: black is -1 and white is 1, whatever holds the image."""

import numpy as np
import pytest
import torch

from sagd_cli.data.ranges import array_pixels, array_signal, image_pixels, image_signal, to_bytes, white
from sagd_cli.data.tensors import tensor_pixels, tensor_signal
from sagd_cli.errors import DataError

BYTES = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)


@pytest.mark.parametrize(("kind", "value"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_black_and_white_are_the_ends_of_the_signal(kind, value):
    dtype = np.dtype(kind)
    assert white(dtype) == value
    ends = np.array([0, value], dtype)
    assert image_signal(ends).tolist() == [-1, 1]
    np.testing.assert_array_equal(image_pixels(np.array([-1.0, 1.0]), dtype), ends, strict=True)


def test_types_that_images_do_not_have_have_no_white():
    for kind in ("int16", "float64", "bool"):
        with pytest.raises(KeyError):
            white(np.dtype(kind))


def test_images_arrays_and_tensors_of_bytes_have_one_signal_and_come_back_the_same():
    signals = image_signal(BYTES), array_signal(BYTES), tensor_signal(torch.from_numpy(BYTES)).numpy()
    for signal in signals:
        np.testing.assert_allclose(signal, signals[1], atol=1e-7)
        np.testing.assert_array_equal(image_pixels(signal, BYTES.dtype), BYTES, strict=True)
        np.testing.assert_array_equal(array_pixels(signal), BYTES, strict=True)
        np.testing.assert_array_equal(tensor_pixels(torch.from_numpy(signal)), BYTES, strict=True)
    assert to_bytes(BYTES) is BYTES


def test_floats_are_signals_in_arrays_and_tensors_and_pixels_in_image_files():
    values = np.array([-3, -1, 0, 0.5, 1, 3], np.float32)
    assert (
        array_signal(values).tolist() == tensor_signal(torch.from_numpy(values)).tolist() == values.tolist()
    )
    assert image_signal(values).tolist() == [-7, -3, -1, 0, 1, 5]
    assert array_pixels(values).tolist() == [0, 0, 128, 191, 255, 255]
    assert to_bytes(values).tolist() == [0, 0, 0, 128, 255, 255]


@pytest.mark.parametrize("values", [np.array([True]), np.array([1j]), np.array(["a"])])
def test_arrays_that_are_no_numbers_are_refused(values):
    with pytest.raises(DataError, match="are no image"):
        array_signal(values)
