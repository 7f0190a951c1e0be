"""Loss and learner against the plain PyTorch implementation of the benchmarks."""

import copy

import pytest
import torch
from benchmarks.plain_ibrl import OriginalArithmetic, PlainIBRL
from support.parts import networks, transitions
from torch import nn

from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.learner import Learner

GAMMA, LR, TAU, CRITIC_UPDATES = 0.9, 1e-2, 0.1, 2


def learner_and_plain(kind=PlainIBRL):
    """Learner and plain implementation with equal weights, without dropout, whose masks differ.

    Both draw the noise first and the subset of critics second, so that one seed serves both.
    """
    actor, critic, bc = networks(dropout=0.0)
    loss = IBRLTD3Loss(actor, critic, [bc]).make_value_estimator(gamma=GAMMA)
    learner = Learner(loss, loss.terms(), lr=LR, tau=TAU, critic_updates=CRITIC_UPDATES)
    plain = kind(6, 2, hidden=[8, 8], number=3, dropout=0.0, gamma=GAMMA, tau=TAU, lr=LR)
    pairs = [
        (actor, plain.actor),
        (actor, plain.target_actor),
        (bc, plain.bc),
        (critic, plain.critics),
        (critic, plain.target_critics),
    ]
    for source, target in pairs:
        for value, parameter in zip(weights(source), weights(target), strict=True):
            parameter.data.copy_(value)
    return learner, plain


def weights(network):
    """All parameters of a policy or an ensemble in the order of computation."""
    modules = [*network.modules()]
    if any(isinstance(module, nn.Linear) for module in modules):
        return [p for m in modules if isinstance(m, nn.Linear) for p in (m.weight, m.bias)]
    if hasattr(network, "gains"):
        linear, norm = (network.weights, network.biases), (network.gains, network.shifts)
    else:
        layers = [*network.module.mlp.layers, network.module.mlp.head]
        linear = [m.weight for m in layers], [m.bias for m in layers]
        norms = network.module.mlp.norms
        norm = [m.weight for m in norms], [m.bias for m in norms]
    return [parameter for group in (*linear, *norm) for parameter in group]


def make_batch(size=32):
    """The same batch as a TensorDict and as plain tensors."""
    td = transitions(size, state_size=6, action_size=2)
    td["next", "reward"].uniform_()
    td["next", "terminated"][::3] = True
    td["steps_to_next_obs"] = torch.randint(1, 4, (size, 1))
    tensors = {
        "state": td["state"],
        "action": td["action"],
        "next_state": td["next", "state"],
        "reward": td["next", "reward"].squeeze(-1),
        "terminated": td["next", "terminated"].squeeze(-1),
        "steps": td["steps_to_next_obs"].squeeze(-1),
    }
    return td, tensors


@pytest.mark.parametrize("kind", [PlainIBRL, OriginalArithmetic])
@pytest.mark.parametrize("seed", range(5))
def test_targets_and_losses_equal_the_plain_implementation(seed, kind):
    torch.manual_seed(10 + seed)
    learner, plain = learner_and_plain(kind)
    td, tensors = make_batch()
    torch.manual_seed(seed)
    value, info = learner.loss.qvalue_loss(td)
    torch.manual_seed(seed)
    assert torch.allclose(info["target_value"].squeeze(-1), plain.target(tensors), atol=1e-6)
    torch.manual_seed(seed)
    assert value.item() == pytest.approx(plain.critic_update(tensors).item(), rel=1e-5)
    learner, plain = learner_and_plain(kind)
    expected = plain.actor_update(tensors).item()
    assert learner.loss.actor_loss(td)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [PlainIBRL, OriginalArithmetic])
def test_learner_rounds_equal_the_plain_implementation(kind):
    torch.manual_seed(0)
    learner, plain = learner_and_plain(kind)
    before = copy.deepcopy(plain.actor)
    rounds, batches = 3, [make_batch() for _ in range(3 * CRITIC_UPDATES)]
    rows = iter(batches)

    class Replay:
        def sample(self):
            return next(rows)[0]

        def update_tensordict_priority(self, batch):
            assert "td_error" in batch

    torch.manual_seed(1)
    for _ in range(rounds):
        learner.round(Replay(), torch.device("cpu"))
    torch.manual_seed(1)
    for i, (_, tensors) in enumerate(batches):
        plain.critic_update(tensors)
        if i % CRITIC_UPDATES == CRITIC_UPDATES - 1:
            plain.actor_update(tensors)

    loss = learner.loss
    for prefix in ("", "target_"):
        for name, network in (("actor", "actor_network"), ("critics", "qvalue_network")):
            module, expected = getattr(loss, network), getattr(plain, prefix + name)
            with getattr(loss, f"{prefix}{network}_params").to_module(module):
                for pair in zip(weights(module), weights(expected), strict=True):
                    assert torch.allclose(*pair, atol=1e-5, rtol=1e-4)
    changes = zip(weights(before), weights(plain.actor), strict=True)
    assert all((new - old).abs().max() > LR for old, new in changes)
