"""The loss and the learner against the same algorithm in plain PyTorch, as in the benchmarks."""

import copy

import pytest
import torch
from benchmarks.plain_ibrl import OriginalArithmetic, PlainIBRL
from support.parts import networks, transitions
from torch import nn

from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.learner import Learner

GAMMA, LR, TAU, CRITIC_UPDATES = 0.9, 1e-2, 0.1, 2


def both(kind=PlainIBRL):
    """The same weights in two programs, without dropout: its masks differ from run to run.

    Both draw the noise first and the subset of critics second, so one seed serves both.
    """
    actor, critic, bc = networks(dropout=0.0)
    loss = IBRLTD3Loss(actor, critic, [bc]).make_value_estimator(gamma=GAMMA)
    learner = Learner(loss, lr=LR, tau=TAU, critic_updates=CRITIC_UPDATES)
    plain = kind(6, 2, hidden=[8, 8], number=3, dropout=0.0, gamma=GAMMA, tau=TAU, lr=LR)
    pairs = [
        (actor, plain.actor),
        (actor, plain.target_actor),
        (bc, plain.bc),
        (critic, plain.critics),
        (critic, plain.target_critics),
    ]
    for ours, theirs in pairs:
        for own, other in zip(weights(ours), weights(theirs), strict=True):
            other.data.copy_(own)
    return learner, plain


def weights(network):
    """All parameters of a policy or an ensemble in the order of the computation."""
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


def batch_of(size=32):
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
def test_targets_and_losses_agree(seed, kind):
    torch.manual_seed(10 + seed)
    learner, plain = both(kind)
    td, tensors = batch_of()
    torch.manual_seed(seed)
    value, info = learner.loss.qvalue_loss(td)
    torch.manual_seed(seed)
    assert torch.allclose(info["target_value"].squeeze(-1), plain.target(tensors), atol=1e-6)
    torch.manual_seed(seed)
    assert value.item() == pytest.approx(plain.critic_update(tensors).item(), rel=1e-5)
    learner, plain = both(kind)
    expected = plain.actor_update(tensors).item()
    assert learner.loss.actor_loss(td)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [PlainIBRL, OriginalArithmetic])
def test_rounds_of_updates_end_at_the_same_weights(kind):
    torch.manual_seed(0)
    learner, plain = both(kind)
    before = copy.deepcopy(plain.actor)
    rounds, batches = 3, [batch_of() for _ in range(3 * CRITIC_UPDATES)]
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
            ours, theirs = getattr(loss, network), getattr(plain, prefix + name)
            with getattr(loss, f"{prefix}{network}_params").to_module(ours):
                for own, other in zip(weights(ours), weights(theirs), strict=True):
                    assert torch.allclose(own, other, atol=1e-5, rtol=1e-4)
    moved = zip(weights(before), weights(plain.actor), strict=True)
    assert all((new - old).abs().max() > LR for new, old in moved)
