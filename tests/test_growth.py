"""The house grows by a module and a row: docs/architecture.md, "Where a new thing goes"."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sagd_cli.restorer.catalogue import ESTIMATES, EstimateChoice

ROOT = Path(__file__).resolve().parent.parent
# What is added to diffusion's tables before anything reads them, as a new row would be. Each is another one's twin.
ADDED = """
from dataclasses import replace
from sagd_cli.diffusion import catalogue
for table, twin in (("SAMPLERS", "ddpm"), ("SPACINGS", "karras"), ("SCHEDULES", "cosine"), ("PREDICTIONS", "edm"),
                    ("LOSSES", "min-snr")):
    known = getattr(catalogue, table)
    known["new-" + table.lower()] = replace(known[twin], name="new-" + table.lower(), summary="words of " + table)
import json, sys
from sagd_cli.__main__ import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as stop:
        assert not stop.code, arguments
    print("END", flush=True)
"""


def grown(*commands):
    """What each of the commands prints, run one after the other in one process."""
    listed = json.dumps([[*map(str, command)] for command in commands])
    done = subprocess.run([sys.executable, "-c", ADDED, listed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("END\n")[:-1]


def rows():
    page = (ROOT / "docs" / "architecture.md").read_text().split("## Where a new thing goes")[1]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line[:2] == "| "
    ]
    return cells[2:]


@pytest.mark.parametrize(("thing", "touched", "held"), rows(), ids=lambda cell: cell[:30])
def test_a_row_names_places_and_tests_that_are_there(thing, touched, held):
    for place in re.findall(r"`([\w./]+)`", touched):
        assert any((ROOT / top / place).exists() for top in (".", "sagd_cli")), place
    for test in re.findall(r"`([\w./]+)`", held):
        assert (ROOT / "tests" / test).is_file(), test


@pytest.mark.slow
def test_what_is_chosen_by_name_is_a_row_and_a_function(tmp_path):
    """Helps list a new sampler, spacing, schedule, prediction and loss; a run is trained and drawn with them."""
    tiny = "backbone.options={channels: [8, 8], layers_per_block: 1, attention: [false, false]}"
    small = ("--steps", 2, "--batch-size", 8, "--set", tiny, "--device", "cpu")
    chosen = ("--schedule", "new-schedules", "--prediction", "new-predictions", "--loss", "new-losses")
    run, drawn = tmp_path / "run", ("--sampler", "new-samplers", "--spacing", "new-spacings", "--json")
    *helps, schema, _, sampled = grown(
        ("sample", "--help"),
        ("train", "--help"),
        ("config", "schema"),
        ("train", *small, *chosen, "--output", run),
        ("sample", run, "-n", 2, "--steps", 3, *drawn, "--output", tmp_path / "samples"),
    )
    help_ = " ".join(re.sub("[│╭╮╰╯─]", " ", "".join(helps)).split())
    for name in ("new-samplers", "new-spacings", "new-schedules", "new-predictions", "new-losses"):
        assert name in help_.replace("- ", "-")
    assert "words of SAMPLERS" in schema and "words of PREDICTIONS" in schema
    assert json.loads(sampled)["sampler"] == "new-samplers"


def test_a_new_sampler_is_checked_against_the_closed_form():
    (done,) = grown(("doctor", "--numerics", "--device", "cpu", "--json"))
    checks = json.loads(done)["checks"]
    names = {check["name"] for check in checks}
    assert {
        "new-samplers new-schedules error",
        "new-samplers linear order",
        "omitted band new-samplers",
    } <= names
    assert all(check["ok"] for check in checks)


def halved(y, inside):
    """What a new estimate might do: halve the band."""
    return np.fft.irfft2(np.fft.rfft2(y) * np.where(inside, 0.5, 1), s=y.shape[-2:])


def test_a_new_estimate_is_a_row_and_a_function(sagd, tmp_path, monkeypatch):
    importlib.import_module(
        "sagd_cli.commands.omit"
    )  # its help lists the estimates, and stays as it is read first
    new = EstimateChoice("halve", "half of the band", f"{__name__}:halved", needs_model=False)
    monkeypatch.setitem(ESTIMATES, "halve", new)
    assert sagd("data", "prepare", "digits:test", "--output", tmp_path / "in").code == 0
    command = (
        "omit",
        tmp_path / "in",
        "--band",
        "high",
        "--estimate",
        "halve",
        "--strength",
        0.5,
        "--output",
        tmp_path / "out",
        "--json",
    )
    found = sagd(*command).json
    assert found["method"] == "halve" and len(found["files"]) == 297
    refused = sagd(*command[:-3], tmp_path / "o", "--model", tmp_path)
    assert refused.code == 2
    for options, message in (
        (["--draws", 2], "draws nothing"),
        (["--uncertainty", "u"], "has no uncertainty"),
    ):
        refused = sagd("omit", tmp_path / "in", "--band", "high", "--estimate", "halve", *options)
        assert refused.code == 2 and f"--estimate halve {message}" in refused.err
    near = sagd("omit", tmp_path / "in", "--band", "high", "--estimate", "havle")
    assert "Did you mean halve" in near.err
