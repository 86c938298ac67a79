"""Several processes restore one folder: those of `torchrun`, and those of --shard, which know nothing of each other."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from support.worlds import run_together

from sagd_cli.commands import omit
from sagd_cli.data import journal
from sagd_cli.data.folders import list_images
from sagd_cli.data.image_writer import ImageWriter
from sagd_cli.data.journal import file_state
from sagd_cli.restoration import folder_work, omission

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


def test_what_failed_ends_no_process_before_all_is_written(inputs, tmp_path, capfd):
    """A launcher ends all processes when one fails, and the first one still writes."""

    def slow(rank):
        def draw(result, shown, path, force):
            time.sleep(0.8)  # longer than a launcher waits
            path.write_text(f"{len(shown)} images")

        omit._draw = draw

    figure, record = tmp_path / "f.png", tmp_path / "r.json"
    also = ("--figure", figure, "--record", record, "--output", tmp_path / "out")
    assert run_together(2, ("omit", inputs, *OMIT, *also), slow) == [1, 0]
    told = capfd.readouterr()
    assert figure.read_text() == "3 images" and told.err.count('"error"') == 1, told.err
    found = json.loads(record.read_text())
    assert len(found["files"]) == 9 and len(found["failed"]) == 1


def unlisted(folder):
    return list_images(folder)[:-1]


def of_another_size(path):
    state = file_state(path)
    return [state[0] + 1, state[1]] if str(path).endswith("stack.tif") else state


@pytest.mark.parametrize(
    "change", [("omission.list_images", unlisted), ("journal.file_state", of_another_size)]
)
def test_processes_that_see_other_files_do_not_restore_together(inputs, tmp_path, capfd, change):
    def elsewhere(rank):
        if rank == 1:
            module, name = change[0].split(".")
            setattr({"omission": omission, "journal": journal}[module], name, change[1])

    command = ("omit", inputs, *OMIT, "--truth", inputs, "--output", tmp_path / "out")
    assert 0 not in run_together(2, command, elsewhere)
    told = capfd.readouterr()
    assert "process 1 has other files than process 0" in told.err and told.err.count('"error"') == 1, told.err
    assert not told.out and not (tmp_path / "out").exists()


def test_who_began_says_how_many_and_force_leaves_nothing_of_them(sagd, inputs, tmp_path):
    """The broken file is of the first share, whose journal is kept."""
    into = ("omit", inputs, *OMIT, "--output", tmp_path / "all")
    journals = tmp_path.glob
    assert sagd(*into, "--shard", "1/2").code == 1 and len([*journals(".all-omission-1-of-2/*")]) == 1
    for other in ((), ("--shard", "1/3")):
        refused = sagd(*into, *other)
        assert refused.code == 2 and "all was begun by 2 processes" in refused.err and "K/2" in refused.err
    assert sagd(*into, "--force").code == 1
    assert [path.name for path in journals(".all-omission*")] == [".all-omission"]
    refused = sagd(*into, "--shard", "2/2")
    assert refused.code == 2 and "all was begun by one process" in refused.err


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
