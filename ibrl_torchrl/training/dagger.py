"""Dataset aggregation (DAgger): rounds of episodes, labels and training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.experts import any_state_expert
from ibrl_torchrl.builders.imitation import execute, frozen_policies
from ibrl_torchrl.builders.networks import policy_keys
from ibrl_torchrl.builders.normalization import observation_normalizers
from ibrl_torchrl.config.imitation import DaggerConfig, ImitationConfig
from ibrl_torchrl.config.task import DemosConfig, TaskConfig
from ibrl_torchrl.console import progress_bar
from ibrl_torchrl.data.demos import append_demos, load_demos, record_episode
from ibrl_torchrl.episodes import unstack_frames
from ibrl_torchrl.imitation.dagger import MixturePolicy, expert_probability
from ibrl_torchrl.rollouts.collector import episode_seed
from ibrl_torchrl.runs.names import DEMOS
from ibrl_torchrl.runtime import forked_rng
from ibrl_torchrl.training.demonstrations import record_to
from ibrl_torchrl.training.imitation import PolicyNetworks, imitation


@dataclass(frozen=True)
class DaggerRound:
    """Result of one round.

    Attributes:
        index: i, from 0.
        beta: probability of the expert's action while the round's episodes were executed.
        episodes: episodes of all rounds so far.
        labels: the expert's labels of all rounds so far, on which the learner was trained.
        networks: the learner, by its name.
    """

    index: int
    beta: float
    episodes: int
    labels: int
    networks: PolicyNetworks


def dagger_rounds(
    config: DaggerConfig,
    demos: DemosConfig,
    task: TaskConfig,
    learner: Mapping[str, ImitationConfig],
    env: EnvBase,
    device: torch.device,
    run_dir: Path,
    *,
    seed: int,
) -> Iterator[DaggerRound]:
    """Run DAgger (Ross et al. 2011, arXiv 1011.0686, Algorithm 3.1).

    Round 0 records scripted demonstrations as ``ibrl bc`` does. Every later round executes episodes
    of the mixture of expert and learner, adds them with the expert's labels to the file of all
    rounds, and the learner is trained anew on it.

    Args:
        config: settings of the rounds.
        demos: settings of the demonstrations.
        task: task.
        learner: settings of the imitation policy, by its name.
        env: environment of the task.
        device: device of the training.
        run_dir: folder of ``demos.hdf5`` and ``imitation/NAME.pt``, both replaced in every round.
        seed: seed of the initial states and draws of the rounds.

    Yields:
        Every round, when the learner has been trained.

    Raises:
        UsageError: the task has no expert that can label any state.
    """
    (name,) = learner
    expert, path = any_state_expert(demos, task, "DAgger"), run_dir / DEMOS
    keys = policy_keys(learner[name].encoder)
    networks: PolicyNetworks = {}
    for index in range(config.rounds):
        beta = expert_probability(config.beta, index)
        if index == 0:
            record_to(path, demos, task)
        else:
            policy = execute(frozen_policies(networks, learner)[name], name, 0, learner[name].chunk)
            mixture = MixturePolicy(expert, policy, beta, state_stack=task.state_stack)
            first = (index - 1) * config.episodes
            seeds = [episode_seed(seed, first + i) for i in range(config.episodes)]
            episodes = progress_bar(
                _labelled_episodes(env, mixture, seeds, task),
                desc=f"round {index}",
                total=len(seeds),
                unit="episode",
            )
            append_demos(path, episodes)
        aggregated = load_demos(
            path, keys=keys, frame_stack=task.frame_stack, state_stack=task.state_stack
        ).episodes
        normalizers = observation_normalizers(task, env, aggregated)
        networks = imitation(learner, {}, task, aggregated, normalizers, env, device, run_dir)
        labels = sum(len(episode) for episode in aggregated)
        yield DaggerRound(index, beta, len(aggregated), labels, networks)


def _labelled_episodes(
    env: EnvBase, policy: MixturePolicy, seeds: list[int], task: TaskConfig
) -> Iterator[TensorDictBase]:
    """Episodes [T] of the mixture with the expert's labels, as files hold them.

    The learner acts without draws of its own, as in evaluations: its states are the ones to label.
    """
    for seed in seeds:
        with forked_rng(env.device), set_exploration_type(ExplorationType.DETERMINISTIC):
            torch.manual_seed(seed)
            env.set_seed(seed)
            episode = record_episode(env, policy)
        yield unstack_frames(episode, task.frame_stack, task.state_stack)
