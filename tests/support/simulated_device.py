"""Simulated accelerator: tensors of a device ``sim:0`` that compute on the CPU.

PyTorch's ``privateuse1`` backend in Python. Every operator runs on the CPU with real numbers, but
its operands must be on one device, with the exceptions that CUDA makes: numbers (tensors without
dimensions), copies, and indices. So a machine without a GPU finds tensors that were created or left
on the CPU. Random numbers are the CPU generator's: results equal those of the CPU exactly.

It differs from CUDA in that parameters keep their identity when a module moves (``swap_tensors``
instead of ``.data =``), and in that nothing is asynchronous. Importing this module changes the
process for good; ``tests/test_simulated_device.py`` does so in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "sim"
DEVICE = torch.device("cpu")  # until `register`
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
_READS = {_aten._local_scalar_dense.default, _aten.equal.default, _aten.is_nonzero.default}
CROSSINGS: list[str] = []  # reads from the device, and copies to or from it, since it was cleared
_LIBRARIES: list[torch.library.Library] = []  # registrations live as long as these


class _Backend(_DummyBackendModule):
    """Functions of ``torch.sim``."""

    def synchronize(self, device: Any = None) -> None:
        """Do nothing: nothing is asynchronous."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        """State of the CPU's generator."""
        return torch.random.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """Set the state of the CPU's generator."""
        torch.random.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Data types of autocast."""
        return [torch.bfloat16]


class SimulatedTensor(Tensor):
    """Tensor that reports the simulated device and holds a tensor of the CPU."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> SimulatedTensor:
        return Tensor._make_wrapper_subclass(
            cls, raw.shape, raw.stride(), raw.storage_offset(), dtype=raw.dtype, device=DEVICE
        )

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    def __repr__(self, **_: Any) -> str:
        return f"sim({self.raw!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.raw.__reduce_ex__(protocol)  # as read with map_location="cpu"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["raw"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: Any) -> SimulatedTensor:
        return SimulatedTensor(inner["raw"])

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


def register() -> torch.device:
    """Register the simulated device; returns it."""
    global DEVICE
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    DEVICE = torch.device(NAME, 0)
    torch.__future__.set_swap_module_params_on_conversion(True)
    fallback = torch.library.Library("_", "IMPL")
    fallback.fallback(lambda function, *args, **kwargs: _run(function, args, kwargs), "PrivateUse1")
    # `arange` resizes its output, which a wrapper cannot follow.
    library = torch.library.Library("aten", "IMPL")
    for overload in ("arange", "arange.start", "arange.start_step"):
        library.impl(overload, _arange, "PrivateUse1")
    _LIBRARIES.extend([fallback, library])
    # Construction from data bypasses the dispatcher of Python.
    torch.tensor, torch.as_tensor = _on_cpu_first(torch.tensor), _on_cpu_first(torch.as_tensor)
    Tensor.data = property(torch._C.TensorBase.data.__get__, _set_data)
    return DEVICE


def _set_data(tensor: Tensor, value: Tensor) -> None:
    """``tensor.data = value``, also between devices, as CUDA's tensors allow."""
    if isinstance(tensor, SimulatedTensor) or isinstance(value, SimulatedTensor):
        torch.utils.swap_tensors(tensor, value.detach().requires_grad_(tensor.requires_grad))
    else:
        torch._C.TensorBase.data.__set__(tensor, value)


def _arange(*args: Any, **kwargs: Any) -> Tensor:
    return SimulatedTensor(torch.arange(*args, **(kwargs | {"device": "cpu"})))


def _on_cpu_first(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def construct(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        tensor = function(data, *args, **kwargs)
        return tensor if device is None else tensor.to(device)

    return construct


def _run(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run an operator on the CPU and wrap its results.

    Raises:
        RuntimeError: its operands are on two devices.
    """
    wrappers: dict[int, SimulatedTensor] = {}
    on_cpu: list[Tensor] = []

    def unwrap(value: Any) -> Any:
        if isinstance(value, SimulatedTensor):
            wrappers[id(value.raw)] = value
            return value.raw
        if isinstance(value, Tensor) and value.ndim:
            on_cpu.append(value)
        return torch.device("cpu") if _is_simulated(value) else value

    unwrapped = tree_map(unwrap, [*args]), tree_map(unwrap, {**kwargs})
    by_cpu_index = function in _INDEXING and isinstance(args[0], SimulatedTensor)
    if wrappers and on_cpu and function not in _COPIES and not by_cpu_index:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{DEVICE} and cpu, in {function} with {[[*tensor.shape] for tensor in on_cpu]}"
        )
    result = function(*unwrapped[0], **unwrapped[1])
    target = kwargs.get("device")
    simulated = bool(wrappers) if target is None else _is_simulated(target)
    if (function in _READS and wrappers) or (function in _COPIES and _crosses(args, simulated)):
        CROSSINGS.append(str(function))
    if function is _aten.copy_.default:
        return args[0]

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor) or not simulated:
            return value
        known = wrappers.get(id(value))
        return SimulatedTensor(value) if known is None else known

    return tree_map(wrap, result)


def _crosses(args: Sequence[Any], simulated: bool) -> bool:
    """Whether a copy's operands, or its operand and its result, are on two devices."""
    tensors = [isinstance(value, SimulatedTensor) for value in args if isinstance(value, Tensor)]
    return len({*tensors, simulated}) > 1


def _is_simulated(value: Any) -> bool:
    return isinstance(value, torch.device) and value.type == NAME
