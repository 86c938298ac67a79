"""Several processes restore one folder: those of `torchrun`, and those of --shard, which know nothing of each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.restoration import folder_work

ROOT = Path(__file__).resolve().parents[2]
OMIT = ("--noise", "stripe:horizontal,0,0", "--estimate", "wiener", "--json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Six images with offsets of rows, a stack of three of them, and a file that is none."""
    folder = tmp_path_factory.mktemp("shares") / "in"
    folder.mkdir()
    random = np.random.default_rng(0)
    smooth = 20000 + 9000 * np.sin(np.arange(64) / 9)
    planes = np.rint(smooth + random.normal(0, 600, (9, 64, 1))).astype(np.uint16)
    for k in range(6):
        tifffile.imwrite(folder / f"{k}.tif", planes[k])
    tifffile.imwrite(folder / "stack.tif", planes[6:], imagej=True)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(sagd, inputs, tmp_path):
    """What one process does: its exit code, its JSON with the place of the output left out, and its files."""
    done = sagd(
        "omit",
        inputs,
        *OMIT,
        "--truth",
        inputs,
        "--removed",
        tmp_path / "one-r",
        "--output",
        tmp_path / "one",
    )
    return (
        json.loads(done.out.replace(f"{tmp_path}/one", "OUT")),
        files(tmp_path / "one"),
        files(tmp_path / "one-r"),
    )


def same_records(whole, *documents):
    """Whether the records of the shares are those of the whole."""
    for key in ("files", "failed"):
        records = [record for document in documents for record in document[key]]
        assert sorted(records, key=lambda record: (record["input"], record.get("page", 0))) == whole[key]


def test_shares_are_the_whole_and_a_stack_is_of_one(sagd, inputs, tmp_path, whole):
    """Nine shares of eight files; one has nothing to do, and no output of another hinders."""
    more = ("--truth", inputs, "--removed", tmp_path / "all-r", "--output", tmp_path / "all")
    shares = [sagd("omit", inputs, *OMIT, *more, "--shard", f"{k}/9") for k in range(1, 10)]
    documents = [json.loads(share.out.replace(f"{tmp_path}/all", "OUT")) for share in shares]
    assert [share.code for share in shares] == [0] * 6 + [1, 0, 0], [share.err for share in shares]
    assert [len(document["files"]) for document in documents] == [1] * 6 + [0, 3, 0]
    same_records(whole[0], *documents)
    assert all(document["noise"] == whole[0]["noise"] for document in documents)
    assert (files(tmp_path / "all"), files(tmp_path / "all-r")) == whole[1:]


def test_a_share_that_was_stopped_goes_on_and_a_finished_one_is_kept(
    sagd, inputs, tmp_path, monkeypatch, whole
):
    write, written = ImageWriter.write, []

    def stopped_at_the_second(self, image_like, pixels, path):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path.name)
        return write(self, image_like, pixels, path)

    def share(k):
        return sagd("omit", inputs, *OMIT, "--output", tmp_path / "all", "--shard", f"{k}/2")

    monkeypatch.setattr(folder_work, "PIXELS_AT_ONCE", 1)
    monkeypatch.setattr(ImageWriter, "write", stopped_at_the_second)
    assert share(1).code == 130 and written == ["0.tif"]
    monkeypatch.setattr(ImageWriter, "write", write)
    assert share(2).code == 0
    again = share(1)
    assert "1 of 4 images were restored before" in again.err and again.code == 1
    assert files(tmp_path / "all") == whole[1]
    refused = share(2)
    assert refused.code == 2 and "1.tif exists already" in refused.err


def test_learning_is_not_shared(sagd, inputs, tmp_path):
    learn = ("omit", inputs, "--noise", "high:level=0.1", "--learn", "--output", tmp_path / "out")
    refused = sagd(*learn, "--shard", "1/2")
    assert (
        refused.code == 2
        and "would each learn the same model" in refused.err
        and "--save-model" in refused.err
    )
    assert not (tmp_path / "out").exists()


def test_a_share_that_is_none_is_refused(sagd, inputs, tmp_path):
    refused = sagd("omit", inputs, *OMIT, "--output", tmp_path / "out", "--shard", "3/2")
    assert refused.code == 2 and "--shard '3/2' is not K/N" in refused.err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_of_torchrun_do_what_one_does(inputs, tmp_path, whole):
    """Gloo on this machine: the same files and the same JSON, said once, and nothing is left over."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "sagd_cli",
    ]
    more = ("--truth", inputs, "--removed", tmp_path / "all-r", "--output", tmp_path / "all")
    done = subprocess.run(
        [*command, "omit", inputs, *OMIT, *more],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout.replace(f"{tmp_path}/all", "OUT")) == whole[0], done.stderr
    assert (files(tmp_path / "all"), files(tmp_path / "all-r")) == whole[1:]
    assert done.stderr.count("broken.png is not an image") == 1 and done.returncode == 1
