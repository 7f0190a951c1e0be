"""Collect successful episodes of a policy as demonstrations."""

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
    """Yield successful episodes as they are found.

    Attempt ``i`` starts from ``env.set_seed(seed + i)``, so the start states depend on ``seed``
    alone, whatever the policy.

    Args:
        env: an unbatched environment that ends its episodes itself, reports ``success`` and has
            ``simulator_state()``.
        policy: writes ``action``; it is called without gradients. It also finds ``is_init``, bool
            [1], True with the first observation of an episode; that is not recorded.
        episodes: how many successful episodes to yield.
        seed: seed of the first attempt.
        max_attempts: attempts after which to give up; None allows ten for each episode.

    Yields:
        One TensorDict [T] per episode in TorchRL's layout: observations and ``action`` at the
        root, their outcome under ``next``, and ``simulator_state``, float64 [T, n], as it was
        before each action; where the environment has it, ``model_xml``, text.

    Raises:
        UsageError: the attempts are used up.
    """
    if max_attempts is None:
        max_attempts = 10 * episodes
    found = 0
    for attempt in range(max_attempts):
        if found == episodes:
            return
        env.set_seed(seed + attempt)
        episode = _run_episode(env, policy)
        if episode[NEXT, SUCCESS].any():
            found += 1
            yield episode
    if found < episodes:
        raise UsageError(
            f"{found} of {episodes} episodes succeeded in {max_attempts} attempts; "
            "allow more attempts or use a better policy"
        )


@torch.no_grad()
def _run_episode(env: EnvBase, policy: Callable[[TensorDictBase], TensorDictBase]) -> TensorDict:
    steps = []
    observation = env.reset()
    while True:
        state = torch.from_numpy(env.simulator_state())
        step = env.step(policy(observation.set(IS_INIT, torch.tensor([not steps]))))
        step = step.exclude(IS_INIT, (NEXT, IS_INIT)).set(SIMULATOR_STATE, state)
        steps.append(step)
        if step[NEXT, DONE].any():
            episode = torch.stack(steps).contiguous()
            if (model := getattr(env, "model_xml", None)) is not None:
                episode.set_non_tensor(MODEL_XML, model)
            return episode
        observation = step_mdp(step).exclude(SIMULATOR_STATE)
