"""Exploration actor: where it proposes, and what trains it.

Networks have known values: the RL actor's action is -0.5 everywhere, the imitation policy's 0.5,
the exploration actor's 0.75, and every critic values an action at its first number.
"""

import pytest
import torch
from support.known_networks import (
    constant_policy,
    dropout_probabilities,
    layer_tensors,
    set_known_networks,
)
from support.parts import transitions
from tensordict.nn import TensorDictModule
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import CriticEnsemble, Normalize, StateActor, StateCriticEnsemble
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.learner import build_learner
from ibrl_torchrl.training.loop import Counters
from ibrl_torchrl.training.reinforcement import schedule_learning

RL, BC, EXPLORATION, GAMMA = -0.5, 0.5, 0.75, 0.99
TINY = ["algo.actor.hidden=[1]", "algo.critic.hidden=[1]", "algo.critic.layer_norm=false"]
WITHOUT_NOISE = ["algo.loss.policy_noise=0", "algo.exploration_noise=0"]
IN_TARGET = ["algo.exploration_bootstrap=true", "algo.fallback.policy=bc"]
RANDOM, DETERMINISTIC = ExplorationType.RANDOM, ExplorationType.DETERMINISTIC


class Specs:
    """Specs of an environment, without its dynamics."""

    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(state=Unbounded(2))


def settings(algo, *overrides):
    given = [f"algo={algo}", "algo.exploration_actor=true", "imitation.bc.network.hidden=[1]"]
    return parse(TrainConfig, composed("train", [*given, *TINY, *WITHOUT_NOISE, *overrides]))


def agent(algo, *overrides, exploration_action=EXPLORATION):
    policies = {"bc": constant_policy("bc", BC, 4)}
    config = settings(algo, *overrides).algo
    built = build_agent(
        config, policies, {"state": Normalize.identity(2)}, Specs(), torch.device("cpu")
    )
    return set_known_networks(built, RL, exploration_action)


def batch(size=8):
    td = transitions(size, action_size=4)
    return td.set("demo", transitions(size, action_size=4, action=0.0))


@torch.no_grad()
def act(policy, exploration_type):
    """First number of the executed action and its proposal's index, of one state."""
    torch.manual_seed(0)
    with set_exploration_type(exploration_type):
        td = policy(transitions(1, action_size=4)[0])
    return round(td["action"][0].item(), 4), td["proposal"].item()


def test_it_acts_while_exploring_and_nowhere_else():
    built = agent("ibrl")
    assert built.proposals == ("rl", "bc", "exploration")
    assert act(built.explore, RANDOM) == (EXPLORATION, 2)
    assert act(built.explore, DETERMINISTIC) == (BC, 1)
    for name, expected in {"hybrid": (BC, 1), "rl": (RL, 0), "bc": (BC, 1)}.items():
        assert act(built.policies[name], DETERMINISTIC) == expected
        assert act(built.policies[name], RANDOM) == expected


def test_it_acts_only_where_critics_prefer_it():
    assert act(agent("ibrl", exploration_action=0.25).explore, RANDOM) == (BC, 1)


def test_it_acts_once_the_fallback_does_not():
    built = agent("ibrl_plus")
    assert act(built.explore, RANDOM) == (BC, 1)
    built.fallback.test.is_passed.fill_(True)
    assert act(built.explore, RANDOM) == (EXPLORATION, 2)
    assert act(built.explore, DETERMINISTIC) == (BC, 1)


def test_a_gate_does_not_trust_it():
    """One critic that does not prefer it is enough."""
    for trusted in ("null", "[rl]"):
        built = agent(
            "ibrl",
            "algo.proposals.acting.gate=agreement",
            f"algo.proposals.acting.trusted={trusted}",
        )
        assert act(built.explore, RANDOM) == (EXPLORATION, 2)
        with torch.no_grad():
            for value in built.loss.qvalue_network_params.values(True, True):
                value[0].neg_()  # the first critic prefers low actions
        assert act(built.explore, RANDOM)[1] != 2


def test_the_target_does_without_it():
    built = agent("ibrl")
    assert built.target_proposals == ("rl", "bc")
    _, info = built.loss.qvalue_loss(batch())
    assert info["next_proposal"].tolist() == [1] * 8
    assert info["target_value"].flatten().tolist() == pytest.approx([GAMMA * BC] * 8)


def chosen_in_target(built):
    """Index of the target's choice and the target value, of the first transition."""
    _, info = built.loss.qvalue_loss(batch())
    return info["next_proposal"][0].item(), info["target_value"][0].item()


@pytest.mark.parametrize("gate", ["none", "agreement"])
def test_the_target_chooses_it_once_it_may(gate):
    built = agent("ibrl", *IN_TARGET, f"algo.proposals.bootstrap.gate={gate}")
    assert built.target_proposals == ("rl", "bc", "exploration")
    assert chosen_in_target(built) == (1, pytest.approx(GAMMA * BC))
    built.loss.set_exploration_bootstrap(True)
    assert chosen_in_target(built) == (2, pytest.approx(GAMMA * EXPLORATION))
    with torch.no_grad():
        for value in built.loss.target_qvalue_network_params.values(True, True):
            value[0].neg_()  # the first critic prefers low actions
    if gate == "agreement":  # does not trust it
        assert chosen_in_target(built)[0] != 2


def test_the_target_waits_for_its_successes_and_the_fallback():
    overrides = ["algo.exploration_bootstrap=true", "algo.fallback.episodes=4"]
    algo, built = settings("ibrl_plus", *overrides).algo, agent("ibrl_plus", *overrides)
    built.fallback.test.require(0.5)
    outcomes = {"few": [1, 1, 1], "half": [0, 0, 0, 1, 1], "less": [1, 1, 0, 0, 0, 1]}
    chosen = {}
    for is_passed in (False, True):
        built.fallback.test.is_passed.fill_(is_passed)
        for name, each in outcomes.items():
            successes = [bool(success) for success in each]
            schedule_learning(built, algo, Counters(exploration_successes=successes))
            chosen[is_passed, name] = chosen_in_target(built)[0]
    assert [name for (_, name), index in chosen.items() if index == 2] == ["half"]
    assert chosen[True, "half"] == 2


def test_its_target_follows_it():
    built = agent("ibrl", *IN_TARGET)
    built.loss.set_exploration_bootstrap(True)
    learner = build_learner(built, settings("ibrl").algo.update, None)
    with torch.no_grad():
        built.terms["loss_exploration"].parameters[-1].fill_(-10.0)
    learner.update("loss_exploration", batch())
    assert chosen_in_target(built)[1] < GAMMA * EXPLORATION


def test_diagnosis_scores_it():
    with torch.no_grad(), set_exploration_type(DETERMINISTIC):
        td = agent("ibrl").scored(transitions(3, action_size=4))
    assert td["proposal_values"].tolist() == [pytest.approx([RL, BC, EXPLORATION])] * 3


def test_critics_alone_train_it():
    """The output's biases through tanh, whose slope at b is 1 - tanh(b)^2, and nothing else."""
    built = agent("ibrl_plus", "algo.actor.dropout=0")
    assert [*built.terms] == ["loss_qvalue", "loss_actor", "loss_exploration"]
    losses = {name: term.loss(batch())[0] for name, term in built.terms.items()}
    cloning = 0.5 * 4 * RL**2  # the demonstrated action is 0
    assert losses["loss_actor"].item() == pytest.approx(-RL + cloning)
    assert losses["loss_exploration"].item() == pytest.approx(-EXPLORATION)
    losses["loss_exploration"].backward()
    trained = built.terms["loss_exploration"].parameters
    assert trained[-1].grad.tolist() == pytest.approx([-(1 - EXPLORATION**2), 0, 0, 0])
    others = {*built.loss.parameters()} - {*trained}
    assert others and all(each.grad is None for each in others)


def test_acting_follows_the_loss():
    built = agent("ibrl")
    with torch.no_grad():
        built.terms["loss_exploration"].parameters[-1].fill_(10.0)
    assert act(built.explore, RANDOM) == (1.0, 2)


def test_it_has_its_own_random_weights_and_the_actors_dropout():
    built = agent("ibrl_plus", "algo.actor.dropout=0.25")
    loss = built.loss
    assert dropout_probabilities(loss.exploration_network) == [0.25]
    weights = loss.actor_network_params, loss.exploration_network_params
    assert not torch.allclose(*(layer_tensors(params)[0] for params in weights))


def actor(key, inputs=("state",)):
    network = StateActor(Normalize.identity(2), 4, hidden=[1])
    return TensorDictModule(network, [*inputs], [key])


def critics():
    network = StateCriticEnsemble(Normalize.identity(2), 4, hidden=[1])
    return CriticEnsemble(network, ["state", "action"])


def test_it_writes_a_key_of_its_own():
    with pytest.raises(ValueError, match="actor and proposals must write distinct keys"):
        IBRLTD3Loss(actor("rl_action"), critics(), exploration_network=actor("rl_action"))


def test_it_may_read_other_keys_than_the_actor():
    second = actor("exploration_action", ["goal"])
    loss = IBRLTD3Loss(actor("rl_action"), critics(), exploration_network=second)
    assert {"goal", ("next", "goal")} <= {*loss.in_keys}
    loss.set_exploration_bootstrap(True)
    td = batch().set("goal", torch.zeros(8, 2)).set(("next", "goal"), torch.zeros(8, 2))
    assert {*loss(td).keys()} >= {"loss_qvalue", "loss_actor", "loss_exploration"}


def test_terms_and_forward_are_the_same_numbers():
    loss, td = agent("ibrl_plus", "algo.actor.dropout=0").loss, batch()
    output, terms = loss(td.copy()), loss.terms()
    assert {*loss.metrics} >= {*terms} and {*terms} <= {*output.keys()}
    for name, term in terms.items():
        assert output[name].item() == pytest.approx(term.loss(td.copy())[0].item())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo=ibrl_sac"], "algo.exploration_actor=True must be false with algo.loss.algorithm"),
        (["+imitation.exploration={}"], "an identifier other than rl, exploration, hybrid"),
        (
            ["algo.exploration_actor=false", *IN_TARGET],
            "exploration_bootstrap=True must be false unless algo.exploration_actor and algo.fallb",
        ),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        settings("ibrl", *overrides)
