"""Squares of images: where the square lies, how near draft decoding is to full decoding, and when it is not used."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from sagd_cli.files.squares import jpeg_square, resized_square

PHOTOGRAPHS = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))


def jpeg(pixels, **how):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **{"quality": 95, **how})
    return file.getvalue()


def samples_of(data):
    return np.atleast_3d(np.asarray(Image.open(BytesIO(data))))


def psnr(one, other):
    error = np.mean((one.astype(float) - other) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def waves(height, width):
    """A smooth picture without a symmetry, so that one that is moved by a part of a pixel differs."""
    y, x = np.mgrid[:height, :width].astype(float)
    planes = [np.sin(x / 17 + k) * np.cos(y / 23 - k) + (x - 2 * y) / (height + width) for k in range(3)]
    return np.rint(128 + 50 * np.stack(planes, axis=2)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [16, 32, 64])
def test_draft_decoding_is_near_to_full_decoding(path, size):
    """427 pixels become 54, 107 and 214 of the 427."""
    data = path.read_bytes()
    full = resized_square(samples_of(data), size)
    square = jpeg_square(data, size)
    assert square.shape == (size, size, 3) and square.dtype == np.uint8
    assert 45 < psnr(square, full) < np.inf


def test_what_is_not_twice_as_large_is_decoded_whole():
    data = PHOTOGRAPHS[0].read_bytes()
    assert np.array_equal(jpeg_square(data, 128), resized_square(samples_of(data), 128))


@pytest.mark.parametrize("shape", [(375, 500), (501, 374), (263, 263), (337, 1001)])
@pytest.mark.parametrize("size", [16, 40])
def test_the_square_lies_where_full_decoding_has_it(shape, size):
    """Also where no side is a multiple of 8: a shift by a quarter of a pixel would cost 10 dB and more."""
    data = jpeg(waves(*shape))
    assert psnr(jpeg_square(data, size), resized_square(samples_of(data), size)) > 50


def test_grey_stays_grey():
    data = jpeg(waves(300, 200)[..., 0])
    assert jpeg_square(data, 32).shape == (32, 32, 1)
    assert psnr(jpeg_square(data, 32), resized_square(samples_of(data), 32)) > 50


def test_what_is_not_plain_is_left_to_the_usual_way():
    pixels, exif = waves(90, 120), Image.Exif()
    plain = jpeg(pixels)
    exif[0x0112] = 6
    print_colours = BytesIO()
    Image.fromarray(pixels).convert("CMYK").save(print_colours, "JPEG")
    png = BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    others = [
        jpeg(pixels, exif=exif),
        print_colours.getvalue(),
        png.getvalue(),
        plain[:-900],
        plain[:20],
        b"",
    ]
    assert jpeg_square(plain, 16) is not None
    assert [jpeg_square(data, 16) for data in others] == [None] * len(others)


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_and_floats_are_alike(channels):
    """But for the rounding, and for what is clipped between the two axes."""
    pixels = waves(60, 90)[..., :channels]
    floats = resized_square(pixels.astype(np.float32), 24)
    assert floats.shape == (24, 24, channels) and floats.dtype == np.float32
    assert np.abs(resized_square(pixels, 24) - floats).max() <= 1.5


def test_a_square_of_the_size_asked_for_does_not_change():
    pixels = waves(24, 24)
    assert np.array_equal(resized_square(pixels, 24), pixels)
    assert np.array_equal(resized_square(pixels.astype(np.float32), 24), pixels)
