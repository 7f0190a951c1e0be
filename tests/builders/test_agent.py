"""Agents from settings: policies that act and are evaluated, shared tensors, replay."""

from dataclasses import replace

import pytest
import torch
from support.parts import Countdown
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.imitation import policy_module
from ibrl_torchrl.builders.replay import build_replay, replay_bytes
from ibrl_torchrl.config.algo import (
    ActingChoiceConfig,
    AlgoConfig,
    ChoiceConfig,
    LossConfig,
    ProposalsConfig,
    UpdateConfig,
    WarmupConfig,
)
from ibrl_torchrl.config.networks import CriticConfig, NetworkConfig
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.modules import ExecuteProposal, FrozenPolicy, IBRLSelector, Normalize, StateActor
from ibrl_torchrl.training.learner import Learner

CPU = torch.device("cpu")
GAMMA = 0.8
REPLAY = ReplayConfig(capacity=100, batch_size=8, n_steps=3)


def settings(
    acting=("rl", "bc"), bootstrap=("rl", "bc"), *, acting_critic="online", policy_noise=0.2
):
    return AlgoConfig(
        actor=NetworkConfig(hidden=[8], dropout=0.5),
        critic=CriticConfig(hidden=[8], num_critics=3),
        exploration_noise=0.5,
        loss=LossConfig(
            gamma=GAMMA, policy_noise=policy_noise, noise_clip=0.4, noisy_actor_loss=False
        ),
        proposals=ProposalsConfig(
            acting=ActingChoiceConfig(policies=[*acting], select="greedy", reduction="min"),
            bootstrap=ChoiceConfig(policies=[*bootstrap], select="soft", reduction="mean"),
            acting_critic=acting_critic,
            beta=5.0,
            epsilon=0.1,
            num_min=2,
        ),
        update=UpdateConfig(lr=0.1, tau=0.25, frames_per_round=1, critic_updates=1),
        warmup=WarmupConfig(policy="bc", episodes=1),
    )


def agent(*args, **kwargs):
    return agent_of(settings(*args, **kwargs))


def agent_of(algo):
    scale = Normalize.identity(2)
    bc = FrozenPolicy(policy_module(StateActor(scale, 1, hidden=[8]), None, "bc"))
    return build_agent(algo, {"bc": bc}, {"state": scale}, Countdown(3), CPU)


def selector_of(policy):
    (selector,) = [m for m in policy.modules() if isinstance(m, (IBRLSelector, ExecuteProposal))]
    return selector


def test_agent_settings_reach_loss_and_policies():
    built = agent()
    acting = selector_of(built.explore)
    bootstrap = built.loss.value_estimator
    assert (bootstrap.choice.mode, acting.choice.mode) == ("soft", "greedy")
    for part in (bootstrap, acting):
        assert (part.choice.beta, part.choice.epsilon) == (5.0, 0.1)
    assert (built.loss.num_min, acting.num_min) == (2, 2)
    assert (built.loss.target_reduction, acting.reduction) == ("mean", "min")
    assert (built.loss.policy_noise, built.loss.noise_clip) == (0.2, 0.4)
    assert bootstrap.estimator.gamma.item() == pytest.approx(GAMMA)
    (noise,) = [m for m in built.explore.modules() if type(m).__name__ == "AdditiveGaussianModule"]
    assert noise.sigma.item() == 0.5


def test_agent_without_imitation_proposal_in_either_choice():
    neither = agent(acting=["rl"], bootstrap=["rl"])
    assert isinstance(selector_of(neither.explore), ExecuteProposal)
    assert neither.loss.action_keys == ["rl_action"]
    bootstrap_only = agent(acting=["rl"])
    assert isinstance(selector_of(bootstrap_only.explore), ExecuteProposal)
    assert bootstrap_only.loss.action_keys == ["rl_action", "bc_action"]
    acting_only = agent(bootstrap=["rl"])
    assert selector_of(acting_only.explore).proposals == ["rl_action", "bc_action"]
    assert acting_only.loss.action_keys == ["rl_action"]


def test_values_scale_the_noise_of_an_rl_actor_that_acts_alone():
    algo = replace(settings(acting=["rl"]), exploration_value_power=2.0)
    built = agent_of(algo)
    assert selector_of(built.explore).proposals == ["rl_action"]
    with set_exploration_type(ExplorationType.RANDOM):
        td = built.explore(TensorDict(state=torch.zeros(2)))
    assert (td["proposal"].item(), td["chosen_value"].shape) == (0, (1,))
    assert built.policies["hybrid"] is built.policies["rl"]


def test_a_trusted_actor_acts_where_critics_disagree():
    algo = settings()
    algo.proposals.acting.gate, algo.proposals.acting.trusted = "agreement", ["rl"]
    hybrid = agent_of(algo).policies["hybrid"]
    selector = selector_of(hybrid)
    critics = torch.tensor([[[0.2, 0.2, 0.2], [0.9, 0.9, 0.1]], [[0.2] * 3, [0.3] * 3]])
    selector.critic.evaluate = lambda td, actions, members=None: critics[int(td["state"][0])]
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        chosen = [hybrid(TensorDict(state=torch.full((2,), x)))["proposal"].item() for x in (0, 1)]
    # Two of three critics prefer imitation in the first state, all of them in the second.
    assert chosen == [0, 1]


def test_agent_dropout_is_off_in_policies_and_on_in_loss():
    built = agent()
    for policy in (built.explore, built.scored, *built.policies.values()):
        assert not any(m.training for m in policy.modules() if isinstance(m, torch.nn.Dropout))
    assert built.loss.actor_network.training
    assert any(isinstance(m, torch.nn.Dropout) for m in built.loss.actor_network.modules())


def test_agent_only_explore_is_noisy_and_policies_execute_their_proposals():
    built = agent()
    state = TensorDict(state=torch.tensor([1.0, 2.0]))
    with torch.no_grad():
        outputs = {name: policy(state.clone()) for name, policy in built.policies.items()}
        explored = [built.explore(state.clone())["rl_action"] for _ in range(2)]
    assert outputs["rl"]["action"] == outputs["hybrid"]["rl_action"]
    assert outputs["bc"]["action"] == outputs["hybrid"]["bc_action"]
    assert (outputs["rl"]["proposal"], outputs["bc"]["proposal"]) == (0, 1)
    assert explored[0] != explored[1]


@pytest.mark.parametrize("scorer", ["online", "target"])
def test_agent_acting_critic_values_the_chosen_action(scorer, tmp_path):
    torch.manual_seed(0)
    built = agent(acting_critic=scorer, policy_noise=0.0)
    loss = built.loss
    replay = build_replay(REPLAY, loss.in_keys, GAMMA, [Countdown(9).rollout(9)], tmp_path)
    learner = Learner(loss, loss.terms(), lr=0.1, tau=0.25, critic_updates=1)
    for _ in range(3):
        learner.round(replay, CPU)

    state = TensorDict(state=torch.tensor([1.0, 2.0]))
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        chosen = built.policies["hybrid"](state)
        values = {}
        for name, prefix in (("online", ""), ("target", "target_")):
            params = getattr(loss, f"{prefix}qvalue_network_params")
            with params.to_module(loss.qvalue_network):
                values[name] = loss.qvalue_network(chosen.clone())["state_action_value"].min()
    assert values["online"] != values["target"]
    assert chosen["chosen_value"].item() == pytest.approx(values[scorer].item())


def test_replay_holds_demonstrations_after_construction(tmp_path):
    demos = [Countdown(4).rollout(4), Countdown(6).rollout(6)]
    batch_keys = agent().loss.in_keys
    replay = build_replay(REPLAY, batch_keys, GAMMA, demos, tmp_path)
    assert len(replay) == 10
    empty = build_replay(REPLAY, batch_keys, GAMMA, demos, tmp_path, demos_in_replay=False)
    assert len(empty) == 0
    empty.extend(demos[0])
    assert len(empty) == 4 and (empty[:]["action"] == replay[:4]["action"]).all()
    mixed_config = replace(REPLAY, offline_fraction=0.5)
    mixed = build_replay(mixed_config, batch_keys, GAMMA, demos, tmp_path)
    assert (len(mixed.demos), len(mixed.online)) == (10, 0)
    annealed = replace(mixed_config, offline_fraction_final=0.1, offline_fraction_frames=8)
    annealing = build_replay(annealed, batch_keys, GAMMA, demos, tmp_path / "annealed")
    annealing.extend(demos[0])
    assert annealing.offline_fraction == pytest.approx(0.3)  # after 4 of 8 frames
    mapped_config = replace(REPLAY, storage="memmap")
    mapped = build_replay(mapped_config, batch_keys, GAMMA, demos, tmp_path)
    assert len(mapped) == 10 and [*tmp_path.rglob("*.memmap")]


def test_bytes_count_every_buffer_that_successes_fill():
    once = replay_bytes(REPLAY, Countdown(3), ["state"])
    kept = replace(REPLAY, offline_fraction=0.5, keep_successes=True)
    assert replay_bytes(kept, Countdown(3), ["state"]) == 2 * once > 0
    imitated = replace(kept, imitate_successes=True)
    assert replay_bytes(imitated, Countdown(3), ["state"]) == 3 * once
