"""YAML in and out: the core schema of YAML 1.2, and whatever was written is read back."""

import math
import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sagd_cli.errors import ConfigError
from sagd_cli.system.yaml import MAX_YAML_BYTES, dump_yaml, parse_yaml

CORE = {
    "true": True,
    "FALSE": False,
    "~": None,
    "null": None,
    "": None,
    "10": 10,
    "-7": -7,
    "+7": 7,
    "0": 0,
    "0o10": 8,
    "0x1F": 31,
    "1.5": 1.5,
    "1e6": 1e6,
    "-1E-3": -1e-3,
    "1.5e3": 1.5e3,
    ".5": 0.5,
    "2.": 2.0,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "010.5": 10.5,
}
TEXTS = [
    *("yes", "No", "on", "OFF", "y", "n", "tRue", "infinity", "nan"),
    *("010", "08", "-010", "0b11", "1_000", "0o8", "0x", "1e", "e5", ".", "+.nan"),
    *("1:30", "190:20:30", "1:30.5", "2026-11-30", "2001-12-14t21:59:43.10-05:00", "<<", "="),
]


@pytest.mark.parametrize("text", CORE)
def test_plain_values_are_those_of_the_core_schema(text):
    value = parse_yaml(f"key: {text}", "probe")["key"]
    assert (type(value), value) == (type(CORE[text]), CORE[text])


def test_not_a_number_is_one():
    assert math.isnan(parse_yaml(".nan", "probe"))


@pytest.mark.parametrize("text", TEXTS)
def test_what_yaml_1_1_takes_for_something_else_is_a_text(text):
    assert parse_yaml(f"key: {text}", "probe") == {"key": text}
    assert parse_yaml(f"{text}: 1", "probe") == {text: 1}


@pytest.mark.parametrize(
    "text", ["!!timestamp 2026-11-30", "!!python/name:os.system", "!!int 1:30", "!!float x"]
)
def test_other_tags_and_values_that_do_not_fit_theirs_are_refused(text):
    with pytest.raises(ConfigError, match="probe"):
        parse_yaml(text, "probe")


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(string.printable)
    | st.text("0123456789+-.:_eExobnyt")
    | st.sampled_from([*CORE, *TEXTS])
    | st.text(max_size=20)
)
DOCUMENTS = st.dictionaries(
    st.text() | st.sampled_from(TEXTS),
    st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3)),
    max_size=4,
)


def same(one, two) -> bool:
    return one == two and repr(one) == repr(two)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_what_is_written_is_read_back(document):
    assert same(parse_yaml(dump_yaml(document), "probe"), document)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_what_is_written_means_the_same_to_readers_of_yaml_1_1(document):
    assert same(yaml.safe_load(dump_yaml(document)), document)


def is_number(text: str) -> bool:
    """Whether a text was written without quotes by earlier versions and is a number in YAML 1.2."""
    return isinstance(parse_yaml(text, "probe"), int | float)


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from(["path", "omit", "name"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text("abc/0123456789+-.:,_eE ").filter(
            lambda text: "'" in yaml.safe_dump(text) or not is_number(text)
        ),
    )
)
def test_files_of_earlier_versions_are_read_as_they_were(document):
    """They were written by PyYAML's own rules, those of YAML 1.1."""
    assert same(parse_yaml(yaml.safe_dump(document, sort_keys=False), "probe"), document)


def test_the_bound_is_one_in_bytes():
    sound = "# " + "é" * ((MAX_YAML_BYTES - 2) // 2)
    assert len(sound.encode()) == MAX_YAML_BYTES
    assert parse_yaml(sound, "probe") is None
    with pytest.raises(ConfigError, match="larger than 1,000,000 bytes"):
        parse_yaml(sound + "é", "probe")
