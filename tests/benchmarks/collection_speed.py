"""Environment steps a second of workers that only act, beside what the simulator could give.

    python tests/benchmarks/collection_speed.py [--csv FILE] [--seconds 10] [SETTING ...]

Settings are those of ``ibrl train``, such as ``experiment=small_can``. For 1 to 4 processes:

``simulator``: each steps its simulator in a plain loop, by the environment's own step function,
    without observations for a policy, resets counted.
``rollouts``: workers play episodes of the exploring policy, one ahead each.
``collector``: TorchRL's collector over a ``ParallelEnv``, all acting together.

Frames are steps after action repeat. The last column is the share of ``simulator``.
"""

from __future__ import annotations

import argparse
import csv
import logging
import multiprocessing
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import torch
from torchrl.collectors import Collector
from torchrl.envs import ParallelEnv

from ibrl_torchrl.modules import StateActor
from ibrl_torchrl.training.builders import bc_policy, build_agent, build_env
from ibrl_torchrl.training.collection import EXPLORE, WARMUP, Collection
from ibrl_torchrl.training.compose import composed
from ibrl_torchrl.training.config import TrainConfig, parse
from ibrl_torchrl.training.rollout_workers import RolloutWorkers
from ibrl_torchrl.training.scales import placeholder_scales


def step_simulator(task, seconds, barrier, results):
    """Steps a second of one simulator in a plain loop."""
    quiet()
    torch.set_num_threads(1)
    env = build_env(task)
    base = getattr(env, "base_env", env)
    env.reset()
    action = base.action_spec.rand().numpy()
    barrier.wait()
    frames, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        base._begin_episode()
        for _ in range(base.horizon):
            for _ in range(base.action_repeat):
                base._advance(action)
            if base._rig:
                base._rig.render(base._simulation[1])
            frames += 1
            if time.perf_counter() - started >= seconds:
                break
    results.put(frames / (time.perf_counter() - started))


def simulators(config, count, seconds):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    work = partial(step_simulator, config.task, seconds, barrier, results)
    processes = [context.Process(target=work) for _ in range(count)]
    for process in processes:
        process.start()
    total = sum(results.get() for _ in processes)
    for process in processes:
        process.join()
    return total


def rollouts(config, count, seconds):
    agent = build(config)
    policies = {WARMUP: agent.warmup, EXPLORE: agent.explore}
    workers = RolloutWorkers(partial(build_env, config.task), policies, count)
    collection = Collection(workers, seed=1, warmup_episodes=0, overlap=True)
    for _ in range(2 * count):  # all are at it
        next(collection)
    frames, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        frames += len(next(collection).episode)
    workers.close()
    return frames / passed


def collector(config, count, seconds):
    env = ParallelEnv(count, partial(build_env, config.task), mp_start_method="spawn")
    frames_per_batch = count * config.task.horizon
    collecting = Collector(
        env, build(config).explore, frames_per_batch=frames_per_batch, total_frames=-1
    )
    batches = iter(collecting)
    next(batches)
    frames, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        frames += next(batches).numel()
    collecting.shutdown()
    return frames / passed


def build(config):
    """An agent of untrained networks; acting costs the same."""
    torch.manual_seed(0)
    env = build_env(config.task)
    scales = placeholder_scales(config.task, env)
    size = env.action_spec.shape[-1]
    bc = StateActor(scales["state"], size, hidden=config.bc.network.hidden, dropout=0.0)
    return build_agent(config.algo, bc_policy(bc), scales, env, torch.device("cpu"))


def quiet():
    logging.getLogger("torchrl").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


KINDS = {"simulator": simulators, "rollouts": rollouts, "collector": collector}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    config = parse(TrainConfig, composed("train", [*options.settings, "run_dir=none"]))
    rows = []
    for count in options.processes:
        limit = None
        for kind in options.kinds:
            speed = KINDS[kind](config, count, options.seconds)
            limit = limit or speed
            row = (config.task.label, count, kind, f"{speed:.1f}", f"{speed / limit:.3f}")
            rows.append(row)
            print(*row, sep="\t", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["task", "processes", "kind", "frames_per_s", "of_simulator"])
            writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
