"""Video frames of a policy's episodes and of demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from PIL import Image
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torchrl.envs import EnvBase

from ibrl_torchrl.data.demos.playback import DemoPlayback, reset_to_trajectory
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.evaluation.evaluate import evaluate
from ibrl_torchrl.evaluation.simulator import unwrapped
from ibrl_torchrl.evaluation.video.overlay import (
    GREEN,
    GREY,
    Caption,
    ValueBar,
    annotate,
    proposal_colour,
)
from ibrl_torchrl.evaluation.video.writer import FPS
from ibrl_torchrl.keys import ACTION, PROPOSAL, PROPOSAL_VALUES

FINAL_FRAMES = FPS  # one second of the final state


def require_camera(env: EnvBase, camera: str | None, size: int) -> None:
    """Refuse an unknown camera before anything slow, by rendering an image.

    Raises:
        UsageError: the camera is unknown, no OpenGL backend is available, or the environment does
            not render.
    """
    simulator = unwrapped(env)
    if not hasattr(simulator, "render"):
        name = type(simulator).__name__
        raise UsageError(f"{name} renders no videos; give it a method render(camera, size)")
    simulator.render(camera, size)


def policy_frames(
    env: EnvBase,
    policy: TensorDictModuleBase,
    seeds: Iterable[int],
    size: int,
    proposals: Sequence[str],
    camera: str | None = None,
) -> Iterator[Image.Image]:
    """Render episodes as :func:`evaluate` runs them, annotated with the policy's selection.

    A frame shows the state before an action. Its border has the colour of the executed proposal;
    the bars are the critics' values of all proposals, empty for a policy without critics. The final
    frame of an episode shows the state after the last action, and whether the task is solved.

    Args:
        env: unbatched environment of a simulator.
        policy: writes ``action``, ``proposal``, an index into ``proposals``, and, if it has
            critics, ``proposal_values`` [N] in the order of ``proposals``.
        seeds: seeds of the initial states.
        size: height and width of the rendered images in pixels.
        proposals: names of the N proposals, such as ``("rl", "bc")``.
        camera: name of the camera; None (default) for the suite's.

    Yields:
        One frame a step, and ``FINAL_FRAMES`` equal ones after each episode.
    """
    simulator = unwrapped(env)
    for seed in seeds:
        title = f"seed {seed}"
        frames: list[Image.Image] = []

        def render_step(
            step: TensorDictBase, title: str = title, frames: list[Image.Image] = frames
        ) -> TensorDictBase:
            caption = _selection_caption(step, title, len(frames), proposals)
            frames.append(annotate(simulator.render(camera, size), caption))
            return step

        (outcome,) = evaluate(env, TensorDictSequential(policy, render_step), [seed]).episodes
        label, colour = ("success", GREEN) if outcome.success else ("no success", GREY)
        final = Caption(title, len(frames), label, colour, _value_bars(proposals))
        yield from frames
        yield from [annotate(simulator.render(camera, size), final)] * FINAL_FRAMES


def _selection_caption(
    step: TensorDictBase, title: str, frame: int, proposals: Sequence[str]
) -> Caption:
    index = int(step[PROPOSAL])
    values = step.get(PROPOSAL_VALUES, None)
    return Caption(
        title,
        frame,
        f"proposal: {proposals[index]}",
        proposal_colour(index),
        _value_bars(proposals, None if values is None else values.tolist(), index),
    )


def _value_bars(
    proposals: Sequence[str], values: Sequence[float] | None = None, executed: int | None = None
) -> tuple[ValueBar, ...]:
    return tuple(
        ValueBar(
            f"Q({name})",
            proposal_colour(index),
            None if values is None else values[index],
            bright=index == executed,
        )
        for index, name in enumerate(proposals)
    )


def demo_frames(
    source: DemoPlayback, size: int, camera: str | None = None
) -> Iterator[Image.Image]:
    """Render demonstrations from their simulator states.

    Args:
        source: episodes with rewards, as ``save_demos`` writes them.
        size: height and width of the rendered images in pixels.
        camera: name of the camera; None (default) for the suite's.

    Yields:
        One frame a step, and after each episode ``FINAL_FRAMES`` equal ones of the state after its
        last action.

    Raises:
        ValueError: an episode has no rewards.
    """
    env = source.env
    for episode, trajectory in enumerate(source.recordings):
        reset_to_trajectory(env, trajectory, source.env_args)
        if trajectory.rewards is None:
            raise ValueError(f"{trajectory.name} has no rewards")
        rewards: list[float] = [0.0, *trajectory.rewards]  # of the action that led to a state
        for frame, state in enumerate(trajectory.simulator_states):
            observation = env.set_simulator_state(state)
            yield annotate(
                env.render(camera, size), _reward_caption(episode, frame, rewards[frame])
            )
        env.step(observation.set(ACTION, torch.from_numpy(trajectory.actions[-1])))
        final = _reward_caption(episode, len(trajectory.simulator_states), rewards[-1])
        yield from [annotate(env.render(camera, size), final)] * FINAL_FRAMES


def _reward_caption(episode: int, frame: int, reward: float) -> Caption:
    return Caption(f"episode {episode}", frame, f"reward {reward:g}", GREEN if reward else GREY)
