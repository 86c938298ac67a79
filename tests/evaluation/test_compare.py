"""Which results may be compared, and by how many deviations they differ."""

import json
from copy import deepcopy

import pytest
from support.odd_documents import altered

from sagd_cli.errors import DataError
from sagd_cli.evaluation.compare import compare_results
from sagd_cli.evaluation.result import read_result
from sagd_cli.evaluation.words import comparison_text, fid_markdown, fid_text

RESULT = {
    "label": "fd-digits-cnn@500",
    "fd": 1.0,
    "kid": 0.02,
    "repeats": {"count": 4, "deviation": {"fd": 0.3, "kid": 0.004}, "blocks": []},
    "receipt": {
        "generated": {"path": "a", "count": 2000, "shape": [1, 8, 8], "sha256": "a" * 64},
        "reference": {"path": "r", "count": 297, "shape": [1, 8, 8], "sha256": "b" * 64},
        "features": "digits-cnn",
        "distribution": "sagd",
        "options": {},
        "layer": "64",
        "weights_sha256": "c" * 64,
        "kid_subset_size": 148,
        "versions": {"torch": "2.10"},
    },
}


def changed(*path, to):
    result = deepcopy(RESULT)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return result


def test_deviations_are_those_of_the_repeats():
    """(1.6 - 1.0) / sqrt(0.3^2 / 4 + 0.4^2 / 4)"""
    other = changed("fd", to=1.6)
    other["repeats"]["deviation"]["fd"] = 0.4
    found = compare_results(RESULT, other)
    assert found["comparable"] and found["figures"]["fd"]["deviations"] == pytest.approx(0.6 / 0.25)
    assert compare_results(other, RESULT)["figures"]["fd"]["deviations"] == pytest.approx(-0.6 / 0.25)


def test_without_repeats_no_deviation_is_known():
    once = deepcopy(RESULT)
    del once["repeats"]
    once["receipt"]["generated"]["count"] = 500
    found = compare_results(RESULT, once)
    assert found["comparable"] and found["figures"]["fd"]["deviations"] is None


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("receipt", "features"), "inception", "features: digits-cnn and inception"),
        (("receipt", "distribution"), "other", "distribution of the features: sagd and other"),
        (("receipt", "options"), {"bins": 3}, "options of the features: {} and {'bins': 3}"),
        (("receipt", "layer"), "logits", "layer: 64 and logits"),
        (("receipt", "preprocessing"), "cropped", "preprocessing: none and cropped"),
        (("receipt", "weights_sha256"), "d" * 64, "weights: cccccccccccc and dddddddddddd"),
        (("receipt", "generated", "count"), 4000, "count of generated images: 500 and 1000"),
        (("receipt", "reference", "sha256"), "d" * 64, "reference: bbbbbbbbbbbb and dddddddddddd"),
        (("receipt", "reference", "count"), 298, "count of reference images: 297 and 298"),
        (("receipt", "kid_subset_size"), 100, "size of KID's subsets: 148 and 100"),
    ],
)
def test_what_keeps_results_apart_is_named(path, value, reason):
    found = compare_results(RESULT, changed(*path, to=value))
    assert not found["comparable"] and found["reasons"] == [reason]


def test_versions_and_samples_may_differ():
    found = compare_results(RESULT, changed("receipt", "versions", "torch", to="2.11"))
    assert found["comparable"] and found["notes"] == ["torch 2.10 and 2.11"]
    assert compare_results(RESULT, changed("receipt", "generated", "sha256", to="e" * 64))["comparable"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "3", '{"receipt": 1}', '{"receipt": {"generated": 1}}', "[" * 10_000]
)
def test_what_is_no_result_is_said_so(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"is no result of|holds no JSON object"):
        read_result(tmp_path / "a.json")


WHOLE = deepcopy(RESULT) | {
    "fd_floor": 0.5,
    "kid_std": 0.1,
    "spectra": {"profile": [[0.0, 1.0, 0.1]], "bands": {"low": {"ratio": 1.0, "ratio_se": 0.1}}},
}
WHOLE["receipt"]["generated"]["sampling"] = {
    "checkpoint": "step-8",
    "sampler": "dpmpp",
    "steps": 20,
    "spacing": "uniform",
    "seeds": [0, 9],
}


@pytest.mark.parametrize("value", [None, True, -1, 1e400, "x", [], ["x"], {}, {"x": 1}], ids=repr)
def test_a_result_that_is_read_can_be_shown_and_compared(tmp_path, value):
    """Whatever stands anywhere in the file."""
    for odd in altered(WHOLE, value):
        (tmp_path / "a.json").write_text(json.dumps(odd))
        try:
            result = read_result(tmp_path / "a.json")
        except DataError:
            continue
        assert fid_text(result) and fid_markdown(result)
        assert comparison_text(compare_results(result, WHOLE)) and comparison_text(
            compare_results(WHOLE, result)
        )


def test_the_command_exits_3_when_they_may_not_be_compared(sagd, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(RESULT))
    (tmp_path / "b.json").write_text(json.dumps(changed("receipt", "layer", to="x")))
    same = sagd("fid", "compare", tmp_path / "a.json", tmp_path / "a.json", "--json")
    assert same.code == 0 and same.json["comparable"]
    other = sagd("fid", "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert other.code == 3 and "layer: 64 and x" in other.err
    assert sagd("fid", "compare", tmp_path / "a.json", tmp_path / "none.json").code == 2
