"""What every environment of a task has, whichever suite made it."""

from __future__ import annotations

import torch
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.data.tensor_specs import ContinuousBox
from torchrl.envs import ActionScaling, EnvBase, ObservationNorm, Transform, TransformedEnv

from ibrl_torchrl.envs.base import SparseRewardEnv
from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.keys import ACTION, EXECUTED_ACTION, INTERVENTION, STATE, SUCCESS


def task_env(env: object, suite: str) -> EnvBase:
    """Environment of a task with actions in [-1, 1], from an environment with any finite bounds.

    Args:
        env: what a suite has created.
        suite: name of the suite, for messages.

    Returns:
        The environment itself, or with TorchRL's ``ActionScaling``, which maps [-1, 1] linearly to
        its bounds. ``executed_action`` of an environment with interventions is mapped likewise.

    Raises:
        UsageError: it is no unbatched TorchRL environment with the observation ``success`` and with
            ``state`` or images, its actions are no bounded vector, or it reports interventions
            without executed actions, or these without them.
    """
    where = f"task.suite={suite}"
    if not isinstance(env, EnvBase) or env.batch_size:
        raise UsageError(f"{where}: made {brief(env)}; return an unbatched TorchRL environment")
    observations = env.observation_spec
    keys = [*map(str, observations.keys())]
    found = ", ".join(keys) or "none"
    if SUCCESS not in keys or observations[SUCCESS].shape != torch.Size([1]):
        raise UsageError(
            f"{where}: the environment has no observation success, bool [1], it has {found}; "
            "write one, which is true where the task is solved"
        )
    if STATE not in keys and not any(key.endswith("_image") for key in keys):
        raise UsageError(
            f"{where}: the environment has no observation state, float32 [S], it has {found}; "
            "rename yours by RenameTransform or choose task.cameras"
        )
    spec = env.full_action_spec.get(ACTION, None)
    if not _is_bounded_vector(spec):
        raise UsageError(
            f"{where}: the environment's actions are {brief(spec)}, must be action, float32 [A], "
            "with finite bounds; give it such an action spec (torchrl.data.Bounded)"
        )
    _require_reports(observations, spec.shape, where)
    space = spec.space
    if bool((space.low == -1).all() and (space.high == 1).all()):
        return env
    scaled: TransformedEnv = TransformedEnv(env, ActionScaling(), auto_unwrap=True)
    return scaled.append_transform(_executed_scaling(space)) if INTERVENTION in keys else scaled


def _executed_scaling(space: ContinuousBox) -> Transform:
    """Map of executed actions from the environment's bounds to [-1, 1]."""
    loc, scale = (space.high + space.low) / 2, (space.high - space.low) / 2
    return ObservationNorm(loc, scale, [EXECUTED_ACTION], standard_normal=True)


def _require_reports(observations: Composite, action_shape: torch.Size, where: str) -> None:
    """Refuse reports of interventions that are incomplete.

    Raises:
        UsageError: names the observation and its shape.
    """
    shapes = {INTERVENTION: torch.Size([1]), EXECUTED_ACTION: action_shape}
    if not any(key in observations for key in shapes):
        return
    for key, shape in shapes.items():
        found = observations[key].shape if key in observations else None
        if found != shape:
            raise UsageError(
                f"{where}: the environment's observation {key} has shape {found and [*found]}, "
                f"must be {[*shape]}; report both {INTERVENTION}, bool [1], and {EXECUTED_ACTION}"
            )


def require_simulator(env: EnvBase, purpose: str) -> SparseRewardEnv:
    """The simulator below an environment's transforms, whose states can be restored.

    Args:
        env: environment of a task.
        purpose: what needs them, for the message, such as ``"playback"``.

    Raises:
        UsageError: the environment has no simulator states.
    """
    simulator = getattr(env, "base_env", env)
    if not isinstance(simulator, SparseRewardEnv):
        name = type(simulator).__name__
        raise UsageError(
            f"{purpose} needs an environment whose simulator states can be restored, and {name} "
            "has none; use a task of metaworld or robosuite"
        )
    return simulator


def _is_bounded_vector(spec: object) -> bool:
    """Whether actions are a real vector within finite bounds, low < high."""
    if not isinstance(spec, Bounded) or isinstance(spec, (Composite, Unbounded)):
        return False
    if spec.ndim != 1 or not spec.dtype.is_floating_point:
        return False
    bounds = torch.stack([spec.space.low, spec.space.high])
    limit = torch.finfo(spec.dtype).max  # TorchRL's bound of unbounded entries
    return bool((bounds.abs() < limit).all() and (bounds[0] < bounds[1]).all())
