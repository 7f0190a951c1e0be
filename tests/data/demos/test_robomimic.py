"""Observations of robomimic files of all robosuite versions."""

import json

import h5py
import numpy as np
import pytest
import torch

from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.data.demos.robomimic import (
    join_parts,
    observation_names,
    relative_pose,
    stored_parts,
)
from ibrl_torchrl.envs.env_args import arm_controller, is_before_1_5, signature
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, NEXT, PROPRIO, STATE

PARTS = ["object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]


def test_stored_parts_orders_proprio_before_object():
    assert stored_parts(STATE, PARTS) == [*PARTS[1:], "object"]
    assert stored_parts(PROPRIO, PARTS) == PARTS[1:]
    two = [f"robot{i}_{part}" for i in (1, 0) for part in ("gripper_qpos", "eef_pos")]
    expected = [f"robot{i}_{part}" for i in (0, 1) for part in ("eef_pos", "gripper_qpos")]
    assert stored_parts(PROPRIO, two) == expected


def test_stored_parts_keeps_names_of_other_observations():
    assert stored_parts(STATE, [STATE, *PARTS]) == [STATE]
    assert stored_parts("object", PARTS) == ["object"]
    assert stored_parts(STATE, ["object", "eef"]) == [STATE]
    assert observation_names(["object", "eef"]) == ["eef", "object"]
    assert observation_names([*PARTS, "agentview_image", "robot0_joint_pos"]) == [
        *("agentview_image", PROPRIO, STATE),
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.4.1", True), ("1.5.0", False), ("1.5.2", False), ("1.10", False), ("", True)],
)
def test_is_before_1_5_compares_numerically(version, expected):
    assert is_before_1_5({"env_version": version}) is expected


def numbered(size):
    return np.arange(1.0, size + 1)[None]


def test_join_parts_negates_lift_relative_position_before_1_5():
    args = {"env_name": "Lift", "env_version": "1.4.1"}
    parts = {"robot0_eef_pos": np.zeros((1, 3)), "object": numbered(10)}
    assert join_parts(parts, args)[0, 3:].tolist() == [1, 2, 3, 4, 5, 6, 7, -8, -9, -10]
    assert join_parts(parts, {**args, "env_version": "1.5.1"})[0, 3:].tolist() == [*range(1, 11)]


def test_join_parts_moves_transport_flags_before_1_5():
    args = {"env_name": "TwoArmTransport", "env_version": "1.4.1"}
    parts = {"robot0_eef_pos": np.zeros((1, 3)), "object": numbered(41)}
    expected = [*range(1, 28), 40, 41, *range(28, 40)]
    assert join_parts(parts, args)[0, 3:].tolist() == expected


@pytest.mark.parametrize(
    ("task", "objects"), [("PickPlaceCan", 1), ("NutAssemblySquare", 1), ("ToolHang", 3)]
)
def test_join_parts_recomputes_relative_poses_first(task, objects):
    """End effector at x = 1, rotated by 90 degrees about z; objects at y = 1, 2, 3, unrotated."""
    half = np.sqrt(0.5)
    position, orientation = np.array([[1.0, 0, 0]]), np.array([[0, 0, half, half]])
    poses = [np.array([0, y, 0, 0, 0, 0, 1.0]) for y in range(1, objects + 1)]
    wrong, flags = np.full(7, 9.0), [1.0, 0.0] if task == "ToolHang" else []
    old = np.concatenate([*(np.concatenate([pose, wrong]) for pose in poses), flags])[None]
    new = np.concatenate([*(np.concatenate([wrong, pose]) for pose in poses), flags])[None]
    # World x is -y of the end effector, and world y is x: (-1, y) is at (y, 1).
    relative = [np.array([y, 1, 0, 0, 0, -half, half]) for y in range(1, objects + 1)]
    expected = np.concatenate(
        [*(np.concatenate(both) for both in zip(relative, poses, strict=True)), flags]
    )
    for version, values in (("1.4.1", old), ("1.5.1", new)):
        parts = {"robot0_eef_pos": position, "robot0_eef_quat": orientation, "object": values}
        state = join_parts(parts, {"env_name": task, "env_version": version})
        assert state[0, 7:] == pytest.approx(expected)


def test_relative_pose_equals_that_of_robosuite():
    transforms = pytest.importorskip("robosuite.utils.transform_utils")
    generator = np.random.default_rng(0)
    position, orientation = generator.normal(size=(5, 3)), generator.normal(size=(5, 4))
    pose = generator.normal(size=(5, 7))
    orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
    pose[:, 3:] /= np.linalg.norm(pose[:, 3:], axis=1, keepdims=True)
    relative = relative_pose(position, orientation, pose)
    for row in range(5):
        inverse = transforms.pose_inv(transforms.pose2mat((position[row], orientation[row])))
        matrix = transforms.pose2mat((pose[row, :3], pose[row, 3:]))
        expected = transforms.mat2pose(transforms.pose_in_A_to_pose_in_B(matrix, inverse))
        assert relative[row] == pytest.approx([*expected[0], *expected[1]], abs=1e-6)


def test_signature_is_equal_for_controllers_of_all_versions():
    arm = {"type": "OSC_POSE", "kp": 150, "output_max": [0.05]}
    old = {**arm, "control_delta": True}
    new = {"type": "BASIC", "body_parts": {"right": {**arm, "input_type": "delta"}}}
    signatures = [
        signature({"type": 1, "env_kwargs": {"robots": robots, "controller_configs": config}})
        for robots, config in (("Panda", old), (["Panda"], new), (["Panda"], [old, old]))
    ]
    assert (
        signatures[0]
        == signatures[1]
        == signatures[2]
        == {
            "robots": ["Panda"],
            "action_repeat": 1,  # default if not stated
            "controller": "OSC_POSE",
            "controller's output_max": [0.05],
            "controller's kp": 150,
            "controller's input": "delta",
        }
    )
    assert signature({"type": 1, "ibrl_torchrl": {"action_repeat": 2}}) == {"action_repeat": 2}
    assert signature({"type": "metaworld"}) == {}
    assert arm_controller({"controller_configs": {"type": "BASIC", "body_parts": {}}}) == {}


# Files


def write(path, *, names=("demo_0", "demo_1"), env_args=None, masks=None, next_obs=True):
    """Write episodes of Lift in robomimic's layout, 3 steps long."""
    generator = np.random.default_rng(0)
    sizes = dict(zip(PARTS, (10, 3, 4, 2), strict=True))
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(
            env_args or {"env_name": "Lift", "env_version": "1.5.1", "type": 1, "env_kwargs": {}}
        )
        for name in names:
            group = data.create_group(name)
            for part, size in sizes.items():
                values = generator.normal(size=(4, size))
                group[f"obs/{part}"] = values[:3]
                if next_obs:
                    group[f"next_obs/{part}"] = values[1:]
            group["actions"] = np.zeros((3, 7))
            group["rewards"], group["dones"] = np.array([0.0, 1, 1]), np.array([0, 1, 1])
        for key, members in (masks or {}).items():
            file[f"mask/{key}"] = np.array(members, dtype="S")
    return path


def test_load_joins_parts_and_cuts_at_first_success(tmp_path):
    demos = load_demos(write(tmp_path / "lift.hdf5"))
    assert demos.summary()["observations"] == {PROPRIO: [9], STATE: [19]}
    first = demos.episodes[0]
    assert len(first) == 2
    with h5py.File(demos.path) as file:
        stored = file["data/demo_0"]
        expected = np.concatenate(
            [stored[f"obs/{part}"][()] for part in [*PARTS[1:], "object"]], axis=1
        )
        last = stored["next_obs/object"][1]
    assert first[STATE].numpy() == pytest.approx(expected[:2], abs=1e-6)
    assert first[NEXT, STATE][1, 9:].numpy() == pytest.approx(last, abs=1e-6)


def test_load_without_next_obs_shifts_observations(tmp_path):
    episode = load_demos(write(tmp_path / "lift.hdf5", next_obs=False)).episodes[0]
    assert torch.equal(episode[NEXT, STATE][0], episode[STATE][1])


def test_load_filter_key_selects_episodes(tmp_path):
    names = [f"demo_{i}" for i in range(12)]
    masks = {"train": ["demo_10", "demo_2"], "valid": ["demo_1"], "invalid": ["demo_77"]}
    path = write(tmp_path / "lift.hdf5", names=names, masks=masks)
    episodes = load_demos(path).episodes
    train = load_demos(path, filter_key="train").episodes
    assert len(train) == 2 and len(load_demos(path, filter_key="valid").episodes) == 1
    assert torch.equal(train[0][STATE], episodes[2][STATE])
    assert torch.equal(train[1][STATE], episodes[10][STATE])
    with pytest.raises(UsageError, match="no filter key 'test'; the file has invalid, train"):
        load_demos(path, filter_key="test")
    with pytest.raises(UsageError, match="mask/invalid names demo_77, which does not exist"):
        load_demos(path, filter_key="invalid")


def test_load_state_stack_starts_with_zeros(tmp_path):
    path = write(tmp_path / "lift.hdf5")
    single, stacked = load_demos(path).episodes[0], load_demos(path, state_stack=3).episodes[0]
    assert stacked[STATE].shape == (2, 57) and stacked[PROPRIO].shape == (2, 27)
    first, second = single[STATE]
    zeros = torch.zeros(19)
    assert torch.equal(stacked[STATE][0], torch.cat([zeros, zeros, first]))
    assert torch.equal(stacked[STATE][1], torch.cat([zeros, first, second]))
    last = torch.cat([first, second, single[NEXT, STATE][1]])
    assert torch.equal(stacked[NEXT, STATE][1], last)
    assert torch.equal(stacked[ACTION], single[ACTION])


def test_load_reports_missing_part(tmp_path):
    path = write(tmp_path / "lift.hdf5")
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/robot0_eef_quat"]
    with pytest.raises(UsageError, match=r"demo_1: proprio has shape \[5\] per step"):
        load_demos(path)
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/obs/object"]
    with pytest.raises(UsageError, match="demo_0: no 'obs/state', found robot0_eef_pos"):
        load_demos(path, keys=[STATE])


@pytest.mark.parametrize(
    ("part", "shape"),
    [("robot0_eef_quat", [3, 4]), ("robot0_eef_pos", [3, 4]), ("object", [3])],
    ids=["zero quaternion", "position of 4 values", "object without columns"],
)
def test_load_reports_invalid_poses(tmp_path, part, shape):
    path = write(tmp_path / "can.hdf5", env_args={"env_name": "PickPlaceCan"}, next_obs=False)
    with h5py.File(path, "r+") as file:
        for name, group in file["data"].items():
            del group["obs/object"]
            group["obs/object"] = np.ones((3, 14))
            if name == "demo_1":
                del group[f"obs/{part}"]
                group[f"obs/{part}"] = np.zeros(shape)
    with pytest.raises(UsageError, match=r"demo_1: cannot concatenate robot0_eef_pos, .*object"):
        load_demos(path, keys=[STATE])
