"""Time of Meta-World environment steps (two simulator steps) and of the simulator alone."""

import numpy as np
import pytest
import torch

pytest.importorskip("metaworld")


@pytest.fixture
def env():
    from ibrl_torchrl.envs import MetaWorldEnv

    return MetaWorldEnv("box-close", seed=0)


def _with_reset(env):
    def setup():
        td = env.reset()
        td["action"] = torch.zeros(4)
        return (td,), {}

    return setup


@pytest.mark.benchmark(group="environment step x 50")
def bench_step(benchmark, env):
    def step_50_times(td):
        for _ in range(50):
            env.step(td)

    benchmark.pedantic(step_50_times, setup=_with_reset(env), rounds=20)


@pytest.mark.benchmark(group="environment step x 50")
def bench_simulator(benchmark, env):
    action = np.zeros(4)

    def step_100_times(td):
        for _ in range(100):
            env._simulator.step(action)

    benchmark.pedantic(step_100_times, setup=_with_reset(env), rounds=20)


@pytest.mark.benchmark(group="reset")
def bench_reset(benchmark, env):
    benchmark(env.reset)
