"""The table of metrics: what it says is so, and a new metric is a function and a row of it."""

import numpy as np
import pytest
import torch

from sagd_cli.errors import DataError
from sagd_cli.evaluation.compare import compare_results
from sagd_cli.evaluation.fidelity import evaluate
from sagd_cli.evaluation.measures import Measures, chosen_metrics
from sagd_cli.evaluation.result import check_result
from sagd_cli.evaluation.words import figure_rows
from sagd_cli.features.image_source import array_source
from sagd_cli.metrics.catalogue import METRICS, MOMENTS, Figure, Metric, distances, figures
from sagd_cli.system.choices import Choice
from sagd_cli.system.console import Output

FAKE = Metric(
    "gap",
    "the gap",
    "support.fake_metric:mean_figures",
    figures=(Figure("gap", "gap", names_features=True, deviation="gap_std", remark="by decree"),),
    needs=MOMENTS,
    fewest=7,
    is_distance=True,
    settings=(Choice("smaller_count", "smaller count", "support.fake_metric:smaller_count"),),
)


def images(count, seed):
    random = np.random.default_rng(seed)
    return array_source(f"images {seed}", random.integers(0, 256, (count, 1, 2, 2), dtype=np.uint8))


def measured(*metrics, count=40, reference=60, repeats=1, features="digits-cnn"):
    how = Measures(metrics=metrics, features=features, repeats=repeats, cache=False)
    sides = images(count, 0), images(reference, 1)
    return evaluate(*sides, how, torch.device("cpu"), Output(quiet=True))


@pytest.fixture
def with_fake(monkeypatch):
    monkeypatch.setitem(METRICS, "gap", FAKE)


def test_functions_give_the_figures_of_the_table():
    found = measured(*METRICS)
    keys = [key for figure in figures() for key in figure.keys]
    assert {*keys} == {*found} - {"label", "receipt"}
    for metric in METRICS.values():
        alone = measured(metric.name)
        assert {*alone} - {"label", "receipt"} == {key for one in metric.figures for key in one.keys}
        assert {setting.name for setting in metric.settings} <= {*alone["receipt"]}
    assert [*distances()] == ["fid", "kid"]


def test_each_metric_needs_its_number_of_images():
    for metric in METRICS.values():
        with pytest.raises(DataError, match=f"{metric.name} need at least {metric.fewest}"):
            measured(metric.name, count=metric.fewest - 1)


def test_a_row_of_the_table_is_a_metric(with_fake):
    one, two = measured("gap", "fid"), measured("gap", count=80, repeats=2)
    assert one["gap"] > 0 and [*one] == ["label", "fd", "gap", "gap_std", "fd_floor", "receipt"]
    assert two["repeats"]["deviation"].keys() == {"gap"} and len(two["repeats"]["blocks"]) == 2
    assert one["receipt"]["smaller_count"] == 40
    assert ("gap (digits-cnn)", f"{one['gap']:.5g} ± 0.5", "  (by decree)") in figure_rows(one)
    assert figure_rows(two)[0][2] == "  (mean of 2)"
    found = compare_results(one, two)
    assert found["figures"]["gap"]["difference"] == two["gap"] - one["gap"]
    other = compare_results(one, measured("gap", reference=39))
    assert "smaller count: 40 and 39" in other["reasons"]
    assert "fd" not in other["figures"]
    assert chosen_metrics(None, None) == ("fid", "gap")
    with pytest.raises(DataError, match="gap need at least 7"):
        measured("gap", count=6)
    with pytest.raises(DataError, match="its gap is not a finite number"):
        check_result(one | {"gap": "x"}, "a.json")


def test_a_sweep_keeps_and_names_a_new_distance(with_fake):
    from sagd_cli.sweep.table import as_csv
    from sagd_cli.sweep.words import figure_label

    summary = {"metric": "gap", "label": "fd-digits-cnn@40", "keys": [], "cells": []}
    assert figure_label(summary) == "gap (fd-digits-cnn@40)"
    assert as_csv(summary).strip() == (
        "cell,baseline,seed,state,value,fd,fd_floor,kid,kid_std,gap,gap_std,images,run,error"
    )
