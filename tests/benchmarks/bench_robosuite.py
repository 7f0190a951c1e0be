"""Steps and resets of robosuite, from states and with a camera, beside the raw simulator."""

import numpy as np
import pytest
import torch

from ibrl_torchrl.envs import RobosuiteEnv
from ibrl_torchrl.keys import ACTION

TASKS = ["Lift", "PickPlaceCan", "NutAssemblySquare"]


@pytest.fixture(scope="module", params=TASKS)
def env(request):
    return RobosuiteEnv(request.param, seed=0, horizon=10**6)


@pytest.mark.benchmark(group="robosuite step")
def bench_step(benchmark, env):
    td = env.reset().set(ACTION, torch.zeros(7))
    benchmark.pedantic(env.step, args=(td,), rounds=100, warmup_rounds=5)


@pytest.mark.benchmark(group="robosuite step")
def bench_simulator_step(benchmark, env):
    """What robosuite takes by itself, its observations included."""
    simulator = env._simulator
    off = simulator.__dict__.pop("_update_observables")
    simulator.reset()
    benchmark.pedantic(simulator.step, args=(np.zeros(7),), rounds=100, warmup_rounds=5)
    simulator._update_observables = off


@pytest.mark.benchmark(group="robosuite reset")
def bench_reset(benchmark, env):
    benchmark.pedantic(env.reset, rounds=20, warmup_rounds=1)


@pytest.mark.benchmark(group="robosuite reset")
def bench_hard_reset(benchmark, env):
    """Robosuite's default, which makes the model anew; here it is off."""
    simulator = env._simulator
    simulator.hard_reset = True
    benchmark.pedantic(simulator.reset, rounds=3)
    simulator.hard_reset = False


@pytest.mark.benchmark(group="robosuite step with one camera")
@pytest.mark.parametrize("quality", ["fast", "shadows", "full"])
@pytest.mark.parametrize(
    "task, camera",
    [
        ("Lift", "robot0_eye_in_hand"),
        ("PickPlaceCan", "robot0_eye_in_hand"),
        ("NutAssemblySquare", "agentview"),
    ],
)
def bench_step_with_camera(benchmark, task, camera, quality):
    env = RobosuiteEnv(task, seed=0, horizon=10**6, cameras=[camera], render_quality=quality)
    td = env.reset().set(ACTION, torch.zeros(7))
    benchmark.pedantic(env.step, args=(td,), rounds=20, warmup_rounds=2)
    env.close()
