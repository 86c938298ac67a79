"""The benchmark of writing samples: both of its ways write every image."""

from PIL import Image

from benchmarks.sample_files import batched, images, one_by_one


def test_both_ways_write_the_same_pixels(tmp_path):
    pixels = images(3)
    for name, write in (("batched", batched), ("one by one", one_by_one)):
        write(tmp_path / name, pixels)
        files = sorted((tmp_path / name).glob("*.png"))
        assert [Image.open(file).getpixel((3, 5)) for file in files] == [
            tuple(image[:, 5, 3].tolist()) for image in pixels
        ]
