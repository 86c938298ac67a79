"""Which device, which precision and which arithmetic are chosen, and what is said where a GPU cannot be used."""

import os
from unittest import mock

import pytest
import torch
from torch import nn

from sagd_cli.config.layers import resolve
from sagd_cli.errors import UsageError
from sagd_cli.model.network import build_backbone
from sagd_cli.system import devices
from sagd_cli.system.devices import autocast_dtype, choose_device, exact_arithmetic, training_arithmetic

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NARROW, WIDE = nn.Conv2d(64, 64, 3), nn.Conv2d(128, 128, 3)


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), None), ((8, 0), torch.bfloat16)])
def test_auto_is_bf16_on_gpus_that_have_it(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert autocast_dtype("auto", CUDA, NARROW) is wanted
    assert autocast_dtype("bf16", CUDA, NARROW) is torch.bfloat16
    assert autocast_dtype("fp32", CUDA, NARROW) is None


@pytest.mark.parametrize("instructions", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_auto_is_bf16_for_wide_convolutions_on_cpus_that_have_it(monkeypatch, instructions):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert autocast_dtype("auto", CPU, WIDE) is None and autocast_dtype("bf16", CPU, WIDE) is torch.bfloat16
    monkeypatch.setattr(torch.cpu, instructions, lambda: True)
    assert autocast_dtype("auto", CPU, WIDE) is torch.bfloat16
    assert autocast_dtype("fp32", CPU, WIDE) is None
    assert autocast_dtype("auto", CPU, NARROW) is None
    assert autocast_dtype("auto", CPU, nn.Linear(512, 512)) is None


@pytest.mark.parametrize(
    ("preset", "shape", "gains"), [("digits", (1, 8, 8), False), ("cifar10", (3, 32, 32), True)]
)
def test_the_digits_stay_in_fp32_and_cifar10_does_not(monkeypatch, preset, shape, gains):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    with torch.device("meta"):
        network = build_backbone(resolve({}, preset=preset).backbone, shape)
    assert (autocast_dtype("auto", CPU, network) is torch.bfloat16) == gains


def arithmetic():
    cudnn = torch.backends.cudnn
    return {
        "products": torch.get_float32_matmul_precision(),
        "TF32": cudnn.allow_tf32,
        "search": cudnn.benchmark,
        "cuDNN": cudnn.deterministic,
        "torch": torch.are_deterministic_algorithms_enabled(),
        "cuBLAS": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "flash": torch.backends.cuda.flash_sdp_enabled(),
    }


FAST = {"products": "high", "TF32": True, "search": True, "cuDNN": False, "torch": False, "flash": True}
REPEATED = {"search": False, "cuDNN": True, "torch": True, "cuBLAS": ":4096:8", "flash": False}


def test_arithmetic_is_set_for_cuda_alone_and_put_back():
    with mock.patch.dict(os.environ):
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        before = arithmetic()
        for context in (training_arithmetic(CPU, True), exact_arithmetic(CPU)):
            with context:
                assert arithmetic() == before
        with training_arithmetic(CUDA, deterministic=False):
            assert arithmetic() == before | FAST
        with pytest.raises(RuntimeError, match="stopped"), training_arithmetic(CUDA, deterministic=True):
            repeated = before | FAST | REPEATED
            assert arithmetic() == repeated
            with exact_arithmetic(CUDA):
                assert arithmetic() == repeated | {"products": "highest", "TF32": False}
            assert arithmetic() == repeated
            raise RuntimeError("stopped")
        assert arithmetic() == before
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
        with training_arithmetic(CUDA, deterministic=True):
            assert arithmetic()["cuBLAS"] == ":16:8"
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_device_that_is_not_there_is_for_plans_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="has no CUDA"):
        choose_device("cuda")
    assert choose_device("cuda:3", must_exist=False) == torch.device("cuda", 3)
    for name in ("gpu", "cuda:x", "cpu:0"):
        with pytest.raises(UsageError, match="unknown device"):
            choose_device(name, must_exist=False)


def test_a_device_that_cannot_be_used_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "unusable_gpu", lambda: "the driver is too old")
    with pytest.raises(UsageError, match="the driver is too old"):
        choose_device("cuda")
