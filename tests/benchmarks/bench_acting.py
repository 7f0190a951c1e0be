"""Latency of an action of the hybrid policy, with and without exploration."""

import pytest
import torch
from sizes import STATE
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type


@pytest.mark.benchmark(group="acting")
@pytest.mark.parametrize("mode", ["RANDOM", "DETERMINISTIC"])
def bench_acting(benchmark, explore, mode):
    observation = TensorDict(state=torch.randn(STATE))
    with torch.no_grad(), set_exploration_type(ExplorationType[mode]):
        benchmark(explore, observation)
