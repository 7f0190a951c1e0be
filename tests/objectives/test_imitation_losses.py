"""Losses of imitation policies: numbers worked out by hand, gradients, a toy with two modes."""

import math

import pytest
import torch
import torchrl.modules.models.act
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.objectives import BCLoss, DiffusionBCLoss

from ibrl_torchrl.builders.policies import imitation_loss
from ibrl_torchrl.config.imitation import ACTConfig, ImitationConfig
from ibrl_torchrl.imitation.train import train_imitation
from ibrl_torchrl.modules import (
    ACTPolicy,
    CVAEPolicy,
    DiffusionPolicy,
    FlowPolicy,
    GaussianMixturePolicy,
    Normalize,
    StateActor,
    StateFeatures,
)
from ibrl_torchrl.objectives import CVAELoss, FlowMatchingLoss, LogLikelihoodLoss
from ibrl_torchrl.objectives.imitation import flow_matching_target, standard_normal_kl


def module(policy):
    return TensorDictModule(policy, ["state"], ["action"])


def batch(size=2):
    action = torch.full((size, 2), 0.5)
    return TensorDict(state=torch.zeros(size, 1), action=action, batch_size=[size])


def network(kind, **settings):
    size = {"width": 8} if kind is ACTPolicy else {"hidden": [8]}
    return kind(StateFeatures(Normalize.identity(1)), 2, **{**size, **settings})


def act_loss(policy, kl_weight=0.01):
    config = ImitationConfig(policy="act", act=ACTConfig(kl_weight=kl_weight))
    return imitation_loss(policy, config)


def test_flow_matching_target():
    noise, action = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 1.0])
    point, velocity = flow_matching_target(noise, action, torch.tensor([0.25]))
    assert point.tolist() == [0.75, -0.5]
    assert velocity.tolist() == [-1.0, 2.0]


def test_flow_matching_loss(monkeypatch):
    policy = network(FlowPolicy)
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.tensor([[1.0, 0.0], [0.5, -0.5]]))
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.tensor([[0.5], [0.0]]))
    # v = x_t: points (0.75, 0.25), (0.5, -0.5); targets a - x_0 = (-0.5, 0.5), (0, 1).
    policy.velocity.forward = lambda point, features, time: point
    loss = FlowMatchingLoss(module(policy))(batch())["loss_flow"]
    # Differences (1.25, -0.25), (0.5, -1.5).
    assert loss.item() == pytest.approx((1.5625 + 0.0625 + 0.25 + 2.25) / 4)


def test_standard_normal_kl():
    mean, log_var = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    expected = [0.5 + 0.5 * (math.e - 2), 0.0]
    assert standard_normal_kl(mean, log_var).tolist() == pytest.approx(expected)


def test_cvae_loss(monkeypatch):
    policy = network(CVAEPolicy, latent_size=2)
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.ones_like(x))
    policy.encode = lambda features, action: (
        torch.tensor([[0.25, 0.0]] * 2),
        torch.full((2, 2), math.log(0.25)),
    )
    policy.decode = lambda features, latent: latent
    losses = CVAELoss(module(policy), kl_weight=0.1)(batch())
    # z = mean + 0.5 = (0.75, 0.5); the action is (0.5, 0.5).
    assert losses["loss_reconstruction"].item() == pytest.approx(0.0625 / 2)
    kl = 0.5 * (0.0625 + 2 * (0.25 - 1 - math.log(0.25)))
    assert losses["loss_kl"].item() == pytest.approx(0.1 * kl)
    with pytest.raises(ValueError, match=r"^kl_weight must not be negative, got -1"):
        CVAELoss(module(policy), kl_weight=-1)


def test_mixture_loss_is_the_negative_log_likelihood():
    policy = network(GaussianMixturePolicy, components=1, min_std=0.5)
    for parameter in policy.parameters():
        torch.nn.init.zeros_(parameter)
    # Mean 0, standard deviation softplus(0) + 0.5; the action is (0.5, 0.5).
    std = math.log(2) + 0.5
    nll = 2 * (0.5 * (0.5 / std) ** 2 + math.log(std) + 0.5 * math.log(2 * math.pi))
    actor = policy.probabilistic_actor(["state"])
    passes = []
    policy.mixture.register_forward_hook(lambda *_: passes.append(1))
    loss = LogLikelihoodLoss(actor)(batch())["loss_nll"]
    assert loss.item() == pytest.approx(nll, rel=1e-5) and passes == [1]
    assert loss.item() == BCLoss(actor)(batch())["loss_bc"].item() and len(passes) == 3


def test_act_loss_is_the_absolute_error_of_the_flat_chunk_and_the_kl(monkeypatch):
    monkeypatch.setattr(torchrl.modules.models.act, "_reparameterise", lambda mean, _: mean)
    torch.manual_seed(0)
    policy = network(ACTPolicy, chunk_size=2).eval()
    action = torch.tensor([[0.1, -0.2], [0.3, 0.9], [0.0, 0.5]])
    data = TensorDict(state=torch.randn(3, 1), action=action, batch_size=[3])
    _, mean, log_var = policy.model(data["state"], action.unflatten(-1, (2, 1)))
    error = (policy.decode(data["state"], mean) - action).abs().mean()
    kl = standard_normal_kl(mean, log_var).mean()
    found = act_loss(policy, kl_weight=0.1)(data.clone())
    assert kl.item() > 0.1
    assert [*found.keys()] == ["loss_act"]
    assert found["loss_act"].item() == pytest.approx((error + 0.1 * kl).item(), rel=1e-5)


def losses():
    def diffusion(policy):
        loss = DiffusionBCLoss(policy.actor)
        loss.set_keys(observation="features")
        return lambda data: loss(data.copy().set("features", policy.features(data["state"])))

    def mixture(policy):
        return LogLikelihoodLoss(policy.probabilistic_actor(["state"]))

    return {
        GaussianMixturePolicy: lambda policy: LogLikelihoodLoss(
            policy.probabilistic_actor(["state"])
        ),
        CVAEPolicy: lambda policy: CVAELoss(module(policy)),
        FlowPolicy: lambda policy: FlowMatchingLoss(module(policy)),
        DiffusionPolicy: diffusion,
        ACTPolicy: lambda policy: lambda data: act_loss(policy)(data.copy()),
    }


@pytest.mark.parametrize("kind", losses(), ids=lambda kind: kind.__name__)
def test_losses_reach_every_parameter_and_leave_the_batch_as_it_is(kind):
    torch.manual_seed(0)
    policy, data = network(kind), batch()
    before = data.clone()
    sum(term for term in losses()[kind](policy)(data).values()).backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())
    assert (data == before).all() and {*data.keys()} == {"state", "action"}


def two_modes(size=512):
    """One state, two actions: (0.6, 0.6) and (-0.6, -0.6)."""
    sign = torch.randint(2, (size, 1)) * 2.0 - 1
    action = (0.6 * sign + 0.02 * torch.randn(size, 1)).expand(size, 2)
    return TensorDict(state=torch.zeros(size, 1), action=action.contiguous(), batch_size=[size])


def fit(policy, loss, steps=600, lr=5e-3):
    train_imitation(policy, loss, two_modes(), steps=steps, batch_size=128, lr=lr)
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        return policy(torch.zeros(400, 1))


@pytest.mark.parametrize("kind", losses(), ids=lambda kind: kind.__name__)
def test_samples_are_near_both_modes(kind):
    torch.manual_seed(0)
    policy = network(kind, **({"width": 32} if kind is ACTPolicy else {"hidden": [32, 32]}))
    longer = {"steps": 2000, "lr": 2e-3} if kind is DiffusionPolicy else {}
    action = fit(policy, losses()[kind](policy), **longer)
    near = [((action - sign * 0.6).abs() < 0.2).all(-1).float().mean() for sign in (1, -1)]
    assert min(near) > 0.3 and sum(near) > 0.8, near


def test_a_deterministic_policy_finds_neither_mode():
    torch.manual_seed(0)
    policy = StateActor(Normalize.identity(1), 2, hidden=[32, 32], dropout=0.0)
    action = fit(policy, BCLoss(module(policy), loss_function="l2"))
    assert action.abs().max() < 0.2
