"""Samples drawn by many processes, in shares and after kills are those of one command, and none is drawn twice."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.full_disk import little_room
from support.worlds import run_together

from sagd_cli.config.layers import resolve
from sagd_cli.data.folders import list_images
from sagd_cli.data.images import read_image
from sagd_cli.run import folder as run_folder
from sagd_cli.sampling import sample_folder
from sagd_cli.sampling.generator import ImageGenerator
from sagd_cli.sampling.sample_folder import SampleFolder
from sagd_cli.system.console import Output
from sagd_cli.training.train import Conduct, run_training

COUNT, BATCH = 20, 3
SEVEN = [range(start, min(start + BATCH, COUNT)) for start in range(0, COUNT, BATCH)]
ROOT = Path(__file__).resolve().parents[2]


def tree(folder):
    """All files of a folder, which has no other state."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told_of(folder):
    """The first seeds of the batches that commands which were stopped have told of."""
    lines = [line for path in folder.glob(".samples/*.jsonl") for line in path.read_text().splitlines()]
    return {json.loads(line)["seeds"][0] for line in lines if line.endswith("}}")}


@pytest.fixture(scope="module")
def class_run(tmp_path_factory, tiny_settings):
    path = tmp_path_factory.mktemp("runs") / "classes"
    settings = {**tiny_settings, "class_conditional": True}
    run_training(resolve(settings), path, torch.device("cpu"), Output(quiet=True))
    return path


@pytest.fixture
def draw(sagd, tiny_run, tmp_path):
    """Draw 20 images in batches of 3 from the tiny run into a folder; its options may be replaced."""

    def run(name, *options):
        return sagd(*command(tiny_run, tmp_path / name), *options)

    return run


def command(run, folder):
    short = ("--steps", 2, "--batch-size", BATCH, "--device", "cpu")
    return ("sample", run, "-n", COUNT, *short, "--output", folder)


@pytest.fixture
def drawn(monkeypatch):
    """The batches of seeds that are drawn."""
    batches, real = [], ImageGenerator.draw

    def noted(self, seeds, on_step=lambda: None):
        batches.append(seeds)
        return real(self, seeds, on_step)

    monkeypatch.setattr(ImageGenerator, "draw", noted)
    return batches


@pytest.mark.parametrize(
    ("processes", "options"),
    [
        (2, ["--sampler", "ddim"]),
        (3, ["--sampler", "dpmpp-sde"]),
        (3, ["--class", "3,8", "--guidance", 2]),
        (2, ["--format", "npz"]),
        (9, []),
    ],
    ids=["ddim", "dpmpp-sde", "classes", "npz", "more than batches"],
)
def test_processes_draw_what_one_process_draws(
    sagd, tiny_run, class_run, tmp_path, capfd, processes, options
):
    run = class_run if "--class" in options else tiny_run
    one = sagd(*command(run, tmp_path / "one"), *options, "--json")
    capfd.readouterr()
    codes = run_together(processes, [*command(run, tmp_path / "many"), *options, "--json"])
    told = capfd.readouterr()
    assert codes == [0] * processes, told.err
    result = json.loads(told.out)  # one object: one process speaks
    assert {**result, "output": ""} == {**one.json, "output": ""}
    assert tree(tmp_path / "many") == tree(tmp_path / "one") and len(tree(tmp_path / "one")) >= 2
    assert f"{processes} processes draw 7 batches" in told.err


def test_what_is_refused_is_told_once_by_several_processes(draw, tiny_run, tmp_path, capfd):
    assert draw("s", "-n", 4).code == 0
    before = tree(tmp_path / "s")
    capfd.readouterr()
    assert run_together(3, ("sample", tiny_run, "-n", 4, "--output", tmp_path / "s")) == [2] * 3
    told = capfd.readouterr()
    assert told.err.count("error:") == 1 and "was begun with --steps 2, now --steps" in told.err
    assert tree(tmp_path / "s") == before


def test_a_run_that_is_none_is_told_once_by_several_processes(tmp_path, capfd):
    assert run_together(3, ("sample", tmp_path / "none", "--device", "cpu")) == [2] * 3
    assert capfd.readouterr().err.count("error:") == 1


def test_processes_that_see_different_checkpoints_draw_nothing(tiny_run, tiny_config, tmp_path, capfd):
    run_training(tiny_config, tmp_path / "early", torch.device("cpu"), Output(quiet=True), Conduct(until=4))

    def sees_less(rank):
        real = run_folder.open_checkpoint
        if rank == 1:
            run_folder.open_checkpoint = lambda path, output: real(tmp_path / "early", output)

    assert run_together(2, command(tiny_run, tmp_path / "s"), sees_less) == [1, 1]
    told = capfd.readouterr().err
    assert told.count("error:") == 1 and "process 1 has other checkpoint or settings of sampling" in told
    assert not (tmp_path / "s").exists()


def test_a_process_that_dies_ends_all_and_what_is_written_is_sound(draw, drawn, tiny_run, tmp_path, capfd):
    def dying(rank):
        real = ImageGenerator.draw

        def until(self, seeds, on_step=lambda: None):
            if rank == 1 and seeds.start >= 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, seeds, on_step)

        ImageGenerator.draw = until

    folder = tmp_path / "s"
    codes = run_together(2, command(tiny_run, folder), dying)
    assert codes[1] == -signal.SIGKILL and codes[0] != 0
    told = told_of(folder)
    assert draw("s").code == 0
    assert told and sorted([*told, *(batch.start for batch in drawn)]) == [batch.start for batch in SEVEN]
    assert draw("whole").code == 0 and tree(folder) == tree(tmp_path / "whole")


@pytest.mark.parametrize("form", ["png", "npz"])
def test_shares_are_the_whole(draw, drawn, tmp_path, form):
    form = ("--format", form)
    missing = [draw("shares", "--shard", f"{k}/3", *form, "--json").json["missing"] for k in (3, 1, 2)]
    assert missing == [14, 6, 0]  # of 20, in batches of 3: shares have 8, 6 and 6
    assert sorted(batch.start for batch in drawn) == [batch.start for batch in SEVEN]
    again = draw("shares", "--shard", "2/3", *form)
    assert again.code == 0 and "all shares are there" in again.err and len(drawn) == 7
    assert draw("whole", *form).code == 0 and tree(tmp_path / "shares") == tree(tmp_path / "whole")


def test_processes_may_draw_a_share(draw, drawn, tiny_run, tmp_path):
    assert run_together(2, (*command(tiny_run, tmp_path / "s"), "--shard", "1/2")) == [0, 0]
    assert draw("s", "--shard", "2/2", "--json").json["missing"] == 0 and drawn == SEVEN[1::2]
    assert draw("whole").code == 0 and tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_an_error_names_its_process(sagd, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert "error: process 3: --shard '3/2' is not K/N" in sagd("sample", tmp_path, "--shard", "3/2").err


def test_more_shares_than_batches_have_nothing_to_do(draw, drawn):
    last = draw("s", "--shard", "9/9", "--json")
    assert last.code == 0 and last.json["missing"] == COUNT and drawn == []


@pytest.mark.parametrize("form", ["png", "npz"])
@pytest.mark.parametrize("at", [0, 1, 4, 6])
def test_what_failed_goes_on_where_it_was(draw, drawn, tmp_path, monkeypatch, form, at):
    real = ImageGenerator.draw

    def failing(self, seeds, on_step=lambda: None):
        if seeds == SEVEN[at]:
            raise MemoryError
        return real(self, seeds, on_step)

    with monkeypatch.context() as patch:
        patch.setattr(ImageGenerator, "draw", failing)
        failed = draw("s", "--format", form)
    assert failed.code == 1 and "there is not enough memory" in failed.err
    assert not (tmp_path / "s" / "samples.npz").exists()
    again = draw("s", "--format", form)
    assert again.code == 0 and (at == 0 or f"{at * BATCH} of 20 images are there already" in again.err)
    assert drawn == SEVEN
    assert draw("whole", "--format", form).code == 0 and tree(tmp_path / "s") == tree(tmp_path / "whole")


@pytest.mark.parametrize(("form", "batch"), [("png", 3), ("npz", 20)])
def test_a_full_disk_leaves_nothing_that_counts(draw, tmp_path, form, batch):
    """Room for more and more of the record, the batches, their journal and the archive."""
    options = ("--format", form, "--batch-size", batch)
    faults = set()
    for room in range(400, 2400, 400):
        with little_room(room):
            full = draw("s", *options)
        faults.add(full.code)
        assert full.code == 0 or (full.code == 1 and full.err.count("error:") == 1), full.err
        assert full.code == 0 or re.search("could not be written: file too large|Make room", full.err)
    assert faults & {1}
    assert draw("s", *options).code == 0 and draw("whole", *options).code == 0
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_kills_cost_the_batches_that_were_at_work_and_nothing_else(draw, tiny_run, tmp_path):
    """Until it ends by itself; each batch that a killed command had told of is not drawn again."""
    folder, log, rng, kills = tmp_path / "s", tmp_path / "log", random.Random(0), 0
    assert draw("whole").code == 0
    told: set[int] = set()
    while True:
        log.write_text("")
        pid = os.fork()
        if not pid:
            _draw_slowly(tiny_run, folder, log)
        begun, ended = rng.randint(1, 4), (0, 0)
        while log.read_text().count("\n") < begun and not ended[0]:
            time.sleep(0.002)
            ended = os.waitpid(pid, os.WNOHANG)
        assert not told & {*map(int, log.read_text().split())}
        if ended[0]:
            break
        time.sleep(rng.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        told = told_of(folder)
        assert kills < 50
    assert os.waitstatus_to_exitcode(ended[1]) == 0 and kills >= 2
    assert tree(folder) == tree(tmp_path / "whole")


def _draw_slowly(run, folder, log):
    """Draw in this process, which takes its time around all that changes the disk, and end it."""
    from support.worlds import main

    replace, real = Path.replace, ImageGenerator.draw

    def slow(self, target):
        time.sleep(0.003)
        return replace(self, target)

    def noted(self, seeds, on_step=lambda: None):
        with log.open("a") as file:
            file.write(f"{seeds.start}\n")
        return real(self, seeds, on_step)

    Path.replace, ImageGenerator.draw = slow, noted
    code = 1
    try:
        main([str(word) for word in (*command(run, folder), "--quiet")])
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os._exit(code)


def test_more_images_with_the_same_settings_are_the_rest(draw, drawn, tmp_path):
    for form in ("png", "npz"):
        drawn.clear()
        assert draw(form, "-n", 10, "--batch-size", 8, "--format", form).code == 0
        assert draw(form, "--batch-size", 8, "--format", form).code == 0
        assert drawn == [range(8), range(8, 10), range(10, 16), range(16, 20)]
    with np.load(tmp_path / "npz" / "samples.npz") as archive:
        assert archive["seeds"].tolist() == [*range(COUNT)]
        for seed, image in enumerate(archive["images"]):
            np.testing.assert_array_equal(image, read_image(tmp_path / "png" / f"{seed:06d}.png").pixels)
    drawn.clear()
    assert draw("png", "--batch-size", 8).code == 0 and drawn == []  # all there
    fewer = draw("png", "-n", 4, "--batch-size", 8)
    assert fewer.code == 2 and "is for the seeds 0 to 19, and not only to 3" in fewer.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", 3], "was begun with --seed 0, now --seed 3"),
        (["--steps", 3], "was begun with --steps 2, now --steps 3"),
        (["--sampler", "ddpm"], "was begun with --sampler dpmpp, now --sampler ddpm"),
        (["--batch-size", 4], "was begun with --batch-size 3, now --batch-size 4"),
        (["--format", "tiff"], "was begun with --format png, now --format tiff"),
        (["--shard", "3/2"], "is not K/N with K from 1 to N"),
        (["--shard", "1/2", "--force"], "so --force cannot be had with it"),
        (["--shard", "1/2", "--grid", "x.png"], "so --grid cannot be had with it"),
    ],
)
def test_other_images_are_refused(draw, tmp_path, options, words):
    assert draw("s").code == 0
    before = tree(tmp_path / "s")
    refused = draw("s", *options)
    assert refused.code == 2 and words in " ".join(refused.err.split())
    assert tree(tmp_path / "s") == before


def test_force_draws_all_anew(draw, drawn, tmp_path):
    assert draw("s").code == 0 and draw("s", "--steps", 3, "--force").code == 0
    assert drawn == SEVEN * 2
    assert draw("whole", "--steps", 3).code == 0 and tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_images_that_nothing_is_known_of_are_not_taken_for_ours(draw, tmp_path):
    assert draw("s").code == 0
    (tmp_path / "s" / "samples.json").unlink()
    assert "exists already" in draw("s").err
    (tmp_path / "t").mkdir()
    (tmp_path / "s" / "000003.png").rename(tmp_path / "t" / "000003.png")
    refused = draw("t")
    assert refused.code == 2 and "exists already" in refused.err


@pytest.mark.parametrize("fault", ["missing", "empty", "torn"])
def test_a_batch_with_a_file_that_is_damaged_is_drawn_again(draw, drawn, tmp_path, fault):
    assert draw("s").code == 0 and draw("whole").code == 0
    drawn.clear()
    path = tmp_path / "s" / "000007.png"
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if fault == "empty" else path.read_bytes()[:-20])
    assert draw("s").code == 0 and drawn == [SEVEN[2]]
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_an_image_that_was_changed_is_not_lost(draw, drawn, tmp_path):
    assert draw("s").code == 0
    path = tmp_path / "s" / "000007.png"
    path.write_bytes((tmp_path / "s" / "000008.png").read_bytes())
    changed = draw("s")
    assert changed.code == 2 and "000007.png was changed since it was written" in " ".join(
        changed.err.split()
    )
    assert path.read_bytes() == (tmp_path / "s" / "000008.png").read_bytes()


@pytest.fixture
def meanwhile(draw, monkeypatch):
    """Let a first command draw; `options` draw into its folder before its first batch is written. Gives both."""

    def run(first, options, at=(ImageGenerator, "draw")):
        real, second = getattr(*at), []

        def with_second(*arguments):
            if not second:
                second.append(None)  # the second one comes here too
                second[0] = draw("s", *options)
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(*at, with_second)
            return draw("s", *first), second[0]

    return run


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((), (), "another command draws the same images"),
        ((), ("--force",), "another command draws into"),
        (("--shard", "1/2"), ("--force", "--steps", 3), "another command draws into"),
        (("--shard", "1/2"), ("--shard", "2/2", "--steps", 3), "was begun with --steps 2, now --steps 3"),
    ],
    ids=["the same", "force", "force beside a share", "shares of other settings"],
)
def test_a_second_command_does_not_mix_its_images_with_those_of_the_first(
    draw, tmp_path, meanwhile, first, second, words
):
    done, refused = meanwhile(first, second)
    assert done.code == 0 and refused.code == 2 and words in " ".join(refused.err.split())
    assert draw("s").code == 0 and draw("whole").code == 0
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_shares_of_other_settings_that_start_together_are_told_apart(draw, tmp_path, meanwhile):
    """The second one begins when the first one has found the folder empty."""
    first, second = meanwhile(
        ("--shard", "1/2"), ("--shard", "2/2", "--steps", 3), at=(SampleFolder, "begin")
    )
    assert second.code == 0 and first.code == 2 and "was begun with --steps 3, now --steps 2" in first.err
    assert len([*(tmp_path / "s").glob("*.png")]) == 9


def test_force_between_begin_and_the_first_image_is_seen(draw, tmp_path, meanwhile):
    first, second = meanwhile((), ("--steps", 3, "--force"), at=(SampleFolder, "writing"))
    assert second.code == 0 and first.code == 2 and "was begun with --steps 3, now --steps 2" in first.err
    assert draw("s", "--steps", 3).code == 0 and draw("whole", "--steps", 3).code == 0
    assert tree(tmp_path / "s") == tree(tmp_path / "whole")


def test_shares_without_images_do_not_hinder_each_other(draw, drawn, meanwhile):
    idle = meanwhile(("--shard", "9/9"), ("--shard", "8/9"), at=(SampleFolder, "finish"))
    assert [share.code for share in idle] == [0, 0] and drawn == []


def test_a_disk_without_locks_is_drawn_to_and_a_note_says_so_once(draw, tmp_path, monkeypatch):
    def flock(handle, how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    done = draw("s")
    assert done.code == 0 and done.err.count("has no locks") == 1
    assert len(list_images(tmp_path / "s")) == COUNT


def test_samples_that_are_not_complete_are_not_measured(sagd, draw, tmp_path, monkeypatch):
    def failing(self, seeds, on_step=lambda: None):
        raise MemoryError

    assert draw("s").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(ImageGenerator, "draw", failing)
        assert draw("s", "--steps", 3, "--force").code == 1
    name = tmp_path / "s"
    for command in (
        ("data", "info", name),
        ("fid", name, name, "--features", "pixels"),
        ("spectrum", name),
        ("omit", name, "--band", "high", "--output", tmp_path / "o"),
    ):
        refused = sagd(*command)
        assert refused.code == 2 and f"the samples in {name} are not complete" in refused.err
    assert draw("s", "--steps", 3).code == 0 and sagd("data", "info", name).code == 0


def test_a_record_of_another_program_is_one_sentence(draw, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "samples.json").write_text('{"a": 1}')
    refused = draw("s")
    assert refused.code == 1 and "samples.json is no record of `sagd sample`" in refused.err
    assert refused.err.count("error:") == 1


def test_the_precision_is_recorded_as_it_is_on_this_machine(sagd, tiny_run, tmp_path):
    run, folder = tmp_path / "run", tmp_path / "s"
    shutil.copytree(tiny_run, run)
    assert sagd(*command(run, folder)).code == 0
    settings = json.loads((folder / "samples.json").read_text())["settings"]
    assert (settings["sampling.precision"], settings["sampling.noise_device"]) == ("fp32", "cpu")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(re.sub("(sampling:(\n  .*)*?\n  precision:) auto", r"\1 bf16", config))
    refused = sagd(*command(run, folder))
    assert refused.code == 2
    assert "begun with sampling.precision fp32, now sampling.precision bf16" in " ".join(refused.err.split())


def test_many_images_lie_in_parts_that_all_commands_read(sagd, draw, drawn, tmp_path, monkeypatch):
    flat = ("--seed", 999_990)
    assert draw("flat", *flat).code == 0
    monkeypatch.setattr(sample_folder, "FIRST_IN_FOLDERS", COUNT)
    assert draw("parts", *flat).code == 0
    many = tmp_path / "parts"
    names = [path.relative_to(many) for path in list_images(many)]
    assert [*map(str, names)] == [
        f"{seed // 1000 * 1000:06d}/{seed:06d}.png" for seed in range(999_990, 1_000_010)
    ]
    for path in list_images(tmp_path / "flat"):
        part = many / f"{int(path.stem) // 1000 * 1000:06d}"
        assert (part / path.name).read_bytes() == path.read_bytes()
    drawn.clear()
    assert draw("parts", *flat).code == 0 and drawn == []
    monkeypatch.setattr(sample_folder, "FIRST_IN_FOLDERS", 10_000)  # a folder stays as it was begun
    assert draw("parts", *flat, "-n", 22).code == 0 and drawn == [
        range(1_000_010, 1_000_011),
        range(1_000_011, 1_000_012),
    ]
    assert (many / "1000000" / "1000011.png").is_file() and not [*many.glob("*.png")]


def test_parts_are_no_classes(sagd, draw, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_folder, "FIRST_IN_FOLDERS", COUNT)
    assert draw("parts", "--seed", 990).code == 0
    monkeypatch.setattr(sample_folder, "FIRST_IN_FOLDERS", 10_000)
    assert draw("flat", "--seed", 990).code == 0
    parts, flat = (str(tmp_path / name) for name in ("parts", "flat"))
    found = [sagd("data", "info", name, "--json").json for name in (parts, flat)]
    assert found[0]["count"] == COUNT and {**found[0], "path": ""} == {**found[1], "path": ""}
    assert sagd("fid", parts, flat, "--features", "pixels", "--json").json["fd"] < 1e-9
    spectra = [sagd("spectrum", name, "--json").json for name in (parts, flat)]
    same = [{**one["data"], "data": ""} for one in spectra]
    assert {**spectra[0], "data": same[0]} == {**spectra[1], "data": same[1]}
    restored = sagd("omit", parts, "--band", "high", "--estimate", "notch", "--output", tmp_path / "o")
    assert restored.code == 0 and len(list_images(tmp_path / "o")) == COUNT
    for name in ("parts", "flat"):
        note = sagd("data", "info", tmp_path / name).err
        assert "left out" not in note


def test_cuda_without_a_gpu_is_one_sentence(tiny_run, tmp_path, capfd):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    codes = run_together(2, (*command(tiny_run, tmp_path / "s"), "--device", "cuda"))
    assert codes == [2, 2] and "Use --device auto or cpu" in capfd.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_torchrun_draws_what_one_process_draws(draw, tiny_run, tmp_path):
    assert draw("one").code == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    words = map(str, command(tiny_run, tmp_path / "many"))
    done = subprocess.run(
        [*launcher, "-m", "sagd_cli", *words, "--json"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["count"] == COUNT
    assert tree(tmp_path / "many") == tree(tmp_path / "one")
