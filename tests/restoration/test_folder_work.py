"""Images of a folder are restored on several threads or processes, and nobody sees it but by the clock."""

import json

import numpy as np
import pytest
import tifffile

from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.restoration import folder_work

TOLD = ("--noise", "stripe:horizontal,0,0:level=0.8", "--estimate", "wiener")


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Nine images of 16 bits and of two shapes, with offsets of rows; the fifth is too small for the noise."""
    folder = tmp_path_factory.mktemp("slices") / "in"
    folder.mkdir()
    random = np.random.default_rng(0)
    for k in range(9):
        shape = (1, 1) if k == 4 else (64 + 16 * (k > 6), 64)
        image = 30000 + 4000 * np.sin(np.arange(shape[1]) / 9) + random.normal(0, 2000, (shape[0], 1))
        tifffile.imwrite(folder / f"{k}.tif", np.rint(image + random.normal(0, 50, shape)).astype(np.uint16))
    return folder


@pytest.mark.parametrize(
    "least",
    [folder_work.PIXELS_OF_A_PROCESS, pytest.param(1, marks=pytest.mark.slow)],
    ids=["threads", "processes"],
)
def test_threads_and_processes_change_nothing(sagd, slices, tmp_path, monkeypatch, least):
    found = []
    monkeypatch.setattr(folder_work, "PIXELS_OF_A_PROCESS", least)
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        output = tmp_path / "same"
        done = sagd("omit", slices, *TOLD, "--truth", slices, "--output", output, "--json")
        files = {path.name: path.read_bytes() for path in sorted(output.iterdir())}
        found.append((done.code, json.loads(done.out), done.err, files))
        output.rename(tmp_path / threads)
    assert found[0] == found[1]
    code, result, _, files = found[0]
    assert code == 1 and [record["input"][-5:] for record in result["failed"]] == ["4.tif"]
    assert [record["input"][-5:] for record in result["files"]] == sorted(files) and len(files) == 8


def test_what_was_written_before_a_signal_is_whole(sagd, slices, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    write = ImageWriter.write

    def interrupted(self, image_like, pixels, path):
        if path.name == "2.tif":
            raise KeyboardInterrupt
        return write(self, image_like, pixels, path)

    monkeypatch.setattr(ImageWriter, "write", interrupted)
    done = sagd("omit", slices, *TOLD, "--output", tmp_path / "out")
    assert done.code == 130
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["0.tif", "1.tif"]
    assert all(tifffile.imread(tmp_path / "out" / name).shape == (64, 64) for name in written)
