"""The cells of a grid: all combinations, names any file system takes, and nothing that a run would trip over."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagd_cli.config.layers import resolve
from sagd_cli.errors import ConfigError, UsageError
from sagd_cli.sweep.grid import make_cells, parse_grid, parse_seeds
from sagd_cli.sweep.plan import Halving


def cells(*texts):
    return make_cells(parse_grid(texts), {}, [], None, None)


def test_a_grid_is_every_combination():
    found = cells("filter.options.alpha=-0.1,0", "training.batch_size=32,64", "training.flips=true,false")
    assert len(found) == 8
    assert [cell.config.filter.options["alpha"] for cell in found] == [-0.1] * 4 + [0] * 4
    assert found[3].name == "alpha=-0.1,batch_size=64,flips=false"
    assert found[3].config.training.batch_size == 64 and not found[3].config.training.flips
    assert len({cell.config.sha256() for cell in found}) == 8
    assert cells("training.learning_rate=1e-3")[0].values == {"training.learning_rate": 0.001}
    assert found[0].with_seed(7).training.seed == 7


def test_filters_are_named_as_on_the_command_line(tmp_path):
    (tmp_path / "f.yaml").write_text("{type: lowpass, options: {cutoff: 0.5, floor: 0.3}}")
    found = cells(f"filter=white,powerlaw:alpha=-0.1,{tmp_path / 'f.yaml'},{{type: exponential}}")
    assert [cell.config.filter.type for cell in found] == ["white", "powerlaw", "lowpass", "exponential"]
    assert found[2].config.filter.options["floor"] == 0.3
    assert [cell.is_white((8, 8)) for cell in found] == [True, False, False, False]
    names = ["filter=white", "filter=powerlaw_alpha-0.1", "filter=lowpass_floor0.3", "filter=exponential"]
    assert [cell.name for cell in found] == names  # what is usual goes without saying


def test_one_run_is_no_two_cells():
    for text in (
        "filter.options.alpha=0,0.0",
        "training.images=1e3,1000",
        "filter=white,{type: white, options: {}}",
    ):
        with pytest.raises(UsageError, match="the same run"):
            cells(text)


def test_the_name_of_a_cell_does_not_depend_on_the_others():
    whole = "filter=white,{type: white, normalize: none},{type: white, omit: high}"
    names = [cell.name for cell in cells(whole)]
    assert names[:2] == ["filter=white", "filter=white_normalizenone"] and len({*names}) == 3
    assert [cell.name for cell in cells("filter=white")] == names[:1]
    assert [cell.name for cell in cells("dataset=digits,digits:test")] == [
        "dataset=digits",
        "dataset=digits_test",
    ]


def test_a_filter_that_is_learned_is_no_baseline():
    assert not cells("filter=learned")[0].is_white((8, 8))


def test_noise_is_white_by_its_weights():
    assert [cell.is_white((8, 8)) for cell in cells("filter.options.alpha=0,0.1,-0.0001")] == [
        True,
        False,
        False,
    ]


@given(st.lists(st.text(min_size=1, max_size=120), min_size=1, max_size=4, unique=True))
def test_any_value_gives_a_name_that_is_safe_and_its_own(values):
    from sagd_cli.sweep.grid import _cell_name

    names = [_cell_name({"a.b": value}) for value in values]
    assert all(re.fullmatch(r"[A-Za-z0-9._=,+-]{1,100}", name) and not name.startswith(".") for name in names)
    assert len({*names}) == len(names)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["filter.options.alhpa=1,2"], "unknown key 'alhpa'"),
        (["training.learning_rte=1"], "unknown key 'training.learning_rte'"),
        (["filter.options.alpha=x"], "alpha"),
        (["training.batch_size=0"], "batch_size"),
        (["filter.type=nosuch"], "nosuch"),
    ],
)
def test_keys_and_values_that_are_none_are_named(texts, words):
    with pytest.raises((ConfigError, UsageError), match=re.escape(words)):
        cells(*texts)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([], "nothing to sweep"),
        (["training.seed=0,1"], "seeds are no part of the grid"),
        (["a.b=1", "a.b=2"], "swept twice"),
        (["a.b=1,1"], "given a value twice"),
        (["a.b="], "is not KEY=VALUE"),
        (["a.b"], "is not KEY=VALUE"),
    ],
)
def test_what_is_no_grid_is_refused(texts, words):
    with pytest.raises(UsageError, match=words):
        parse_grid(texts)


@pytest.mark.parametrize("text", ["", "1,1", "-1", "a", "1.5", "01,1"])
def test_what_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(UsageError, match="list of different seeds"):
        parse_seeds(text)


def test_rungs_are_whole_steps_of_one_budget():
    config = resolve({"training.images": 100 * 8, "training.batch_size": 8})
    assert Halving.of([config], 3) == Halving(3, (11, 33), 88)
    with pytest.raises(UsageError, match="cannot be divided"):
        Halving.of([config], 11)
    other = resolve({"training.images": 100 * 8, "training.batch_size": 4})
    with pytest.raises(UsageError, match="different budgets"):
        Halving.of([config, other], 2)
