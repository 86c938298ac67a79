"""Several processes measure what one measures: the parts are the same, and come in the same order."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.meeting import together

from sagd_cli.config.run import DatasetConfig
from sagd_cli.data.images import write_array
from sagd_cli.errors import SagdError
from sagd_cli.evaluation.fidelity import evaluate, statistics_of
from sagd_cli.evaluation.measures import Measures
from sagd_cli.features.image_source import ImageSource, array_source, data_source
from sagd_cli.system.console import Output

CPU, QUIET = torch.device("cpu"), Output(quiet=True)
ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = ("fid", "kid", "prc", "isc")


def pictures(seed, count):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 1, 8, 8)).astype(np.uint8)


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("settings", [{}, {"cache": False, "spectra": True}, {"repeats": 3, "batch_size": 7}])
def test_processes_measure_what_one_measures(monkeypatch, tmp_path, size, settings):
    """Each image is read by one process for each purpose. Five processes are more than there is work for."""
    monkeypatch.setattr("sagd_cli.features.image_source.PART_IMAGES", 16)
    seen = []

    def source(seed, count):
        images = pictures(seed, count)

        def read(parts, output):
            for part in parts:
                seen.append(part.start)
                yield from images[part.start : part.stop]

        return ImageSource(f"set {seed}", count, images.shape[1:], read)

    def measured(world=None):
        how = Measures(EVERYTHING, "digits-cnn", **settings)
        return evaluate(source(0, 90), source(1, 50), how, CPU, QUIET, world)

    monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "one"))
    expected, read = measured(), sorted(seen)
    seen.clear()
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "many"))
    assert together(size, measured) == [expected, *[{}] * (size - 1)]
    assert sorted(seen) == read
    if settings == {}:  # the first process kept the features
        seen.clear()
        assert together(size, measured)[0] == expected
        assert len(seen) == len(read) / 2


def test_statistics_are_those_of_one_process():
    source, how = array_source("set", pictures(0, 300)), Measures(("fid",), "pixels", cache=False)
    gaussian, receipt = statistics_of(source, how, CPU, QUIET)
    (found, same), other = together(2, lambda world: statistics_of(source, how, CPU, QUIET, world))
    assert torch.equal(found.mean, gaussian.mean) and torch.equal(found.covariance, gaussian.covariance)
    assert same == receipt and other is None


def test_processes_that_see_other_images_are_refused(tmp_path):
    for rank, shape in enumerate([(30, 1, 8, 8), (40, 1, 8, 8), (60, 1, 8, 8)]):
        np.save(tmp_path / f"{rank}.npy", np.zeros(shape, np.uint8))
    reference = array_source("digits", pictures(0, 40))

    def work(counts):
        def measured(world):
            # The path is one, and what is there another on each machine.
            config = DatasetConfig(name="npy", options={"path": str(tmp_path / f"{counts[world.rank]}.npy")})
            source = data_source(config, "set.npy", 30)
            return evaluate(source, reference, Measures(("fid",), "pixels"), CPU, QUIET, world)

        return measured

    with pytest.raises(SagdError, match="process 1 has other files than process 0"):
        together(2, work([1, 2]))


def launched(processes, *arguments):
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "sagd_cli"]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def one_thread():
    """As many as each process has: convolutions of more may round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "processes"), [("folder", 2), ("run", 3)])
def test_torchrun_measures_what_one_process_measures(sagd, one_thread, tmp_path, tiny_run, side, processes):
    (tmp_path / "images").mkdir()
    for index, image in enumerate(pictures(0, 300)):
        write_array(image, tmp_path / "images" / f"{index}.png")
    generated = {"folder": [tmp_path / "images"], "run": [tiny_run, "-n", 270, "--steps", 2]}[side]
    words = ["fid", *generated, "digits:test", "--metrics", ",".join(EVERYTHING), "--device", "cpu", "--json"]
    expected, many = sagd(*words).json, launched(processes, *words, "--no-cache")
    assert many.returncode == 0, many.stderr[-2000:]
    found = json.loads(many.stdout)
    for key in ("receipt", "label"):
        assert found.pop(key) == expected.pop(key)
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_with_one_sentence(tmp_path):
    """Image 299 is read by the second process alone."""
    (tmp_path / "images").mkdir()
    for index, image in enumerate(pictures(0, 300)):
        write_array(image, tmp_path / "images" / f"{index:03}.png")
    (tmp_path / "images" / "299.png").write_bytes(b"no image")
    failed = launched(3, "fid", tmp_path / "images", "digits:test", "--device", "cpu", "--no-cache")
    assert failed.returncode != 0 and failed.stdout == ""
    assert failed.stderr.count("error:") == 1 and "299.png" in failed.stderr, failed.stderr[-3000:]
