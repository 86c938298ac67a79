"""What is said of CUDA: why a GPU cannot be used, and whether one computes what it should."""

from types import SimpleNamespace

import pytest
import torch
from support.pretended_cuda import CUDA, pretended_cuda

from sagd_cli.commands import common
from sagd_cli.system import gpus
from sagd_cli.system.gpus import cuda_facts, gpu_facts, unusable_gpu


@pytest.fixture
def present(monkeypatch, tmp_path):
    """A machine with the driver of an NVIDIA GPU."""
    driver = tmp_path / "version"
    driver.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (root@host)\n"
    )
    monkeypatch.setattr(gpus, "_DRIVER", driver)
    monkeypatch.setattr(gpus, "_SIGNS", (driver,))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def fails(*_):
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nUpdate it.")


def test_it_is_said_why_a_gpu_cannot_be_used(present, monkeypatch):
    monkeypatch.setattr(torch.cuda, "init", fails)
    assert unusable_gpu() == (
        "this machine has an NVIDIA GPU that torch cannot use: The NVIDIA driver on your system is too old "
        "(found version 11040)"
    )
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "build without CUDA" in unusable_gpu()
    assert cuda_facts()["driver"] == "580.82.07"
    assert cuda_facts()["problem"] == unusable_gpu()


def test_nothing_is_said_without_a_gpu_or_where_it_is_hidden_or_used(present, monkeypatch):
    monkeypatch.setattr(torch.cuda, "init", fails)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert unusable_gpu() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert unusable_gpu() is None
    monkeypatch.setattr(gpus, "_SIGNS", ())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert unusable_gpu() is None


def test_auto_warns_of_a_gpu_that_is_of_no_use(present, monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "init", fails)
    assert common.announced_device("auto") == torch.device("cpu")
    assert "warning: this machine has an NVIDIA GPU that torch cannot use" in capfd.readouterr().err
    assert common.announced_device("cpu") == torch.device("cpu")
    assert capfd.readouterr().err == ""


def test_a_gpu_is_told_by_what_it_computes(monkeypatch):
    properties = SimpleNamespace(name="Tested", total_memory=24 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    with pretended_cuda((7, 5)):
        facts = gpu_facts(CUDA)
    assert facts == {"name": "Tested", "gib": 24, "capability": "7.5", "bfloat16": False, "problem": None}
    with pretended_cuda():
        product = torch.mm
        monkeypatch.setattr(torch, "mm", lambda x, y: product(x, y) * (2 if x.device == CUDA else 1))
        assert gpu_facts(CUDA)["problem"] == "matmul is not what the CPU computes"
        monkeypatch.setattr(torch, "mm", fails)
        assert gpu_facts(CUDA)["problem"].startswith("matmul fails: The NVIDIA driver")


def test_doctor_tells_of_cuda(sagd):
    told = sagd("doctor", "--json").json
    assert {"runtime", "driver", "cudnn", "nccl", "architectures", "problem"} == set(told["cuda"])
    assert set(told["gpus"]) == set(told["devices"][1:])
