"""Failures of the machine are one sentence and a remedy; a bug is still called one."""

import errno
import http.client
import re
import socket
import sqlite3
from types import SimpleNamespace
from urllib.error import HTTPError, URLError

import pytest
import torch
from safetensors import SafetensorError
from torch._inductor.exc import InvalidCxxCompiler, TritonMissing

from sagd_cli.config import layers
from sagd_cli.sweep import work
from sagd_cli.system.failures import FAILURES, foreseen

NO_NAME = socket.gaierror(-3, "Temporary failure in name resolution")
# As libraries raise them: the exception, a part of the sentence, a part of the remedy.
RAISED = [
    (MemoryError(), "not enough memory", "batch smaller"),
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        "memory",
        "batch",
    ),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "not enough memory", "batch"),
    (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "not enough memory", "batch"),
    (
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        "memory",
        "batch",
    ),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "not enough memory", "batch"),
    (
        torch.distributed.DistBackendError("NCCL error in: x.cpp:1, ncclUnhandledCudaError: 'out of memory'"),
        "not enough memory",
        "batch",
    ),
    (
        RuntimeError(
            "grid_sampler_2d_backward_cuda does not have a deterministic implementation, but you set"
        ),
        "bit for bit: grid_sampler_2d_backward_cuda",
        "training.deterministic",
    ),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory", "batch"),
    (
        OSError(errno.ENOSPC, "No space left on device", "a.npy"),
        "No space left on device: a.npy",
        "Make room",
    ),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), "Disk quota exceeded: a", "Make room"),
    (
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        "No space left",
        "Make room",
    ),
    (sqlite3.OperationalError("database or disk is full"), "disk is full", "Make room"),
    (OSError(errno.EMFILE, "Too many open files", "a.png"), "Too many open files: a.png", "ulimit -n"),
    (
        RuntimeError(
            "unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"
        ),
        "Too many open files",
        "ulimit -n",
    ),
    (RuntimeError("Symlink loop from 'a'"), "circle of links: Symlink loop from 'a'", "Mend the link"),
    (RuntimeError("can't start new thread"), "no further thread", "ulimit -u"),
    (PermissionError(errno.EACCES, "Permission denied", "x"), "Permission denied: x", "permissions"),
    (OSError(errno.EROFS, "Read-only file system", "x"), "Read-only file system: x", "permissions"),
    (sqlite3.OperationalError("attempt to write a readonly database"), "readonly database", "permissions"),
    (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "temporary files", "TMPDIR"),
    (InvalidCxxCompiler(), "cannot be compiled: No working C++ compiler found", "--no-compile"),
    (TritonMissing(None), "cannot be compiled", "--no-compile"),
    (RuntimeError("torch.compile is not supported on Python 3.15+"), "cannot be compiled", "--no-compile"),
    (
        RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update"),
        "driver of the GPU does not fit",
        "--device cpu",
    ),
    (
        RuntimeError("CUDA error: CUDA driver version is insufficient for CUDA runtime version"),
        "driver of the GPU does not fit",
        "Update the driver",
    ),
    (
        torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device\nCUDA"),
        "no code for this GPU",
        "--device cpu",
    ),
    (
        torch.distributed.DistBackendError("NCCL error in: x.cpp:1, ncclSystemError: System call failed"),
        "lost each other",
        "go on",
    ),
    (torch.distributed.DistNetworkError("The client socket has timed out"), "lost each other", "go on"),
    (RuntimeError("Found no NVIDIA driver on your system."), "the GPU cannot be used", "nvidia-smi"),
    (
        RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
        "cannot be used",
        "nvidia-smi",
    ),
    (AssertionError("Torch not compiled with CUDA enabled"), "the GPU cannot be used", "--device cpu"),
    (
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        "a library of the GPU failed",
        "memory is full",
    ),
    (
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling"),
        "a library of the GPU",
        "memory is full",
    ),
    (
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        "the GPU failed: CUDA error: unc",
        "again",
    ),
    (RuntimeError("CUDA error: unspecified launch failure"), "the GPU failed", "--device cpu"),
    (URLError(NO_NAME), "asked for: Temporary failure in name resolution.", "leave out --download"),
    (
        HTTPError("http://x/y", 404, "Not Found", None, None),
        "HTTP Error 404: Not Found",
        "leave out --download",
    ),
    (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer", "connection"),
    (http.client.IncompleteRead(b"", 10), "network", "connection"),
    (
        RuntimeError("Error downloading train-images.gz:\nTried http://x"),
        "Error downloading train-images.gz",
        "--down",
    ),
    (sqlite3.OperationalError("database is locked"), "the database of the sweep", "--storage"),
    (
        ImportError("libcudnn.so.9: cannot open shared object file: No such file"),
        "cannot be loaded: libcudnn",
        "again",
    ),
    (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"), "not valid UTF-8", "Rename"),
]


def sentence(error):
    found = foreseen(error)
    stop = "" if found.message.endswith(".") else "."
    return f"{found.message}{stop} {found.hint}"


@pytest.mark.parametrize(("error", "message", "hint"), RAISED, ids=lambda value: str(value)[:40])
def test_each_failure_has_its_sentence_and_its_remedy(error, message, hint):
    found = sentence(error)
    assert message in found and hint in foreseen(error).hint
    assert "\n" not in found and "internal error" not in found and "{" not in found


def test_every_row_of_the_table_is_needed():
    texts = [f"{type(error).__module__}.{type(error).__qualname__}: {error}" for error, *_ in RAISED]
    for i, failure in enumerate(FAILURES):
        rows = [next(k for k, row in enumerate(FAILURES) if re.search(row.sign, text)) for text in texts]
        assert i in rows, failure.sign


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("boom"),
        KeyError("shape"),
        ValueError("memory of the list"),
        RuntimeError(
            "CUDA error: device-side assert triggered"
        ),  # an index out of bounds: ours, or a plug-in's
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_a_bug_is_none_of_them(error):
    assert foreseen(error) is None


def test_other_answers_of_the_system_are_in_its_words():
    assert (
        foreseen(FileNotFoundError(2, "No such file or directory", "x")).message
        == "No such file or directory: x"
    )
    assert foreseen(OSError(errno.EIO, "Input/output error", "x")).message == "Input/output error: x"


def test_what_it_was_raised_from_counts():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "a")
        except OSError as error:
            raise RuntimeError("the study could not be written") from error
    except RuntimeError as error:
        assert foreseen(error).message == "No space left on device: a"


def test_the_command_line_says_it_in_one_sentence(sagd, monkeypatch):
    def fails():
        raise torch.AcceleratorError(
            "CUDA error: no kernel image is available for execution on the device\nx"
        )

    monkeypatch.setattr(layers, "presets", fails)
    result = sagd("train", "--preset", "x")
    assert result.code == 1 and len(result.err.splitlines()) == 1
    assert result.err.startswith(
        "error: this build of torch has no code for this GPU: CUDA error: no kernel image"
    )


def test_a_sweep_says_it_of_the_run_that_failed(monkeypatch):
    def fails(task):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    said = []
    monkeypatch.setattr(work, "_train_and_measure", fails)
    study = SimpleNamespace(release=lambda trial, reason: said.append(reason))
    output = SimpleNamespace(warn=said.append)
    work._run(SimpleNamespace(job=SimpleNamespace(key="a/seed-0"), study=study, trial=0, output=output))
    assert len(said) == 2 and all("a library of the GPU failed: cuDNN error" in reason for reason in said)
