"""What a sweep found: means, deviations, the paired test against white noise, and the table as a file."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plans import a_plan

from sagd_cli.figures.sweep import sweep_figure
from sagd_cli.sweep.paired_test import paired_test
from sagd_cli.sweep.study import DONE, FAILED, PRUNED, RunState
from sagd_cli.sweep.table import as_csv, summarise
from sagd_cli.sweep.words import figure_label, sweep_text


def done(value):
    return RunState(DONE, {"value": value, "fd": value, "images": 10, "label": "fd-digits-cnn@100"})


def summary(tmp_path):
    chosen = a_plan(tmp_path, "filter.options.alpha=-0.1,0,0.1", seeds=(0, 1, 2))
    values = {"alpha=-0.1": (1.0, 1.5, 0.9), "alpha=0": (2.0, 2.4, 2.1), "alpha=0.1": (3.0, None, 2.0)}
    records = {
        f"{n}/seed-{k}": done(v) for n, vs in values.items() for k, v in enumerate(vs) if v is not None
    }
    records["alpha=0.1/seed-1"] = RunState(FAILED, {}, 'it, said "no"\nand died')
    return summarise(chosen, records, (8, 8), {"sagd": "0"})


def test_means_deviations_best_and_baseline(tmp_path):
    found = summary(tmp_path)
    best = found["cells"][0]
    assert best["mean"] == pytest.approx(np.mean([1.0, 1.5, 0.9]))
    assert best["deviation"] == pytest.approx(np.std([1.0, 1.5, 0.9], ddof=1))
    assert (found["best"], found["baseline"], found["failed"]) == (
        "alpha=-0.1",
        "alpha=0",
        ["alpha=0.1/seed-1"],
    )
    assert found["cells"][2]["count"] == 2
    test = found["test"]
    differences = np.array([-1.0, -0.9, -1.2])
    t = differences.mean() / (differences.std(ddof=1) / np.sqrt(3))
    from scipy import stats

    p = 2 * stats.t.sf(abs(t), 2)
    assert (
        test["p"] == pytest.approx(p) and test["p_corrected"] == pytest.approx(2 * p) and test["pairs"] == 3
    )
    assert test["interval"][1] - test["difference"] == pytest.approx(
        stats.t.ppf(1 - 0.025 / 2, 2) * differences.std(ddof=1) / np.sqrt(3)  # of two rivals
    )
    assert test["differs"] and "differs from the baseline alpha=0" in test["text"]


def test_equal_cells_differ_as_often_as_the_test_says():
    """Under the null hypothesis, of 400 tests of one rival about 5 % say that it differs."""
    random = np.random.default_rng(0)
    verdicts = [paired_test(random.standard_normal(4).tolist(), 1, "a", "b")["differs"] for _ in range(400)]
    assert 0.02 < np.mean(verdicts) < 0.09


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), st.integers(1, 9))
def test_any_differences_have_a_verdict(differences, rivals):
    found = paired_test(differences, rivals, "a", "b")
    assert 0 <= found["p"] <= found["p_corrected"] <= 1
    low, high = found["interval"]
    assert low <= found["difference"] <= high
    assert found["differs"] == (not low <= 0 <= high) or abs(found["p_corrected"] - 0.05) < 1e-6


def test_one_seed_is_no_test(tmp_path):
    assert paired_test([1.0], 1, "a", "b") is None
    chosen = a_plan(tmp_path, "filter.options.alpha=0,0.1", seeds=(0,))
    found = summarise(chosen, {"alpha=0/seed-0": done(2.0), "alpha=0.1/seed-0": done(1.0)}, (8, 8), {})
    assert found["best"] == "alpha=0.1" and found["test"] is None and found["cells"][0]["deviation"] is None


def test_pruned_runs_do_not_count(tmp_path):
    chosen = a_plan(tmp_path, "filter.options.alpha=0,0.1", seeds=(0, 1))
    pruned = RunState(PRUNED, {"value": 0.1, "images": 4})
    records = {"alpha=0/seed-0": done(2.0), "alpha=0/seed-1": done(4.0), "alpha=0.1/seed-0": pruned}
    found = summarise(chosen, records, (8, 8), {})
    assert found["best"] == "alpha=0" and found["cells"][1]["mean"] is None
    assert found["cells"][1]["runs"][0]["state"] == PRUNED and found["cells"][1]["runs"][0]["images"] == 4


def test_a_cell_that_lacks_a_seed_is_neither_best_nor_baseline(tmp_path):
    """The seeds that were not stopped early are those that began well: their mean flatters the cell."""
    chosen = a_plan(tmp_path, "filter.options.alpha=-0.1,0,0.1", seeds=(0, 1))
    lacking = {
        "alpha=-0.1/seed-0": done(0.1),
        "alpha=-0.1/seed-1": RunState(PRUNED, {"value": 9.0, "images": 4}),
    }
    others = {f"alpha={a}/seed-{k}": done(v + k) for a, v in (("0", 3.0), ("0.1", 2.0)) for k in (0, 1)}
    found = summarise(chosen, lacking | others, (8, 8), {})
    assert (found["best"], found["baseline"]) == ("alpha=0.1", "alpha=0")
    assert found["test"]["p_corrected"] == min(1.0, 2 * found["test"]["p"])  # it was a rival all the same
    del lacking["alpha=-0.1/seed-1"], others["alpha=0/seed-1"]
    assert summarise(chosen, lacking | others, (8, 8), {})["baseline"] is None


@pytest.mark.parametrize("shaped", [1.0, 3.0])
def test_the_baseline_is_the_white_cell_with_the_settings_of_the_best(tmp_path, shaped):
    """Against a white cell of another learning rate the learning rate would be tested."""
    chosen = a_plan(tmp_path, "training.learning_rate=0.1,0.001", "filter.options.alpha=0,0.1", seeds=(0, 1))
    values = {0.1: (5.0, shaped + 0.5), 0.001: (2.0, shaped)}
    records = {
        f"learning_rate={rate},alpha={alpha}/seed-{seed}": done(value + seed)
        for rate, pair in values.items()
        for alpha, value in zip(("0", "0.1"), pair, strict=True)
        for seed in (0, 1)
    }
    found = summarise(chosen, records, (8, 8), {})
    assert found["baseline"] == "learning_rate=0.001,alpha=0"
    assert (found["test"] is None) == (shaped == 3.0)
    del records["learning_rate=0.001,alpha=0/seed-1"]
    found = summarise(chosen, records, (8, 8), {})
    assert found["best"] == "learning_rate=0.001,alpha=0.1"
    assert found["baseline"] == "learning_rate=0.1,alpha=0"  # there is no better one
    assert found["test"]["text"].endswith(
        "they differ in training.learning_rate too, not in the filter alone"
    )


def test_a_test_that_tells_nothing_says_what_it_could_have_told():
    differences = [0.3, -0.1, 0.2, 0.05]
    found = paired_test(differences, 3, "a", "b")
    least = float(found["text"].rpartition("below ")[2])
    moved = [d - np.mean(differences) for d in differences]
    assert not paired_test([d + 0.98 * least for d in moved], 3, "a", "b")["differs"]
    assert paired_test([d + 1.02 * least for d in moved], 3, "a", "b")["differs"]


def test_the_file_holds_the_table(tmp_path):
    found = summary(tmp_path)
    rows = [*csv.DictReader(io.StringIO(as_csv(found)))]
    assert len(rows) == 9
    assert {float(row["filter.options.alpha"]) for row in rows} == {-0.1, 0, 0.1}
    assert [float(row["value"]) for row in rows if row["state"] == "done"] == [
        1.0,
        1.5,
        0.9,
        2.0,
        2.4,
        2.1,
        3.0,
        2.0,
    ]
    assert next(row for row in rows if row["state"] == "failed")["error"] == 'it, said "no"\nand died'


def test_the_figure_shows_every_run_and_the_baseline(tmp_path):
    found = summary(tmp_path)
    axes = sweep_figure(found, figure_label(found)).axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    drawn = sorted(float(y) for line in points for y in line.get_ydata())
    assert drawn == sorted([1.0, 1.5, 0.9, 2.0, 2.4, 2.1, 3.0, 2.0])
    assert any(
        np.allclose(line.get_ydata(), np.mean([2.0, 2.4, 2.1]))
        for line in axes.lines
        if line.get_marker() == "None"
    )
    assert axes.get_xlabel() == "filter.options.alpha" and axes.get_ylabel() == "fd-digits-cnn@100"


def test_cells_of_names_are_an_axis_of_names(tmp_path):
    chosen = a_plan(tmp_path, "filter=white,powerlaw:alpha=-0.2", "schedule=linear,cosine", seeds=(0,))
    found = summarise(chosen, {f"{cell.name}/seed-0": done(1.0) for cell in chosen.cells}, (8, 8), {})
    assert len(sweep_figure(found, figure_label(found)).axes[0].get_xticklabels()) == 4
    chosen = a_plan(tmp_path, "filter=white,powerlaw:alpha=-0.2", seeds=(0,))
    found = summarise(chosen, {f"{cell.name}/seed-0": done(1.0) for cell in chosen.cells}, (8, 8), {})
    axes = sweep_figure(found, figure_label(found)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["white", "powerlaw\nalpha-0.2"]
    assert axes.get_xlabel() == "filter"


def test_the_table_of_the_terminal_takes_any_name(tmp_path):
    from rich.console import Console

    found = summary(tmp_path)
    found["cells"][0]["name"] = found["best"] = "[red]<script>"
    console = Console(width=200)
    with console.capture() as capture:
        console.print(sweep_text(found))
    assert "[red]<script>" in capture.get() and "best" in capture.get() and 'said "no"' in capture.get()
