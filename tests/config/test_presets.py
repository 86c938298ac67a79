"""Presets: each resolves, says what it rests on, and its network is the one that docs/training.md describes."""

import re
from pathlib import Path

import pytest
import torch

from sagd_cli.config.layers import presets, resolve
from sagd_cli.datasets.loading import DataSize
from sagd_cli.training.cost import estimate_cost

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def table():
    """Rows of the table of presets, by the name of the preset."""
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    start = next(index for index, row in enumerate(rows) if row[0] == "preset")
    end = next(index for index, row in enumerate(rows) if index > start and row[0] == "preset")
    return {row[0].strip("`"): dict(zip(rows[start], row, strict=True)) for row in rows[start + 2 : end]}


def test_the_page_lists_every_preset():
    assert table().keys() == presets().keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", presets())
def test_a_preset_builds_the_network_the_page_describes(name):
    row, config = table()[name], resolve({}, preset=name)
    shape = tuple(int(n) for n in row["images"].split("x"))
    data = DataSize(1000, shape, int(row["classes"]))
    estimate = estimate_cost(config, data, torch.device("cpu"))
    assert estimate.parameters / 1e6 == pytest.approx(float(row["parameters (M)"]), rel=0.02)
    assert estimate.flops / 1e9 == pytest.approx(float(row["GFLOP an image"]), rel=0.02)
    assert config.class_conditional == (data.classes > 0)
    assert config.training.batch_size == int(row["batch"])
    assert config.training.images / 1e6 == float(row["budget (M images)"])
    room = 48 if "for a large GPU" in presets()[name].read_text() else 24
    assert estimate_cost(config, data, torch.device("cuda")).memory < 0.9 * room * 2**30


@pytest.mark.parametrize("name", presets())
def test_a_preset_says_its_source_and_parameters_and_uses_the_filter_of_the_page(name):
    comment = "".join(line for line in presets()[name].read_text().splitlines() if line.startswith("#"))
    row, config = table()[name], resolve({}, preset=name)
    stated = float(re.search(r"([\d.]+) M parameters", comment)[1])
    assert stated == pytest.approx(float(row["parameters (M)"]), rel=0.02)
    assert "our choice" in comment
    alpha = re.search(r"alpha = (-[\d.]+)", row["filter"])
    assert config.filter.type == ("powerlaw" if alpha else "white")
    if alpha:
        assert config.filter.options["alpha"] == float(alpha[1])
    for fid in re.findall(r"\d\.\d\d", row["FID of the SAGD paper: white, shaped"]):
        assert fid in comment


@pytest.mark.parametrize(
    ("name", "shape"), [("imagenet256-latent", (4, 32, 32)), ("imagenet256-rae", (768, 16, 16))]
)
def test_the_imagenet_transformers_have_the_parameters_of_the_paper(name, shape):
    estimate = estimate_cost(resolve({}, preset=name), DataSize(1, shape, 1000), torch.device("cpu"))
    assert estimate.parameters == pytest.approx(196e6, rel=0.01)


@pytest.mark.parametrize("name", presets())
def test_the_command_line_shows_every_preset(sagd, name):
    assert name in sagd("config", "show", "--list").out.split()
    shown = sagd("config", "show", "--preset", name, "--json")
    assert shown.code == 0
    assert shown.json == resolve({}, preset=name).document()
