"""Overhead of the training loop in one process: time outside simulator and network updates.

    python tests/benchmarks/loop_overhead.py [FRAMES]

Runs the loop of ``ibrl train`` with the default configuration for FRAMES frames (default 3000, a
tenth of them warm-up) and measures steps and resets of the simulator. Then measures updates of the
same networks in plain PyTorch. The overhead is the remaining wall time, as a share of all.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path

import torch
from plain_ibrl import PlainIBRL
from sizes import as_tensors

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import frozen_policies
from ibrl_torchrl.builders.normalization import observation_normalizers
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.data.demos import record_demos
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.keys import EXPLORE, WARMUP
from ibrl_torchrl.modules import StateActor
from ibrl_torchrl.rollouts.collector import EpisodeCollector
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.training.learner import build_learner
from ibrl_torchrl.training.loop import Counters, train


class Timed:
    """Function with a stopwatch of all its calls."""

    def __init__(self, function):
        self.function = function
        self.seconds = 0.0

    def __call__(self, *arguments):
        start = time.perf_counter()
        try:
            return self.function(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


def main(frames: int) -> None:
    logging.getLogger("torchrl").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    settings = ["run_dir=none", "algo=ibrl", "task.relative_positions=[]"]  # as the plain update
    config = parse(TrainConfig, composed("train", settings))
    env = build_env(config.task)
    env.set_seed(0)
    demos = [*record_demos(env, scripted_expert("metaworld", config.task.name), 3, seed=100)]
    normalizers = observation_normalizers(config.task, env, demos)
    hidden = config.imitation["bc"].network.hidden
    bc = StateActor(normalizers["state"], 4, hidden=hidden, dropout=0.0)
    policies = frozen_policies({"bc": bc}, config.imitation)
    agent = build_agent(config.algo, policies, normalizers, env, torch.device("cpu"))
    learner = build_learner(agent, config.algo.update, None)
    gamma, keys = config.algo.loss.gamma, agent.loss.in_keys
    replay = build_replay(config.replay, keys, gamma, demos, Path("replay"))
    simulator_step = env._simulator.step = Timed(env._simulator.step)
    reset = env._begin_episode = Timed(env._begin_episode)

    start = time.perf_counter()
    counters = Counters()
    rollouts = LocalRollouts(env, {WARMUP: agent.warmup, EXPLORE: agent.explore})
    train(
        EpisodeCollector(rollouts, seed=0, warmup_episodes=max(1, frames // 1000)),
        learner,
        replay,
        counters,
        total_frames=frames,
        frames_per_round=config.algo.update.frames_per_round,
        proposals=agent.proposals,
        device=torch.device("cpu"),
        on_episode=lambda metrics: None,
    )
    wall = time.perf_counter() - start

    critic = config.algo.critic
    plain = PlainIBRL(hidden=critic.hidden, number=critic.num_critics)
    batch = as_tensors(replay.sample())
    rounds = 100
    start = time.perf_counter()
    for _ in range(rounds):
        for _ in range(config.algo.update.critic_updates):
            plain.critic_update(batch)
        plain.actor_update(batch)
    updates = (time.perf_counter() - start) / rounds * counters.rounds
    simulator = simulator_step.seconds + reset.seconds
    print(f"frames {counters.frames}, rounds {counters.rounds}, wall {wall:.1f} s")
    print(f"simulator {simulator:.1f} s, plain updates {updates:.1f} s")
    print(f"overhead {(wall - simulator - updates) / wall:.1%} of the wall time")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
