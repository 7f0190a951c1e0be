"""What films show: episodes of a policy, and demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

import torch
from PIL import Image
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torchrl.envs import EnvBase

from ibrl_torchrl.data.demos.playback import DemoPlayback, reset_to_trajectory
from ibrl_torchrl.evaluation.evaluate import evaluate
from ibrl_torchrl.evaluation.video.overlay import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Caption,
    ValueBar,
    annotate,
)
from ibrl_torchrl.evaluation.video.writer import FPS
from ibrl_torchrl.keys import ACTION, PROPOSAL, PROPOSAL_VALUES

# In the order of the proposals' numbers.
PROPOSERS = (("RL actor", BLUE), ("imitation", ORANGE))
ENDING = FPS  # frames for which the end of an episode stays


def policy_frames(
    env: EnvBase, policy: TensorDictModuleBase, seeds: Iterable[int], size: int
) -> Iterator[Image.Image]:
    """Play episodes as :func:`evaluate` does and mark who decided, by which values.

    A frame shows what the policy is about to act on. Its border has the colour of the proposal
    that is executed; the bars are the critics' values of all proposals, empty for a policy that
    asks no critics. The last picture of an episode has no decision and tells the outcome.

    Args:
        env: an unbatched environment with ``render()``.
        policy: writes ``action``, ``proposal`` (0 the RL actor, 1 the imitation policy) and, if it
            has any, ``proposal_values``.
        seeds: names of the start states.
        size: height and width of the pictures.

    Yields:
        One frame for each step, and ``ENDING`` equal ones after each episode.
    """
    for seed in seeds:
        title = f"seed {seed}"
        frames: list[Image.Image] = []

        def watch(step, title=title, frames=frames):
            caption = _decision(step, title, len(frames))
            frames.append(annotate(env.render(size=size), caption))
            return step

        (outcome,) = evaluate(env, TensorDictSequential(policy, watch), [seed]).episodes
        label, colour = ("success", GREEN) if outcome.success else ("no success", GREY)
        end = Caption(title, len(frames), label, colour, _bars([], None))
        yield from frames
        yield from [annotate(env.render(size=size), end)] * ENDING


def _decision(step: TensorDictBase, title: str, frame: int) -> Caption:
    acting = int(step.get(PROPOSAL))
    values = step.get(PROPOSAL_VALUES, None)
    bars = _bars([] if values is None else values.tolist(), acting)
    name, colour = PROPOSERS[acting]
    return Caption(title, frame, f"{name} acts", colour, bars)


def _bars(values: list[float], acting: int | None) -> tuple[ValueBar, ...]:
    return tuple(
        ValueBar(f"Q({name})", colour, value, bright=index == acting)
        for index, ((name, colour), value) in enumerate(zip_longest(PROPOSERS, values))
    )


def demo_frames(source: DemoPlayback, size: int) -> Iterator[Image.Image]:
    """Replay demonstrations from their simulator states.

    Args:
        source: episodes with rewards, as ``save_demos`` writes them.
        size: height and width of the pictures.

    Yields:
        One frame for each step, and ``ENDING`` equal ones after each episode, which show what its
        last action led to.
    """
    env = source.env
    for episode, recording in enumerate(source.recordings):
        reset_to_trajectory(env, recording, source.env_args)
        rewards = [0.0, *recording.rewards]  # each came with the state that follows
        for frame, state in enumerate(recording.simulator_states):
            observation = env.set_simulator_state(state)
            yield annotate(env.render(size=size), _reward(episode, frame, rewards[frame]))
        env.step(observation.set(ACTION, torch.from_numpy(recording.actions[-1])))
        end = annotate(env.render(size=size), _reward(episode, frame + 1, rewards[-1]))
        yield from [end] * ENDING


def _reward(episode: int, frame: int, reward: float) -> Caption:
    return Caption(f"episode {episode}", frame, f"reward {reward:g}", GREEN if reward else GREY)
