"""Where an omission writes, and which of its places decide what it computes."""

from pathlib import Path

import pytest

from sagd_cli.restoration.omission import told_by
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.places import Places, beside_name, draw_names


def test_the_names_of_what_is_written_for_an_image():
    assert draw_names(Path("in/a.jpg"), 3) == ["a.png", "a.2.png", "a.3.png"]
    assert beside_name(Path("in/a.jpg")) == "a.tiff"


def test_what_is_learned_lies_beside_the_output():
    places = Places(Path("in"), Path("o"), removed=Path("r"))
    assert places.workspace == Path("o").resolve().with_name(".o-omission")
    assert places.beside == {"removed": Path("r")}


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({"folder": Path("p")}, True),
        ({"extras": {"--figure": Path("f.png")}}, True),
        ({"inputs": [Path("clean")]}, True),
        ({"source": Path("other")}, False),
        *(({name: Path("x")}, False) for name in ("truth", "uncertainty", "removed", "run")),
    ],
)
def test_a_command_goes_on_where_its_places_decide_the_same(changed, is_same):
    told = [
        told_by(Omission(noise=None), Places(**{"source": Path("in"), "folder": Path("o"), **more}), [], {})
        for more in ({}, changed)
    ]
    assert (told[0] == told[1]) is is_same
