"""PortablePrioritizedSampler: probabilities, weights and state without compiled segment trees."""

import importlib

import numpy as np
import pytest
import torch
from support.parts import episode
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

from ibrl_torchrl.data.replay import (
    EpisodeToTransitions,
    PortablePrioritizedSampler,
    episode_buffer,
)


def filled(priorities, alpha=1.0, beta=1.0, batch=40_000):
    sampler = PortablePrioritizedSampler(100, alpha=alpha, beta=beta)
    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(100), sampler=sampler, batch_size=batch
    )
    replay.extend(episode(len(priorities), success=True))
    replay.update_priority(torch.arange(len(priorities)), torch.tensor(priorities))
    return replay


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_sampling_frequencies_follow_priorities(alpha):
    np.random.seed(0)
    priorities = [1.0, 4.0, 0.25, 2.0]
    batch = filled(priorities, alpha).sample()
    expected = torch.tensor(priorities) ** alpha
    expected /= expected.sum()
    frequencies = torch.bincount(batch["index"], minlength=4) / len(batch)
    # Five binomial standard deviations of 40 000 draws are at most 0.0125.
    assert torch.allclose(frequencies, expected, atol=0.0125)


def test_importance_weights_equal_computed_values():
    batch = filled([1.0, 4.0], beta=0.5).sample()
    # (P / min P)^-0.5: 1 for the rarest, 4^-0.5 = 0.5 for the other.
    weights = torch.where(batch["index"] == 1, 0.5, 1.0)
    assert torch.allclose(batch["priority_weight"], weights)


def test_new_transitions_get_maximum_priority():
    transform = EpisodeToTransitions(["state"])
    replay = episode_buffer(100, 8, transform, prioritized=True, alpha=1.0)
    replay.extend(episode(4, success=True))
    batch = replay.sample()
    batch["td_error"] = torch.full((8,), 9.0)
    replay.update_tensordict_priority(batch)
    replay.extend(episode(3, success=True))
    assert torch.allclose(replay.sampler._sum_tree[torch.arange(4, 7)], torch.tensor(9.0))


def test_dumps_and_loads_restore_priorities(tmp_path):
    replay = filled([1.0, 4.0, 2.0])
    replay.dumps(tmp_path)
    other = filled([1.0, 1.0, 1.0])
    other.loads(tmp_path)
    rows = torch.arange(3)
    assert torch.allclose(other.sampler._sum_tree[rows], replay.sampler._sum_tree[rows])


def test_compiled_segment_trees_are_missing():
    """Fails once TorchRL's extension loads with the pinned torch: then remove this module."""
    if not torch.__version__.startswith("2.13.0"):
        pytest.skip("holds for the pinned torch only")
    with pytest.raises(ImportError):
        importlib.import_module("torchrl._torchrl")
