"""Fixtures shared by all tests: the command line in this process, real data, a tiny trained run."""

import json
import os

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # several workers share the cores, and small networks gain little from two
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from support.settings import TINY

from sagd_cli.__main__ import main
from sagd_cli.config.layers import resolve
from sagd_cli.config.run import RunConfig

# The same cases each time: a test that fails by chance stops work that is sound.
hypothesis.settings.register_profile("sagd", derandomize=True)
hypothesis.settings.load_profile("sagd")

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def sagd(capfd, monkeypatch):
    """Run the command line in this process: sagd("filter", "list") -> Result."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory):
    """Features that tests compute are not kept among the user's."""
    os.environ["SAGD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Real data beside the checkout, or where SAGD_DATA says; the test is skipped where there is none."""
    root = Path(os.environ.get("SAGD_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data in {root}")
    return root


@pytest.fixture(scope="session")
def tiny_settings() -> dict:
    return TINY


@pytest.fixture(scope="session")
def tiny_config() -> RunConfig:
    return resolve(TINY)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_config) -> Path:
    """A run of 8 steps on the digits."""
    import torch

    from sagd_cli.system.console import Output
    from sagd_cli.training.train import run_training

    path = tmp_path_factory.mktemp("runs") / "tiny"
    run_training(tiny_config, path, torch.device("cpu"), Output(quiet=True))
    return path
