"""Environments that report interventions: keys, bounds, refusals, rollouts and demonstrations."""

import numpy as np
import pytest
import torch
from support.teleoperation import POINT, SPARSE
from tensordict.nn import TensorDictModule
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs import EnvBase
from torchrl.envs.utils import check_env_specs

from ibrl_torchrl.data.demos import load_demos, record_demos, save_demos
from ibrl_torchrl.envs import gym_env, make_env
from ibrl_torchrl.envs.interventions import intervening_action
from ibrl_torchrl.envs.requirements import task_env
from ibrl_torchrl.episodes import observation_keys
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import summarize_episode
from ibrl_torchrl.modules import ChunkExecutor, ExecuteProposal
from ibrl_torchrl.rollouts.episode import rollout_episode


def rollout(env, action=(0.25, -0.5)):
    """Episode of a constant action, proposal 1."""
    act = TensorDictModule(lambda state: torch.tensor(action), ["state"], ["bc_action"])
    return rollout_episode(env, lambda td: ExecuteProposal("bc_action", 1)(act(td)), 3)


@pytest.mark.parametrize(
    "env",
    [make_env("gym", POINT), make_env("gym", SPARSE, interventions=True)],
    ids=["every step", "interventions alone"],
)
def test_episodes_hold_the_executed_action_and_who_acted(env):
    check_env_specs(env)
    episode = rollout(env)
    assert episode["intervention"].flatten().tolist() == [False, True, True, False, False]
    assert episode["proposal"].tolist() == [1, -1, -1, 1, 1]
    # (1, 3) within [-2, 2] and [0, 4] is (0.5, 0.5) within [-1, 1].
    theirs, own = [0.5, 0.5], [0.25, -0.5]
    assert episode["action"].tolist() == [own, theirs, theirs, own, own]
    moved = episode["next", "state"][:, :2] - episode["state"][:, :2]
    executed = torch.tensor([[0.5, 1.0], [1, 3], [1, 3], [0.5, 1], [0.5, 1]])
    assert torch.allclose(moved, executed, atol=1e-5)
    assert observation_keys(episode) == ["state"]
    assert "executed_action" not in episode and "intervention" not in episode["next"]


def test_shares_of_proposals_leave_interventions_out():
    outcome = summarize_episode(3, rollout(make_env("gym", POINT)), ["rl", "bc"])
    assert outcome.proposal_frames == {"rl": 0, "bc": 3} and outcome.frames == 5


def test_reported_actions_are_clipped_to_the_bounds():
    env = make_env("gym", POINT, reported=[9.0, -1.0])
    assert rollout(env)["action"][1].tolist() == [1, -1]


def test_an_environment_that_reports_nothing_has_no_such_keys():
    env = make_env("gym", "support.point_env:PlanePoint-v0")
    assert "intervention" not in env.observation_spec
    assert "intervention" not in rollout(env)


def test_bounds_of_an_environment_alone_are_its_own():
    step = gym_env(POINT, steps=[0]).rollout(1)
    assert step["next", "executed_action"].tolist() == [[1, 3]] and step["next", "intervention"]
    # After a reset, before any step: the middle of the bounds.
    assert step["executed_action"].tolist() == [[0, 2]] and not step["intervention"]


def test_of_repeated_actions_the_last_simulator_step_counts():
    # Simulator steps 0 1 | 2 3 | 4, of which the second and third are somebody else's.
    episode = rollout(make_env("gym", POINT, action_repeat=2))
    assert episode["intervention"].flatten().tolist() == [True, False, False]


def test_a_chunk_ends_where_somebody_else_acted():
    """The policy counts its decisions; the environment takes steps 1 and 2."""
    decisions = []

    def plan(state):
        decisions.append(state)
        return torch.zeros(8)  # 4 actions

    policy = ChunkExecutor(TensorDictModule(plan, ["state"], ["action"]), 4)
    rollout_episode(make_env("gym", POINT), policy, 3)
    assert len(decisions) == 3  # steps 0, 2 and 3, after steps 1 and 2


def test_demonstrations_are_the_executed_actions(tmp_path):
    env = make_env("gym", POINT, steps=[*range(5)])
    still = TensorDictModule(lambda state: torch.tensor([0.0, -1.0]), ["state"], ["action"])
    (episode,) = record_demos(env, still, 1, max_attempts=50, success=lambda step: True)
    assert episode["intervention"].all() and episode["action"].tolist() == [[0.5, 0.5]]
    save_demos(tmp_path / "d.hdf5", [episode], env)
    (loaded,) = load_demos(tmp_path / "d.hdf5").episodes
    assert torch.equal(loaded["action"], episode["action"])
    assert observation_keys(loaded) == ["state"]


def test_unannounced_interventions_are_refused():
    env = make_env("gym", SPARSE)
    with pytest.raises(UsageError, match=r"set task\.kwargs\.interventions=true$"):
        rollout(env)


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ({"is_intervention": True}, "teleop_action=None"),
        ({"is_intervention": True, "teleop_action": [1.0]}, "teleop_action="),
        ({"is_intervention": True, "teleop_action": "left"}, "teleop_action=left"),
        ({"intervene_action": [0.0, np.nan]}, "intervene_action="),
        ({"intervene_action": None}, "intervene_action=None"),
    ],
)
def test_a_report_without_an_action_is_refused(info, name):
    message = f"^the info of a step with an intervention has {name}.*, must be 2 finite numbers; "
    with pytest.raises(UsageError, match=message):
        intervening_action(info, 2)


def test_a_report_of_no_intervention_needs_no_action():
    assert intervening_action({"is_intervention": np.False_}, 2) is None
    assert intervening_action({}, 2) is None


class Reporting(EnvBase):
    """Environment of TorchRL with the given reports; it cannot step."""

    def __init__(self, **reports):
        super().__init__(batch_size=[])
        flag = Bounded(0, 1, shape=(1,), dtype=torch.bool)
        self.observation_spec = Composite(state=Unbounded(2), success=flag, **reports)
        self.action_spec = Bounded(0.0, 1.0, shape=(3,))
        self.reward_spec = Unbounded(1)

    def _set_seed(self, seed):
        pass

    def _reset(self, tensordict=None):
        raise NotImplementedError

    def _step(self, tensordict):
        raise NotImplementedError


FLAG = Bounded(0, 1, shape=(1,), dtype=torch.bool)


def test_executed_actions_of_a_suite_are_mapped_like_its_actions():
    env = task_env(Reporting(intervention=FLAG, executed_action=Bounded(0.0, 1.0, (3,))), "own")
    space = env.observation_spec["executed_action"].space
    assert space.low.tolist() == [-1] * 3 and space.high.tolist() == [1] * 3


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        ({"intervention": FLAG}, r"executed_action has shape None, must be \[3\]"),
        ({"executed_action": Unbounded(3)}, r"intervention has shape None, must be \[1\]"),
        ({"intervention": FLAG, "executed_action": Unbounded(2)}, r"shape \[2\], must be \[3\]"),
    ],
)
def test_a_suite_with_half_a_report_is_refused(reports, message):
    with pytest.raises(UsageError, match=rf"^task\.suite=own: .*{message}; report both "):
        task_env(Reporting(**reports), "own")
