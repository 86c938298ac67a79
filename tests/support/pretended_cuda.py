"""A CUDA device that is pretended: tensors say that they are on cuda:0, and the CPU holds and computes their values.

An operation that mixes them with tensors of the CPU raises, except where CUDA itself takes both: numbers, indices and
copies. What would make the host wait for the device is kept, with its place in the program, by `Waits`.

It cannot see what only a GPU has: its rounding, autocast, its kernels and their layouts, its memory, its speed,
compiled code, several GPUs, and waits within libraries (the allocator, cuSOLVER). `benchmarks/gpu_check.py` sees those.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default)
INDEXING = (
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index_put.default,
)
# Their result, or its size, is known only when the device has computed it.
LOOKING = (
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
    aten.unique_dim.default,
)


class Waits(Counter):
    """How often the host waited for the device, by its place in the program: "room/module.py function"."""

    def note(self) -> None:
        """Count a wait at the innermost place in the program."""
        self[place()] += 1


def place() -> str:
    frames = (f for f in reversed(traceback.extract_stack()) if "/sagd_" in f.filename)
    frame = next(frames, None)
    return f"{'/'.join(frame.filename.split('/')[-2:])} {frame.name}" if frame else "outside"


WAITS = Waits()


class OnCuda(torch.Tensor):
    """A tensor that says it is on cuda:0; `value` is the tensor of the CPU that holds its values."""

    value: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, value: torch.Tensor) -> "OnCuda":
        like = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
        self = torch.Tensor._make_subclass(cls, like, False, device_for_backend_keys=CUDA)
        self.value = value
        return self

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def is_meta(self) -> bool:
        return False

    def tolist(self) -> list:
        WAITS.note()
        return self.value.tolist()

    def __getitem__(self, index):
        return super().__getitem__(_index(index))

    def __setitem__(self, index, values) -> None:
        super().__setitem__(_index(index), values)

    def __repr__(self, **_) -> str:
        return f"OnCuda({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _computed(function, args, kwargs or {})


MADE_FOR = {}  # the device of each generator, by its address: operations are given another object for it


class _Generator(torch.Generator):
    """A generator of the CPU, whichever device it is made for."""

    def __new__(cls, device="cpu"):
        self = super().__new__(cls, "cpu")
        MADE_FOR[self._cdata] = torch.device(device).type
        return self

    @property
    def device(self) -> torch.device:
        return CUDA if MADE_FOR[self._cdata] == "cuda" else torch.device("cpu")


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _computed(function, args, kwargs or {})


def _computed(function, args, kwargs):
    """Compute an operation on the CPU, and return its results as those of the device that it ran on."""
    if function is torch.ops.prim.device.default:
        return CUDA
    if function is aten._fused_sdp_choice.default:
        return 0  # attention in single steps
    leaves = tree_leaves((args, kwargs))
    here = [x for x in leaves if isinstance(x, OnCuda)]
    plain = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, OnCuda)]
    # A pretended tensor is one of the device meta to C++, which asks for results like it.
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked).type.replace("meta", "cuda")
    on_cuda = asked == "cuda" if asked else bool(here)
    _check(function, args, here, plain, on_cuda, leaves)
    if here and (function in LOOKING or (function in INDEXING and (plain or _is_mask(args[1])))):
        WAITS.note()
    if function in COPIES:
        target = isinstance(args[0], OnCuda) if function is COPIES[0] else on_cuda
        source = isinstance(args[1 if function is COPIES[0] else 0], OnCuda)
        quick = kwargs.get("non_blocking") or (function is COPIES[0] and True in args[2:])
        if source != target and (source or not quick):
            WAITS.note()
    if asked:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    result = function(*tree_map(_value, args), **tree_map(_value, kwargs))
    if function is aten._local_scalar_dense.default:
        return result
    own = {id(x.value): x for x in here}  # what is written in place comes back as the very argument

    def wrapped(x):
        if not isinstance(x, torch.Tensor):
            return x
        return own[id(x)] if id(x) in own else OnCuda(x) if on_cuda else x

    return tree_map(wrapped, result)


def _check(function, args, here, plain, on_cuda, leaves) -> None:
    """Raise RuntimeError where CUDA would: tensors, or a generator, of another device."""
    assert not any(x.is_meta for x in plain), f"C++ has lost values that {place()} uses"
    for generator in (x for x in leaves if isinstance(x, torch._C.Generator)):
        if MADE_FOR.get(generator._cdata, own := "cuda" if on_cuda else "cpu") != own:
            raise RuntimeError(f"a generator of another device than {own}: {function} at {place()}")
    if not here or function in COPIES:
        return
    others = [x for x in plain if x.dim() > 0]
    if function in INDEXING:  # indices may be on the CPU
        mixed = not isinstance(args[0], OnCuda) or any(x is args[2] for x in others if len(args) > 2)
    else:
        mixed = bool(others)
    if mixed:
        raise RuntimeError(f"tensors of cuda:0 and of the CPU are mixed: {function} at {place()}")


def _index(index):
    """Return a list as a tensor; C++ would put it on the device meta."""
    return torch.tensor(index) if isinstance(index, list) else index


def _is_mask(indices) -> bool:
    return any(isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8) for x in indices)


def _value(x):
    return x.value if isinstance(x, OnCuda) else x


def _made(make):
    """Return a maker of tensors from data; C++ would ask for memory of the device."""

    def made(data, *args, device=None, **kwargs):
        tensor = make(data, *args, **kwargs)
        return tensor if device is None else tensor.to(device)

    return made


def _where(where):
    """Return `where` for a condition on the device; C++ would put its numbers on the device meta."""

    def chosen(condition, *values, **kwargs):
        if isinstance(condition, OnCuda):
            like = next((x.dtype for x in values if isinstance(x, torch.Tensor)), None)
            values = [
                x if isinstance(x, torch.Tensor) else OnCuda(torch.as_tensor(x, dtype=like)) for x in values
            ]
        return where(condition, *values, **kwargs)

    return chosen


@contextmanager
def pretended_cuda(capability: tuple[int, int] = (9, 0), free: int = 64 << 30) -> Iterator[Waits]:
    """Pretend one GPU of this capability with `free` bytes; give the waits from here on."""
    state = torch.default_generator
    cuda = {
        "_lazy_init": lambda: None,
        "current_device": lambda: 0,
        "get_device_capability": lambda device=None: capability,
        "is_bf16_supported": lambda *_, **__: capability >= (8, 0),
        "default_generators": (state,),
        "get_rng_state": lambda device=None: state.get_state(),
        "set_rng_state": lambda new, device=None: state.set_state(new),
        "max_memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "mem_get_info": lambda device=None: (free, free),
        "synchronize": lambda device=None: None,
    }
    with ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        for name, value in {
            "Generator": _Generator,
            "where": _where(torch.where),
            "tensor": _made(torch.tensor),
            "as_tensor": _made(torch.as_tensor),
        }.items():
            stack.enter_context(mock.patch.object(torch, name, value))
        stack.enter_context(
            mock.patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        )
        stack.enter_context(mock.patch.object(torch.Tensor, "pin_memory", lambda self, device=None: self))
        # In inference mode C++ does not show all that it does. Functions were decorated with it before.
        for name in ("__enter__", "__exit__"):
            stack.enter_context(mock.patch.object(torch.inference_mode, name, getattr(torch.no_grad, name)))
        # Weights that are moved to the device become other tensors.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, False)
        stack.enter_context(_Mode())
        WAITS.clear()
        MADE_FOR.clear()
        yield WAITS
