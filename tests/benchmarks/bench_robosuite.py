"""Steps and resets of robosuite, from states and with a camera, beside the raw simulator."""

import time

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
    replaced = ("_update_observables", "_get_observations", "_pre_action")
    off = {name: simulator.__dict__.pop(name) for name in replaced}
    simulator.reset()
    benchmark.pedantic(simulator.step, args=(np.zeros(7),), rounds=100, warmup_rounds=5)
    simulator.__dict__.update(off)


@pytest.mark.benchmark(group="robosuite control step")
def bench_control_step(benchmark, env):
    """Steps with FastOSC; before each, one of a second environment with robosuite's controller."""
    twin = RobosuiteEnv(env.task, seed=0)
    del twin._simulator._pre_action
    actions = np.random.default_rng(0).uniform(-1, 1, (205, 7))
    for one in (env, twin):
        one.set_seed(0)
        one.reset()
    robosuites = []

    def step_twin():
        action = actions[len(robosuites)]
        start = time.process_time()
        twin._step_simulator(action)
        robosuites.append(time.process_time() - start)
        return (action,), {}

    benchmark.pedantic(env._step_simulator, setup=step_twin, rounds=200, warmup_rounds=5)
    assert np.array_equal(env.simulator_state(), twin.simulator_state())
    benchmark.extra_info["median of robosuite's control, ms"] = 1e3 * np.median(robosuites[5:])
    benchmark.extra_info["fastest of robosuite's control, ms"] = 1e3 * min(robosuites[5:])


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
