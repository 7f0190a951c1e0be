"""Seeded mutations of checkpoints and run folders, as files of unknown origin have them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch

Path = tuple[Any, ...]

TENSOR_MUTATIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "longer": lambda t: torch.cat([t.flatten(), t.flatten(), torch.zeros(7, dtype=t.dtype)]),
    "empty": lambda t: t.flatten()[:0].clone(),
    "int64": lambda t: t.to(torch.int64) if t.dtype != torch.int64 else t.to(torch.int32),
    "bool": lambda t: t.bool() if t.dtype != torch.bool else t.float(),
    "float16": lambda t: t.half(),
    "float64": lambda t: t.double(),
    "complex": lambda t: t.to(torch.complex64),
    "sparse": lambda t: t.reshape(-1).to_sparse(),
    "meta": lambda t: t.to("meta"),
    "number": lambda t: 1.5,
    "none": lambda t: None,
    "nan": lambda t: torch.full_like(t, float("nan")) if t.is_floating_point() else t.double(),
    "infinite": lambda t: torch.full_like(t, float("inf")) if t.is_floating_point() else t.double(),
}
_PLAIN = [None, -1, 0, 10**9, 2**63, -(10**12), 1e308, float("nan"), float("inf"), "", "x\ny", True]
_PLAIN += [[], {}, [[1] * 3], {"a": 1}, b"bytes", 1 + 2j]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf of nested dicts and lists with its path; tuples count as leaves."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def replaced(content: Any, path: Path, value: Any) -> Any:
    """Copy of nested containers with another, or a new, value at a path."""
    if not path:
        return value
    changed = copy.copy(content)
    changed[path[0]] = replaced(content[path[0]], path[1:], value) if path[1:] else value
    return changed


def removed(content: Any, path: Path) -> Any:
    """Copy of nested containers without the entry at a path."""
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    shorter = copy.copy(parent)
    del shorter[path[-1]]
    return replaced(content, path[:-1], shorter)


def mutated_content(content: Any, rng: random.Random) -> tuple[str, Any]:
    """Label and copy of a checkpoint's content with one entry changed or removed."""
    path, value = rng.choice([*leaves(content)])
    label = ".".join(map(str, path))
    kind = rng.randrange(4)
    if kind == 0:
        cut = path[: rng.randint(1, len(path))]
        return f"{'.'.join(map(str, cut))} removed", removed(content, cut)
    if isinstance(value, torch.Tensor):
        name = rng.choice([*TENSOR_MUTATIONS])
        return f"{label} {name}", replaced(content, path, TENSOR_MUTATIONS[name](value))
    if isinstance(value, tuple) and kind == 1:
        index = rng.randrange(len(value))
        new = rng.choice(_PLAIN)
        changed = (*value[:index], new, *value[index + 1 :])
        return f"{label}.{index}={new!r}", replaced(content, path, changed)
    new = rng.choice(_PLAIN)
    return f"{label}={new!r}", replaced(content, path, new)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Copy with some bytes replaced, or cut, or with a part repeated."""
    kind = rng.randrange(4)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1:
        start = rng.randrange(len(content))
        part = content[start : start + rng.randrange(1, 4096)]
        return content[:start] + part + content[start:]
    changed = bytearray(content)
    for _ in range(rng.choice([1, 4, 32])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)
