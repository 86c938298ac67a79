"""How noise names files: any name comes back, and only what a person typed is looked for on the disk."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sagd_cli.config.layers import resolve
from sagd_cli.config.noise_text import as_typed, named_path, parts_of, path_text, without_level
from sagd_cli.config.run import RunConfig


@given(st.text(), st.sampled_from(["", ":level=0.5"]))
@example("a+b.tif", "")
@example("dark(1.tif", ":level=0.5")
@example('12"', "")
@example("a:level=2.tif", ":level=0.5")
def test_any_name_of_a_file_comes_back(path, level):
    first, second, third = parts_of(f"white+from:{path_text(path)}{level}+high:level=1")
    assert (first, third) == ("white", "high:level=1")
    spec, found = without_level(second)
    assert named_path(spec.removeprefix("from:")) == path and found == (0.5 if level else None)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("from:a+b.tif", 'from:"a+b.tif"'),
        ("white+from:a+b.tif:level=2+high", 'white+from:"a+b.tif":level=2+high'),
        ("a+c.yaml,level=0.5+white", '"a+c.yaml",level=0.5+white'),
        ("from:plain.tif+white", "from:plain.tif+white"),
        ("from:a+d.tif", "from:a+d.tif"),
        ('from:"a+b.tif"+(low+high)', 'from:"a+b.tif"+(low+high)'),
        ("powerlaw:alpha=+1 + low", "powerlaw:alpha=+1 + low"),
    ],
)
def test_who_types_may_leave_quotes_out_where_a_file_has_that_name(tmp_path, monkeypatch, typed, read):
    monkeypatch.chdir(tmp_path)
    for name in ("a+b.tif", "a+c.yaml", "plain.tif"):
        (tmp_path / name).touch()
    assert as_typed(typed) == read


def test_settings_that_name_a_file_are_read_without_it():
    """A run that was trained for noise measured on a+b.tif is opened where that file is not."""
    text = 'white:level=0.5+from:"a+b.tif":level=2'
    config = resolve({"restoration.bands": [text]})
    assert config.restoration.bands == (text,)
    assert RunConfig.model_validate(config.document()) == config
