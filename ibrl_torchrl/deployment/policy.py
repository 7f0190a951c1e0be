"""Policy of a run that acts on arrays, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from tensordict.utils import NestedKey
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.env import ObservationStack
from ibrl_torchrl.deployment.actions import ActionScale
from ibrl_torchrl.deployment.observations import ObservationReader
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.keys import ACTION, CHUNK_STEP, PROPOSAL, PROPOSAL_VALUES
from ibrl_torchrl.modules import ChunkExecutor

Bounds = tuple[Any, Any]  # (low, high): numbers or [A]


@dataclass(frozen=True)
class Decision:
    """Action of a step and where it comes from.

    Attributes:
        action: float32 [A], as :meth:`RunPolicy.act` returned it.
        proposal: name of the proposal that it is, such as ``"rl"`` or ``"bc"``.
        values: critics' value of each proposal among which they chose, by its name; empty for
            policies without a choice.
        chunk_step: index of the action in the chunk that was chosen; 0 in the step of the choice,
            and always with single actions.

    Example:
        >>> print(Decision(np.zeros(2), "bc", {"rl": 0.25, "bc": 0.5}, chunk_step=1))
        bc of rl 0.250, bc 0.500 (action 1 of its chunk)
        >>> print(Decision(np.zeros(2), "bc", {"rl": 0.75, "bc": 0.5}, chunk_step=0))
        bc of rl 0.750, bc 0.500 (the gate excludes higher values)
    """

    action: np.ndarray
    proposal: str
    values: Mapping[str, float]
    chunk_step: int

    @property
    def is_gated(self) -> bool:
        """Whether another proposal had a higher value, which the run's gate excludes."""
        return bool(self.values) and self.values[self.proposal] < max(self.values.values())

    def __str__(self) -> str:
        if not self.values:
            reason = f"{self.proposal}, the only proposal"
        else:
            values = ", ".join(f"{name} {value:.3f}" for name, value in self.values.items())
            reason = f"{self.proposal} of {values}"
        if self.is_gated:
            reason += " (the gate excludes higher values)"
        return reason + (f" (action {self.chunk_step} of its chunk)" if self.chunk_step else "")


def recurrent_keys(module: TensorDictModuleBase) -> list[NestedKey]:
    """Keys of a policy's state, which it reads and writes at each step; empty without one."""
    return [key for key in module.out_keys if key in module.in_keys]


class RunPolicy:
    """Policy of a trained run that maps arrays to actions, without exploration.

    Chooses as the evaluations of the run do. It carries what belongs to an episode: stacks of
    observations, recurrent states and the rest of an action chunk; call :meth:`reset` before the
    first step of each.
    Made by :func:`load_policy`.

    Args:
        module: unbatched policy in eval mode that writes ``action`` and ``proposal``.
        proposals: names of the proposals, in the order of the index ``proposal``.
        spaces: spaces of the environment of the run.
        stacks: stacks of observations in that environment.
        action_bounds: bounds (low, high) of the actions to return, to which those of
            ``spaces.action_spec`` are mapped linearly; None (default): those of
            ``spaces.native_action_spec``.
        device: device of the networks.

    Attributes:
        decision: decision of the last step; None after a reset.
        module: the policy as a TensorDict module, for ``env.rollout``.
        spaces: spaces of the environment of the run.

    Raises:
        ValueError: ``action_bounds`` are not numbers or arrays [A], finite, low < high.
    """

    def __init__(
        self,
        module: TensorDictModuleBase,
        proposals: Sequence[str],
        spaces: Spaces,
        stacks: Sequence[ObservationStack] = (),
        *,
        action_bounds: Bounds | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.module = module
        self.spaces = spaces
        self.decision: Decision | None = None
        self._proposals = proposals
        self._device = device
        keys = [key for key in spaces.observation_spec if key in module.in_keys]
        self._observations = ObservationReader(keys, spaces, stacks)
        # Carried from step to step, as EnvBase.rollout does.
        is_chunked = isinstance(module, ChunkExecutor)
        self._carried_keys = module.out_keys if is_chunked else recurrent_keys(module)
        self._carried: TensorDictBase = TensorDict({}, batch_size=[])
        native = spaces.native_action_spec.space
        self._scale = ActionScale(spaces.action_spec, *(action_bounds or (native.low, native.high)))

    @property
    def observation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays that :meth:`act` reads, by key: of single steps, without stacks."""
        return self._observations.shapes

    def reset(self) -> None:
        """Start an episode: forget stacked observations and the rest of a chunk."""
        self._observations.reset()
        self._carried = TensorDict({}, batch_size=[])
        self.decision = None

    @torch.no_grad()
    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Choose the action of a step; :attr:`decision` says whose it is and why.

        Args:
            observation: arrays of the current step by key, :attr:`observation_shapes`: float
                ``state`` and ``proprio``, uint8 ``CAMERA_image`` [3, H, W]. Others are ignored.

        Returns:
            Action float32 [A] within the bounds.

        Raises:
            ValueError: an array is missing, of another shape or dtype, or not finite.
        """
        tensors = self._observations.read(observation)
        tensordict = TensorDict({**tensors}, batch_size=[]).to(self._device)
        tensordict.update(self._carried)
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            output = self.module(tensordict)
        self._carried = output.select(*self._carried_keys)
        action = self._scale(output[ACTION].cpu()).numpy()
        self.decision = self._decision(action, output)
        return action.copy()

    def _decision(self, action: np.ndarray, output: TensorDictBase) -> Decision:
        values = output.get(PROPOSAL_VALUES, None)
        step = output.get(CHUNK_STEP, None)
        return Decision(
            action,
            self._proposals[int(output[PROPOSAL])],
            # The proposals of the choice are the first ones.
            {} if values is None else dict(zip(self._proposals, values.tolist(), strict=False)),
            0 if step is None else int(step),
        )
