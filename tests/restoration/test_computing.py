"""What another process is sent, what it says, and what it cannot do."""

import pickle

import numpy as np

from sagd_cli.config.noise_spectrum import NoiseSpectrum
from sagd_cli.data.images import Image
from sagd_cli.restoration.computing import Computation, Damaged
from sagd_cli.restoration.options import Omission
from sagd_cli.restoration.prepared import Prepared
from sagd_cli.system.console import Output, output

RANDOM = np.random.default_rng(0)
SMOOTH = 30000 + 4000 * np.add.outer(np.sin(np.arange(96) / 9), np.cos(np.arange(96) / 7))


def job(tmp_path, more):
    pixels = np.rint(SMOOTH + more).astype(np.uint16)[None]
    return Damaged(Image(pixels, np.ones((96, 96), np.uint16), tmp_path / "image.tif"), None)


def elsewhere(prepared, *jobs):
    """What another process would return."""
    work, sent = pickle.loads(pickle.dumps((Computation(prepared).elsewhere, jobs)))
    before = output()
    found = pickle.loads(pickle.dumps(work(sent)))
    assert output() is before, "large images are computed so in the first process"
    return found


def network():
    raise AssertionError("the first process's own")


def test_lines_are_taken_elsewhere_as_here(tmp_path):
    noise = NoiseSpectrum.parse("stripe:horizontal,0,0:level=0.8")
    prepared = Prepared(Omission(noise), noise, None, Output(quiet=True), model=network)
    lines = job(tmp_path, RANDOM.normal(0, 2000, (96, 1)))
    (here,), ((there,), remarks) = Computation(prepared)([lines]), elsewhere(prepared, lines)
    assert np.array_equal(here.pixels[0], there.pixels[0]) and here.report == there.report and not remarks
    assert here.report["method"] == "lines" and pickle.loads(pickle.dumps(lines)).image.alpha is None


def test_what_needs_a_network_comes_back(tmp_path):
    noise = NoiseSpectrum.parse("white:level=0.1")
    prepared = Prepared(Omission(noise), noise, None, Output(quiet=True), model=network)
    assert elsewhere(prepared, job(tmp_path, RANDOM.normal(0, 3000, (96, 96)))) == (None, {})


def test_what_is_to_be_said_comes_back(tmp_path):
    prepared = Prepared(Omission(None, estimate="wiener"), None, None, Output(quiet=True))
    (done,), remarks = elsewhere(prepared, job(tmp_path, RANDOM.normal(0, 3000, (96, 96))))
    assert done.report["method"] == "unchanged" and [*remarks.values()] == [True]
    assert "white noise was found, and stays" in next(iter(remarks))
