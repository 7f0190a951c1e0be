"""Record successful episodes of a policy as demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.utils import step_mdp

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import DONE, IS_INIT, MODEL_XML, NEXT, SIMULATOR_STATE, SUCCESS


def record_demos(
    env: EnvBase,
    policy: Callable[[TensorDictBase], TensorDictBase],
    episodes: int,
    *,
    seed: int = 0,
    max_attempts: int | None = None,
) -> Iterator[TensorDict]:
    """Record successful episodes of a policy.

    Attempt ``i`` starts from ``env.set_seed(seed + i)``, so initial states depend on ``seed`` alone
    and not on the policy.

    Args:
        env: unbatched environment with a horizon, the observation ``success`` and the method
            ``simulator_state()``.
        policy: writes ``action``; it is called without gradients. Its input has ``is_init`` too,
            bool [1], True for the first observation of an episode, which is not recorded.
        episodes: number of successful episodes.
        seed: seed of the first attempt, default 0.
        max_attempts: maximum number of attempts; None (default) allows ten per episode.

    Yields:
        One TensorDict [T] per episode in TorchRL's layout: observations and ``action`` at the
        root, next observations, reward and flags under ``next``, ``simulator_state`` before each
        action, float64 [T, n], and, if the environment has it, ``model_xml``, text.

    Raises:
        UsageError: fewer episodes succeeded in ``max_attempts`` attempts.
    """
    if max_attempts is None:
        max_attempts = 10 * episodes
    num_successes = 0
    for attempt in range(max_attempts):
        if num_successes == episodes:
            return
        env.set_seed(seed + attempt)
        episode = record_episode(env, policy)
        if episode[NEXT, SUCCESS].any():
            num_successes += 1
            yield episode
    if num_successes < episodes:
        raise UsageError(
            f"{num_successes} of {episodes} episodes succeeded in {max_attempts} attempts; "
            "allow more attempts or use a better policy"
        )


@torch.no_grad()
def record_episode(env: EnvBase, policy: Callable[[TensorDictBase], TensorDictBase]) -> TensorDict:
    """Record one episode of a policy, successful or not, see :func:`record_demos`.

    Args:
        env: see :func:`record_demos`; its seed decides the initial state.
        policy: see there; what it writes besides ``action`` is part of the episode.
    """
    steps: list[TensorDictBase] = []
    observation = env.reset()
    while True:
        state = torch.from_numpy(env.simulator_state())
        step = env.step(policy(observation.set(IS_INIT, torch.tensor([not steps]))))
        step = step.exclude(IS_INIT, (NEXT, IS_INIT)).set(SIMULATOR_STATE, state)
        steps.append(step)
        if step[NEXT, DONE].any():
            episode = TensorDict.stack(steps).contiguous()
            if (model := getattr(env, "model_xml", None)) is not None:
                episode.set_non_tensor(MODEL_XML, model)
            return episode
        observation = step_mdp(step).exclude(SIMULATOR_STATE)
