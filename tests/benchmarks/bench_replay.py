"""Replay buffers: time to sample a batch of 256 from 100 000 transitions."""

import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.data.replay import EpisodeToTransitions, MixedReplay, episode_buffer

SIZE, BATCH = 100_000, 256


def filled_buffer(**settings):
    flag = torch.zeros(SIZE, 1, dtype=torch.bool)
    end = flag.clone()
    end[99::100] = True
    content = TensorDict(
        {
            "state": torch.randn(SIZE, 39),
            "action": torch.rand(SIZE, 4),
            "next": {
                "state": torch.randn(SIZE, 39),
                "reward": torch.zeros(SIZE, 1),
                "terminated": flag,
                "truncated": end,
                "done": end,
            },
        },
        batch_size=[SIZE],
    )
    replay = episode_buffer(SIZE, BATCH, EpisodeToTransitions(["state"]), **settings)
    replay.extend(content)
    return replay


@pytest.mark.benchmark(group="sample")
@pytest.mark.parametrize("prioritized", [False, True])
def bench_sample_memory(benchmark, prioritized):
    benchmark(filled_buffer(prioritized=prioritized).sample)


@pytest.mark.benchmark(group="sample")
def bench_sample_memmap(benchmark, tmp_path):
    benchmark(filled_buffer(storage="memmap", scratch_dir=tmp_path).sample)


@pytest.mark.benchmark(group="sample")
def bench_sample_mixed(benchmark):
    replay = MixedReplay(filled_buffer(), filled_buffer(), offline_fraction=0.5, batch_size=BATCH)
    benchmark(replay.sample)
