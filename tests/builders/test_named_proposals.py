"""Agents with two imitation policies: indices, candidates, warm-up, values, initialisation.

Actions have one number and critics value it as it is, so that the largest proposal is chosen:
rl proposes -0.5, bc 0.2 and other 0.8.
"""

import pytest
import torch
from support.known_networks import constant_policy, set_known_networks
from support.parts import Countdown, transitions
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.imitation import policy_module
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import (
    CachedProposal,
    ExecuteProposal,
    FrozenPolicy,
    IBRLSelector,
    Normalize,
    StateActor,
)
from ibrl_torchrl.training.learner import Learner

CPU = torch.device("cpu")
ACTIONS = {"rl": -0.5, "bc": 0.2, "other": 0.8}


def config(acting="rl,bc,other", bootstrap="rl,bc,other", *overrides):
    return parse(
        TrainConfig,
        composed(
            "train",
            [
                "algo=ibrl",
                "+imitation.other={network: {hidden: [1]}}",
                *("imitation.bc.network.hidden=[1]", "algo.actor.hidden=[1]"),
                *("algo.critic.hidden=[1]", "algo.critic.layer_norm=false"),
                *("algo.loss.policy_noise=0", "algo.exploration_noise=0", "replay.batch_size=8"),
                f"algo.proposals.acting.policies=[{acting}]",
                f"algo.proposals.bootstrap.policies=[{bootstrap}]",
                *overrides,
            ],
        ),
    )


def build(*args, cached_proposals=False):
    policies = {name: constant_policy(name, ACTIONS[name], 1) for name in ("bc", "other")}
    built = build_agent(
        config(*args).algo,
        policies,
        {"state": Normalize.identity(2)},
        Countdown(3),
        CPU,
        cached_proposals=cached_proposals,
    )
    return set_known_networks(built, ACTIONS["rl"]), policies


@torch.no_grad()
def act(policy):
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        return policy(TensorDict(state=torch.tensor([1.0, 2.0])))


def selectors(policy):
    return [m for m in policy.modules() if isinstance(m, IBRLSelector)]


def test_each_imitation_policy_is_evaluated_and_writes_its_index():
    built, _ = build()
    assert built.proposals == ("rl", "bc", "other")
    assert [*built.policies] == ["hybrid", "rl", "bc", "other"]
    for name, expected in ACTIONS.items():
        output = act(built.policies[name])
        assert output["action"].item() == pytest.approx(expected)
        assert output["proposal"].item() == built.proposals.index(name)
    assert {*built.rollout_policies} == {"hybrid", "rl", "bc", "other", "warmup", "explore"}


def test_choices_may_have_different_candidates():
    built, _ = build("rl,bc,other", "rl,other")
    (acting,) = selectors(built.explore)
    assert acting.proposals == ["rl_action", "bc_action", "other_action"]
    assert built.loss.action_keys == ["rl_action", "other_action"]
    assert built.target_proposals == ("rl", "other")
    hybrid = act(built.policies["hybrid"])
    assert hybrid["action"].item() == pytest.approx(0.8) and hybrid["proposal"].item() == 2

    batch = transitions(8)
    learner = Learner(
        *(built.loss, built.loss.terms()),
        **{"lr": 0.1, "tau": 0.1, "critic_updates": 1, "target_proposals": built.target_proposals},
    )
    metrics = learner.update("loss_qvalue", batch)
    assert metrics["target_value"].item() == pytest.approx(0.99 * 0.8)
    assert metrics["proposal_share/target/rl"] == 0
    assert metrics["proposal_share/target/other"] == 1
    assert "proposal_share/target/bc" not in metrics


def test_best_proposal_is_not_executed_where_it_is_no_candidate():
    built, _ = build("rl,bc", "rl,bc")
    hybrid = act(built.policies["hybrid"])
    assert hybrid["action"].item() == pytest.approx(0.2)
    assert built.proposals[hybrid["proposal"]] == "bc"
    assert "other_action" not in hybrid
    _, info = built.loss.qvalue_loss(transitions(8))
    assert info["target_value"].unique().item() == pytest.approx(0.99 * 0.2)


def test_policies_of_the_acting_choice_are_numbered_first():
    built, _ = build("rl,other", "rl,bc,other")
    assert built.proposals == ("rl", "other", "bc")
    hybrid = act(built.policies["hybrid"])
    assert hybrid["action"].item() == pytest.approx(0.8) and hybrid["proposal"].item() == 1
    assert act(built.policies["bc"])["proposal"].item() == 2
    warmup = act(built.warmup)  # by bc, the default
    assert warmup["action"].item() == pytest.approx(0.2) and warmup["proposal"].item() == 2
    # The target numbers its own candidates.
    _, info = built.loss.qvalue_loss(transitions(8))
    assert built.target_proposals == ("rl", "bc", "other")
    assert info["next_proposal"].unique().tolist() == [2]


@pytest.mark.parametrize("acting", ["rl", "rl,other", "rl,bc,other"])
def test_scored_writes_values_of_all_proposals_in_their_order(acting):
    built, _ = build(acting)
    scored, hybrid = act(built.scored), act(built.policies["hybrid"])
    expected = [ACTIONS[name] for name in built.proposals]
    assert {*built.proposals} == {*ACTIONS}
    assert scored["proposal_values"].tolist() == pytest.approx(expected)
    assert scored["action"] == hybrid["action"] and scored["proposal"] == hybrid["proposal"]
    for name, action in ACTIONS.items():
        assert scored[f"{name}_action"].item() == pytest.approx(action)


def test_warmup_by_the_second_policy():
    built, _ = build("rl,bc,other", "rl,bc,other", "algo.warmup.policy=other")
    assert act(built.warmup)["action"].item() == pytest.approx(0.8)
    assert act(built.warmup)["proposal"].item() == 2


def test_rl_alone_acts_beside_two_imitation_policies():
    built, _ = build("rl", "rl")
    assert built.proposals == ("rl", "bc", "other")
    assert built.policies["hybrid"] is built.policies["rl"]
    assert not selectors(built.explore)
    assert any(isinstance(m, ExecuteProposal) for m in built.explore.modules())
    assert len(built.loss.proposals) == 0


def test_actor_init_copies_the_named_policy_and_q_filter_refers_to_it():
    normalize = Normalize.identity(2)
    torch.manual_seed(0)
    policies = {
        name: FrozenPolicy(policy_module(StateActor(normalize, 1, hidden=[1]), None, name))
        for name in ("bc", "other")
    }
    algo = config(
        *("rl", "rl", "algo.actor_init=other"),
        *("algo.loss.bc_weight=0.1", "algo.loss.q_filter=true"),
    ).algo
    built = build_agent(algo, policies, {"state": normalize}, Countdown(3), CPU)
    output = act(built.policies["rl"])
    assert output["action"] == act(built.policies["other"])["action"]
    assert output["action"] != act(built.policies["bc"])["action"]
    assert built.loss.reference is policies["other"]


def test_replay_caches_the_proposals_of_the_target_alone(tmp_path):
    built, policies = build("rl,bc,other", "rl,other", cached_proposals=True)
    assert [type(policy) for policy in built.loss.proposals] == [CachedProposal]
    replay = build_replay(
        *(config().replay, built.loss.in_keys, 0.99, [Countdown(9).rollout(9)], tmp_path),
        policies=policies.values(),
    )
    batch = replay.sample()
    assert batch["next", "other_action"].unique().item() == pytest.approx(0.8)
    assert ("next", "bc_action") not in batch.keys(True)
    uncached, _ = build("rl,bc,other", "rl,other")
    cached_targets = built.loss.qvalue_loss(batch.clone())[1]["target_value"]
    assert torch.equal(cached_targets, uncached.loss.qvalue_loss(batch)[1]["target_value"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rl,second"], r"algo\.proposals\.acting\.policies 'second'; known are bc, other"),
        (["rl", "rl,second"], r"algo\.proposals\.bootstrap\.policies 'second'"),
        (["bc,rl"], r"algo\.proposals\.acting\.policies=\['bc', 'rl'\] must be distinct names, rl"),
        (["rl,bc,bc"], r"algo\.proposals\.acting\.policies=.* must be distinct names"),
        (["rl", "rl", "algo.warmup.policy=second"], r"algo\.warmup\.policy 'second'"),
        (["rl", "rl", "algo.actor_init=second"], r"algo\.actor_init 'second'"),
        (["rl", "rl", "+imitation.rl={steps: 1}"], "imitation=rl must be an identifier other than"),
        (
            ["rl", "rl", "algo.actor_init=other", "imitation.other.network.hidden=[2]"],
            r"imitation\.other\.network\.hidden=\[2\] must be algo\.actor\.hidden=\[1\]",
        ),
    ],
)
def test_inconsistent_names_are_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        config(*overrides)
