"""Mutations of a small HDF5 file in robomimic's layout.

    python tests/support/damaged_hdf5.py FOLDER COUNT

Reads COUNT mutated files in this process and prints one JSON object: how many were read, how many
refused, and each other outcome. A process of its own, for HDF5 is a C library.
"""

from __future__ import annotations

import json
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.data.demos.trajectories import read_trajectories
from ibrl_torchrl.errors import UsageError

Mutation = Callable[[h5py.File, random.Random], None]
SECONDS = 10  # for one file
ENV_ARGS = {
    **{"env_name": "Lift", "env_version": "1.5.1", "type": 1},
    "env_kwargs": {
        **{"robots": ["Panda"], "control_freq": 20},
        "controller_configs": {"type": "OSC_POSE", "kp": 150},
    },
    "ibrl_torchrl": {"action_repeat": 1, "horizon": 100},
}


def write_small(path: Path) -> None:
    """Write two successful episodes with states, parts, images, masks and a model."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(ENV_ARGS)
        for name, length in (("demo_0", 6), ("demo_1", 4)):
            group = data.create_group(name)
            group.attrs["num_samples"] = length
            group.attrs["model_file"] = "<mujoco/>"
            for folder in ("obs", "next_obs"):
                group[f"{folder}/object"] = rng.normal(size=(length, 10))
                group[f"{folder}/robot0_eef_pos"] = rng.normal(size=(length, 3))
                group[f"{folder}/robot0_eef_quat"] = rng.normal(size=(length, 4))
                group[f"{folder}/robot0_gripper_qpos"] = rng.normal(size=(length, 2))
            images = rng.integers(0, 255, (length, 8, 8, 3), dtype=np.uint8)
            group.create_dataset("obs/agentview_image", data=images, compression="gzip")
            group["actions"] = rng.uniform(-1, 1, (length, 7))
            group["rewards"] = np.eye(length)[-1]
            group["dones"] = np.eye(length, dtype=np.int64)[-1]
            group["states"] = rng.normal(size=(length, 32))
        file["mask/train"] = np.array([b"demo_0", b"demo_1"])
        file["mask/valid"] = np.array([b"demo_1"])


def _datasets(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda n, node: names.append(n) if isinstance(node, h5py.Dataset) else None)
    return names


def _change_value(file: h5py.File, rng: random.Random) -> None:
    node = file[rng.choice([n for n in _datasets(file) if n.startswith("data")])]
    index = tuple(rng.randrange(size) for size in node.shape)
    values = [float("nan"), float("inf"), 1e300, -3.0, 0.5] if node.dtype.kind == "f" else [7]
    node[index] = rng.choice(values)


def _change_dtype(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice(_datasets(file))
    shape = file[name].shape
    dtype = rng.choice(
        [
            *(h5py.string_dtype(), "S4", np.dtype([("a", "f4"), ("b", "i8")]), "c8", "f2", "?"),
            *(h5py.ref_dtype, h5py.vlen_dtype(np.int32), h5py.opaque_dtype("V8"), "u1", ">f8"),
            *(h5py.enum_dtype({"A": 1}, "i4"), np.dtype(("f4", (3,)))),
        ]
    )
    del file[name]
    file.create_dataset(name, shape, dtype)


def _change_shape(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice(_datasets(file))
    dtype = file[name].dtype
    shapes: list[Any] = [(), (0,), (1,), (3, 0), (2, 2, 2, 2, 2), (6, 1), (4, 7)]
    del file[name]
    if rng.random() < 0.2:
        file[name] = h5py.Empty("f8")
    else:
        file[name] = np.ones(rng.choice(shapes), dtype if dtype.kind in "fiu" else "f8")


def _declare_terabytes(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice(_datasets(file))
    settings: dict[str, Any] = rng.choice(
        [{}, {"chunks": True}, {"chunks": True, "compression": "gzip"}, {"fillvalue": 0.5}]
    )
    del file[name]
    rows = rng.choice([6, 4, 10**12, 10**7])
    file.create_dataset(name, (rows, rng.choice([10**6, 10**9])), "f8", **settings)


def _remove(file: h5py.File, rng: random.Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    del file[rng.choice(names)]


def _swap_kind(file: h5py.File, rng: random.Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = rng.choice(names)
    is_group = isinstance(file[name], h5py.Group)
    del file[name]
    if is_group:
        file[name] = np.ones(3)
    else:
        file.create_group(name)


def _link(file: h5py.File, rng: random.Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = rng.choice(names)
    del file[name]
    other = str(Path(file.filename).with_name("secret.hdf5"))
    links: list[Any] = [h5py.ExternalLink(other, "/x"), h5py.ExternalLink("/dev/zero", "/x")]
    links += [h5py.SoftLink(f"/{name}"), h5py.SoftLink("/nowhere"), h5py.SoftLink("/data/demo_0")]
    file[name] = rng.choice(links)


def _store_outside(file: h5py.File, rng: random.Random) -> None:
    name = rng.choice(_datasets(file))
    shape = file[name].shape
    other = Path(file.filename).with_name("secret.hdf5")
    del file[name]
    if rng.random() < 0.5:
        file.create_dataset(name, shape, "f8", external=[(str(other), 0, h5py.h5f.UNLIMITED)])
    else:
        layout = h5py.VirtualLayout(shape, "f8")
        layout[...] = h5py.VirtualSource(str(other), "x", shape)
        file.create_virtual_dataset(name, layout)


def _change_attribute(file: h5py.File, rng: random.Random) -> None:
    node = file["data"] if rng.random() < 0.5 else file["data/demo_0"]
    name = "env_args" if node.name == "/data" else "model_file"
    values: list[Any] = [
        "",
        "{",
        "[]",
        "1",
        "null",
        '{"env_name": NaN}',
        "[" * 100_000,
        b"\xff\xfe",
    ]
    values += [np.arange(5), 1.5, np.array([b"a", b"b"]), h5py.Empty("f8"), "x" * 60_000]
    node.attrs[name] = rng.choice(values)


def _change_env_args(file: h5py.File, rng: random.Random) -> None:
    content = json.loads(json.dumps(ENV_ARGS))
    part = rng.choice([content, content["env_kwargs"], content["ibrl_torchrl"]])
    values = [None, 0, -1, 1e-9, 10**9, 10**400, "", "../x", [], {}, [[]], True, 1e308]
    part[rng.choice([*part])] = rng.choice(values)
    file["data"].attrs["env_args"] = json.dumps(content)


def _change_mask(file: h5py.File, rng: random.Random) -> None:
    del file["mask/train"]
    values: list[Any] = [np.arange(3), 1.0, np.array(b"demo_0"), np.array([b"demo_9", b"x" * 500])]
    values += [np.ones((2, 2)), h5py.Empty("S4"), np.array([b"\xff\xfe"]), np.array([b"a\nb"])]
    file["mask/train"] = rng.choice(values)


MUTATIONS: list[Mutation] = [
    *(_change_value, _change_dtype, _change_shape, _declare_terabytes, _remove, _swap_kind),
    *(_link, _store_outside, _change_attribute, _change_env_args, _change_mask),
]


def mutate(path: Path, rng: random.Random) -> str:
    """Change a file in one way, by its structure or by its bytes; returns the way's name."""
    if rng.random() < 0.35:
        content = bytearray(path.read_bytes())
        kind = rng.randrange(3)
        if kind == 0:
            content = content[: rng.randrange(len(content))]
        for _ in range(0 if kind == 0 else rng.choice([1, 8, 64])):
            # Structures lie near the start; values fill the rest.
            end = 4096 if kind == 1 else len(content)
            content[rng.randrange(end)] = rng.randrange(256)
        path.write_bytes(content)
        return "bytes"
    mutation = rng.choice(MUTATIONS)
    with h5py.File(path, "r+") as file:
        mutation(file, rng)
    return mutation.__name__


def read_everything(path: Path) -> None:
    """Read a file in every way in which commands do."""
    describe_demos(path)
    load_demos(path)
    load_demos(path, filter_key="train", max_episodes=1)
    for _ in read_trajectories(path):
        pass


def outcome(path: Path) -> str:
    """``"read"``, ``"refused"``, or what went wrong."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        read_everything(path)
    except UsageError as error:
        message = str(error)
        return "refused" if message.isprintable() and len(message) < 800 else f"long: {message}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return "read"


def main(folder: Path, count: int) -> dict[str, Any]:
    """Read ``count`` mutated files; returns the numbers and everything unexpected."""
    rng, path = random.Random(0), folder / "mutated.hdf5"
    with h5py.File(folder / "secret.hdf5", "w") as secret:
        secret["x"] = np.full((6, 10), 0.123)
    write_small(folder / "small.hdf5")
    numbers: dict[str, Any] = {"read": 0, "refused": 0, "others": []}
    for _ in range(count):
        path.write_bytes((folder / "small.hdf5").read_bytes())
        label = mutate(path, rng)
        result = outcome(path)
        if result in numbers:
            numbers[result] += 1
        else:
            numbers["others"].append(f"{label}: {result}"[:300])
    return numbers


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
