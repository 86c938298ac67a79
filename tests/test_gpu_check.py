"""`benchmarks/gpu_check.py`: it runs to its end on the CPU, and says what fails and what it leaves out."""

import json
import sys

import pytest

from benchmarks import gpu_check


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(*options):
        file = tmp_path / "found.json"
        command = ["gpu_check.py", "--device", "cpu", "--tiny", "--output", str(file), *options]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            gpu_check.main()
        return end.value.code, json.loads(file.read_text())

    return run


@pytest.mark.slow
def test_it_runs_to_its_end(run):
    code, found = run("--budget", "100000")
    assert code == 0 and found["failed"] == []
    assert [
        part["name"] for part in found["parts"] if part["ok"] is None and part["said"] == "needs CUDA"
    ] == [
        "waits",
        "memory",
    ]
    assert len(found["parts"]) == 20


def test_a_part_that_fails_or_raises_is_named_and_the_others_go_on(run, monkeypatch, capsys):
    def raises():
        raise RuntimeError("no kernel image")

    parts = [
        ("one", 0, raises),
        ("two", 0, lambda: (False, "other")),
        ("three", 0, lambda: (True, {"off": 0.12345})),
    ]
    monkeypatch.setattr(gpu_check, "parts_of", lambda check: parts)
    code, found = run()
    assert code == 1 and found["failed"] == ["one", "two"]
    assert found["parts"][0]["said"] == "RuntimeError: no kernel image"
    out = capsys.readouterr().out
    assert "off 0.123" in out and out.rstrip().endswith("failed: one, two")


def test_what_the_budget_does_not_hold_is_left_out(run, monkeypatch):
    monkeypatch.setattr(gpu_check, "parts_of", lambda check: [("long", 60, lambda: (True, "done"))])
    code, found = run("--budget", "30")
    assert code == 0 and found["parts"] == [{"name": "long", "ok": None, "said": "30 s left"}]
