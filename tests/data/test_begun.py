"""Journals lose what a kill tore and nothing else; an output is gone on with by the command that began it."""

import pytest

from sagd_cli.data.begun import add_line, lines_of, refuse_changed_settings
from sagd_cli.errors import UsageError


def test_a_torn_line_is_the_only_one_that_is_lost(tmp_path):
    path = tmp_path / "work" / "0.jsonl"
    assert [*lines_of(path)] == []
    add_line(path, {"part": [0, 4]})
    with path.open("a") as journal:
        journal.write('\n{"part": [4, 8')
    add_line(path, {"part": [8, 12]})
    assert [*lines_of(path)] == [{"part": [0, 4]}, {"part": [8, 12]}]


def test_a_setting_that_changed_is_named():
    refuse_changed_settings("out", {"size": 3, "mode": None}, {"size": 3})
    for before, now, says in (
        ({"size": 3}, {"size": 4}, "size 3, now size 4"),
        ({}, {"size": 4}, "no size, now"),
    ):
        with pytest.raises(UsageError, match=f"out was begun with {says}"):
            refuse_changed_settings("out", before, now)
