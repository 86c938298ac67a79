"""Estimates of memory, arithmetic and disk: against counts by hand, literature, files and measured processes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from sagd_cli.config.layers import resolve
from sagd_cli.config.run import RunConfig
from sagd_cli.datasets.loading import DataSize
from sagd_cli.errors import ConfigError, UsageError
from sagd_cli.model.network import laid_out, new_backbone
from sagd_cli.run import checkpoint
from sagd_cli.system import devices
from sagd_cli.system.console import Output
from sagd_cli.training import cost
from sagd_cli.training.cost import estimate_cost, forward_cost, refuse_too_large
from sagd_cli.training.task import Task
from sagd_cli.training.train import run_training

CPU = torch.device("cpu")
PROBE = Path(__file__).resolve().parent.parent / "support" / "memory_of_training.py"


class OneConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 5, padding=2, bias=False)

    def forward(self, x_t, timestep):
        return self.convolution(x_t)


def estimated(shape, classes=0, **flags):
    return estimate_cost(resolve(flags), DataSize(1500, shape, classes), CPU)


def test_a_convolution_is_counted_as_by_hand():
    """2 x 8 x 3 x 5^2 operations at each of 16 x 12 places; its input is what is kept."""
    with torch.device("meta"):
        network = OneConvolution()
    cost = forward_cost(network, DataSize(1, (3, 16, 12)), 4, CPU)
    assert cost.flops == 2 * 8 * 3 * 25 * 16 * 12
    assert cost.saved == 4 * (3 * 16 * 12) * 4


def test_a_transformer_computes_what_its_authors_say():
    """DiT-B/2 at 32 x 32 x 4: 23.01 G multiply-adds (Peebles & Xie 2212.09748, table 1)."""
    options = {"depth": 12, "heads": 12, "head_width": 64}
    flops = estimated((4, 32, 32), 1000, **{"backbone.name": "dit", "backbone.options": options}).flops
    assert flops / 2e9 == pytest.approx(23.01, rel=0.005)


def test_activations_follow_the_batch_and_the_precision_and_the_rest_does_not():
    small, large = (estimated((1, 28, 28), **{"training.batch_size": size}) for size in (16, 32))
    half = estimated((1, 28, 28), **{"training.batch_size": 32, "training.precision": "bf16"})
    assert large.activations == pytest.approx(2 * small.activations, rel=0.01)
    assert half.activations == pytest.approx(large.activations / 2, rel=0.1)
    assert large.fixed == small.fixed == half.fixed == 5 * 4 * small.parameters
    assert large.flops == small.flops


def test_a_compiled_network_keeps_less_and_a_gpu_need_not_be_there():
    settings = {"training.batch_size": 32}
    eager, compiled = (estimated((1, 28, 28), **settings, **{"training.compile": on}) for on in (False, True))
    assert compiled.activations == pytest.approx(cost.COMPILED_SHARE * eager.activations)
    assert compiled.fixed == eager.fixed
    full, half = (
        estimate_cost(
            resolve({**settings, "training.precision": precision}),
            DataSize(9, (1, 28, 28), 0),
            torch.device("cuda:3"),
        )
        for precision in ("fp32", "auto")
    )
    # If norms were in float32 on CUDA, as autocast has them, they would keep more than convolutions do: 0.8.
    assert 0.4 < half.activations / full.activations < 0.55


def test_a_run_on_cuda_can_be_planned_where_there_is_none(sagd):
    told = sagd("train", "--dry-run", "--device", "cuda", "--json")
    assert told.code == 0 and told.json["estimate"]["device"] == "cuda"
    assert told.json["estimate"]["available_bytes"] is None
    assert "free        unknown" in sagd("train", "--dry-run", "--device", "cuda").err


def test_what_is_kept_is_what_real_tensors_keep():
    """The same network trained for real on the CPU keeps as many bytes as its shadow."""
    config = resolve({"training.batch_size": 8})
    network = laid_out(new_backbone(config.backbone, (1, 8, 8), 0), torch.device("cpu"))
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.zeros(8, 1, 8, 8), torch.zeros(8))
    real = sum(storage.nbytes() for address, storage in kept.items() if address not in own)
    assert estimated((1, 8, 8), **{"training.batch_size": 8}).activations == round(real * cost.CPU_OVERHEAD)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("preset", "batch", "shape"), [("digits", 512, "1x8x8"), ("mnist", 64, "1x28x28")])
def test_the_memory_of_two_steps_is_within_30_percent(preset, batch, shape):
    done = subprocess.run(
        [sys.executable, PROBE, preset, str(batch), shape], capture_output=True, text=True, check=True
    )
    figures = json.loads(done.stdout)
    assert figures["estimate"] == pytest.approx(figures["measured"], rel=0.3)


def test_a_checkpoint_is_as_large_as_was_said(tmp_path):
    config = resolve({"training.images": 8, "training.batch_size": 8})
    run_training(config, tmp_path / "run", CPU, Output(quiet=True))
    files = (tmp_path / "run" / "checkpoints").rglob("*.safetensors")
    written = sum(path.stat().st_size for path in files)
    assert estimated((1, 8, 8)).checkpoint == pytest.approx(written, rel=0.02)


def test_a_network_that_looks_at_values_has_no_estimate_and_one_that_does_not_fit_is_refused(monkeypatch):
    class Peeking(OneConvolution):
        def forward(self, x_t, timestep):
            return x_t * float(timestep.max())

    with pytest.raises(ConfigError, match="divisible by"):
        estimated((3, 9, 9))
    monkeypatch.setattr(cost, "build_backbone", lambda *_: Peeking())
    assert estimated((3, 16, 16)) is None
    refuse_too_large(resolve({}), DataSize(1, (3, 16, 16)), CPU)


@pytest.mark.slow
def test_what_killed_a_machine_of_24_gb_is_refused_with_the_batch_that_fits(monkeypatch):
    data, free = DataSize(1000, (3, 64, 64)), 20 * 2**30
    monkeypatch.setattr(cost, "available_memory", lambda device: free)
    with pytest.raises(
        UsageError, match=r"128 images at a time takes about 3\d\.\d GiB .* has 20\.0 GiB free"
    ) as refusal:
        refuse_too_large(resolve({}), data, CPU)
    fitting = int(refusal.value.hint.split("--batch-size to ")[1].split()[0])
    refuse_too_large(resolve({"training.batch_size": fitting}), data, CPU)
    with pytest.raises(UsageError):
        refuse_too_large(resolve({"training.batch_size": fitting + 2}), data, CPU)


def test_training_is_refused_before_anything_is_written_unless_told_otherwise(sagd, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "available_memory", lambda device: 2**20)
    command = ("train", "--steps", 1, "--batch-size", 2, "--output", tmp_path / "run", "--json")
    refused = sagd(*command)
    assert refused.code == 2
    assert json.loads(refused.err.splitlines()[-1])["error"]["hint"].startswith("Choose a smaller network")
    assert not (tmp_path / "run").exists()
    assert sagd(*command, "--no-check-memory").code == 0


def test_a_dry_run_says_what_the_run_takes_beside_its_configuration(sagd):
    told = sagd("train", "--dry-run", "--json")
    figures = told.json["estimate"]
    assert figures["parameters"] == 634_273
    assert figures["memory_bytes"]["total"] == sum(
        size for name, size in figures["memory_bytes"].items() if name != "total"
    )
    assert figures["flops_per_image"]["training"] == 3 * figures["flops_per_image"]["forward"]
    assert figures["images_per_epoch"] == 1500
    assert figures["epochs"] == pytest.approx(200_000 / 1500)
    assert figures["steps"] == 1563
    assert figures["disk_bytes"]["total"] == 3 * figures["disk_bytes"]["checkpoint"]
    shown = sagd("train", "--dry-run")
    assert RunConfig.model_validate(yaml.safe_load(shown.out)).document() == told.json["config"]
    assert "1,563 steps, 133.3 epochs of 1,500" in shown.err
    assert sagd("train", "--dry-run", "--quiet").err == ""


def test_a_dry_run_without_the_data_shows_the_configuration_and_says_so(sagd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = sagd("train", "--preset", "imagenet64", "--dry-run", "--json")
    assert told.code == 0
    assert told.json["estimate"] is None
    assert told.json["config"] == resolve({}, preset="imagenet64").document()
    assert "no estimate without the images: there is no file" in told.err
    assert "data/imagenet64.npy" in told.err


def test_free_memory_is_what_the_machine_and_the_control_group_leave(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   40 kB\n")
    assert devices._free_of_machine(meminfo) == 40 * 1024
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\nactive_file 50\n")
    assert devices._free_of_group(tmp_path, "memory.max", "memory.current") == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert devices._free_of_group(tmp_path, "memory.max", "memory.current") is None
    assert devices._free_of_machine(tmp_path / "none") is None


def test_a_run_whose_checkpoint_does_not_fit_on_the_disk_is_refused_before_anything_is_written(
    sagd, tmp_path, monkeypatch
):
    monkeypatch.setattr(cost, "available_disk", lambda path: 2**20)
    run = tmp_path / "run"
    refused = sagd("train", "--steps", 1, "--batch-size", 2, "--output", run, "--no-check-memory", "--json")
    message = json.loads(refused.err.splitlines()[-1])["error"]["message"]
    assert refused.code == 2 and not run.exists()
    assert message == f"a checkpoint takes 11.6 MiB, and the disk of {run} has 1.0 MiB free"


def test_what_is_asked_of_the_disk_holds_a_whole_run(tiny_run, tiny_config, monkeypatch, tmp_path):
    state, _ = Task.of(tiny_config).start(CPU)
    asked = []
    monkeypatch.setattr(cost, "available_disk", lambda path: asked.append(path) or 0)
    with pytest.raises(UsageError, match=r"takes (\d+\.\d) MiB") as caught:
        cost.refuse_full_disk(checkpoint.size_of(state), tmp_path)
    claimed = float(re.search(r"takes (\d+\.\d) MiB", caught.value.message)[1]) * 2**20
    newest = max((tiny_run / "checkpoints").iterdir())
    written = (
        sum(file.stat().st_size for file in newest.iterdir()) + (tiny_run / "config.yaml").stat().st_size
    )
    assert written < claimed < 2 * written + 2 * 2**20


def test_a_run_goes_on_only_where_the_next_checkpoint_fits(tiny_run, tiny_config, tmp_path, monkeypatch):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    monkeypatch.setattr(cost, "available_disk", lambda path: 0)
    assert run_training(tiny_config, run, CPU, Output(quiet=True))["step"] == 8  # it is finished
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    with pytest.raises(UsageError, match="and the disk of"):
        run_training(tiny_config, run, CPU, Output(quiet=True))
    monkeypatch.setattr(cost, "available_disk", lambda path: None)
    assert run_training(tiny_config, run, CPU, Output(quiet=True))["step"] == 8


def test_the_size_of_a_checkpoint_is_that_of_its_tensors(tiny_run, tiny_config):
    state, _ = Task.of(tiny_config).start(CPU)
    folder = tiny_run / "checkpoints" / "step-00000008"
    written = {name: load_file(folder / f"{name}.safetensors") for name in ("model", "ema", "optimizer")}
    steps = 4 * len(written["model"])  # AdamW counts the steps of each parameter
    whole = sum(tensor.nbytes for tensors in written.values() for tensor in tensors.values())
    assert checkpoint.size_of(state) == whole - steps


def test_the_free_space_is_that_of_the_disk_a_folder_would_be_made_on(tmp_path):
    assert devices.available_disk(tmp_path / "a" / "b") > 0
    assert devices.available_disk(Path("/proc/self/none")) == 0
