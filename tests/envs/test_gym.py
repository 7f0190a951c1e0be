"""Gymnasium's environments as tasks: keys, success, bounds, ends, seeds, images, refusals."""

import gymnasium
import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.envs import gym_env, make_env, make_env_like
from ibrl_torchrl.envs.success import success_rule
from ibrl_torchrl.errors import NotFinite, UsageError

POINT = "support.point_env:PlanePoint-v0"


def point(**settings):
    return make_env("gym", POINT, **settings)


def step(env, *action):
    return env.step(env.reset().set("action", torch.tensor(action)))["next"]


def test_the_state_is_every_low_dimensional_entry_in_the_order_of_the_space():
    env = point(seed=3, proprio=["position"])
    check_env_specs(env)
    first = env.reset(seed=3)
    expected, _ = gymnasium.make(POINT).reset(seed=3)
    assert [*env.state_parts.items()] == [("position", 2), ("goal", 2)]
    assert torch.equal(first["state"][2:], torch.tensor([4.0, 4.0]))
    assert torch.equal(first["state"][:2], torch.tensor(expected["position"]).float())
    assert torch.equal(first["proprio"], first["state"][:2])
    assert first["state"].dtype == torch.float32 and not first["success"].any()
    assert set(first.keys()) == {"state", "proprio", "success", "done", "terminated", "truncated"}


def test_actions_in_the_unit_box_are_mapped_to_the_bounds():
    env = point()
    assert (env.action_spec.space.low == -1).all() and (env.action_spec.space.high == 1).all()
    for action, moved in (((-1.0, -1.0), (-2, 0)), ((0.5, 0.0), (1, 2)), ((1.0, 1.0), (2, 4))):
        env.set_seed(0)
        start = env.reset()["state"][:2]
        env.set_seed(0)
        assert torch.allclose(step(env, *action)["state"][:2] - start, torch.tensor(moved).float())
    # Beyond the bounds actions are clipped: the environment asserts them.
    env.set_seed(0)
    assert torch.allclose(step(env, 3.0, 1.0)["state"][:2] - start, torch.tensor([2.0, 4.0]))


def test_success_is_a_reward_of_one_and_terminates():
    env = point(seed=0)
    step = env.reset()
    delta = torch.tensor([4.0, 4.0]) - step["state"][:2]
    # Three equal steps to the goal, 3 to 5 away: x of delta / 3 in [-2, 2], y in [0, 4].
    action = torch.stack([delta[0] / 6, delta[1] / 6 - 1])
    results = []
    for _ in range(3):
        results.append(env.step(step.set("action", action))["next"])
        step = results[-1].clone()
    assert [result["reward"].item() for result in results] == [0, 0, 1]
    assert [bool(result["done"]) for result in results] == [False, False, True]
    last = results[-1]
    assert last["success"] and last["terminated"] and not last["truncated"]
    assert torch.allclose(last["state"][:2], torch.tensor([4.0, 4.0]))


def test_a_failure_terminates_without_reward():
    env = point(seed=0)
    first = env.step(env.reset().set("action", torch.tensor([-1.0, -1.0])))
    last = env.step(first["next"].clone().set("action", torch.tensor([-1.0, -1.0])))["next"]
    assert last["terminated"] and last["done"] and last["reward"] == 0 and not last["success"]


@pytest.mark.parametrize(
    ("settings", "length"), [({}, 5), ({"horizon": 3}, 3), ({"action_repeat": 2}, 3)]
)
def test_the_horizon_truncates(settings, length):
    env = point(seed=1, **settings)
    still = torch.tensor([0.0, -1.0])  # 0, 0 of the environment
    episode = env.rollout(100, lambda td: td.set("action", still))
    assert env.horizon == length == len(episode)
    assert episode["next", "truncated"].squeeze(-1).tolist() == [False] * (length - 1) + [True]
    assert not episode["next", "terminated"].any()


def test_a_success_within_an_action_repeat_counts():
    env = gym_env(POINT, success="reward:-2.5", action_repeat=3, seed=0)
    x, y = env.reset()["state"][:2].tolist()
    env.set_seed(0)
    # A step by (2, 2) leaves a distance of 1 to 3, the second less than 1; a third is not taken.
    expected = 1 if max(2 - x, 2 - y) <= 2.5 else 2
    result = step(env, 2.0, 2.0)
    assert result["success"] and result["reward"] == 1
    assert result["state"][0].item() == pytest.approx(x + 2 * expected)


def test_a_seed_fixes_the_start_in_every_instance():
    first, second = point(), point(action_repeat=2)
    states = []
    for env in (first, second, first):
        env.set_seed(11)
        states += [env.reset()["state"], env.reset()["state"]]
    assert torch.equal(states[0], states[2]) and torch.equal(states[1], states[3])
    assert torch.equal(states[0], states[4]) and not torch.equal(states[0], states[1])


def test_images_are_entries_of_the_observation_or_rendered():
    env = point(cameras=["pixels_top", "render"], image_size=4)
    check_env_specs(env)
    image = env.reset()["pixels_top_image"]
    assert image.shape == (3, 4, 4) and image.dtype == torch.uint8
    assert (image[0, :, 2:] == 100).all() and (image[0, :, :2] == 0).all() and not image[1:].any()
    assert (env.reset()["render_image"] == 7).all()
    assert env.base_env.render(None, 6).shape == (6, 6, 3)
    assert (env.base_env.render("pixels_top", 4)[:, 2:, 0] == 100).all()


def test_settings_compose_and_stack():
    config = parse(
        TrainConfig,
        composed(
            "train",
            [
                *("run_dir=x", "task=gym", f"task.name={POINT}", "task.state_stack=2"),
                *("+task.kwargs.colour=9", "task.cameras=[pixels_top]", "task.image_size=8"),
            ],
        ),
    ).task
    assert (config.horizon, config.success, config.label) == (
        *(None, "info:is_success"),
        f"gym/{POINT}",
    )
    env = build_env(config)
    first = env.reset()
    assert first["state"].shape == (8,) and (first["state"][:4] == 0).all()
    assert first["pixels_top_image"].max() == 9
    assert env.base_env.env_args["env_kwargs"] == {
        "success": "info:is_success",
        "action_repeat": 1,
        "horizon": 5,
        "cameras": ["pixels_top"],
        "image_size": 8,
        "render_quality": "fast",
        "colour": 9,
    }


@pytest.mark.parametrize(
    ("rule", "reward", "terminated", "info", "expected"),
    [
        ("info:solved", 0.0, False, {"solved": 1.0}, True),
        ("info:solved", 1.0, True, {"solved": np.array([False])}, False),
        ("reward:0", 0.0, False, {}, True),
        ("reward:0", -1.0, True, {}, False),
        ("terminated", 0.0, True, {}, True),
        ("terminated", 9.0, False, {}, False),
    ],
)
def test_rules_of_success(rule, reward, terminated, info, expected):
    assert success_rule(rule)(reward, terminated, info) is expected


@pytest.mark.parametrize(
    "text", ["is_success", "info:", "info", "reward:", "reward:x", "terminated:1"]
)
def test_other_rules_are_refused(text):
    with pytest.raises(UsageError, match=r"^task\.success=.* must be info:KEY, reward:NUMBER or"):
        success_rule(text)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "Pendulum-v1",
            {},
            r"Pendulum-v1: task\.success=info:is_success: the info .* nothing; set",
        ),
        (POINT, {"success": "info:won"}, r"has is_success, x; set task\.success=info:KEY"),
        ("CartPole-v1", {}, r"CartPole-v1: its actions are Discrete\(2\).*; choose an environment"),
        ("support.point_env:Free-v0", {}, "its actions are unbounded, Box.*; give them finite"),
        ("support.point_env:Endless-v0", {}, r"Endless-v0 has no time limit; set task\.horizon"),
        ("Pendulun-v1", {}, "unknown Gymnasium environment 'Pendulun-v1'; did you mean Pendulum"),
        (
            "Qqqqqqqqqqqqqqqqqqqqqq",
            {},
            "'Qqqqqqqqqqqqqqqqqqqqqq'; ids of other packages need these",
        ),
        ("gym_nowhere/X-v0", {}, "gym_nowhere is not installed; install its package .*gym-nowhere"),
        ("nowhere:X-v0", {}, r"task\.name=nowhere:X-v0: nowhere is not installed; .* PYTHONPATH"),
        (POINT, {"cameras": ["front"]}, "unknown camera 'front'; known are pixels_top, render"),
        (POINT, {"proprio": ["hand"]}, r"in task\.proprio 'hand'; known are goal, position"),
        (POINT, {"size": 3}, r"cannot create support\.point_env:PlanePoint-v0: .*'size'"),
    ],
)
def test_bad_input_costs_one_line(name, settings, message):
    with pytest.raises(UsageError, match=message) as error:
        make_env("gym", name, **settings)
    assert "\n" not in str(error.value)


def test_a_state_that_is_no_number_is_refused():
    env = gym_env(POINT, seed=0)
    env.reset()
    env.base_env._env.unwrapped._position = np.array([np.inf, 0])
    with pytest.raises(NotFinite, match="state is not finite at step 1 of an episode"):
        env.step(env.fake_tensordict().set("action", torch.zeros(2)))


def test_a_file_imports_no_module():
    args = point().base_env.env_args
    with pytest.raises(UsageError, match="would import a Python module; create it by make_env"):
        make_env_like(args)
    with pytest.raises(UsageError, match="would import a Python module"):
        make_env_like({"env_name": "x", "type": "support.point_env:make_plain"})
    plain = gym_env("MountainCarContinuous-v0", success="terminated", horizon=7).base_env
    assert make_env_like(plain.env_args).base_env.env_args == plain.env_args


@pytest.mark.simulator
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "success", "sizes"),
    [
        (
            "FetchPush-v4",
            "info:is_success",
            {"achieved_goal": 3, "desired_goal": 3, "observation": 25},
        ),
        ("AdroitHandDoor-v1", "info:success", {"observation": 39}),
    ],
)
def test_gymnasium_robotics(name, success, sizes):
    pytest.importorskip("gymnasium_robotics")
    env = make_env("gym", name, success=success, seed=5)
    assert env.state_parts == sizes and env.env_args["env_version"].startswith("gymnasium-robotics")
    first = env.reset()["state"]
    env.rollout(3)
    env.set_seed(5)
    assert torch.equal(env.reset()["state"], first)
    assert env.rollout(1000).shape[0] <= env.horizon
