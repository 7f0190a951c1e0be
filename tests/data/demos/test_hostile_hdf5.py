"""HDF5 files of unknown origin: other files of the machine, declared sizes, odd types, damage."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import damaged_hdf5

from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.data.demos.describe import describe_demos
from ibrl_torchrl.envs import make_env_like
from ibrl_torchrl.envs.env_args import parse_env_args
from ibrl_torchrl.errors import UsageError


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.hdf5"
    damaged_hdf5.write_small(path)
    return path


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.hdf5"
    with h5py.File(path, "w") as file:
        file["object"] = np.full((6, 10), 0.123)
    return path


def assert_refused(path, message):
    with pytest.raises(UsageError, match=message) as error:
        load_demos(path)
    assert str(error.value).isprintable() and str(path) in str(error.value)


def test_the_small_file_is_read(small):
    demos = load_demos(small, filter_key="train")
    assert [len(episode) for episode in demos.episodes] == [6, 4]
    assert demos.episodes[0]["state"].shape == (6, 19)


def test_other_files_are_not_read_into_observations(small, secret):
    name = "data/demo_0/obs/object"

    def link(file):
        file[name] = h5py.ExternalLink(str(secret), "/object")

    def soft_link(file):  # through an external one
        file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
        file[name] = h5py.SoftLink("/elsewhere/object")

    def storage(file):
        file.create_dataset(name, (6, 10), "f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def virtual(file):
        layout = h5py.VirtualLayout((6, 10), "f8")
        layout[...] = h5py.VirtualSource(str(secret), "object", (6, 10))
        file.create_virtual_dataset(name, layout)

    original = small.read_bytes()
    for refer in (link, soft_link, storage, virtual):
        small.write_bytes(original)
        with h5py.File(small, "r+") as file:
            del file[name]
            refer(file)
        assert_refused(small, "another file; copy the data here")
    small.write_bytes(original)
    with h5py.File(small, "r+") as file:  # the whole episode, and a pipe that never answers
        del file["data/demo_0"]
        file["data/demo_0"] = h5py.ExternalLink("/dev/zero", "/")
    assert_refused(small, "data/demo_0 is a link to another file")


def test_soft_links_within_the_file_are_followed_and_cycles_are_refused(small):
    with h5py.File(small, "r+") as file:
        file.move("data/demo_0/actions", "data/demo_0/commands")
        file["data/demo_0/actions"] = h5py.SoftLink("commands")
    assert load_demos(small).summary()["transitions"] == 10
    with h5py.File(small, "r+") as file:
        del file["data/demo_0/actions"]
        file["data/demo_0/actions"] = h5py.SoftLink("/data/demo_0/actions")
    assert_refused(small, "is a link without end")


@pytest.mark.parametrize("settings", [{}, {"chunks": True}, {"chunks": (6, 10**6)}])
def test_declared_terabytes_are_refused_before_they_are_allocated(small, settings):
    with h5py.File(small, "r+") as file:
        del file["data/demo_0/obs/object"]
        file.create_dataset("data/demo_0/obs/object", (6, 10**12), "f8", **settings)
    assert small.stat().st_size < 100_000
    assert_refused(small, r"data/demo_0/obs/object of shape \[6, 10+\] declares 48000000000000 by")


def test_well_compressed_images_are_read(small):
    with h5py.File(small, "r+") as file:
        for name in ("demo_0", "demo_1"):
            length = len(file[f"data/{name}/actions"])
            del file[f"data/{name}/obs/agentview_image"]
            black = np.zeros((length, 96, 96, 3), np.uint8)
            file.create_dataset(f"data/{name}/obs/agentview_image", data=black, compression="gzip")
    assert load_demos(small).episodes[0]["agentview_image"].shape == (6, 3, 96, 96)


@pytest.mark.parametrize(
    "value", [np.arange(3), 1.0, np.ones((2, 2)), h5py.Empty("S4"), np.array([b"\xff\xfe"])]
)
def test_odd_masks_are_refused(small, value):
    with h5py.File(small, "r+") as file:
        del file["mask/train"]
        file["mask/train"] = value
    with pytest.raises(UsageError, match=r"mask/train is not a list of names|decode|readable"):
        describe_demos(small, "valid")


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("env_kwargs", "control_freq", 1e-9, "has control_freq=1e-09, must be a number from 1 to"),
        ("env_kwargs", "control_freq", "20", "has control_freq=20, must be a number"),
        ("env_kwargs", "robots", ["Panda"] * 9, "has robots, must be one to four names"),
        ("env_kwargs", "controller_configs", [3], "has controller_configs, must be an object"),
        ("ibrl_torchrl", "action_repeat", 10**9, "has action_repeat=1000000000, must be"),
        ("ibrl_torchrl", "action_repeat", 1.5, "has action_repeat=1.5, must be an integer"),
        ("ibrl_torchrl", "horizon", float("inf"), "has Infinity, which is no number"),
        ("ibrl_torchrl", "cameras", 5, "has cameras=5, must be a list of names"),
        (None, "env_kwargs", [1], "has env_kwargs of type list"),
        (None, "env_name", {"a": 1}, "has env_name of type dict"),
        (None, "state_parts", {"object": -3}, "has state_parts.object=-3, must be a size"),
    ],
)
def test_metadata_out_of_range_are_refused(part, name, value, message):
    content = json.loads(json.dumps(damaged_hdf5.ENV_ARGS))
    (content if part is None else content[part])[name] = value
    with pytest.raises(ValueError, match=message):
        parse_env_args(json.dumps(content))


def test_metadata_of_recorded_files_pass(box_close_demos, lift_demos):
    for path in (box_close_demos, lift_demos):
        make_env_like(describe_demos(path).env_args).close()


@pytest.mark.simulator
@pytest.mark.parametrize(
    ("part", "name", "value"), [("env_kwargs", "control_freq", 1e-9), (0, "type", [])]
)
def test_demos_check_answers_odd_metadata_in_one_line(
    ibrl, lift_demos, tmp_path, part, name, value
):
    path = tmp_path / "lift.hdf5"
    path.write_bytes(lift_demos.read_bytes())
    with h5py.File(path, "r+") as file:
        content = json.loads(file["data"].attrs["env_args"])
        (content if part == 0 else content[part])[name] = value
        file["data"].attrs["env_args"] = json.dumps(content)
    code, _, error = ibrl("demos", "check", path)
    assert code == 2 and error.count("\n") == 1 and name in error


def test_three_hundred_mutated_files_are_refused_in_one_line_or_read(tmp_path):
    program = Path(damaged_hdf5.__file__)
    done = subprocess.run(
        [sys.executable, program, tmp_path, "300"], capture_output=True, text=True, check=True
    )
    numbers = json.loads(done.stdout)
    assert numbers["others"] == []
    assert numbers["read"] > 20 and numbers["refused"] > 200  # a changed number is as good
