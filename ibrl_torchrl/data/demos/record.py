"""Record successful episodes of a policy as demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.utils import step_mdp

from ibrl_torchrl.episodes import executed_episode
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import (
    DONE,
    IS_INIT,
    MODEL_XML,
    NEXT,
    REWARD,
    SIMULATOR_STATE,
    SUCCESS,
    TERMINATED,
)

Success = Callable[[TensorDictBase], bool | torch.Tensor]


def record_demos(
    env: EnvBase,
    policy: Callable[[TensorDictBase], TensorDictBase],
    episodes: int,
    *,
    seed: int = 0,
    max_attempts: int | None = None,
    success: Success | None = None,
) -> Iterator[TensorDict]:
    """Record successful episodes of a policy.

    Attempt ``i`` starts from ``env.set_seed(seed + i)``, so initial states depend on ``seed`` alone
    and not on the policy.

    Args:
        env: unbatched TorchRL environment that ends its episodes, with the observation ``success``
            unless ``success`` is given.
        policy: writes ``action``; it is called without gradients. Its input has ``is_init`` too,
            bool [1], True for the first observation of an episode, which is not recorded.
        episodes: number of successful episodes.
        seed: seed of the first attempt, default 0.
        max_attempts: maximum number of attempts; None (default) allows ten per episode.
        success: whether a step, a TensorDict [] with its results under ``next``, solves the task,
            for environments that do not observe it; the first such step ends its episode with a
            reward of 1, others have 0. Default None.

    Yields:
        One TensorDict [T] per episode in TorchRL's layout: observations and ``action`` at the
        root, next observations, reward and flags under ``next``, and, if the environment has them,
        ``simulator_state`` before each action, float64 [T, n] (method ``simulator_state()``),
        ``model_xml``, text, and ``intervention``, bool [T, 1]: where it is true ``action`` is that
        of somebody else, which was executed.

    Raises:
        UsageError: fewer episodes succeeded in ``max_attempts`` attempts, or the environment does
            not observe success.
    """
    if max_attempts is None:
        max_attempts = 10 * episodes
    num_successes = 0
    for attempt in range(max_attempts):
        if num_successes == episodes:
            return
        env.set_seed(seed + attempt)
        episode = record_episode(env, policy, success)
        if episode[NEXT, SUCCESS].any():
            num_successes += 1
            yield episode
    if num_successes < episodes:
        raise UsageError(
            f"{num_successes} of {episodes} episodes succeeded in {max_attempts} attempts; "
            "allow more attempts or use a better policy"
        )


def _set_outcome(step: TensorDictBase, solved: bool) -> None:
    """Write success, the sparse reward and the end that follows from them."""
    result = step[NEXT]
    solved_flag = torch.full_like(result[DONE], solved)
    step[SUCCESS] = torch.zeros_like(solved_flag)  # a success ends the episode
    result[SUCCESS], result[REWARD] = solved_flag, solved_flag.float()
    result[TERMINATED] = solved_flag | result.get(TERMINATED, torch.zeros_like(solved_flag))
    result[DONE] = solved_flag | result[DONE]


@torch.no_grad()
def record_episode(
    env: EnvBase,
    policy: Callable[[TensorDictBase], TensorDictBase],
    success: Success | None = None,
) -> TensorDict:
    """Record one episode of a policy, successful or not, see :func:`record_demos`.

    Args:
        env: see :func:`record_demos`; its seed decides the initial state.
        policy: see there; what it writes besides ``action`` is part of the episode.
        success: see there.
    """
    steps: list[TensorDictBase] = []
    simulator_state = getattr(env, "simulator_state", None)
    observation = env.reset()
    while True:
        state = None if simulator_state is None else torch.from_numpy(simulator_state())
        step = env.step(policy(observation.set(IS_INIT, torch.tensor([not steps]))))
        step = step.exclude(IS_INIT, (NEXT, IS_INIT))
        if state is not None:
            step.set(SIMULATOR_STATE, state)
        if success is not None:
            _set_outcome(step, bool(success(step)))
        elif (NEXT, SUCCESS) not in step.keys(True):
            raise UsageError(
                f"{type(env).__name__} has no observation success; give record_demos a function "
                "success=, of a step"
            )
        steps.append(step)
        if step[NEXT, DONE].any():
            episode = executed_episode(TensorDict.stack(steps).contiguous())
            if (model := getattr(env, "model_xml", None)) is not None:
                episode.set_non_tensor(MODEL_XML, model)
            return episode
        observation = step_mdp(step).exclude(SIMULATOR_STATE)
