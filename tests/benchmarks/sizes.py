"""Sizes and batches of the benchmarks."""

import torch
from tensordict import TensorDict

STATE, ACTION = 39, 4
SIZES = {
    "cpu": {"hidden": [256] * 3, "number": 3, "batch": 128, "critic_updates": 2},
    "paper": {"hidden": [1024] * 3, "number": 5, "batch": 256, "critic_updates": 5},
}


def make_batch(rows):
    flag = torch.zeros(rows, 1, dtype=torch.bool)
    return TensorDict(
        {
            "state": torch.randn(rows, STATE),
            "action": torch.rand(rows, ACTION) * 2 - 1,
            "steps_to_next_obs": torch.full((rows,), 3),
            "next": {
                "state": torch.randn(rows, STATE),
                "reward": torch.zeros(rows, 1),
                "terminated": flag,
                "done": flag,
            },
        },
        batch_size=[rows],
    )


def as_tensors(batch):
    """A replay batch as plain_ibrl reads it."""
    return {
        "state": batch["state"],
        "action": batch["action"],
        "next_state": batch["next", "state"],
        "reward": batch["next", "reward"].squeeze(-1),
        "terminated": batch["next", "terminated"].squeeze(-1),
        "steps": batch["steps_to_next_obs"],
    }
