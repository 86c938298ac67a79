"""The family that docs/filters.md writes from nothing works as the page says."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "filters.md"


@pytest.fixture
def blocks(tmp_path):
    """The page's blocks.py."""
    sources = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (source,) = [text for text in sources if "FilterPlugin(" in text]
    path = tmp_path / "blocks.py"
    path.write_text(source)
    return path


def test_the_tutorials_family_keeps_the_contract(blocks, sagd):
    checked = sagd("--plugin", blocks, "plugins", "check", "blocks", "--json")
    assert checked.code == 0, checked.err
    shown = sagd("--plugin", blocks, "filter", "show", "blocks", "--size", "64x64", "--json").json
    assert shown["condition"] == pytest.approx(100), "a floor of 0.1 in w is 0.01 in power"


def test_its_filter_file_is_trained_with(blocks, sagd, tmp_path, tiny_settings):
    file = tmp_path / "blocks16.yaml"
    designed = ["filter", "design", "--type", "blocks", "-o", "period=4", "--output", file]
    assert sagd("--plugin", blocks, *designed).code == 0
    tiny = [word for key, value in tiny_settings.items() for word in ("--set", f"{key}={value}")]
    trained = sagd(
        "--plugin", blocks, "train", "--filter", file, "--steps", 1, *tiny, "--output", tmp_path / "run", "-q"
    )
    assert trained.code == 0, trained.err
