"""Robomimic's files of every version give the same observations."""

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


def test_a_state_is_what_arms_feel_and_then_the_object():
    assert stored_parts(STATE, PARTS) == [*PARTS[1:], "object"]
    assert stored_parts(PROPRIO, PARTS) == PARTS[1:]
    two = [f"robot{i}_{sense}" for i in (1, 0) for sense in ("gripper_qpos", "eef_pos")]
    expected = [f"robot{i}_{sense}" for i in (0, 1) for sense in ("eef_pos", "gripper_qpos")]
    assert stored_parts(PROPRIO, two) == expected


def test_other_files_keep_their_names():
    assert stored_parts(STATE, [STATE, *PARTS]) == [STATE]
    assert stored_parts("object", PARTS) == ["object"]
    assert stored_parts(STATE, ["object", "eef"]) == [STATE]
    assert observation_names(["object", "eef"]) == ["eef", "object"]
    assert observation_names([*PARTS, "agentview_image", "robot0_joint_pos"]) == [
        *("agentview_image", PROPRIO, STATE),
    ]


@pytest.mark.parametrize(
    "version, before",
    [("1.4.1", True), ("1.5.0", False), ("1.5.2", False), ("1.10", False), ("", True)],
)
def test_versions_are_compared_by_number(version, before):
    assert is_before_1_5({"env_version": version}) is before


def numbered(size):
    return np.arange(1.0, size + 1)[None]


def test_lift_of_old_looks_from_the_other_side():
    args = {"env_name": "Lift", "env_version": "1.4.1"}
    parts = {"robot0_eef_pos": np.zeros((1, 3)), "object": numbered(10)}
    assert join_parts(parts, args)[0, 3:].tolist() == [1, 2, 3, 4, 5, 6, 7, -8, -9, -10]
    assert join_parts(parts, {**args, "env_version": "1.5.1"})[0, 3:].tolist() == [*range(1, 11)]


def test_transport_of_old_has_its_flags_last():
    args = {"env_name": "TwoArmTransport", "env_version": "1.4.1"}
    parts = {"robot0_eef_pos": np.zeros((1, 3)), "object": numbered(41)}
    expected = [*range(1, 28), 40, 41, *range(28, 40)]
    assert join_parts(parts, args)[0, 3:].tolist() == expected


@pytest.mark.parametrize(
    "task, objects", [("PickPlaceCan", 1), ("NutAssemblySquare", 1), ("ToolHang", 3)]
)
def test_what_the_hand_sees_comes_first_and_is_computed_anew(task, objects):
    """A hand at x = 1 that has turned by 90 degrees about z; objects at y = 1, 2, 3, unturned."""
    half = np.sqrt(0.5)
    hand, turn = np.array([[1.0, 0, 0]]), np.array([[0, 0, half, half]])
    poses = [np.array([0, y, 0, 0, 0, 0, 1.0]) for y in range(1, objects + 1)]
    garbage, flags = np.full(7, 9.0), [1.0, 0.0] if task == "ToolHang" else []
    old = np.concatenate([*(np.concatenate([pose, garbage]) for pose in poses), flags])[None]
    new = np.concatenate([*(np.concatenate([garbage, pose]) for pose in poses), flags])[None]
    # From the hand, x of the world is -y, and y is x: (-1, y) is seen at (y, 1).
    seen = [np.array([y, 1, 0, 0, 0, -half, half]) for y in range(1, objects + 1)]
    expected = np.concatenate(
        [*(np.concatenate(both) for both in zip(seen, poses, strict=True)), flags]
    )
    for version, values in (("1.4.1", old), ("1.5.1", new)):
        parts = {"robot0_eef_pos": hand, "robot0_eef_quat": turn, "object": values}
        state = join_parts(parts, {"env_name": task, "env_version": version})
        assert state[0, 7:] == pytest.approx(expected)


def test_poses_are_seen_as_robosuite_computes_it():
    transforms = pytest.importorskip("robosuite.utils.transform_utils")
    generator = np.random.default_rng(0)
    hand, turn = generator.normal(size=(5, 3)), generator.normal(size=(5, 4))
    pose = generator.normal(size=(5, 7))
    turn /= np.linalg.norm(turn, axis=1, keepdims=True)
    pose[:, 3:] /= np.linalg.norm(pose[:, 3:], axis=1, keepdims=True)
    found = relative_pose(hand, turn, pose)
    for row in range(5):
        inverse = transforms.pose_inv(transforms.pose2mat((hand[row], turn[row])))
        matrix = transforms.pose2mat((pose[row, :3], pose[row, 3:]))
        position, quaternion = transforms.mat2pose(
            transforms.pose_in_A_to_pose_in_B(matrix, inverse)
        )
        assert found[row] == pytest.approx([*position, *quaternion], abs=1e-6)


def test_controllers_of_all_versions_have_one_signature():
    arm = {"type": "OSC_POSE", "kp": 150, "output_max": [0.05]}
    old = {**arm, "control_delta": True}
    new = {"type": "BASIC", "body_parts": {"right": {**arm, "input_type": "delta"}}}
    told = [
        signature({"type": 1, "env_kwargs": {"robots": robots, "controller_configs": config}})
        for robots, config in (("Panda", old), (["Panda"], new), (["Panda"], [old, old]))
    ]
    assert (
        told[0]
        == told[1]
        == told[2]
        == {
            "robots": ["Panda"],
            "action_repeat": 1,  # of whoever has no word for it
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
    """Two episodes as robomimic writes those of Lift, 3 steps long."""
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


def test_parts_are_joined_and_episodes_end_at_the_first_success(tmp_path):
    demos = load_demos(write(tmp_path / "lift.hdf5"))
    assert demos.summary()["observations"] == {PROPRIO: [9], STATE: [19]}
    first = demos.episodes[0]
    assert len(first) == 2
    with h5py.File(demos.path) as file:
        stored = file["data/demo_0"]
        expected = np.concatenate(
            [stored[f"obs/{part}"][()] for part in [*PARTS[1:], "object"]], axis=1
        )
        after = stored["next_obs/object"][1]
    assert first[STATE].numpy() == pytest.approx(expected[:2], abs=1e-6)
    assert first[NEXT, STATE][1, 9:].numpy() == pytest.approx(after, abs=1e-6)


def test_without_next_obs_the_next_observation_takes_its_place(tmp_path):
    episode = load_demos(write(tmp_path / "lift.hdf5", next_obs=False)).episodes[0]
    assert torch.equal(episode[NEXT, STATE][0], episode[STATE][1])


def test_filter_keys_choose_episodes(tmp_path):
    names = [f"demo_{i}" for i in range(12)]
    masks = {"train": ["demo_10", "demo_2"], "valid": ["demo_1"], "lost": ["demo_77"]}
    path = write(tmp_path / "lift.hdf5", names=names, masks=masks)
    whole = load_demos(path).episodes
    train = load_demos(path, filter_key="train").episodes
    assert len(train) == 2 and len(load_demos(path, filter_key="valid").episodes) == 1
    assert torch.equal(train[0][STATE], whole[2][STATE])
    assert torch.equal(train[1][STATE], whole[10][STATE])
    with pytest.raises(UsageError, match="no filter key 'test'; the file has lost, train, valid"):
        load_demos(path, filter_key="test")
    with pytest.raises(UsageError, match="mask/lost names demo_77, which does not exist"):
        load_demos(path, filter_key="lost")


def test_stacked_states_start_with_zeros(tmp_path):
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


def test_a_missing_part_is_named(tmp_path):
    path = write(tmp_path / "lift.hdf5")
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/robot0_eef_quat"]
    with pytest.raises(UsageError, match=r"demo_1: proprio has shape \[5\] per step"):
        load_demos(path)
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/obs/object"]
    with pytest.raises(UsageError, match="demo_0: no 'obs/state', found robot0_eef_pos"):
        load_demos(path, keys=[STATE])
