"""TorchRL environments of robosuite tasks."""

import json
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs, step_mdp

from ibrl_torchrl.envs import RobosuiteEnv, make_env, make_env_like
from ibrl_torchrl.envs.env_args import robosuite_settings
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, NEXT, PROPRIO, REWARD, STATE, SUCCESS, TERMINATED, TRUNCATED

pytest.importorskip("robosuite")
pytestmark = pytest.mark.simulator

CUBE_HEIGHT = 1 + 9 + 2  # index in Lift's simulator state: time, arm and fingers, x, y, z


@pytest.fixture(scope="module")
def lift() -> RobosuiteEnv:
    return RobosuiteEnv("Lift", seed=0)


@pytest.fixture(scope="module")
def can() -> RobosuiteEnv:
    return RobosuiteEnv("PickPlaceCan", seed=0)


def reset_with(env, seed):
    env.set_seed(seed)
    return env.reset()


def random_steps(env, td, count):
    generator = torch.Generator().manual_seed(1)
    trajectory = []
    for _ in range(count):
        action = torch.rand(env.action_spec.shape, generator=generator) * 2 - 1
        td = step_mdp(env.step(td.set(ACTION, action)))
        trajectory.append(td.select(STATE, PROPRIO, SUCCESS))
    return torch.stack(trajectory)


@pytest.mark.parametrize(
    "task, state, proprio, action",
    [
        ("Lift", 19, 9, 7),  # the paper's sizes
        ("PickPlaceCan", 23, 9, 7),
        ("NutAssemblySquare", 23, 9, 7),
        ("ToolHang", 53, 9, 7),
        ("TwoArmTransport", 59, 18, 14),
        ("TwoArmPegInHole", 31, 14, 12),  # no fingers
        ("Wipe", 15, 7, 6),
        ("Door", 23, 9, 7),
    ],
)
def test_task_has_expected_sizes(task, state, proprio, action):
    env = RobosuiteEnv(task, seed=0, horizon=3)
    td = env.reset()
    assert td[STATE].shape == (state,) and td[PROPRIO].shape == (proprio,)
    assert env.action_spec.shape == (action,)
    assert sum(env.state_parts.values()) == state
    assert torch.equal(td[STATE][:proprio], td[PROPRIO])
    td = random_steps(env, td, 3)
    assert td[STATE].isfinite().all() and not td[SUCCESS].any()
    env.close()


def test_env_satisfies_specs(lift):
    check_env_specs(lift)


def test_seed_determines_initial_states_of_every_instance(lift):
    one, other = reset_with(lift, 5)[STATE], reset_with(lift, 6)[STATE]
    assert not torch.equal(one, other)
    again = make_env("robosuite", "Lift", seed=5)
    np.random.seed(3)
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert torch.equal(again.reset()[STATE], one)
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])
    trajectories = [random_steps(env, reset_with(env, 5), 5)[STATE] for env in (lift, again)]
    assert torch.equal(*trajectories)


def test_success_yields_reward_and_terminates(lift):
    reset_with(lift, 0)
    state = lift.simulator_state()
    state[CUBE_HEIGHT] += 0.2  # it falls 1 cm per step; 4 cm above the table is success
    td = lift.step(lift.set_simulator_state(state).set(ACTION, torch.zeros(7)))[NEXT]
    assert td[REWARD] == 1 and td[SUCCESS] and td[TERMINATED] and not td[TRUNCATED]
    state[CUBE_HEIGHT] -= 0.2
    td = lift.step(lift.set_simulator_state(state).set(ACTION, torch.zeros(7)))[NEXT]
    assert td[REWARD] == 0 and not td[SUCCESS] and not td[TERMINATED]


def test_horizon_truncates_and_action_repeat_advances_time():
    env = RobosuiteEnv("Lift", seed=0, horizon=2, action_repeat=3)
    rollout = env.rollout(5)
    assert rollout[NEXT, TRUNCATED].flatten().tolist() == [False, True]
    assert not rollout[NEXT, TERMINATED].any()
    assert env.simulator_state()[0] == pytest.approx(2 * 3 / 20)  # seconds


def test_actions_move_end_effector_along_world_axes(lift):
    for axis, sign in [(0, 1), (1, -1), (2, 1)]:
        td = reset_with(lift, 0)
        start = td[PROPRIO][:3].clone()
        action = torch.zeros(7)
        action[axis] = sign
        for _ in range(5):
            td = step_mdp(lift.step(td.set(ACTION, action)))
        displacement = td[PROPRIO][:3] - start
        assert displacement[axis] * sign > 0.02 and displacement.abs().argmax() == axis


def test_observations_depend_on_simulator_state_alone(can):
    """In robosuite the can's pose relative to the gripper lags by a step and is 0 after a reset."""
    td = reset_with(can, 2)
    for _ in range(3):
        position, quaternion = td[STATE][:3], td[STATE][3:7]
        relative, pose = td[STATE][9:].split(7)
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, quaternion[[3, 0, 1, 2]].double().numpy())
        expected = rotation.reshape(3, 3).T @ (pose[:3] - position).double().numpy()
        assert relative[:3].numpy() == pytest.approx(expected, abs=1e-6)
        td = random_steps(can, can.reset(), 4)[-1]
        restored = can.set_simulator_state(can.simulator_state())
        torch.testing.assert_close(restored[STATE], td[STATE], atol=1e-6, rtol=0)


def test_set_simulator_state_reproduces_trajectory(can):
    td = reset_with(can, 4)
    start = can.simulator_state()
    first = random_steps(can, td, 40)[STATE]
    random_steps(can, reset_with(can, 9), 3)
    other = RobosuiteEnv("PickPlaceCan", seed=1)
    for env in (can, other):
        td = env.set_simulator_state(start)
        torch.testing.assert_close(random_steps(env, td, 40)[STATE], first, atol=1e-4, rtol=0)


def test_set_simulator_state_restores_step_count(lift):
    reset_with(lift, 0)
    random_steps(lift, lift.reset(), 7)
    state = lift.simulator_state()
    lift.set_simulator_state(state)
    assert lift._elapsed == 7
    with pytest.raises(ValueError, match=r"Lift has shape \(32,\), found \(31,\)"):
        lift.set_simulator_state(state[1:])


def test_load_model_replaces_model():
    env = RobosuiteEnv("Lift", seed=0, cameras=["robot0_eye_in_hand"], image_size=32)
    before = reset_with(env, 1)
    state, model = env.simulator_state(), env.model_xml
    (size,) = {g.get("size") for g in _geoms(model) if g.get("name") == "cube_g0"}
    env.load_model(model.replace(f'size="{size}"', 'size="0.05 0.05 0.05"'))
    after = env.set_simulator_state(state)
    assert env._simulation[0].geom("cube_g0").size.tolist() == [0.05] * 3
    torch.testing.assert_close(after[STATE], before[STATE], atol=1e-6, rtol=0)
    key = "robot0_eye_in_hand_image"
    red = [((td[key][0] > 100) & (td[key][1] < 80)).sum() for td in (before, after)]
    assert red[1] > 2 * red[0]  # the cube is larger in the image
    assert env.rollout(2)[STATE].isfinite().all()


def _geoms(xml):
    from xml.etree import ElementTree

    return ElementTree.fromstring(xml).iter("geom")


def test_load_model_rejects_invalid_models_and_keeps_env_usable(lift, can):
    for xml, message in [
        ("<mujoco>", "not a model for robosuite 1.5: .*no element found"),
        (
            "<mujoco><asset/><worldbody/></mujoco>",
            r"Lift has sizes \(16, 15, 9\), found \(0, 0, 0\)",
        ),
        (can.model_xml, "a model of Lift has sizes"),
    ]:
        with pytest.raises(ValueError, match=message):
            lift.load_model(xml)
    assert reset_with(lift, 5)[STATE].isfinite().all()


def test_env_args_recreate_equal_environment():
    env = RobosuiteEnv("Lift", seed=0, horizon=7, settings={"control_freq": 10})
    args = json.loads(json.dumps(env.env_args))
    assert args["env_name"] == "Lift" and args["type"] == 1
    twin = make_env_like(args, seed=0)
    assert twin.env_args == env.env_args and twin.horizon == 7
    assert torch.equal(twin.reset()[STATE], env.reset()[STATE])


# Arguments in robomimic's datasets for robosuite 1.4.1 and 1.5.
ARM_1_4 = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_delta": True,
    "interpolation": None,
    "ramp_ratio": 0.2,
}
KWARGS_1_4 = {
    "has_renderer": False,
    "has_offscreen_renderer": True,
    "ignore_done": True,
    "use_object_obs": True,
    "use_camera_obs": True,
    "control_freq": 20,
    "controller_configs": ARM_1_4,
    "robots": ["Panda"],
    "camera_depths": False,
    "camera_heights": 84,
    "camera_widths": 84,
    "camera_names": ["agentview"],
    "render_gpu_device_id": 0,
    "reward_shaping": False,
}
KWARGS_1_5 = {
    **KWARGS_1_4,
    "lite_physics": False,
    "controller_configs": {
        "type": "BASIC",
        "body_parts": {
            "right": {**ARM_1_4, "input_ref_frame": "world", "gripper": {"type": "GRIP"}},
        },
    },
}


@pytest.mark.parametrize("env_kwargs", [KWARGS_1_4, KWARGS_1_5], ids=["1.4", "1.5"])
def test_make_env_like_reproduces_robomimic_envs_of_both_versions(lift, env_kwargs):
    args = {"env_name": "Lift", "env_version": "x", "type": 1, "env_kwargs": env_kwargs}
    env = make_env_like(args, seed=3)
    expected = random_steps(lift, reset_with(lift, 3), 10)[STATE]
    torch.testing.assert_close(
        random_steps(env, env.reset(), 10)[STATE], expected, atol=1e-6, rtol=0
    )


def test_robosuite_settings_converts_absolute_control():
    kwargs = {**KWARGS_1_4, "controller_configs": {**ARM_1_4, "control_delta": False}}
    arm = robosuite_settings(kwargs)["controller_configs"]["body_parts"]["right"]
    assert arm["input_type"] == "absolute" and arm["input_ref_frame"] == "world"


@pytest.mark.parametrize(
    "args, message",
    [
        ({}, "env_args lacks env_name"),
        ({"env_name": "Lift", "type": 9}, "unknown suite '9'; known are gym, metaworld, robosuite"),
        ({"env_name": "Lft", "type": 1}, "unknown robosuite task 'Lft'; did you mean Lift"),
        (
            {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"], "glue": 1}},
            "cannot create Lift from the metadata of the file: .*glue",
        ),
        (
            {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Pando"]}},
            "cannot create Lift from the metadata of the file: .*Pando",
        ),
    ],
)
def test_make_env_like_rejects_invalid_env_args(args, message):
    with pytest.raises(UsageError, match=message):
        make_env_like(args)


def test_images_are_upright_and_reproducible():
    env = RobosuiteEnv("Lift", seed=1, cameras=["agentview"], image_size=64)
    image = env.reset()["agentview_image"].float()
    assert image.shape == (3, 64, 64)
    assert image[:, -10:].min() > 200  # the white table in front
    assert image[:, :5].mean() < 150  # the robot and the wall behind it
    assert torch.equal(reset_with(env, 1)["agentview_image"].float(), image)
    assert env.render(size=32).shape == (32, 32, 3)


def test_make_env_imports_robosuite_lazily_and_keeps_mujoco_gl():
    code = (
        "import os, sys; os.environ.pop('MUJOCO_GL', None); "
        "from ibrl_torchrl.envs import make_env; "
        "assert 'robosuite' not in sys.modules; make_env('robosuite', 'Lift', seed=0).reset(); "
        "assert 'MUJOCO_GL' not in os.environ; print('passed')"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "passed" and "robosuite" not in process.stderr
    assert os.environ.get("MUJOCO_GL") in (None, "egl", "osmesa")
