"""The loss of regularised fine-tuning, against numbers worked out by hand."""

import pytest
import torch
from support.parts import Constant, actor, critics, networks, proposal, transitions
from tensordict.nn import TensorDictModule

from ibrl_torchrl.modules import CriticEnsemble
from ibrl_torchrl.objectives import BCRegularizedTD3Loss, IBRLTD3Loss


class StateTimesAction(torch.nn.Module):
    """Q_i(s, a) = weight_i * s_0 * a: the sign of the state says which actions are better."""

    def __init__(self, *weights):
        super().__init__()
        self.num_critics = len(weights)
        self.weight = torch.nn.Parameter(torch.tensor(weights))

    def forward(self, state, action, members=None):
        return state[..., :1] * action * self.weight


def loss(network=None, critic=None, **settings):
    network, critic = network or actor(0.5), critic or critics([1.0, 2.0])
    return BCRegularizedTD3Loss(network, critic, **settings).make_value_estimator(gamma=0.9)


def batch(demo_action=-0.5, size=4):
    td = transitions(size)
    return td.set("demo", transitions(size, action=demo_action))


def test_actor_loss_by_hand():
    # min Q = 0.5; ||-0.5 - 0.5||^2 = 1; alpha 0.3.
    value, info = loss(bc_weight=0.3).actor_loss(batch())
    assert value.item() == pytest.approx(-0.5 + 0.3)
    assert info["bc_loss"].item() == pytest.approx(1.0)
    assert info["bc_share"].item() == 1.0


def test_the_distance_is_summed_over_the_actions_numbers():
    network = TensorDictModule(Wide(), ["state"], ["rl_action"])
    critic = CriticEnsemble(Silent(), ["state", "action"])
    td = transitions(4, action_size=3)
    td.set("demo", transitions(4, action_size=3, action=0.5))
    value, info = loss(network, critic, bc_weight=2.0).actor_loss(td)
    assert info["bc_loss"].item() == pytest.approx(3 * 0.25)
    assert value.item() == pytest.approx(1.5)


class Wide(torch.nn.Module):
    """A policy that proposes three zeros."""

    def __init__(self):
        super().__init__()
        self.action = torch.nn.Parameter(torch.zeros(3))

    def forward(self, state):
        return self.action.expand(*state.shape[:-1], 3)


class Silent(torch.nn.Module):
    """Two critics that value everything at 0."""

    num_critics = 2

    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(2))

    def forward(self, state, action, members=None):
        return (0 * action.sum(-1, keepdim=True)) + self.value


def test_the_gradient_by_hand():
    # d/da (-min(1 a, 2 a) + alpha (a + 0.5)^2) at 0.5 = -1 + 2 alpha.
    module = loss(bc_weight=0.25)
    value, _ = module.actor_loss(batch())
    value.backward()
    (gradient,) = [p.grad for p in module.actor_network_params.parameters()]
    assert gradient.item() == pytest.approx(-1 + 0.5)


@pytest.mark.parametrize(
    ("held", "share"),
    [(0.9, 0.75), (0.5, 0.0), (-0.9, 0.25)],  # the higher action wins where s_0 > 0; a tie is none
)
def test_the_soft_q_filter_counts_states_where_the_reference_scores_higher(held, share):
    critic = CriticEnsemble(StateTimesAction(1.0, 1.0), ["state", "action"])
    module = loss(critic=critic, bc_weight=0.3, reference=proposal(held))
    td = batch()
    td["state"] = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.5, 0.0], [-1.0, 0.0]])
    value, info = module.actor_loss(td)
    assert info["bc_share"].item() == share
    gain = (td["state"][:, 0] * 0.5).mean().item()
    assert value.item() == pytest.approx(-gain + 0.3 * share)


def test_the_filter_scores_by_the_minimum_of_all_critics():
    # At s_0 = 1: min(2 * 0.9, -0.9) = -0.9 against min(2 * 0.5, -0.5) = -0.5.
    critic = CriticEnsemble(StateTimesAction(2.0, -1.0), ["state", "action"])
    module = loss(critic=critic, reference=proposal(0.9))
    td = batch()
    td["state"] = torch.ones(4, 2)
    assert module.actor_loss(td)[1]["bc_share"].item() == 0.0


def test_the_filter_compares_without_noise_and_dropout():
    network, critic, held = networks(dropout=0.5)
    module = loss(network, critic, reference=held, policy_noise=1.0, noisy_actor_loss=True)
    td = transitions(64, state_size=6, action_size=2)
    td.set("demo", transitions(64, state_size=6, action_size=2))
    shares = {module.actor_loss(td.clone())[1]["bc_share"].item() for _ in range(5)}
    values = {module.actor_loss(td.clone())[0].item() for _ in range(5)}
    assert len(shares) == 1 and len(values) == 5


def test_gradients_reach_the_actor_alone():
    network, critic, held = networks()
    module = loss(network, critic, reference=held)
    td = transitions(8, state_size=6, action_size=2)
    td.set("demo", transitions(8, state_size=6, action_size=2))
    module.actor_loss(td)[0].backward()
    assert all(p.grad is not None for p in module.actor_network_params.parameters())
    assert all(p.grad is None for p in module.qvalue_network_params.parameters())
    assert all(p.grad is None for p in held.parameters())


def test_demonstrations_give_gradient_where_the_critics_give_none():
    critic = critics([0.0, 0.0])
    module = loss(critic=critic, bc_weight=1.0)
    module.actor_loss(batch(demo_action=0.5))[0].backward()
    (parameter,) = module.actor_network_params.parameters()
    assert parameter.grad.item() == 0.0
    module.actor_loss(batch(demo_action=1.0))[0].backward()
    assert parameter.grad.item() == pytest.approx(-1.0)


def test_the_critic_loss_is_that_of_td3():
    td = batch()
    settings = {"policy_noise": 0.0}
    own, _ = loss(**settings).qvalue_loss(td.clone())
    plain = IBRLTD3Loss(actor(0.5), critics([1.0, 2.0]), **settings)
    other, _ = plain.make_value_estimator(gamma=0.9).qvalue_loss(td.clone())
    assert own.item() == other.item()


def test_forward_reports_both_terms():
    info = loss()(batch())
    assert {"loss_actor", "loss_qvalue", "bc_loss", "bc_share"} <= {*info.keys()}


def test_what_it_reads_includes_the_demonstrations():
    held = TensorDictModule(Constant(0.1), ["privileged"], ["bc_action"])
    module = loss(reference=type(proposal(0.0))(held))
    assert {("demo", "state"), ("demo", "action"), "privileged"} <= {*module.in_keys}


def test_the_reference_is_not_trained_and_moves_with_the_loss():
    module = loss(reference=proposal(0.3))
    assert not any(p.requires_grad for p in module.reference.parameters())
    assert any(name.startswith("reference.") for name in module.state_dict())


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_weight_without_effect_is_refused(weight):
    with pytest.raises(ValueError, match=f"bc_weight={weight} must be above 0"):
        loss(bc_weight=weight)
