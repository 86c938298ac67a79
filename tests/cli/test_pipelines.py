"""The program as pipelines and signals see it: subprocesses, exit codes, a full disk."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support.full_disk import little_room

SAGD = [sys.executable, "-m", "sagd_cli"]
TINY = ["--set", "backbone.options.channels=[8,8]", "--batch-size", "8", "--set", "training.log_steps=1"]


@pytest.mark.slow
def test_a_designed_filter_is_piped_into_training_and_sampled(tmp_path):
    run, images = tmp_path / "run", tmp_path / "images"
    sagd = " ".join(SAGD)
    script = (
        f"{sagd} filter design --type bandpass --low 0.3 --high 0.8 |"
        f" {sagd} train --filter - --steps 3 --output {run} {' '.join(TINY)} --json |"
        f" {sys.executable} -c 'import json,sys; print(json.load(sys.stdin)[\"run\"])' |"
        f" xargs -I RUN {sagd} sample RUN -n 5 --steps 2 --output {images} --json"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["count"] == 5 and result["seeds"] == [0, 4] and result["steps"] == 2
    names = sorted(path.name for path in images.iterdir())
    assert names == [*(f"{i:06d}.png" for i in range(5)), "samples.json"]
    # The filter has no noise below rho 0.3 and above 0.8: there the samples are empty up to their rounding.
    fields = np.stack([np.asarray(Image.open(path), float) for path in sorted(images.glob("*.png"))])
    spectrum = np.abs(np.fft.rfftn(2 * fields / 255 - 1, axes=(1, 2)))
    rho = np.hypot(np.fft.fftfreq(8)[:, None], np.fft.rfftfreq(8)[None]) / np.sqrt(0.5)
    outside = (rho < 0.3) | (rho >= 0.8)
    clipped = np.any((fields == 0) | (fields == 255), axis=(1, 2))
    assert np.all(spectrum[~clipped][:, outside] <= 64 * 1.01 / 255)


def start(*arguments):
    command = [*SAGD, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, process, more_than):
    while not path.exists() or path.read_text().count("\n") <= more_than:
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_resumes(tmp_path):
    run, saved = tmp_path / "run", 0
    for signum, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start("train", "--steps", 5000, "--output", run, *TINY)
        wait_for(run / "metrics.jsonl", process, more_than=saved)
        process.send_signal(signum)
        _, err = process.communicate()
        assert process.returncode == code, err
        assert saved == 0 or f"resuming {run} at step {saved}" in err
        saved = int(err.split("stopped at step ")[1].split()[0])
        assert (run / "checkpoints" / f"step-{saved:08d}" / "manifest.json").exists()


def test_a_full_disk_is_one_sentence_and_keeps_what_is_there(sagd, tmp_path):
    run = tmp_path / "run"
    command = ["train", "--steps", 6, "--output", run, "--set", "training.checkpoint_images=16", *TINY]
    with little_room(20_000):
        full = sagd(*command)
    assert full.code == 1 and "Traceback" not in full.err
    assert "the checkpoint of step 2 could not be written" in full.err
    assert list((run / "checkpoints").iterdir()) == []
    assert sagd(*command).code == 0  # with room again, the same command does the job


def test_a_contact_sheet_that_fails_loses_neither_images_nor_result(sagd, tiny_run, tmp_path):
    drawn = ["sample", tiny_run, "-n", 2, "--steps", 1, "--output", tmp_path / "drawn", "--json"]
    result = sagd(*drawn, "--grid", "/proc/x.png")
    assert result.code == 1 and result.json["count"] == 2
    assert len([*(tmp_path / "drawn").glob("*.png")]) == 2


def test_force_replaces_files_of_the_same_names_and_deletes_nothing(sagd, tiny_run, tmp_path):
    images = tmp_path / "images"
    draw = ["sample", tiny_run, "--steps", 1, "--output", images]
    assert sagd(*draw, "-n", 6).code == 0
    (images / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    assert sagd(*draw, "-n", 6, "--seed", 1).code == 2
    assert "would mix with it" in sagd(*draw, "-n", 2, "--force").err
    assert sagd(*draw, "-n", 6, "--format", "npz", "--force").code == 2
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before
    assert sagd(*draw, "-n", 6, "--seed", 0, "--force").code == 0
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before
    assert sagd(*draw, "-n", 6, "--force", "--grid", images / "grid.png").code == 2


def test_force_never_eats_the_input(sagd, tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "a.png")
    for source in (tmp_path, tmp_path / "a.png"):
        arguments = [source, "--band", "high", "--output", tmp_path, "--force"]
        assert sagd("corrupt", *arguments, "--strength", 1).code == 2
        assert sagd("omit", *arguments, "--estimate", "notch").code == 2
    assert sagd("data", "prepare", tmp_path, "--output", tmp_path, "--force").code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("sampler", ["dpmpp", "ddim", "ddpm"])
def test_an_image_depends_on_its_seed_alone(sagd, tiny_run, tmp_path, sampler):
    def draw(name, *arguments):
        folder = tmp_path / name
        common = ["--sampler", sampler, "--steps", 3, "--format", "npz", "--output", folder]
        assert sagd("sample", tiny_run, *common, *arguments).code == 0
        with np.load(folder / "samples.npz") as archive:
            return archive["images"].astype(int)

    whole = draw("whole", "-n", 9, "--batch-size", 64)
    assert np.abs(draw("ones", "-n", 9, "--batch-size", 1) - whole).max() <= 1  # rounding to 8 bits
    assert np.abs(draw("sevens", "-n", 9, "--batch-size", 7) - whole).max() <= 1
    assert np.abs(draw("one", "-n", 1, "--seed", 4) - whole[4:5]).max() <= 1
    assert np.abs(whole[0] - whole[1]).max() > 1
