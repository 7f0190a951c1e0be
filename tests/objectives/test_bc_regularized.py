"""BCRegularizedTD3Loss against analytic values."""

import pytest
import torch
from support.parts import Constant, actor, critics, networks, proposal, transitions
from tensordict.nn import TensorDictModule

from ibrl_torchrl.modules import CriticEnsemble, FrozenPolicy
from ibrl_torchrl.objectives import BCRegularizedTD3Loss, IBRLTD3Loss


class StateTimesAction(torch.nn.Module):
    """Q_i(s, a) = weight_i * s_0 * a: the sign of the state determines the better action."""

    def __init__(self, *weights):
        super().__init__()
        self.num_critics = len(weights)
        self.weight = torch.nn.Parameter(torch.tensor(weights))

    def forward(self, state, action, members=None):
        return state[..., :1] * action * self.weight


def make_loss(network=None, critic=None, **settings):
    network, critic = network or actor(0.5), critic or critics([1.0, 2.0])
    return BCRegularizedTD3Loss(network, critic, **settings).make_value_estimator(gamma=0.9)


def make_batch(demo_action=-0.5, size=4):
    td = transitions(size)
    return td.set("demo", transitions(size, action=demo_action))


def test_actor_loss_equals_analytic_value():
    # min Q = 0.5; ||-0.5 - 0.5||^2 = 1; alpha 0.3.
    value, info = make_loss(bc_weight=0.3).actor_loss(make_batch())
    assert value.item() == pytest.approx(-0.5 + 0.3)
    assert info["bc_loss"].item() == pytest.approx(1.0)
    assert info["q_filter_rate"].item() == 1.0


def test_bc_loss_sums_over_action_dimensions():
    network = TensorDictModule(ThreeZeros(), ["state"], ["rl_action"])
    critic = CriticEnsemble(ZeroCritics(), ["state", "action"])
    td = transitions(4, action_size=3)
    td.set("demo", transitions(4, action_size=3, action=0.5))
    value, info = make_loss(network, critic, bc_weight=2.0).actor_loss(td)
    assert info["bc_loss"].item() == pytest.approx(3 * 0.25)
    assert value.item() == pytest.approx(1.5)


class ThreeZeros(torch.nn.Module):
    """Policy with a three-dimensional action of zeros."""

    def __init__(self):
        super().__init__()
        self.action = torch.nn.Parameter(torch.zeros(3))

    def forward(self, state):
        return self.action.expand(*state.shape[:-1], 3)


class ZeroCritics(torch.nn.Module):
    """Two critics whose values are 0."""

    num_critics = 2

    def __init__(self):
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(2))

    def forward(self, state, action, members=None):
        return (0 * action.sum(-1, keepdim=True)) + self.value


def test_actor_gradient_equals_analytic_value():
    # d/da (-min(1 a, 2 a) + alpha (a + 0.5)^2) at 0.5 = -1 + 2 alpha.
    module = make_loss(bc_weight=0.25)
    value, _ = module.actor_loss(make_batch())
    value.backward()
    (gradient,) = [p.grad for p in module.actor_network_params.parameters()]
    assert gradient.item() == pytest.approx(-1 + 0.5)


@pytest.mark.parametrize(
    ("reference_action", "rate"),
    [(0.9, 0.75), (0.5, 0.0), (-0.9, 0.25)],  # where s_0 > 0 the larger action; ties do not count
)
def test_q_filter_rate_is_the_fraction_of_states_where_the_reference_is_better(
    reference_action, rate
):
    critic = CriticEnsemble(StateTimesAction(1.0, 1.0), ["state", "action"])
    module = make_loss(critic=critic, bc_weight=0.3, reference=proposal(reference_action))
    td = make_batch()
    td["state"] = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.5, 0.0], [-1.0, 0.0]])
    value, info = module.actor_loss(td)
    assert info["q_filter_rate"].item() == rate
    actor_value = (td["state"][:, 0] * 0.5).mean().item()
    assert value.item() == pytest.approx(-actor_value + 0.3 * rate)


def test_q_filter_takes_effect_by_its_weight():
    critic = CriticEnsemble(StateTimesAction(1.0, 1.0), ["state", "action"])
    module = make_loss(critic=critic, reference=proposal(0.4))
    td = make_batch()
    td["state"] = torch.ones(4, 2)  # the actor's 0.5 has the higher value
    rates = [module.actor_loss(td)[1]["q_filter_rate"].item()]
    for weight in (0, 0.25, 1):
        module.set_q_filter(weight)
        rates.append(module.actor_loss(td)[1]["q_filter_rate"].item())
    assert rates == [0.0, 1.0, 0.75, 0.0]
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        module.set_q_filter(1.5)


class TwoActions(torch.nn.Module):
    """Policy with the candidates 0.2 and 0.6."""

    def __init__(self):
        super().__init__()
        self.actions = torch.nn.Parameter(torch.tensor([[0.2], [0.6]]))

    def forward(self, state):
        return self.actions.expand(*state.shape[:-1], 2, 1)


def test_q_filter_compares_with_each_of_the_actors_candidates():
    critic = CriticEnsemble(StateTimesAction(1.0, 1.0), ["state", "action"])
    network = TensorDictModule(TwoActions(), ["state"], ["rl_action"])
    module = make_loss(network, critic, reference=proposal(0.4))
    td = make_batch()
    td["state"] = torch.ones(4, 2)
    assert module.actor_loss(td)[1]["q_filter_rate"].item() == 0.5


def test_q_filter_compares_minima_over_all_critics():
    # At s_0 = 1: min(2 * 0.9, -0.9) = -0.9 against min(2 * 0.5, -0.5) = -0.5.
    critic = CriticEnsemble(StateTimesAction(2.0, -1.0), ["state", "action"])
    module = make_loss(critic=critic, reference=proposal(0.9))
    td = make_batch()
    td["state"] = torch.ones(4, 2)
    assert module.actor_loss(td)[1]["q_filter_rate"].item() == 0.0


def test_q_filter_compares_without_noise_and_dropout():
    network, critic, reference = networks(dropout=0.5)
    module = make_loss(
        network, critic, reference=reference, policy_noise=1.0, noisy_actor_loss=True
    )
    td = transitions(64, state_size=6, action_size=2)
    td.set("demo", transitions(64, state_size=6, action_size=2))
    rates = {module.actor_loss(td.clone())[1]["q_filter_rate"].item() for _ in range(5)}
    values = {module.actor_loss(td.clone())[0].item() for _ in range(5)}
    assert len(rates) == 1 and len(values) == 5


def test_actor_loss_has_gradients_for_the_actor_only():
    network, critic, reference = networks()
    module = make_loss(network, critic, reference=reference)
    td = transitions(8, state_size=6, action_size=2)
    td.set("demo", transitions(8, state_size=6, action_size=2))
    module.actor_loss(td)[0].backward()
    trained = [p for p in module.actor_network_params.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None for p in trained)
    assert all(p.grad is None for p in module.qvalue_network_params.parameters())
    assert all(p.grad is None for p in reference.parameters())


def test_bc_term_has_a_gradient_where_critics_are_constant():
    critic = critics([0.0, 0.0])
    module = make_loss(critic=critic, bc_weight=1.0)
    module.actor_loss(make_batch(demo_action=0.5))[0].backward()
    (parameter,) = module.actor_network_params.parameters()
    assert parameter.grad.item() == 0.0
    module.actor_loss(make_batch(demo_action=1.0))[0].backward()
    assert parameter.grad.item() == pytest.approx(-1.0)


def test_qvalue_loss_equals_that_of_ibrl_td3():
    td = make_batch()
    settings = {"policy_noise": 0.0}
    value, _ = make_loss(**settings).qvalue_loss(td.clone())
    ibrl = IBRLTD3Loss(actor(0.5), critics([1.0, 2.0]), **settings)
    expected, _ = ibrl.make_value_estimator(gamma=0.9).qvalue_loss(td.clone())
    assert value.item() == expected.item()


def test_forward_writes_all_out_keys():
    module = make_loss()
    out = module(make_batch())
    assert set(out.keys()) == set(module.out_keys)
    assert {"bc_loss", "q_filter_rate"} <= set(module.out_keys)


def test_metrics_follow_those_of_ibrl_td3():
    ibrl = IBRLTD3Loss(actor(0.5), critics([1.0, 2.0]))
    assert make_loss().metrics == [*ibrl.metrics, "bc_loss", "q_filter_rate"]


def test_in_keys_include_demonstrations_and_the_reference_inputs():
    policy = TensorDictModule(Constant(0.1), ["privileged"], ["bc_action"])
    module = make_loss(reference=FrozenPolicy(policy))
    assert {("demo", "state"), ("demo", "action"), "privileged"} <= {*module.in_keys}


def test_reference_is_frozen_and_saved_with_the_loss():
    module = make_loss(reference=proposal(0.3))
    assert not any(p.requires_grad for p in module.reference.parameters())
    assert any(name.startswith("reference.") for name in module.state_dict())


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_non_positive_bc_weight_raises(weight):
    with pytest.raises(ValueError, match=f"bc_weight={weight} must be above 0"):
        make_loss(bc_weight=weight)
