"""Time of robosuite steps and resets, with and without a camera, and of the simulator alone."""

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
    """Step of robosuite itself, including its observations."""
    simulator = env._simulator
    names = ("_update_observables", "_get_observations", "_pre_action")
    patches = {name: simulator.__dict__.pop(name) for name in names}
    simulator.reset()
    benchmark.pedantic(simulator.step, args=(np.zeros(7),), rounds=100, warmup_rounds=5)
    simulator.__dict__.update(patches)


@pytest.mark.benchmark(group="robosuite control step")
def bench_control_step(benchmark, env):
    """Steps with FastOSC; before each, one of a second environment with robosuite's controller."""
    reference = RobosuiteEnv(env.task, seed=0)
    del reference._simulator._pre_action
    actions = np.random.default_rng(0).uniform(-1, 1, (205, 7))
    for robosuite_env in (env, reference):
        robosuite_env.set_seed(0)
        robosuite_env.reset()
    reference_seconds = []

    def step_reference():
        action = actions[len(reference_seconds)]
        start = time.process_time()
        reference._step_simulator(action)
        reference_seconds.append(time.process_time() - start)
        return (action,), {}

    benchmark.pedantic(env._step_simulator, setup=step_reference, rounds=200, warmup_rounds=5)
    assert np.array_equal(env.simulator_state(), reference.simulator_state())
    benchmark.extra_info["median of robosuite's control, ms"] = 1e3 * np.median(
        reference_seconds[5:]
    )
    benchmark.extra_info["fastest of robosuite's control, ms"] = 1e3 * min(reference_seconds[5:])


@pytest.mark.benchmark(group="robosuite reset")
def bench_reset(benchmark, env):
    benchmark.pedantic(env.reset, rounds=20, warmup_rounds=1)


@pytest.mark.benchmark(group="robosuite reset")
def bench_hard_reset(benchmark, env):
    """Reset that recompiles the model, robosuite's default; RobosuiteEnv disables it."""
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
