"""Which device and which precision are chosen, and what is said where a GPU cannot be used."""

import pytest
import torch

from sagd_cli.errors import UsageError
from sagd_cli.system import devices
from sagd_cli.system.devices import autocast_dtype, choose_device

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), None), ((8, 0), torch.bfloat16)])
def test_auto_is_bf16_on_gpus_that_have_it(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert autocast_dtype("auto", CUDA) is wanted
    assert autocast_dtype("bf16", CUDA) is torch.bfloat16
    assert autocast_dtype("fp32", CUDA) is None
    assert autocast_dtype("auto", torch.device("cpu")) is None


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
