"""What a configuration becomes: which parts act, which are evaluated, which tensors they share."""

from dataclasses import replace

import pytest
import torch
from support.parts import Countdown
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent import bc_policy, build_agent
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.config.algo import AlgoConfig
from ibrl_torchrl.config.networks import CriticConfig, NetworkConfig
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.modules import ExecuteProposal, IBRLSelector, Normalize, StateActor

CPU = torch.device("cpu")
ALGO = AlgoConfig(
    soft=False,
    acting="greedy",
    bootstrap="soft",
    beta=5.0,
    epsilon=0.1,
    num_min=2,
    score_acting_with="online",
    actor=NetworkConfig([8], 0.5),
    critic=CriticConfig([8], 3, True),
    lr=0.1,
    gamma=0.8,
    tau=0.25,
    policy_noise=0.2,
    noise_clip=0.4,
    noisy_actor_loss=False,
    exploration_noise=0.5,
    warmup_episodes=1,
    update_every=1,
    critic_updates=1,
)
REPLAY = ReplayConfig(
    capacity=100,
    batch_size=8,
    storage="memory",
    n_steps=3,
    time_limit_terminates=False,
    prioritized=False,
    alpha=0.6,
    beta=0.4,
    demo_share=None,
    keep_successes=False,
)


def agent(**changes):
    scale = Normalize.identity(2)
    bc = bc_policy(StateActor(scale, 1, hidden=[8]))
    return build_agent(replace(ALGO, **changes), bc, {"state": scale}, Countdown(3), CPU)


def selector_of(policy):
    (found,) = [m for m in policy.modules() if isinstance(m, (IBRLSelector, ExecuteProposal))]
    return found


def test_settings_reach_the_loss_and_the_learner():
    built = agent()
    selector = built.loss.selector
    assert (selector.mode, selector.beta, selector.num_min) == ("soft", 5.0, 2)
    assert (built.loss.policy_noise, built.loss.noise_clip) == (0.2, 0.4)
    assert built.loss.value_estimator.gamma.item() == pytest.approx(0.8)
    assert built.learner.critic_updates == 1
    assert built.learner.actor_optimizer.param_groups[0]["lr"] == 0.1


def test_either_proposal_can_be_left_out():
    neither = agent(acting="rl", bootstrap="rl")
    assert isinstance(selector_of(neither.explore), ExecuteProposal)
    assert neither.loss.selector.proposals == ["rl_action"]
    bootstrap_only = agent(acting="rl")
    assert bootstrap_only.loss.selector.proposals == ["rl_action", "bc_action"]
    acting_only = agent(bootstrap="rl")
    assert selector_of(acting_only.explore).proposals == ["rl_action", "bc_action"]
    assert acting_only.loss.selector.proposals == ["rl_action"]


def test_policies_never_drop_units_and_the_loss_does():
    built = agent()
    for policy in (built.explore, *built.policies.values()):
        assert not any(m.training for m in policy.modules() if isinstance(m, torch.nn.Dropout))
    assert built.loss.actor_network.training


def test_only_the_exploring_policy_is_noisy_and_each_executes_its_own():
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
def test_acting_scores_with_the_critics_that_were_asked_for(scorer, tmp_path):
    torch.manual_seed(0)
    built = agent(score_acting_with=scorer, policy_noise=0.0)
    replay = build_replay(REPLAY, ALGO.gamma, [Countdown(9).rollout(9)], tmp_path, keys=["state"])
    for _ in range(3):
        built.learner.round(replay, CPU)

    state = TensorDict(state=torch.tensor([1.0, 2.0]))
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        chosen = built.policies["hybrid"](state)
        values = {}
        for name, prefix in (("online", ""), ("target", "target_")):
            params = getattr(built.loss, f"{prefix}qvalue_network_params")
            with params.to_module(built.loss.qvalue_network):
                values[name] = built.loss.qvalue_network(chosen.clone())["state_action_value"].min()
    assert values["online"] != values["target"]
    assert chosen["chosen_value"].item() == pytest.approx(values[scorer].item())


def test_demonstrations_are_in_the_replay_from_the_start(tmp_path):
    demos = [Countdown(4).rollout(4), Countdown(6).rollout(6)]
    replay = build_replay(REPLAY, 0.9, demos, tmp_path, keys=["state"])
    assert len(replay) == 10
    shared = build_replay(replace(REPLAY, demo_share=0.5), 0.9, demos, tmp_path, keys=["state"])
    assert (len(shared.demos), len(shared.online)) == (10, 0)
    mapped = build_replay(replace(REPLAY, storage="memmap"), 0.9, demos, tmp_path, keys=["state"])
    assert len(mapped) == 10 and [*tmp_path.rglob("*.memmap")]
