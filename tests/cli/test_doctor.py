"""`sagd doctor`: what is installed, and with --numerics whether it computes what it should."""

from functools import cache

import pytest

from sagd_cli.diffusion import self_check
from sagd_cli.spectral.noise import SpectralNoise


def test_without_numerics_it_describes_the_installation(sagd):
    result = sagd("doctor", "--json").json
    assert {"sagd", "python", "engines", "devices", "plugins"} <= set(result)
    assert result["devices"][0] == "cpu"
    assert "checks" not in result


def test_a_device_without_numerics_is_refused(sagd):
    done = sagd("doctor", "--device", "cpu")
    assert done.code == 2
    assert "--numerics" in done.err


def test_the_checks_are_a_table_with_a_verdict_or_json(sagd, monkeypatch):
    monkeypatch.setattr(self_check, "run_checks", cache(self_check.run_checks))  # both show the same ones
    done = sagd("doctor", "--numerics", "--device", "cpu")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split()[:4] == ["check", "value", "at", "most"]
    assert lines[-1] == f"0 of {len(lines) - 2} checks are out of bounds on cpu"
    assert all("  ok  " in line for line in lines[1:-1])
    result = sagd("doctor", "--numerics", "--device", "cpu", "--json").json
    assert set(result) == {"device", "ok", "checks"}
    assert (result["device"], result["ok"]) == ("cpu", True)
    for check in result["checks"]:
        assert set(check) == {"name", "compared", "value", "bound", "ok"}
        assert check["ok"] is True
        assert 0 <= check["value"] <= check["bound"]


@pytest.mark.slow
def test_a_broken_piece_is_named_after_the_table_with_exit_1(sagd, monkeypatch):
    monkeypatch.setattr(SpectralNoise, "project", lambda self, x: x)
    done = sagd("doctor", "--numerics", "--device", "cpu")
    assert done.code == 1
    assert "whiten gap" in done.out
    assert done.out.splitlines()[-1].startswith("7 of 50 ")
    assert "checks are out of bounds: whiten gap, omitted band dpmpp, omitted" in done.err


def test_a_value_that_is_not_finite_is_null_in_json(sagd, monkeypatch):
    nan = [self_check.Check("lost", "a thing with itself", float("nan"), 1.0)]
    monkeypatch.setattr(self_check, "run_checks", lambda device: nan)
    done = sagd("doctor", "--numerics", "--device", "cpu", "--json")
    assert done.code == 1
    assert done.json["checks"][0]["value"] is None
    assert '"1 of 1 checks is out of bounds: lost"' in done.err
    assert " nan " in sagd("doctor", "--numerics", "--device", "cpu").out
