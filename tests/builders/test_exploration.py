"""Exploration noise: its deviation and correlation, and what it leaves alone."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential, WrapModule
from torchrl.data import Bounded
from torchrl.envs import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.exploration import build_noise
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.keys import IS_INIT, RL_ACTION
from ibrl_torchrl.modules import ExecuteProposal

CPU = torch.device("cpu")


def series(correlation, std=0.1, steps=4000, candidates=()):
    """Noise of one episode, float [steps, *candidates, 2]."""
    torch.manual_seed(0)
    noise = build_noise(std, correlation, 0, Bounded(-1.0, 1.0, (2,)), CPU)
    td, found = TensorDict(batch_size=[]), []
    with set_exploration_type(ExplorationType.RANDOM):
        for _ in range(steps):
            found.append(noise(td.set(RL_ACTION, torch.zeros(*candidates, 2)))[RL_ACTION])
    return torch.stack(found)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.85])
def test_deviation_and_correlation_are_those_of_the_settings(correlation):
    values = series(correlation)
    assert values.std(0) == pytest.approx([0.1, 0.1], rel=0.12)
    lagged = (values[1:] * values[:-1]).mean(0) / values.var(0)
    assert lagged == pytest.approx([correlation] * 2, abs=0.04)
    assert abs(torch.corrcoef(values.T)[0, 1]) < 0.15  # dimensions are independent


def test_an_episode_starts_without_the_last_ones_noise():
    assert torch.equal(series(0.85, steps=3), series(0.85, steps=3))
    first = series(0.85, steps=1)[0]
    torch.manual_seed(0)
    torch.testing.assert_close(first, 0.1 * (1 - 0.85**2) ** 0.5 * torch.randn(2))


def test_collectors_zero_its_state_where_an_episode_ends():
    noise = build_noise(0.1, 0.85, 0, Bounded(-1.0, 1.0, (2,)), CPU)
    torch.manual_seed(0)
    with set_exploration_type(ExplorationType.RANDOM):
        td = noise(TensorDict({RL_ACTION: torch.zeros(5, 2)}, batch_size=[5]))
        assert set(td.keys()) == {RL_ACTION, "_ou_prev_noise", "_ou_steps"}
        td["_ou_prev_noise"].fill_(100.0)  # would show
        td["_ou_steps"][2] = 0
        td = noise(td.set(RL_ACTION, torch.zeros(5, 2)))
    assert td["_ou_steps"].tolist() == [2, 2, 1, 2, 2]
    assert (td[RL_ACTION].abs() < 0.5).all(-1).tolist() == [False, False, True, False, False]


def test_an_episode_starts_where_the_environment_says_so():
    noise = build_noise(0.1, 0.85, 0, Bounded(-1.0, 1.0, (2,)), CPU)
    is_init = torch.tensor([[False], [True], [False]])
    with set_exploration_type(ExplorationType.RANDOM):
        td = noise(TensorDict({RL_ACTION: torch.zeros(3, 2)}, batch_size=[3]))
        td = noise(td.update({RL_ACTION: torch.zeros(3, 2), IS_INIT: is_init}))
    assert td["_ou_steps"].tolist() == [2, 1, 2]
    assert torch.equal(td[IS_INIT], is_init)  # the environment's own is left there


@pytest.mark.simulator
def test_a_rollout_carries_the_process_through_an_episode():
    pytest.importorskip("metaworld")
    env = make_env("metaworld", "reach", horizon=6, seed=0)
    still = WrapModule(lambda td: td.set(RL_ACTION, torch.zeros(4)), out_keys=[RL_ACTION])
    noise = build_noise(0.1, 0.85, 0, env.action_spec, CPU)
    policy = TensorDictSequential(still, noise, ExecuteProposal(RL_ACTION, 0))
    for _ in range(2):
        with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
            episode = env.rollout(6, policy)
        assert episode["_ou_steps"].flatten().tolist() == [*range(1, len(episode) + 1)]
        torch.testing.assert_close(episode["action"], episode["_ou_prev_noise"])
        assert IS_INIT not in episode


def test_candidates_have_noise_of_their_own():
    values = series(0.85, candidates=(3,))
    assert values.shape == (4000, 3, 2) and values.std(0).flatten() == pytest.approx(0.1, rel=0.2)
    assert not torch.equal(values[:, 0], values[:, 1])


@pytest.mark.parametrize("correlation", [0.0, 0.85])
def test_actions_stay_in_bounds_and_evaluations_have_no_noise(correlation):
    noise = build_noise(5.0, correlation, 0, Bounded(-1.0, 1.0, (2,)), CPU)
    td = TensorDict({RL_ACTION: torch.zeros(2)}, batch_size=[])
    with set_exploration_type(ExplorationType.RANDOM):
        assert noise(td.copy())[RL_ACTION].abs().max() <= 1
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert torch.equal(noise(td.copy())[RL_ACTION], torch.zeros(2))


def test_a_power_scales_the_noise_by_the_value_of_the_action_before():
    noise = build_noise(0.1, 0.85, 2, Bounded(-1.0, 1.0, (2,)), CPU)
    td = TensorDict(rl_action=torch.zeros(2), chosen_value=torch.full((1,), 0.5))
    with set_exploration_type(ExplorationType.RANDOM):
        scaled = noise(td)
    torch.testing.assert_close(scaled[RL_ACTION], 0.25 * scaled["_ou_prev_noise"])
