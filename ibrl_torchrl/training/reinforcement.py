"""Third stage of a run: reinforcement learning with the imitation policies' proposals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from tensordict import TensorDict
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.agent import Agent, build_agent
from ibrl_torchrl.builders.imitation import frozen_policies
from ibrl_torchrl.builders.interventions import has_interventions
from ibrl_torchrl.builders.networks import policy_keys
from ibrl_torchrl.builders.normalization import Normalizers
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.builders.rollouts import build_rollouts
from ibrl_torchrl.builders.self_imitation import build_self_imitation
from ibrl_torchrl.config.algo import AlgoConfig
from ibrl_torchrl.config.plan import budget, discount_warning, warmup_warning
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.errors import NotFinite
from ibrl_torchrl.evaluation.evaluate import Evaluation
from ibrl_torchrl.imitation.self_imitation import SelfImitation
from ibrl_torchrl.modules import InterventionPolicy, TakeOver
from ibrl_torchrl.objectives import BCRegularizedTD3Loss, IBRLTD3Loss
from ibrl_torchrl.rollouts.collector import CollectedEpisode, EpisodeCollector, explores
from ibrl_torchrl.rollouts.episode import Rollouts
from ibrl_torchrl.runs.episode_log import EpisodeLog
from ibrl_torchrl.runs.names import EPISODES, FAILED, REPLAY
from ibrl_torchrl.runs.origin import run_origin
from ibrl_torchrl.runs.tables import imitation_loss_column
from ibrl_torchrl.runtime import Interrupted, InterruptHandler
from ibrl_torchrl.training.imitation import PolicyNetworks
from ibrl_torchrl.training.learner import Learner, build_learner
from ibrl_torchrl.training.logger import RunLogger
from ibrl_torchrl.training.loop import Counters, train
from ibrl_torchrl.training.state import Checkpoint, LoggerState, TrainingState


def reinforce(
    config: TrainConfig,
    episodes: Sequence[TensorDict],
    networks: PolicyNetworks,
    normalizers: Normalizers,
    env: EnvBase,
    device: torch.device,
    run_dir: Path,
    checkpoint: Checkpoint | None,
    *,
    intervention: TakeOver | None = None,
) -> None:
    """Train an agent, from the start or from a checkpoint, and log it to the run folder.

    Args:
        config: settings of the run.
        episodes: demonstrations, TensorDicts [T].
        networks: imitation policies by name.
        normalizers: normalisation of observations by key.
        env: environment of the task.
        device: device of networks and batches.
        run_dir: run folder.
        checkpoint: checkpoint to resume from; None for a new run.
        intervention: scripted intervention while collecting; None (default): none.
    """
    policies = frozen_policies(networks, config.imitation)
    agent = build_agent(
        config.algo,
        policies,
        normalizers,
        env,
        device,
        chunks=config.imitation_chunks,
        cached_proposals=config.replay.cache_proposals,
    )
    if intervention is not None:
        agent = replace(agent, explore=InterventionPolicy(agent.explore, intervention))
    interventions = has_interventions(env, intervention)
    learner = build_learner(agent, config.algo.update, config.compile)
    replay = build_replay(
        config.replay,
        agent.loss.in_keys,
        config.algo.loss.gamma,
        episodes,
        run_dir / REPLAY,
        demos_in_replay=config.demos.in_replay,
        chunk_size=config.algo.chunk.size,
        frame_stack=config.task.frame_stack,
        policies=policies.values(),
        interventions=interventions,
        device=device,
    )
    self_imitation = build_self_imitation(
        config.imitation,
        networks,
        config.replay,
        episodes,
        run_dir / REPLAY / "imitation",
        frame_stack=config.task.frame_stack,
    )
    log = EpisodeLog(
        run_dir / EPISODES,
        policy_keys(*config.encoders),
        frame_stack=config.task.frame_stack,
        state_stack=config.task.state_stack,
        # Of interventions the demonstrations may keep more than the newest transitions.
        capacity=None
        if interventions and config.replay.interventions_join_demos
        else config.replay.capacity,
        keep_successes=config.replay.retains_successes or bool(self_imitation),
    )
    workers = config.collector.workers or 0
    rollouts = build_rollouts(
        workers,
        config.task,
        env,
        agent.rollout_policies,
        episode_timeout=config.collector.episode_timeout,
        ray=config.collector.ray if config.collector.backend == "ray" else None,
    )
    with closing(rollouts):
        _train(
            config,
            run_dir,
            agent,
            learner,
            replay,
            self_imitation,
            log,
            rollouts,
            device,
            checkpoint,
            example=episodes[0],
            longest=max(map(len, episodes)),
            interventions=interventions,
        )


def _train(
    config: TrainConfig,
    run_dir: Path,
    agent: Agent,
    learner: Learner,
    replay: Replay,
    self_imitation: Mapping[str, SelfImitation],
    log: EpisodeLog,
    rollouts: Rollouts,
    device: torch.device,
    checkpoint: Checkpoint | None,
    *,
    example: TensorDict,
    longest: int,
    interventions: bool,
) -> None:
    limit = config.algo.episode_limit
    max_steps = None if limit is None else math.ceil(limit * longest)
    counters = Counters() if checkpoint is None else checkpoint.counters
    collector = EpisodeCollector(
        rollouts,
        seed=config.seed,
        warmup_episodes=config.algo.warmup.episodes,
        exploration_share=config.algo.exploration_share,
        max_steps=max_steps,
        overlap=config.collector.overlap and config.collector.workers != 0,
        num_completed=counters.episodes,
        in_flight=() if checkpoint is None else checkpoint.in_flight,
    )
    state = TrainingState(
        run_dir,
        config.task.label,
        learner,
        replay,
        log,
        collector,
        counters,
        example,
        run_origin(run_dir),
        self_imitation,
        None if agent.fallback is None else agent.fallback.test,
    )
    if checkpoint is not None:  # before the tables are cut to its lengths
        state.require_fits(checkpoint)
    logger = RunLogger(
        config,
        state,
        rollouts,
        LoggerState() if checkpoint is None else checkpoint.logger,
        proposals=agent.proposals,
        target_proposals=agent.target_proposals,
        metrics=[*agent.metrics, *map(imitation_loss_column, self_imitation)],
        interventions=interventions,
    )
    with closing(logger):
        if checkpoint is None:
            results = logger.evaluate_imitation()
            if (name := config.algo.fallback.policy) is not None and agent.fallback is not None:
                agent.fallback.test.require(results[name].success_rate)
            for line in _collection_lines(config, results, longest, max_steps):
                echo(line)
        else:
            state.restore(checkpoint, refill=counters.frames < config.total_frames)
            echo(f"resuming from frame {counters.frames}")
        schedule_learning(agent, config.algo, counters)
        interrupt = InterruptHandler()

        def on_episode(metrics: dict[str, float]) -> None:
            if agent.fallback is not None:
                agent.fallback.test.update(tested_episodes(counters.successes, config.algo))
            schedule_learning(agent, config.algo, counters)
            logger.after_episode(metrics)
            interrupt.check()

        # Evaluations before and after are done anew when the run is resumed.
        with interrupt:
            try:
                train(
                    _logged(collector, log),
                    learner,
                    replay,
                    counters,
                    total_frames=config.total_frames,
                    frames_per_round=config.algo.update.frames_per_round,
                    proposals=agent.proposals,
                    device=device,
                    on_episode=on_episode,
                    warmup_updates=config.algo.warmup.updates,
                    actor_after=config.algo.update.actor_after,
                    self_imitation=self_imitation,
                )
            except NotFinite:
                state.save_networks(FAILED, counters.frames, state.networks())
                echo(f"networks at that time: {run_dir / FAILED}")
                raise
            except Interrupted:
                logger.checkpoint()
                echo(f"stopped; resume with: ibrl train resume={run_dir}")
                echo(f"or evaluate it with: ibrl eval {run_dir}")
                raise
        logger.finish()


def tested_episodes(successes: Sequence[bool], algo: AlgoConfig) -> Sequence[bool]:
    """Outcomes that tell what the hybrid does: of episodes without exploration, if there are any.

    Args:
        successes: outcomes of all training episodes.
        algo: settings of the algorithm.
    """
    learned, share = successes[algo.warmup.episodes :], algo.exploration_share
    if share == 1:
        return learned
    return [each for index, each in enumerate(learned) if not explores(index, share)]


def schedule_learning(agent: Agent, algo: AlgoConfig, counters: Counters) -> None:
    """Let critics decide more once they have learned enough and no fallback acts.

    They scale the cloning term, and value the exploration actor's action in the target.

    Args:
        agent: agent of any loss; those without such parts are left alone.
        algo: settings of the algorithm.
        counters: frames and outcomes of the training episodes so far.
    """
    is_proven = agent.fallback is None or bool(agent.fallback.test.is_passed)
    if algo.exploration_bootstrap and agent.fallback is not None:
        has_succeeded = agent.fallback.test.is_reached(counters.exploration_successes)
        cast(IBRLTD3Loss, agent.loss).set_exploration_bootstrap(is_proven and has_succeeded)
    if isinstance(agent.loss, BCRegularizedTD3Loss):
        is_due = is_proven and counters.frames >= algo.loss.q_filter_after
        agent.loss.set_q_filter(_q_filter_weight(algo, counters.successes) if is_due else 0.0)


def _q_filter_weight(algo: AlgoConfig, successes: Sequence[bool]) -> float:
    episodes = algo.loss.q_filter_episodes
    recent = [] if episodes is None else tested_episodes(successes, algo)[-episodes:]
    # The root: a term that yields in proportion to failures holds back what succeeds mostly.
    return (1 - sum(recent) / len(recent)) ** 0.5 if recent else 1.0


def _collection_lines(
    config: TrainConfig, results: Mapping[str, Evaluation], longest: int, max_steps: int | None
) -> Iterator[str]:
    """Limit of training episodes, frames of the warm-up, warnings of settings that do not fit.

    Args:
        config: settings of the run.
        results: evaluations of the imitation policies, which tell the length of its episodes.
        longest: frames of the longest demonstration.
        max_steps: limit of the training episodes; None: none.
    """
    warmup = config.algo.warmup
    if (warning := discount_warning(config.algo.loss.gamma, longest)) is not None:
        yield warning
    if max_steps is not None:
        yield f"training episodes: at most {max_steps} frames"
    # Random actions hardly ever succeed.
    lengths = [config.task.horizon or math.inf]
    if warmup.policy in results:
        lengths = [episode.frames for episode in results[warmup.policy].episodes]
    limit = math.inf if max_steps is None else max_steps
    length = sum(min(each, limit) for each in lengths) / len(lengths)
    if math.isinf(length):  # until the environment ends the episode
        return
    frames, rounds, _ = budget(config, length)
    yield f"warm-up: about {frames} frames by {warmup.policy}, then about {rounds} update rounds"
    if (warning := warmup_warning(config, length)) is not None:
        yield warning


def _logged(collector: EpisodeCollector, log: EpisodeLog) -> Iterator[CollectedEpisode]:
    """Collected episodes, each appended to the log as it is taken."""
    for collected in collector:
        log.append(collected.episode)
        yield collected
