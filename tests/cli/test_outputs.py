"""No output replaces what the command reads, or another output; a figure that fails loses nothing else."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from support.expectations import refused


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A place with images, arrays, a filter and what looks like a run."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("photos/a.png", "photos/b.png", "tree/dark/c.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    shutil.copytree("photos", "truth")
    np.save("d.npy", random.integers(0, 256, (20, 1, 8, 8), dtype=np.uint8))
    (tmp_path / "f.yaml").write_text("type: white\n")
    for name in ("config.yaml", "metrics.jsonl", "checkpoints/step-00000001/manifest.json"):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp_path / "new").mkdir()
    return tmp_path


OMIT = ["omit", "photos", "--band", "high", "--estimate", "notch", "--output", "new"]
# The command, where OUT is the output; the input that it must not replace; the suffix that the output has to have.
REPLACING = [
    ("spectrum photos/a.png --plot OUT", "photos/a.png", ".png"),
    ("spectrum photos --plot OUT", "photos/b.png", ".png"),
    ("spectrum folder:path=photos,size=8 --plot OUT", "photos/b.png", ".png"),
    ("spectrum photos,size=8 --plot OUT", "photos/b.png", ".png"),
    ("spectrum tree --plot OUT", "tree/dark/c.png", ".png"),
    ("spectrum d.npy --plot OUT", "d.npy", ".png"),
    ("filter show f.yaml --output OUT", "f.yaml", ""),
    ("filter show f.yaml --plot OUT", "f.yaml", ".svg"),
    ("filter show white --data photos --plot OUT", "photos/a.png", ".png"),
    ("filter show white --data d.npy,layout=nchw --output OUT", "d.npy", ""),
    ("filter show run --output OUT", "run/config.yaml", ""),
    ("filter compare white f.yaml --plot OUT", "f.yaml", ".png"),
    ("filter compare white --data photos --plot OUT", "photos/a.png", ".png"),
    ("filter design --type white --data d.npy --output OUT", "d.npy", ""),
    ("filter fit d.npy --output OUT", "d.npy", ""),
    ("corrupt d.npy --band high --strength 1 --output OUT", "d.npy", ".npy"),
    ("corrupt photos --band high --strength 1 --output OUT", "photos/a.png", ".npy"),
    ("data prepare d.npy --output OUT", "d.npy", ".npy"),
    ("data prepare npy:path=d.npy --output OUT", "d.npy", ".npz"),
    ("data prepare photos --output OUT", "photos/a.png", ".npy"),
    ("fid d.npy digits:test --output OUT", "d.npy", ""),
    ("fid digits:test d.npy --output OUT", "d.npy", ""),
    ("fid digits:test d.npy --summary-md OUT", "d.npy", ""),
    ("fid d.npy --save-stats OUT", "d.npy", ".npz"),
    ("fid run d.npy --output OUT", "run/config.yaml", ""),
    ("fid run d.npy --summary-md OUT", "run/metrics.jsonl", ""),
    ("fid d.npy d.npy --features inception --weights f.yaml --output OUT", "f.yaml", ""),
    (" ".join([*OMIT, "--figure OUT"]), "photos/a.png", ".png"),
    (" ".join([*OMIT, "--record OUT"]), "photos/a.png", ""),
    (" ".join([*OMIT, "--truth truth --record OUT"]), "truth/a.png", ""),
    (" ".join([*OMIT, "--truth truth --figure OUT"]), "truth/b.png", ".png"),
    (" ".join([*OMIT, "--reference d.npy --record OUT"]), "d.npy", ""),
    (" ".join([*OMIT, "--model run --record OUT"]), "run/checkpoints/step-00000001/manifest.json", ""),
    ("sample run --grid OUT", "run/config.yaml", ".png"),
    ("sample run --prior run --fill prior --grid OUT", "run/metrics.jsonl", ".png"),
    ("report run --output OUT", "run/config.yaml", ".html"),
]


def same_file(path, how, suffix):
    """Another name of `path`, one that ends in `suffix`."""
    if how == "itself":
        return path
    if how == "another spelling":
        return path.parent / ".." / path.parent.name / "." / path.name
    link = path.parent / f"link{suffix}"
    (os.symlink if how == "symbolic link" else os.link)(path, link)
    return link


NAMES = ("itself", "another spelling", "symbolic link", "hard link")
CASES = [
    (*row, how)
    for row in REPLACING
    for how in NAMES
    if "link" in how or row[1].endswith(row[2])  # without a link, an output has the input's suffix
]


@pytest.mark.parametrize(("command", "source", "suffix", "how"), CASES, ids=lambda value: value)
def test_no_output_replaces_an_input(sagd, here, command, source, suffix, how):
    path = here / source
    before = path.read_bytes()
    target = same_file(path, how, suffix or ".json")
    words = [str(target) if word == "OUT" else word for word in command.split()]
    result = sagd(*words, "--force")
    refused(result, 2, f"{target} is where the input is", "Choose another name for --")
    assert path.read_bytes() == before and target.samefile(path) and not [*(here / "new").iterdir()]


TWICE = [
    (
        " ".join([*OMIT, "--figure x.png --record x.png"]),
        "--figure and --record would both be written to x.png",
    ),
    (" ".join([*OMIT, "--figure x.png --record new/../x.png"]), "--figure and --record would both be"),
    (" ".join([*OMIT, "--record new/a.png"]), "new/a.png would be written by --record and among the images"),
    (" ".join([*OMIT, "--figure new/../new/b.png"]), "would be written by --figure and among the images"),
    (" ".join([*OMIT[:-1], "other", "--record other"]), "would be written by --record and among the images"),
    ("filter show white --plot x.png --output x.png", "--plot and --output would both be written to x.png"),
    ("fid d.npy d.npy --output x --summary-md new/../x", "--output and --summary-md would both be"),
    ("spectrum d.npy --plot x.png", "x.png is a folder, and --plot writes a file"),
    ("filter fit d.npy --output new", "new is a folder, and --output writes a file"),
]


@pytest.mark.parametrize(("command", "sentence"), TWICE, ids=[row[0] for row in TWICE])
def test_no_two_outputs_are_one_file_and_none_is_a_folder(sagd, here, command, sentence):
    if "a folder" in sentence and "x.png" in command:
        (here / "x.png").mkdir()
    before = sorted(here.rglob("*"))
    refused(sagd(*command.split(), "--force", "--quiet"), 2, sentence)
    assert sorted(here.rglob("*")) == before


def test_an_earlier_output_is_replaced_and_its_neighbours_stay(sagd, here):
    """What lies beside the inputs, and is none of them, is replaced as before."""
    for _ in range(2):
        assert sagd("spectrum", "d.npy", "--plot", "x.png", "--force").code == 0
        assert sagd("filter", "fit", "d.npy", "--output", "photos/fit.yaml", "--force").code == 0
        assert (
            sagd("filter", "show", "photos/fit.yaml", "--data", "d.npy", "--output", "g.yaml", "--force").code
            == 0
        )


FAILING = {
    "omit": ([*OMIT, "--record", "r.json", "--figure", "/proc/x.png", "--json"], "files"),
    "spectrum": (["spectrum", "d.npy", "--plot", "/proc/x.png", "--json"], "profile"),
    "filter show": (
        ["filter", "show", "white", "--output", "g.yaml", "--plot", "/proc/x.png", "--json"],
        "profile",
    ),
    "filter compare": (
        ["filter", "compare", "white", "f.yaml", "--plot", "/proc/x.png", "--json"],
        "filters",
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_figure_that_fails_loses_neither_result_nor_record(sagd, here, name):
    command, key = FAILING[name]
    result = sagd(*command)
    assert result.code == 1 and result.json[key]
    assert (
        "the figure /proc/x.png could not be written"
        in json.loads(result.err.splitlines()[-1])["error"]["message"]
    )
    if name == "omit":
        assert (
            json.loads((here / "r.json").read_text()) == result.json and len([*(here / "new").iterdir()]) == 2
        )
    if name == "filter show":
        assert (here / "g.yaml").is_file()


def test_a_record_that_fails_loses_no_result(sagd, here):
    result = sagd(*OMIT, "--record", "/proc/r.json", "--json")
    assert result.code == 1 and len(result.json["files"]) == 2


@pytest.mark.parametrize(
    ("shape", "band"),
    [
        ((1, 32), "stripe:vertical"),
        ((32, 1), "notch:0.25,0,0.05"),
        ((1, 1), "notch:0,0.25,0.05"),
        ((1, 40, 3), "notch:0,0.25,0.05"),
    ],
    ids=str,
)
def test_figures_of_one_row_or_column(sagd, here, shape, band):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)).save("thin.png")
    command = [
        "omit",
        "thin.png",
        "--band",
        band,
        "--estimate",
        "notch",
        "--figure",
        "x.png",
        "--record",
        "r.json",
    ]
    result = sagd(*command, "--json")
    found = json.loads((here / "r.json").read_text())
    assert found == result.json and result.code == (1 if found["failed"] else 0)
    assert (here / "x.png").is_file() == (not found["failed"]) == ("figure" in found)
    assert len(found["failed"]) + len(found["files"]) == 1


def test_samples_are_not_written_among_checkpoints(sagd, tiny_run):
    before = sorted(tiny_run.rglob("*"))
    for folder in (
        tiny_run,
        tiny_run / "checkpoints",
        tiny_run / "samples" / ".." / "checkpoints" / "step-00000008",
    ):
        result = sagd("sample", tiny_run, "-n", 1, "--steps", 1, "--output", folder, "--force")
        assert result.code == 2 and "is a folder of the run itself" in result.err
    assert sorted(tiny_run.rglob("*")) == before
