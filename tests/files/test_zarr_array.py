"""What the documents of a Zarr array say: the values that stand for missing data, and how it is stored."""

import base64
import struct

import numpy as np
import pytest
from imagecodecs.numcodecs import Lerc

from sagd_cli.data.images import read_image
from sagd_cli.errors import DataError

zarr = pytest.importorskip("zarr", reason="zarr is not installed: pip install 'sagd[zarr]'")
numcodecs = pytest.importorskip("numcodecs")

PIXELS = np.random.default_rng(0).integers(0, 60000, (5, 10, 12))


def no_data_of(path, pixels, attributes=(), **options):
    """Write an array; return what its second plane states as missing and holds where data are missing."""
    array = zarr.create_array(
        path,
        shape=pixels.shape,
        dtype=pixels.dtype,
        attributes=dict(attributes),
        overwrite=True,
        **{"chunks": (1, *pixels.shape[1:]), **options},
    )
    array[0] = pixels[0] + 1
    array[1, :5] = pixels[1, :5]
    image = read_image(path, 1)
    return image.metadata.no_data, [] if image.missing is None else np.unique(image.missing.values).tolist()


def test_missing_data_are_those_that_attributes_or_chunks_that_were_not_written_state(tmp_path):
    pixels, path = np.where(PIXELS % 7, PIXELS % 100, -9999).astype(np.int16), tmp_path / "a.zarr"
    floats = np.where(pixels < 0, 77, pixels).astype(np.float32)
    stated, whole = ((-9999.0,), [-9999]), {"chunks": (1, 10, 12), "fill_value": -9999}
    other = int(pixels[1, :5].max())
    for name in ("_FillValue", "missing_value"):
        for version in (2, 3):
            assert no_data_of(path, pixels, {name: -9999}, zarr_format=version) == stated
    both = no_data_of(path, pixels, {"_FillValue": -9999, "missing_value": [-9999, other, "?"]})
    assert both == ((-9999, other), [-9999, other])
    assert no_data_of(path, pixels, {"_FillValue": None, "missing_value": {}}) == ((), [])
    coded = base64.standard_b64encode(struct.pack("<d", 77)).decode()
    assert no_data_of(path, floats, {"_FillValue": coded}) == ((77.0,), [77.0])
    assert no_data_of(path, pixels, chunks=(1, 2, 12), fill_value=-9999) == stated
    assert no_data_of(path, pixels, chunks=(1, 2, 12), shards=(1, 10, 12), fill_value=-9999) == stated
    assert no_data_of(path, pixels[:2], {"_ARRAY_DIMENSIONS": [*"zyx"]}, zarr_format=2, **whole) == stated
    assert no_data_of(path, pixels[:2], **whole) == no_data_of(path, pixels) == ((), [])
    assert no_data_of(path, floats, {"_FillValue": "NaN"}, fill_value=np.nan)[0] == ()


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
def test_codecs_that_may_change_values_are_refused(tmp_path):
    """In version 2, where 25.5 would become 0, in the shards of version 3, and as the compressor of version 2."""
    pixels, chunks = np.linspace(0, 25.5, 200, dtype=np.float32).reshape(2, 10, 10), (1, 10, 10)
    steps, bits = numcodecs.FixedScaleOffset(0, 10, "f4", "u1"), zarr.codecs.BitRound(keepbits=4)
    zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=chunks, filters=[steps], zarr_format=2)
    zarr.create_array(tmp_path / "b.zarr", data=pixels, chunks=chunks, filters=[bits], shards=(2, 10, 10))
    numcodecs.register_codec(Lerc)
    lossy = Lerc(level=0.1)
    zarr.create_array(tmp_path / "d.zarr", data=pixels, chunks=chunks, compressors=[lossy], zarr_format=2)
    for name, told in (("a.zarr", "fixedscaleoffset"), ("b.zarr", "bitround"), ("d.zarr", "lerc")):
        with pytest.raises(DataError, match=f"is stored by the codec {told}, which may change"):
            read_image(tmp_path / name)
    delta = numcodecs.Delta("f4")
    zarr.create_array(tmp_path / "c.zarr", data=pixels, chunks=chunks, filters=[delta], zarr_format=2)
    np.testing.assert_allclose(read_image(tmp_path / "c.zarr", 1).pixels[0], pixels[1], atol=1e-4)
