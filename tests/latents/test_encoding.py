"""Data sets as latents: the values of the autoencoder, whole after a stop, alike from any number of processes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.autoencoders import tiny_kl
from support.worlds import run_together

from sagd_cli.data.tensors import tensor_signal
from sagd_cli.datasets.array_file import ArrayFile
from sagd_cli.datasets.beside import write_beside
from sagd_cli.latents import encoding
from sagd_cli.latents.autoencoder import load_autoencoder
from sagd_cli.plugin.records import LazyImageSet

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(6) % 2


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with images, labels and an autoencoder, where parts have two images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(encoding, "IMAGES_AT_ONCE", 2)
    tiny_kl(tmp_path / "vae")
    np.save("images.npy", IMAGES)
    write_beside(tmp_path / "images.npy", LazyImageSet((), LABELS, ("cat", "dog")))
    return tmp_path


def command(name, *more, data="images.npy"):
    return ("data", "encode", data, "--autoencoder", "vae", "--output", name, "--device", "cpu", *more)


def test_latents_are_those_of_the_autoencoder_and_of_mirrored_images(sagd, work):
    done = sagd(*command("a.npy", "--flips", "--json"))
    assert done.code == 0, done.err
    signals = tensor_signal(torch.from_numpy(IMAGES))
    own = load_autoencoder(work / "vae", torch.device("cpu"))
    expected = torch.cat([own.encode(signals), own.encode(signals.flip(-1))]).numpy()
    found = np.load("a.npy")
    assert found.dtype == np.float16 and found.shape == (12, 4, 4, 4)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
    assert np.load("a.labels.npy").tolist() == [*LABELS, *LABELS]
    facts = json.loads((work / "a.json").read_text())
    assert facts["class_names"] == ["cat", "dog"]
    assert facts["latents"]["sha256"] == own.sha256
    assert facts["latents"]["autoencoder"] == str((work / "vae").resolve())
    np.testing.assert_allclose(facts["latents"]["std"], found.astype(float).std((0, 2, 3)), rtol=1e-6)


def test_a_stopped_command_goes_on_to_the_same_bytes(sagd, work, monkeypatch):
    assert sagd(*command("whole.npy", "--flips")).code == 0
    write, written = ArrayFile.write, []

    def stopped(self, start, values, source=None):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(start)
        write(self, start, values, source)

    monkeypatch.setattr(ArrayFile, "write", stopped)
    assert sagd(*command("a.npy", "--flips")).code == 130
    assert not (work / "a.npy").exists() and written == [0, 6, 2]
    monkeypatch.setattr(ArrayFile, "write", lambda *a: (written.append(a[1]), write(*a)))
    assert sagd(*command("a.npy", "--flips")).code == 0
    assert written[3:] == [2, 8, 4, 10]
    assert (work / "a.npy").read_bytes() == (work / "whole.npy").read_bytes()


def test_two_processes_write_what_one_does(sagd, work):
    assert sagd(*command("one.npy")).code == 0
    assert run_together(2, command("two.npy")) == [0, 0]
    for end in (".npy", ".labels.npy", ".json"):
        assert (work / f"one{end}").read_bytes() == (work / f"two{end}").read_bytes()


@pytest.mark.parametrize(
    ("shape", "word"), [((2, 1, 8, 8), "--mode rgb"), ((2, 3, 7, 7), "--size 6")], ids=["grey", "sides"]
)
def test_images_that_the_autoencoder_does_not_take(sagd, work, shape, word):
    np.save("other.npy", np.zeros(shape, np.uint8))
    done = sagd(*command("a.npy", data="other.npy"))
    assert done.code == 2 and word in " ".join(done.err.split())
    assert not (work / "a.npy").exists()


def test_values_beyond_float16_are_refused(sagd, work):
    tiny_kl(work / "vae", scaling_factor=1e9)
    done = sagd(*command("a.npy"))
    assert done.code == 1 and "float16" in done.err
    assert not (work / "a.npy").exists()


def test_unreadable_images_are_named_in_the_end(sagd, work):
    (work / "folder").mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(np.moveaxis(image, 0, 2)).save(work / f"folder/{number}.png")
    (work / "folder/3.png").write_bytes(b"nothing")
    done = sagd(*command("a.npy", data="./folder"))
    assert done.code == 1 and "3.png" in done.err and not (work / "a.npy").exists()
    Image.fromarray(np.moveaxis(IMAGES[3], 0, 2)).save(work / "folder/3.png")
    assert sagd(*command("a.npy", data="./folder")).code == 0
    assert sagd(*command("b.npy")).code == 0
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
