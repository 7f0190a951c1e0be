"""Network sizes, modules, learner and batches of the benchmarks with state observations."""

import torch
from tensordict import TensorDict

from ibrl_torchrl.modules import (
    CachedProposal,
    CriticEnsemble,
    FastTensorDictModule,
    FrozenPolicy,
    Normalize,
    StateActor,
    StateCriticEnsemble,
)
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.learner import Learner

STATE, ACTION = 39, 4
SIZES = {
    "cpu": {"hidden": [256] * 3, "num_critics": 3, "batch": 128, "critic_updates": 2},
    "paper": {"hidden": [1024] * 3, "num_critics": 5, "batch": 256, "critic_updates": 5},
}


def make_parts(size, *, cached=False):
    """Actor, critic ensemble and frozen policy of a size, or its actions of :func:`make_batch`."""
    normalize = Normalize.identity(STATE)
    hidden = size["hidden"]

    def policy(key, dropout):
        network = StateActor(normalize, ACTION, hidden=hidden, dropout=dropout)
        return FastTensorDictModule(network, ["state"], [key])

    critic = CriticEnsemble(
        StateCriticEnsemble(normalize, ACTION, num_critics=size["num_critics"], hidden=hidden),
        ["state", "action"],
    )
    bc = CachedProposal("bc_action") if cached else FrozenPolicy(policy("bc_action", 0.0))
    return policy("rl_action", 0.5), critic, bc


def make_learner(parts, size, *, compile_mode=None):
    actor, critic, bc = parts
    loss = IBRLTD3Loss(actor, critic, [bc]).make_value_estimator(gamma=0.99)
    return Learner(
        loss,
        loss.terms(),
        lr=3e-4,
        tau=0.01,
        critic_updates=size["critic_updates"],
        compile_mode=compile_mode,
    )


class OneBatch:
    """Replay that returns the same batch always."""

    def __init__(self, batch):
        self.batch = batch

    def sample(self, batch_size=None):
        return self.batch

    def update_tensordict_priority(self, batch):
        pass


def make_batch(rows):
    flag = torch.zeros(rows, 1, dtype=torch.bool)
    return TensorDict(
        {
            "state": torch.randn(rows, STATE),
            "action": torch.rand(rows, ACTION) * 2 - 1,
            "steps_to_next_obs": torch.full((rows,), 3),
            "next": {
                "state": torch.randn(rows, STATE),
                "bc_action": torch.rand(rows, ACTION) * 2 - 1,
                "reward": torch.zeros(rows, 1),
                "terminated": flag,
                "done": flag,
            },
        },
        batch_size=[rows],
    )


def as_tensors(batch):
    """Replay batch as the dictionary of tensors that ``plain_ibrl`` takes."""
    return {
        "state": batch["state"],
        "action": batch["action"],
        "next_state": batch["next", "state"],
        "reward": batch["next", "reward"].squeeze(-1),
        "terminated": batch["next", "terminated"].squeeze(-1),
        "steps": batch["steps_to_next_obs"].flatten(),  # [B, 1] of a replay
    }
