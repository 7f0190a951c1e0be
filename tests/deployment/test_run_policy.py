"""Policies of run folders on arrays, against the same policies in their environment."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support.untrained_runs import write_untrained_run
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl import load_policy
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.load import load_run
from ibrl_torchrl.keys import ACTION, PROPOSAL, PROPOSAL_VALUES
from ibrl_torchrl.rollouts.episode import rollout_episode
from ibrl_torchrl.runs.names import CHECKPOINT, CONFIG, SPACES

pytestmark = pytest.mark.simulator

STATES = {
    "plain": (),
    "stacks": ("task.state_stack=3", "task.state_parts=[hand_pos,goal_pos]"),
    "chunks": ("algo.chunk={size: 4, replan: 3}", "imitation.bc.chunk.size=5", "replay.n_steps=1"),
    "long chunks of one policy": ("imitation.bc.chunk={size: 4, replan: 2}",),
    "a second policy": (
        "+imitation.second={policy: gmm}",
        "algo.proposals.acting.policies=[rl,bc,second]",
    ),
    "candidates": ("algo=expo",),
    "a gate": ("algo=ibrl_cautious",),
    "no choice": ("algo=td3",),
    "SAC": ("algo=ibrl_sac",),
    "flow": ("imitation.bc.policy=flow",),
    "diffusion": ("imitation.bc.policy=diffusion",),
    "cvae": ("imitation.bc.policy=cvae",),
    "ACT": ("imitation.bc.policy=act",),
    "recurrent": ("imitation.bc.policy=gmm_rnn", "replay.cache_proposals=true"),
}
PIXELS = {
    "pixels": (),
    "pixel stacks": ("task.frame_stack=3",),
}


def arrays(tensordict):
    """Observations of a step as a robot's program has them."""
    return {key: value.numpy() for key, value in tensordict.items() if value.ndim}


def require_same_episode(run, name):
    """Act in the environment without stacks; compare with an evaluation's episode."""
    loaded = load_run(run, seed=0, threads=1, device="cpu")
    expected = rollout_episode(loaded.env, loaded.agent.policies[name], seed=7)
    policy = load_policy(run, name)
    env = build_env(replace(loaded.config.task, frame_stack=1, state_stack=1))
    for _ in range(2):  # the second episode shows what a reset leaves behind
        policy.reset()
        env.set_seed(7)
        step = env.reset()
        for frame in range(len(expected)):
            action = policy.act(arrays(step))
            np.testing.assert_array_equal(action, expected[ACTION][frame].numpy())
            index = int(expected[PROPOSAL][frame])
            assert policy.decision.proposal == loaded.agent.proposals[index]
            step = env.step(step.set(ACTION, torch.from_numpy(action)))["next"]
    assert frame == 9


@pytest.mark.parametrize("settings", STATES.values(), ids=STATES)
def test_acts_as_in_the_environment(tmp_path, settings):
    run = write_untrained_run(tmp_path / "run", *settings)
    for name in ("hybrid", "bc"):
        require_same_episode(run, name)


@pytest.mark.parametrize("settings", PIXELS.values(), ids=PIXELS)
def test_acts_as_in_the_environment_from_images(tmp_path, settings):
    pixels = ("experiment=small_pixels", "task=metaworld/box-close", "task.horizon=10")
    run = write_untrained_run(tmp_path / "run", *pixels, *settings)
    require_same_episode(run, "hybrid")
    assert "corner2_image" in load_policy(run).observation_shapes


def test_a_decision_names_the_proposal_and_the_values(tmp_path):
    run = write_untrained_run(tmp_path / "run")
    loaded = load_run(run, seed=0, threads=1, device="cpu")
    step = loaded.env.reset()
    policy = load_policy(run)
    assert policy.decision is None
    action = policy.act(arrays(step))
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        expected = loaded.agent.scored(step.clone())[PROPOSAL_VALUES].tolist()
    decision = policy.decision
    assert decision.values == dict(zip(("rl", "bc"), expected, strict=True))
    assert decision.values[decision.proposal] == max(expected) and not decision.is_gated
    assert str(decision).startswith(f"{decision.proposal} of rl {expected[0]:.3f}, bc ")
    np.testing.assert_array_equal(decision.action, action)
    action[:] = 5  # the caller's own copy
    assert abs(policy.decision.action).max() <= 1


def test_other_policies_by_name(tmp_path):
    run = write_untrained_run(tmp_path / "run")
    state = {"state": np.linspace(-1, 1, 39)}
    actions = {name: load_policy(run, name).act(state) for name in ("hybrid", "rl", "bc")}
    assert any(np.array_equal(actions["hybrid"], actions[name]) for name in ("rl", "bc"))
    assert not np.array_equal(actions["rl"], actions["bc"])
    with pytest.raises(UsageError, match="unknown policy 'bcc'; did you mean bc"):
        load_policy(run, "bcc")


def test_a_chunk_is_executed_and_forgotten_by_a_reset(tmp_path):
    settings = ("algo.chunk={size: 3}", "imitation.bc.chunk.size=3", "replay.n_steps=1")
    policy = load_policy(write_untrained_run(tmp_path / "run", *settings))
    first, other = {"state": np.zeros(39)}, {"state": np.ones(39)}
    chunk = [policy.act(first) for _ in range(3)]
    policy.reset()
    steps = []
    for expected, observation in zip(chunk, (first, other, other), strict=True):
        np.testing.assert_array_equal(policy.act(observation), expected)
        steps.append(policy.decision.chunk_step)
    assert steps == [0, 1, 2]
    policy.reset()
    policy.act(first)
    policy.reset()
    assert not np.array_equal(policy.act(other), chunk[1])
    assert policy.decision.chunk_step == 0


def test_actions_in_other_bounds(tmp_path):
    run, state = write_untrained_run(tmp_path / "run"), {"state": np.zeros(39)}
    action = load_policy(run).act(state)
    scaled = load_policy(run, action_bounds=(0.0, [1, 2, 3, 4])).act(state)
    np.testing.assert_allclose(scaled, (action + 1) / 2 * [1, 2, 3, 4], rtol=1e-6)
    assert scaled.dtype == np.float32
    with pytest.raises(ValueError, match="action bounds must be low < high"):
        load_policy(run, action_bounds=(1.0, 1.0))
    with pytest.raises(ValueError, match=r"must be numbers or \[4\], got \[\] and \[3\]"):
        load_policy(run, action_bounds=(-1.0, np.ones(3)))


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"proprio": np.zeros(4)}, r"lacks 'state'; it has \['proprio'\]"),
        ({"state": np.zeros(38)}, r"'state' has shape \[38\], the run's has \[39\]"),
        ({"state": np.full(39, np.nan)}, "'state' must be finite numbers"),
        ({"state": np.array(["x"] * 39)}, "'state' must be finite numbers"),
    ],
)
def test_refuses_other_observations(tmp_path, observation, message):
    policy = load_policy(write_untrained_run(tmp_path / "run"))
    with pytest.raises(ValueError, match=message):
        policy.act(observation)
    assert policy.act({"state": np.zeros(39)}).shape == (4,)


def test_refuses_other_images(tmp_path):
    pixels = ("experiment=small_pixels", "task=metaworld/box-close")
    policy = load_policy(write_untrained_run(tmp_path / "run", *pixels))
    shapes = policy.observation_shapes
    observation = {key: np.zeros(shape) for key, shape in shapes.items()}
    with pytest.raises(ValueError, match="'corner2_image' is float64, the run's is uint8"):
        policy.act(observation)
    size = shapes["corner2_image"][-1]
    observation["corner2_image"] = np.zeros((size, size, 3), np.uint8)
    with pytest.raises(ValueError, match="channels first"):
        policy.act(observation)


def test_needs_no_simulator(tmp_path):
    run = write_untrained_run(tmp_path / "run")
    code = (
        "import sys; sys.modules |= {'metaworld': None, 'mujoco': None}; "  # not installed
        "import numpy, ibrl_torchrl; "
        f"ibrl_torchrl.load_policy({str(run)!r}).act({{'state': numpy.zeros(39)}}); "
        "print('hydra' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("command", "size"), [("bc", 4), ("dagger", 1)])
def test_folders_of_imitation_alone(tmp_path, command, size):
    chunk = f"imitation.bc.chunk.size={size}"
    run = write_untrained_run(tmp_path / "run", chunk)
    expected = load_policy(run, "bc").act({"state": np.zeros(39)})
    config = composed(command, ["task=metaworld/box-close", chunk, f"run_dir={run}"])
    (run / CONFIG).write_text(OmegaConf.to_yaml(config, resolve=True))
    (run / CHECKPOINT).unlink()
    policy = load_policy(run)
    np.testing.assert_array_equal(policy.act({"state": np.zeros(39)}), expected)
    assert policy.decision.proposal == "bc" and str(policy.decision) == "bc, the only proposal"
    with pytest.raises(UsageError, match="unknown policy 'hybrid'; known are bc"):
        load_policy(run, "hybrid")


def test_a_run_without_spaces_builds_its_simulator(tmp_path, capsys):
    run = write_untrained_run(tmp_path / "run")
    expected = load_policy(run).act({"state": np.zeros(39)})
    assert capsys.readouterr().out == ""
    (run / SPACES).unlink()
    action = load_policy(run).act({"state": np.zeros(39)})
    np.testing.assert_array_equal(action, expected)
    assert "has no spaces.json (an earlier version); building metaworld/box-close" in (
        capsys.readouterr().out
    )


def test_refuses_damaged_folders(tmp_path):
    run = write_untrained_run(tmp_path / "run")
    spaces = json.loads((run / SPACES).read_text())
    infinite = {"low": [-math.inf], "high": [math.inf]}
    unbounded = json.dumps(spaces | {"action": infinite, "native_action": infinite})
    endless = json.dumps(spaces | {"state_parts": {"a": math.inf}})
    for content in ("", "[]", '{"action": {"low": [1], "high": [0]}}', unbounded, endless):
        (run / SPACES).write_text(content)
        with pytest.raises(UsageError, match=r"spaces\.json: is damaged; restore it, or remove"):
            load_policy(run)
    (run / SPACES).unlink()
    (run / CHECKPOINT).write_bytes(b"pickle")
    with pytest.raises(UsageError, match=r"checkpoint\.pt: not a checkpoint of this program"):
        load_policy(run)
    (run / CONFIG).unlink()
    with pytest.raises(UsageError, match="not a run folder"):
        load_policy(run)


def test_leaves_the_random_state_unchanged(tmp_path):
    run = write_untrained_run(tmp_path / "run")
    before = torch.get_rng_state()
    load_policy(run).act({"state": np.zeros(39)})
    assert torch.equal(torch.get_rng_state(), before)
