"""Collection speed: frames per second of rollout workers without a learner, and of simulators.

    python tests/benchmarks/collection_speed.py [--csv FILE] [--seconds 40] [SETTING ...]

Settings are those of ``ibrl train``, such as ``experiment=small_can``. Kinds, for 1 to 4 processes:

``package``: robosuite or Meta-World as installed, stepped in a loop, with images of the task's
    cameras at the default rendering quality.
``simulator``: the same with the fast controller (FastOSC) and fast rendering of this project's
    environments, without observations. The stricter baseline.
``plain``: ``simulator`` with observations of states and a hybrid policy of plain PyTorch modules in
    the same loop: what remains for the environment, TensorDict and the workers to lose.
``rollouts``: rollout workers run episodes of the exploring policy, as in a training run.
``collector``: TorchRL's collector over a ``ParallelEnv``, with batched actions.

The kinds are measured in alternating turns of some seconds while the others are stopped, so that
changes of the machine's speed affect all of them. Frames are steps after action repeat; resets are
included. The last columns are ratios to as many processes of ``package``, ``simulator`` and
``plain``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import warnings
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from acting_latency import PlainActing
from tables import write_table
from torchrl.collectors import Collector
from torchrl.envs import ParallelEnv
from untrained import untrained_agent

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.keys import EXPLORE, STATE, WARMUP
from ibrl_torchrl.rollouts.collector import EpisodeCollector
from ibrl_torchrl.rollouts.processes import RolloutWorkers

TURN = 4.0  # seconds
WARMUP_FRAMES = 100  # frames per process before the measurement
SPAWN = get_context("spawn")
BASELINES = "package", "simulator", "plain"


def packages(config, count, frames):
    run_parallel(step_package, config.task, count, frames)


def simulators(config, count, frames):
    run_parallel(step_simulator, config.task, count, frames)


def plain_policies(config, count, frames):
    step = partial(step_plain, noise=config.algo.exploration_noise)
    run_parallel(step, config.task, count, frames)


def run_parallel(step, task, count, frames):
    processes = [SPAWN.Process(target=step, args=(task, frames, index)) for index in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def step_package(task, frames, index):
    set_up_process()
    os.environ.setdefault("MUJOCO_GL", "egl")
    env = build_env(task)  # also imports robosuite without its warnings
    make = {"robosuite": make_robosuite, "metaworld": make_metaworld}[task.suite]
    simulator, render = make(task, getattr(env, "base_env", env).env_args["env_kwargs"])
    action = np.random.default_rng(0).uniform(-1, 1, env.action_spec.shape)
    while True:
        simulator.reset()
        for _ in range(task.horizon):
            for _ in range(task.action_repeat):
                simulator.step(action)
            render()
            frames[index] += 1


def make_robosuite(task, settings):
    import robosuite

    simulator = robosuite.make(
        task.name,
        **settings,
        has_renderer=False,
        has_offscreen_renderer=bool(task.cameras),
        use_camera_obs=False,
        ignore_done=True,
        hard_reset=False,
        lite_physics=True,
    )
    size = task.image_size

    def render():
        for camera in task.cameras:
            simulator.sim.render(camera_name=camera, width=size, height=size)

    return simulator, render


def make_metaworld(task, _):
    import metaworld

    name, size = f"{task.name}-v3", task.image_size
    kind = metaworld.ALL_V3_ENVIRONMENTS[name]
    if task.cameras:  # one of them
        simulator = kind("rgb_array", task.cameras[0], width=size, height=size)
    else:
        simulator = kind()
    simulator.set_task(metaworld.MT1(name, seed=0).train_tasks[0])
    return simulator, simulator.render if task.cameras else lambda: None


def step_simulator(task, frames, index):
    base = reset_simulator(task)
    action = base.action_spec.rand().numpy()
    step_episodes(base, lambda: action, frames, index)


@torch.no_grad()
def step_plain(task, frames, index, *, noise):
    base = reset_simulator(task)
    state_size, action_size = base.observation_spec[STATE].shape[-1], base.action_spec.shape[-1]
    policy = PlainActing(noise, state_size, action_size)

    def act():
        return policy.explore(torch.from_numpy(base._low_dim_observation()[STATE])).numpy()

    step_episodes(base, act, frames, index)


def reset_simulator(task):
    """Environment of a task without transforms, after a reset."""
    set_up_process()
    env = build_env(task)
    env.reset()
    return getattr(env, "base_env", env)


def step_episodes(base, act, frames, index):
    while True:
        base._begin_episode()
        for _ in range(base.horizon):
            action = act()
            for _ in range(base.action_repeat):
                base._step_simulator(action)
            if base._obs_renderer:
                base._obs_renderer.render(base._simulation[1])
            frames[index] += 1


def rollouts(config, count, frames):
    agent = untrained_agent(config)
    policies = {WARMUP: agent.warmup, EXPLORE: agent.explore}
    workers = RolloutWorkers(partial(build_env, config.task), policies, count)
    for collected in EpisodeCollector(workers, seed=1, warmup_episodes=0, overlap=True):
        frames[0] += len(collected.episode)


def collector(config, count, frames):
    env = ParallelEnv(count, partial(build_env, config.task), mp_start_method="spawn")
    policy = untrained_agent(config).explore
    for batch in Collector(env, policy, frames_per_batch=10 * count, total_frames=-1):
        frames[0] += batch.numel()


def set_up_process():
    torch.set_num_threads(1)
    logging.getLogger("torchrl").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


KINDS = {
    "package": packages,
    "simulator": simulators,
    "plain": plain_policies,
    "rollouts": rollouts,
    "collector": collector,
}


class ProcessGroup:
    """Processes of one kind that count their frames, stopped between turns."""

    def __init__(self, config, count, kind):
        self._counts = SPAWN.RawArray("q", count)  # no lock, which a stopped process could hold
        self._process = SPAWN.Process(target=run_group, args=(config, count, kind, self._counts))
        self._process.start()
        self.frames, self.seconds = 0, 0.0

    def warm_up(self):
        """Wait until all processes step, and stop them."""
        while sum(self._counts) < WARMUP_FRAMES * len(self._counts):
            if not self._process.is_alive():
                raise RuntimeError("a process has ended")
            time.sleep(0.1)
        self._signal(signal.SIGSTOP)

    def run_turn(self):
        before, start = sum(self._counts), time.perf_counter()
        self._signal(signal.SIGCONT)
        time.sleep(TURN)
        self._signal(signal.SIGSTOP)
        self.frames += sum(self._counts) - before
        self.seconds += time.perf_counter() - start

    def kill(self):
        with suppress(ProcessLookupError):
            self._signal(signal.SIGKILL)

    def _signal(self, signum):
        os.killpg(self._process.pid, signum)


def run_group(config, count, kind, frames):
    """Run in a process group, whose processes are stopped and continued together."""
    os.setpgrp()
    set_up_process()
    KINDS[kind](config, count, frames)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seconds", type=float, default=40.0, help="seconds per kind, default 40")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default all; plain: of states")
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    config = parse(TrainConfig, composed("train", ["run_dir=none", "algo=ibrl", *options.settings]))
    kinds = options.kinds or [kind for kind in KINDS if kind != "plain" or not config.task.cameras]
    if config.task.cameras and "plain" in kinds:
        parser.error("--kinds plain is of states, and this task has cameras")
    rows = []
    for count in options.processes:
        speeds = measure(config, count, kinds, round(options.seconds / TURN))
        for kind, speed in speeds.items():
            row = config.task.label, count, kind, f"{speed:.1f}", *ratios(speeds, kind)
            print(*row, sep="\t", flush=True)
            rows.append(row)
    header = ("task", "processes", "kind", "frames_per_s", *(f"of_{name}" for name in BASELINES))
    write_table(header, rows, options.csv)


def measure(config, count, kinds, turns):
    """Frames per second by kind."""
    groups = {}
    try:
        for kind in kinds:
            groups[kind] = ProcessGroup(config, count, kind)
            groups[kind].warm_up()
        for _ in range(turns):
            for group in groups.values():
                group.run_turn()
    finally:
        for group in groups.values():
            group.kill()
    return {kind: group.frames / group.seconds for kind, group in groups.items()}


def ratios(speeds, kind):
    """Speed of a kind relative to each baseline."""
    for baseline in BASELINES:
        yield f"{speeds[kind] / speeds[baseline]:.3f}" if baseline in speeds else ""


if __name__ == "__main__":
    sys.exit(main())
