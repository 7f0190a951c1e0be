"""Checks of the contents of checkpoints, before anything of them is applied.

A file that somebody else made may hold anything that unpickles without executing code. Optimisers
and random number generators take over sizes and positions unchecked and then write and read out of
bounds, so every shape, dtype, value and range is compared with what the run at hand has.
"""

from __future__ import annotations

import io
import math
import random
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ibrl_torchrl.errors import UsageError, brief

_MAX_DEPTH = 16  # levels of dicts and lists; checkpoints have up to 6
_WORDS = 624  # of the Mersenne Twister's state, in Python and NumPy
_MAX_ENTRIES = 10_000  # of the settings of an optimiser
_PLAIN = (str, int, float, bool, type(None))

T = TypeVar("T")


def require_archive(content: bytes) -> int:
    """Refuse archives that unpack to more than they contain, such as compressed zeros.

    Args:
        content: bytes of a file of ``torch.save``.

    Returns:
        Bytes of its pickled part, which bound the number of entries.

    Raises:
        ValueError: the archive is compressed, or its members are larger than the file.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("the archive is compressed")
    if sum(member.file_size for member in members) > len(content):
        raise ValueError("the archive's members overlap")
    return sum(member.file_size for member in members if member.filename.endswith(".pkl"))


def require_plain(value: object, max_entries: int) -> None:
    """Refuse everything but dicts, lists and tuples of numbers and text.

    Raises:
        ValueError: another type, or more entries than the file has bytes (nested references).
    """
    for leaf in _leaves(value, max_entries):
        if not isinstance(leaf, _PLAIN):
            raise ValueError(f"holds a {type(leaf).__name__}")


def require_tensors(value: object, max_entries: int, max_bytes: int) -> None:
    """Refuse tensors that are not stored in the file as they are.

    Args:
        value: dicts, lists and tuples of dense CPU tensors, numbers and text.
        max_entries: number of all of these, at most.
        max_bytes: size of all tensors together, at most.

    Raises:
        ValueError: a value of another type, a sparse, quantized or meta tensor, or more entries or
            bytes than the file has.
    """
    storages: dict[int, int] = {}
    for leaf in _leaves(value, max_entries):
        if isinstance(leaf, Tensor):
            if (
                type(leaf) is not Tensor
                or leaf.layout != torch.strided
                or leaf.device.type != "cpu"
                or leaf.is_quantized
                or leaf.requires_grad
                or leaf.numel() * leaf.element_size() > leaf.untyped_storage().nbytes()
            ):
                raise ValueError("holds a tensor that is not dense")
            storages[leaf.untyped_storage().data_ptr()] = leaf.untyped_storage().nbytes()
        elif not isinstance(leaf, _PLAIN):
            raise ValueError(f"holds a {type(leaf).__name__}")
    if sum(storages.values()) > max_bytes:
        raise ValueError("tensors are larger than the file")


def _leaves(value: object, max_entries: int) -> Iterator[object]:
    """Leaves of nested containers, each as often as it is referred to."""
    stack, count = [(value, 0)], 0
    while stack:
        item, depth = stack.pop()
        count += 1
        if count > max_entries or depth > _MAX_DEPTH:
            raise ValueError("is nested without end")
        if isinstance(item, Mapping):
            if not all(isinstance(key, (str, int)) for key in item):
                raise ValueError("has keys that are neither names nor numbers")
            stack.extend((entry, depth + 1) for entry in item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend((entry, depth + 1) for entry in item)
        else:
            yield item


def entry(contents: Mapping[str, Any], name: str, kind: type[T], where: object) -> T:
    """Entry of a checkpoint by its name.

    Args:
        contents: ``meta`` or ``state`` of a checkpoint, or a part of them.
        name: name of the entry.
        kind: its type.
        where: file of the checkpoint, for the message.

    Raises:
        UsageError: there is no such entry, or it is of another type.
    """
    value = contents.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _unfit(where, name, brief(value) if name in contents else "missing", kind.__name__)
    return value


def number(
    contents: Mapping[str, Any], name: str, where: object, low: float = 0, high: float = math.inf
) -> float:
    """Finite number of a checkpoint by its name, see :func:`entry`.

    Raises:
        UsageError: there is no such number, or it is outside of ``low`` to ``high``.
    """
    value = contents.get(name)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not (math.isfinite(value) and low <= value <= high)
    ):
        limits = f"a number from {low:g} to {high:g}" if high < math.inf else f"at least {low:g}"
        raise _unfit(where, name, brief(value) if name in contents else "missing", limits)
    return value


def require_like(stored: object, expected: Tensor, name: str, where: object) -> None:
    """Refuse what is not a finite tensor of the shape and dtype of another one.

    Raises:
        UsageError: names the tensor and the difference.
    """
    if not isinstance(stored, Tensor):
        raise UsageError(
            f"{where}: has no {brief(name)}, which this network has; use the configuration it was "
            "trained with"
        )
    if stored.shape != expected.shape:
        raise UsageError(
            f"{where}: {brief(name)} has shape {[*stored.shape]}, this network needs "
            f"{[*expected.shape]}; use the configuration it was trained with"
        )
    if stored.dtype != expected.dtype:
        raise UsageError(
            f"{where}: {brief(name)} has dtype {stored.dtype}, this network needs "
            f"{expected.dtype}; use a checkpoint of this program"
        )
    if stored.is_floating_point() and not bool(stored.isfinite().all()):
        raise UsageError(f"{where}: {brief(name)} has NaN or inf; use an earlier checkpoint")


def require_adam_state(
    stored: Mapping[str, Any], optimizer: torch.optim.Optimizer, name: str, where: object
) -> None:
    """Refuse a state that does not fit an Adam optimiser: its fused kernels write by these shapes.

    Args:
        stored: stored ``state_dict`` of an optimiser.
        optimizer: optimiser to load it into.
        name: name of the optimiser, for messages.
        where: file of the state, for messages.

    Raises:
        UsageError: names the first difference.
    """
    expected = optimizer.state_dict()["param_groups"]
    if not _is_plain_equal(entry(stored, "param_groups", list, where), expected):
        raise UsageError(
            f"{where}: the optimiser {name} has other settings; use the configuration it was "
            "trained with"
        )
    states = entry(stored, "state", dict, where)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if unknown := {*states} - {*range(len(parameters))}:
        raise UsageError(
            f"{where}: the optimiser {name} has no parameter {brief(min(unknown, key=str))}"
        )
    for index, state in states.items():
        label = f"optimizers.{name}.{index}"
        moments = ("exp_avg", "exp_avg_sq")
        if not isinstance(state, Mapping) or {*state} != {"step", *moments}:
            raise _unfit(where, label, brief(state), "a state of Adam")
        require_like(state["step"], torch.tensor(0.0), f"{label}.step", where)
        for moment in moments:
            require_like(state[moment], parameters[index], f"{label}.{moment}", where)
        if bool(state["step"] < 0) or bool((state["exp_avg_sq"] < 0).any()):
            raise _unfit(where, label, "negative", "steps and second moments of at least 0")


def _is_plain_equal(stored: object, expected: object) -> bool:
    """Whether values are equal and plain: comparing tensors to numbers is an error."""
    try:
        require_plain(stored, _MAX_ENTRIES)
    except ValueError:
        return False
    return stored == expected


def require_random_state(state: Mapping[str, Any], where: object) -> None:
    """Refuse states of random number generators that would read out of bounds.

    Args:
        state: state of TorchRL's ``GlobalRNGState``.
        where: file of the state, for messages.

    Raises:
        UsageError: names the first invalid generator; or states of other GPUs than those here.
    """
    try:
        _require_python_state(state["python"])
        _require_numpy_state(state["numpy"])
        torch.Generator().set_state(_bytes(state["torch_cpu"], torch.get_rng_state()))
        gpus = state.get("torch_cuda", ())
        available = torch.cuda.device_count() if gpus else 0
        if len(gpus) > available:
            raise ValueError(f"of {len(gpus)} GPUs, {available} are available here")
        for gpu in gpus:
            _bytes(gpu, torch.cuda.get_rng_state())
        if unknown := {*state} - {"python", "numpy", "torch_cpu", "torch_cuda"}:
            raise ValueError(f"of {brief(min(unknown, key=str))}")
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"{where}: holds invalid random states ({brief(error)}); start the run again"
        ) from error


def _require_python_state(state: Sequence[Any]) -> None:
    version, words, gauss = state
    _require_words(words[:-1], words[-1])
    _require_gauss(gauss)
    random.Random().setstate((version, tuple(words), gauss))


def _require_numpy_state(state: Sequence[Any]) -> None:
    name, words, position, has_gauss, gauss = state
    if name != "MT19937" or type(has_gauss) is not int or has_gauss not in (0, 1):
        raise ValueError("not a state of NumPy")
    if words.dtype != torch.int64 or words.shape != (_WORDS,):
        raise ValueError("not a state of NumPy")
    _require_words(words.tolist(), position)
    _require_gauss(gauss)
    np.random.RandomState().set_state((name, words.numpy().astype(np.uint32), position, 0, 0.0))


def _require_words(words: Iterable[Any], position: object) -> None:
    words = [*words]
    if len(words) != _WORDS or not all(type(w) is int and 0 <= w < 2**32 for w in words):
        raise ValueError("not words of a Mersenne Twister")
    if type(position) is not int or not 0 <= position <= _WORDS:
        raise ValueError(f"position {brief(position)} of {_WORDS}")


def _require_gauss(value: object) -> None:
    if value is not None and not (isinstance(value, float) and math.isfinite(value)):
        raise ValueError("a normal variate that is not finite")


def _bytes(stored: object, expected: Tensor) -> Tensor:
    if (
        not isinstance(stored, Tensor)
        or stored.dtype != torch.uint8
        or stored.shape != expected.shape
    ):
        raise ValueError("not a state of PyTorch")
    return stored


def _unfit(where: object, name: str, found: str, expected: str) -> UsageError:
    return UsageError(
        f"{where}: {brief(name)} is {found}, expected {expected}; "
        "it is of another version of this program, or damaged"
    )


def require_packed_episode(packed: object, where: object) -> None:
    """Refuse what is not an episode in the format of :func:`~ibrl_torchrl.episodes.pack_episode`.

    Args:
        packed: tensors by prefixed keys.
        where: file and index of the episode, for messages.

    Raises:
        UsageError: a length, dtype or flag is not that of an episode, or a number is NaN or inf.
    """
    if not isinstance(packed, Mapping) or not all(isinstance(v, Tensor) for v in packed.values()):
        raise _unfit(where, "an episode", brief(type(packed).__name__), "tensors by name")
    for name in ("root/action", "next/reward", "next/done", "next/terminated", "next/truncated"):
        entry(packed, name, Tensor, where)
    done = packed["next/done"]
    length = len(done) if done.ndim == 2 and done.dtype == torch.bool else 0
    if length == 0 or not bool(done[-1].all()) or bool(done[:-1].any()):
        raise _unfit(where, "next/done", f"{done.dtype} {[*done.shape]}", "true at the end alone")
    flags = packed.get("root/intervention", done)
    if flags.dtype != torch.bool or flags.shape != (length, 1):
        found = f"{flags.dtype} {[*flags.shape]}"
        raise _unfit(where, "root/intervention", found, f"bool {[length, 1]}")
    for name, values in packed.items():
        prefix, _, key = str(name).partition("/")
        if prefix not in ("observation", "root", "next") or not key:
            raise _unfit(where, "an episode", brief(name), "observation/, root/ or next/")
        expected = length + (prefix == "observation")
        if values.ndim == 0 or len(values) != expected:
            raise _unfit(where, name, f"{[*values.shape]}", f"{expected} steps")
        if values.dtype not in (torch.float32, torch.uint8, torch.bool, torch.int64):
            raise _unfit(where, name, str(values.dtype), "float32, uint8, int64 or bool")
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise UsageError(f"{where}: {brief(name)} has NaN or inf; start the run again")
