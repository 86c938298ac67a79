"""DATA as it is typed: paths with options, names with options, and commas in either."""

import numpy as np
import pytest
from PIL import Image

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.errors import UsageError
from sagd_cli.sweep.grid import parse_grid
from sagd_cli.system.console import Output, use_output


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a.npy", "a,b.npy", "a,size=8.npy", "c,layout=nt.npz", "mnist,x.npy", "mnist:x.npy"):
        np.save(tmp_path / "x.npy", np.zeros((2, 1, 4, 4), np.uint8))
        (tmp_path / "x.npy").rename(tmp_path / name)
    for name in ("one,two.png", "photos/p.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("a.npy", "npy", {"path": "a.npy"}),
        ("a.npy,layout=nhwc", "npy", {"path": "a.npy", "layout": "nhwc"}),
        ("./a.npy,layout=nhwc", "npy", {"path": "a.npy", "layout": "nhwc"}),
        (
            "a.npy,array=x,labels=y,layout=nhw",
            "npy",
            {"path": "a.npy", "array": "x", "labels": "y", "layout": "nhw"},
        ),
        ("missing.NPZ,array=x", "npy", {"path": "missing.NPZ", "array": "x"}),
        ("a,b.npy", "npy", {"path": "a,b.npy"}),
        ("a,b.npy,layout=nhwc", "npy", {"path": "a,b.npy", "layout": "nhwc"}),
        ("a,size=8.npy", "npy", {"path": "a,size=8.npy"}),
        ("a,size=8.npy,layout=nhwc", "npy", {"path": "a,size=8.npy", "layout": "nhwc"}),
        ("c,layout=nt.npz", "npy", {"path": "c,layout=nt.npz"}),
        ("mnist,x.npy", "npy", {"path": "mnist,x.npy"}),
        ("mnist:x.npy", "npy", {"path": "mnist:x.npy"}),
        ("npy:path=a.npy,layout=nhwc", "npy", {"path": "a.npy", "layout": "nhwc"}),
        ("photos", "folder", {"path": "photos"}),
        ("photos,size=4", "folder", {"path": "photos", "size": 4}),
        ("photos/,size=4", "folder", {"path": "photos", "size": 4}),
        ("one,two.png", "folder", {"path": "one,two.png"}),
        ("one,two.png,size=4", "folder", {"path": "one,two.png", "size": 4}),
        ("mnist,root=here", "mnist", {"root": "here"}),
    ],
)
def test_a_path_has_options_after_it(here, text, name, options):
    config = parse_dataset(text)
    assert (config.name, config.split) == (name, "train")
    assert {key: config.options[key] for key in options} == options


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.npy,layuot=nhwc", "unknown key 'layuot'"),
        ("a.npy,layout=nhwc,layout=nchw", "'layout' is given twice"),
        ("photos,layout=nhwc", "unknown key 'layout'"),
        ("no/such,size=4", "'no/such' is not a folder"),
        ("nothing,size=4", "unknown dataset 'nothing"),
        (",size=4", "is not a folder"),
        ("digits,size=4", "unknown key 'size'"),
        ("digits,huge", "a split is train or test"),
    ],
)
def test_options_that_cannot_be_are_named(here, text, sentence):
    with pytest.raises(UsageError) as error:
        parse_dataset(text)
    assert sentence in f"{error.value.message} {error.value.hint}"


def test_values_of_a_sweep_have_options_too(here):
    (values,) = parse_grid(["dataset=a.npy,layout=nhwc,digits,photos,size=4"]).values()
    assert [(value["name"], value["options"].get("layout")) for value in values] == [
        ("npy", "nhwc"),
        ("digits", None),
        ("folder", None),
    ]
    (values,) = parse_grid(["filter=white,bandpass:low=0.2,high=0.4"]).values()
    assert [value["type"] for value in values] == ["white", "bandpass"] and values[1]["options"][
        "high"
    ] == 0.4


def test_runs_from_before_an_option_keep_their_settings(here):
    assert parse_dataset("photos").options == {"path": "photos", "size": None}
    assert parse_dataset("photos,mode=grey").options == {"path": "photos", "size": None, "mode": "grey"}


def test_a_folder_of_the_name_of_a_data_set_is_told(tmp_path, monkeypatch, capfd):
    use_output(Output())
    monkeypatch.chdir(tmp_path)
    assert parse_dataset("digits").name == "digits" and capfd.readouterr().err == ""
    (tmp_path / "digits").mkdir()
    assert parse_dataset("digits").name == "digits"
    assert "there is also a folder of this name: ./digits" in capfd.readouterr().err
