"""TorchRL environments of Gymnasium's tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torchrl.envs import EnvBase, GymWrapper, RenameTransform, TransformedEnv

from ibrl_torchrl.envs.interventions import reports_interventions
from ibrl_torchrl.envs.success import success_rule
from ibrl_torchrl.errors import UsageError, brief, require_extra, unknown_name
from ibrl_torchrl.keys import STATE

DEFAULT_SUCCESS = "info:is_success"
# Packages that register their environments when they are imported, under names without a namespace.
_PROVIDERS = ("gymnasium_robotics",)


class GymTask(GymWrapper):
    """Gymnasium environment as a task, below the transforms that :func:`gym_env` adds.

    A seed fixes the next initial state, that of ``env.reset(seed=seed)``; later ones are drawn from
    the environment's generator.

    Args:
        env: environment wrapped in ``TaskInterface``.
        frame_skip: simulator steps per action.
        device: device of the tensors; the simulator itself runs on the CPU.
    """

    def __init__(self, env: Any, *, frame_skip: int, device: Any = None, **kwargs: Any) -> None:
        super().__init__(env, frame_skip=frame_skip, device=device, **kwargs)
        self._next_seed: int | None = None
        self.state_parts: dict[str, int] = dict(env.state_parts)
        self.horizon: int | None = None
        self.env_args: dict[str, Any] = {}

    def _set_seed(self, seed: int | None) -> None:
        self._next_seed = seed

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        seed, self._next_seed = self._next_seed, None
        return super()._reset(tensordict, **({"seed": seed} | kwargs))

    def render(
        self, camera: str | None = None, size: int = 384, quality: str = "full"
    ) -> np.ndarray:
        """Render an image for people; observations do not depend on it.

        Args:
            camera: RGB entry of the observation; None (default) for the environment's ``render()``.
            size: height and width in pixels.
            quality: ignored, the environment decides.

        Returns:
            RGB image, uint8 [H, W, 3].

        Raises:
            UsageError: the camera is unknown, or the environment does not render.
        """
        del quality
        return self._env.image(camera or "render", size)


def gym_env(
    task: str,
    *,
    success: str = DEFAULT_SUCCESS,
    action_repeat: int = 1,
    horizon: int | None = None,
    seed: int | None = None,
    proprio: Sequence[str] = (),
    cameras: Sequence[str] = (),
    image_size: int = 96,
    render_quality: str = "fast",
    interventions: bool = False,
    device: torch.device | str | None = None,
    **settings: Any,
) -> EnvBase:
    """Create a task from an environment of Gymnasium, through TorchRL's ``GymWrapper``.

    The keys are those of :class:`SparseRewardEnv`: ``state`` has all low-dimensional entries of the
    observation, flattened, in the order of its space; ``state_parts`` has their names and sizes.
    There is no ``proprio`` unless it is asked for. Success gives a reward of 1 and terminates; the
    environment's own termination ends an episode without.

    An environment in which somebody else may act instead of the policy, and whose first step says
    so (``info["is_intervention"]``), also observes ``intervention`` and ``executed_action``, see
    :class:`~ibrl_torchrl.envs.gym_interface.TaskInterface`; of the simulator steps of an action the
    last one counts.

    Args:
        task: id, such as ``"FetchPush-v4"``, ``"gym_pusht/PushT-v0"`` (the namespace is imported)
            or ``"my_module:MyTask-v0"`` (so is the module, which registers the environment).
        success: ``"info:KEY"`` (default ``"info:is_success"``), ``"reward:NUMBER"`` (of one step,
            at least) or ``"terminated"``.
        action_repeat: simulator steps per action, default 1; a success or end stops them.
        horizon: environment steps per episode; default None, the id's ``max_episode_steps``.
        seed: seed of the next initial state; default None, entropy of the operating system.
        proprio: entries of the observation that make up ``proprio``. Default none.
        cameras: images to observe: RGB entries of the observation, or ``"render"``, those of the
            environment's ``render()``. Default none.
        image_size: height and width of the images in pixels, default 96.
        render_quality: ``"fast"``; the environment decides.
        interventions: the environment has interventions and its ``info`` names them only where they
            happen (``info["intervene_action"]``). Default False: as the first step says.
        device: device of the tensors; the simulator itself runs on the CPU.
        settings: further arguments of the environment, such as ``obs_type="pixels"``.

    Returns:
        Environment with the environment's own bounds of actions.

    Raises:
        UsageError: gymnasium or the environment's package is not installed; the id, an entry or a
            camera is unknown; the environment has no success as described, no time limit, or
            discrete or unbounded actions.

    Examples:
        >>> env = gym_env("MountainCarContinuous-v0", success="terminated", seed=0)
        >>> env.rollout(3)["next", "reward"].shape
        torch.Size([3, 1])
    """
    gymnasium = require_extra("gymnasium", "gym")
    from ibrl_torchrl.envs.gym_interface import STATE_ENTRY, TaskInterface

    if action_repeat < 1 or (horizon is not None and horizon < 1):
        raise ValueError(f"action_repeat={action_repeat} and horizon={horizon} must be at least 1")
    rule = success_rule(success)
    spec = _registered(gymnasium, task)
    limit = spec.max_episode_steps if horizon is None else horizon * action_repeat
    if limit is None:
        raise UsageError(f"{task} has no time limit; set task.horizon")
    made = _make(
        lambda: gymnasium.make(
            spec,
            max_episode_steps=limit,
            disable_env_checker=True,
            **(_render_mode(gymnasium, spec) | settings),
        ),
        task,
    )
    make_interface = partial(
        TaskInterface, made, rule, proprio=proprio, cameras=cameras, image_size=image_size
    )
    try:
        interface = make_interface(interventions=True)
        if not (reports_interventions(_probe(interface)) or interventions):
            interface = make_interface()
    except UsageError as error:
        made.close()
        raise UsageError(f"{task}: {error}") from error
    base = GymTask(interface, frame_skip=action_repeat, device=device)
    base.horizon = math.ceil(limit / action_repeat)
    base.env_args = {
        "env_name": task,
        "env_version": _version(spec),
        "type": "gym",
        "env_kwargs": {
            "success": success,
            "action_repeat": action_repeat,
            "horizon": base.horizon,
            **({"interventions": True} if interventions else {}),
            **({"proprio": [*proprio]} if proprio else {}),
            **(
                {"cameras": [*cameras], "image_size": image_size, "render_quality": render_quality}
                if cameras
                else {}
            ),
            **settings,
        },
    }
    base.set_seed(seed)
    if not interface.state_parts:
        return base
    return TransformedEnv(base, RenameTransform([STATE_ENTRY], [STATE]))


def _registered(gymnasium: Any, task: str) -> Any:
    """Specification of an id, whose package is imported if need be.

    Raises:
        UsageError: there is none.
    """
    module, colon, name = task.rpartition(":")
    namespace = name.rpartition("/")[0]
    if colon:
        _import(module, task)
    elif name not in gymnasium.registry and namespace:
        _import(namespace, task)
    for provider in _PROVIDERS:
        if name in gymnasium.registry:
            break
        _import_if_installed(provider)
    if name not in gymnasium.registry:
        raise _unknown(name, gymnasium.registry)
    return gymnasium.spec(name)


def _import(module: str, task: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).split(".")[0]
        raise UsageError(
            f"task.name={task}: {package} is not installed; install its package (such as pip "
            f"install {package.replace('_', '-')}), or set PYTHONPATH to its folder"
        ) from error


def _import_if_installed(module: str) -> None:
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise


def _unknown(name: str, registry: Iterable[str]) -> UsageError:
    """Error for an unknown id, with those of the same name or nearly so."""
    error = unknown_name("Gymnasium environment", name, registry)
    hint = str(error).partition("; ")[2]
    if not hint.startswith("did you mean"):
        hint = "ids of other packages need these (ibrl_torchrl[gym] has Fetch and Adroit)"
    return UsageError(f"unknown Gymnasium environment {name!r}; {hint}; or name its MODULE:ID")


def _render_mode(gymnasium: Any, spec: Any) -> dict[str, str]:
    """Argument for images, if the environment's class states that it takes it."""
    creator = spec.entry_point
    if isinstance(creator, str):
        creator = _make(lambda: gymnasium.envs.registration.load_env_creator(creator), spec.id)
    modes = getattr(creator, "metadata", {}).get("render_modes", ())
    taken = signature(creator).parameters.values()
    is_taken = any(
        each.name == "render_mode" or each.kind == Parameter.VAR_KEYWORD for each in taken
    )
    return {"render_mode": "rgb_array"} if is_taken and "rgb_array" in modes else {}


def _make(create: Callable[[], Any], task: str) -> Any:
    try:
        return create()
    except Exception as error:  # simulators raise various types for invalid arguments
        reason = brief(error, 300) or type(error).__name__
        raise UsageError(f"cannot create {task}: {reason}") from error


def _probe(env: Any) -> Mapping[str, Any]:
    """Take a step, to refuse an environment that does not report success before a run begins.

    Returns:
        Its ``info``.

    Raises:
        UsageError: it does not, or cannot take a step.
    """
    space = env.action_space
    try:
        env.reset(seed=0)
        *_, info = env.step(((space.low + space.high) / 2).astype(space.dtype))
    except UsageError:
        raise
    except Exception as error:  # simulators raise various types
        reason = brief(error, 300) or type(error).__name__
        raise UsageError(f"cannot take a step ({reason}); check the environment alone") from error
    return info


def _version(spec: Any) -> str:
    """Version of the package that provides an environment, or else of gymnasium."""
    provider = getattr(spec.entry_point, "__module__", spec.entry_point)
    for package in (str(provider).split(".")[0].replace("_", "-"), "gymnasium"):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return "unknown"
