"""Samples of a run on latents become images: by the autoencoder its data name, by one that is given, or not at all."""

import shutil

import numpy as np
import pytest
import torch
from support.autoencoders import tiny_kl

from sagd_cli.config.layers import resolve
from sagd_cli.data.images import read_image
from sagd_cli.data.tensors import tensor_pixels
from sagd_cli.datasets.beside import write_beside
from sagd_cli.latents.autoencoder import load_autoencoder
from sagd_cli.plugin.records import LazyImageSet
from sagd_cli.run.folder import open_run
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.system.console import Output
from sagd_cli.training.train import run_training

CPU = torch.device("cpu")
QUIET = Output(quiet=True)


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_settings):
    """A folder with `run`, trained on the latents of the autoencoder `vae`, and with `other`, another autoencoder."""
    folder = tmp_path_factory.mktemp("work")
    named = load_autoencoder(tiny_kl(folder / "vae"), CPU).document() | {"autoencoder": "vae"}
    tiny_kl(folder / "other", seed=1)
    latents = np.random.default_rng(0).normal(size=(32, 4, 8, 8)).astype(np.float16)
    np.save(folder / "a.npy", latents)
    write_beside(folder / "a.npy", LazyImageSet((), latents=named))
    data = {"name": "npy", "options": {"path": str(folder / "a.npy")}}
    config = resolve({**tiny_settings, "sampling.steps": 2, "dataset": data})
    run_training(config, folder / "run", CPU, QUIET)
    return folder


@pytest.fixture
def here(work, monkeypatch):
    monkeypatch.chdir(work)
    return work


def expected(work, count):
    run = open_run(work / "run", QUIET)
    signals = ImageGenerator(run.model(CPU), run.config.sampling).signals(range(count))
    return tensor_pixels(load_autoencoder(work / "vae", CPU).decode(signals))


def test_samples_are_pictures_where_the_autoencoder_is_there(sagd, here, tmp_path):
    done = sagd(
        "sample", "run", "-n", 3, "--output", tmp_path / "s", "--grid", tmp_path / "grid.png", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["autoencoder_sha256"] == load_autoencoder(here / "vae", CPU).sha256
    for index, image in enumerate(expected(here, 3)):
        np.testing.assert_array_equal(read_image(tmp_path / "s" / f"{index:06d}.png").pixels, image)
    assert (tmp_path / "grid.png").is_file()


def test_latents_are_kept_where_it_is_not_there_and_where_they_are_asked_for(
    sagd, here, work, tmp_path, monkeypatch
):
    asked = sagd("sample", "run", "-n", 2, "--latents", "--output", tmp_path / "asked")
    assert asked.code == 0
    monkeypatch.chdir(tmp_path)
    absent = sagd("sample", work / "run", "-n", 2, "--output", tmp_path / "absent")
    assert absent.code == 0 and "--autoencoder DIR" in absent.err
    for name in ("asked", "absent"):
        with np.load(tmp_path / name / "samples.npz") as archive:
            assert archive["images"].shape == (2, 4, 8, 8) and archive["images"].dtype == np.float32
    given = sagd(
        "sample", work / "run", "-n", 2, "--autoencoder", work / "vae", "--output", tmp_path / "given"
    )
    assert given.code == 0 and len([*(tmp_path / "given").glob("*.png")]) == 2
    mixed = sagd(
        "sample", work / "run", "-n", 2, "--autoencoder", work / "vae", "--output", tmp_path / "absent"
    )
    assert mixed.code == 2


def test_another_autoencoder_is_refused(sagd, here, tmp_path, tiny_run):
    result = sagd("sample", "run", "-n", 2, "--autoencoder", "other", "--output", tmp_path / "s")
    assert result.code == 2 and "other is not the autoencoder of the latents" in result.err
    assert not (tmp_path / "s").exists()
    result = sagd("sample", tiny_run, "-n", 2, "--autoencoder", "vae", "--output", tmp_path / "s")
    assert result.code == 2 and "has latents of 4 channels" in result.err
    assert sagd("sample", "run", "--latents", "--autoencoder", "vae").code == 2


def test_fid_compares_pictures_and_its_receipt_names_the_autoencoder(sagd, here, tmp_path):
    np.save(tmp_path / "b.npy", np.random.default_rng(1).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8))
    fid = ["fid", "run", tmp_path / "b.npy", "--features", "pixels", "--metrics", "fid", "-n", 8, "--json"]
    result = sagd(*fid)
    assert result.code == 0, result.err
    told = result.json["receipt"]["generated"]
    assert told["shape"] == [3, 16, 16]
    assert told["sampling"]["autoencoder_sha256"] == load_autoencoder(here / "vae", CPU).sha256
    shutil.move("vae", "moved")
    try:
        absent = sagd(*fid)
        assert absent.code == 2 and "--autoencoder DIR" in absent.err
        assert sagd(*fid, "--autoencoder", "moved").json["fd"] == result.json["fd"]
    finally:
        shutil.move("moved", "vae")
