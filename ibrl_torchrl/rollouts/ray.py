"""Rollout backend of actors on a Ray cluster, with copies of the policies."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cached_property
from types import ModuleType
from typing import Any, cast

from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torch import multiprocessing as mp
from torchrl.envs import EnvBase

from ibrl_torchrl.cluster import ray_cluster, reason
from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.rollouts.pool import (
    EPISODE_TIMEOUT,
    MAX_FAILURES,
    EpisodeRunner,
    Message,
    RolloutPool,
    RolloutRequest,
    RolloutWorker,
    WorkerDied,
    copy_weights,
    module_tensors,
)

WAIT_SECONDS = 60.0  # without any actor, until a warning


class RayRollouts(RolloutPool):
    """Rollout backend of actors on a Ray cluster, see
    :class:`~ibrl_torchrl.rollouts.pool.RolloutPool`.

    As many actors run as the cluster has room for, ``num_workers`` at most: others start when nodes
    join or become free, and an actor that is lost with its node is replaced by one on another.
    Episodes, and their order, do not depend on that.

    Args:
        make_env: picklable function that makes the environment of an actor, on ``device``.
        policies: policies by name. Actors have copies.
        num_workers: number of actors.
        address: cluster, see :func:`~ibrl_torchrl.cluster.ray_cluster`; its nodes have this
            package. Default ``"auto"``.
        cpus: CPUs of each actor. Default 1.
        gpus: GPUs of each actor, which may be a fraction. Default 0.
        device: device of the copies. Default ``"cpu"``.
        episode_timeout: seconds after which an actor that runs one episode is replaced; the first
            one includes making the environment. Default ``EPISODE_TIMEOUT``; None never does.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.

    Example:
        >>> rollouts = RayRollouts(make_env, policies, 8, address="local")  # doctest: +SKIP
        >>> rollouts.submit("explore", seed=0, explore=True).result()  # doctest: +SKIP
    """

    def __init__(
        self,
        make_env: Callable[[], EnvBase],
        policies: Mapping[str, TensorDictModuleBase],
        num_workers: int,
        *,
        address: str = "auto",
        cpus: int = 1,
        gpus: float = 0.0,
        device: str = "cpu",
        episode_timeout: float | None = EPISODE_TIMEOUT,
    ) -> None:
        self._size = f"{cpus} CPUs and {gpus:g} GPUs"
        self._idle_since = time.monotonic()
        with ExitStack() as stack:
            self._ray = ray = stack.enter_context(
                ray_cluster(address, cpus=cpus, gpus=gpus, setting="collector.ray")
            )
            copies = copy.deepcopy(nn.ModuleDict(dict(policies))).cpu()
            arguments = [ray.put(make_env), ray.put(copies), device]
            actor_class = ray.remote(num_cpus=cpus, num_gpus=gpus)(EpisodeActor)
            workers = [_ActorWorker(ray, actor_class, arguments) for _ in range(num_workers)]
            super().__init__(policies, workers, episode_timeout=episode_timeout)
            self._connection = stack.pop_all()

    def close(self) -> None:
        """Stop all actors, cancel unfinished requests, and leave the cluster."""
        super().close()
        self._connection.close()

    def snapshot(self) -> list[Tensor]:
        """Copy of the current parameters and buffers of all policies."""
        return self._sendable(super().snapshot())

    def _sendable(self, weights: list[Tensor]) -> list[Tensor]:
        """Weights in the cluster's object store."""
        return weights if isinstance(weights, _Weights) else _Weights(self._ray, weights)

    def _check_workers(self) -> None:
        """Warn once of a cluster that has no room for any actor."""
        super()._check_workers()
        if any(cast(_ActorWorker, worker).is_started for worker in self._workers):
            self._idle_since = float("inf")
        elif time.monotonic() - self._idle_since > WAIT_SECONDS:
            self._idle_since = float("inf")
            echo(f"warning: rollouts wait for a node of the Ray cluster with {self._size} free")


class EpisodeActor:
    """Actor that runs episodes, with an environment and policies of its own.

    Args:
        make_env: function that makes its environment.
        policies: copies of the policies.
        device: device of both.
    """

    def __init__(
        self, make_env: Callable[[], EnvBase], policies: nn.ModuleDict, device: str
    ) -> None:
        policies.to(device)
        self._tensors = module_tensors(policies)
        self._runner = EpisodeRunner(make_env, cast(Mapping[str, TensorDictModuleBase], policies))

    def start(self) -> None:
        """Return once the actor has started."""

    def run(
        self, weights: list[Tensor], policy: str, seed: int, explore: bool, max_steps: int | None
    ) -> Message:
        """Run an episode with some weights, see :class:`EpisodeRunner`."""
        copy_weights(self._tensors, weights)
        return self._runner(policy, seed, explore, max_steps)


class _Weights(list[Tensor]):
    """Weights of requests, which go to Ray's object store once, when the first one is sent."""

    def __init__(self, ray: ModuleType, tensors: list[Tensor]) -> None:
        super().__init__(tensors)
        self._ray = ray

    @cached_property
    def reference(self) -> Any:
        """Reference of Ray to the weights, on the CPU."""
        return self._ray.put([tensor.cpu() for tensor in self])


class _ActorWorker(RolloutWorker):
    """Actor as its pool sees it.

    Its connection becomes readable when the last call of the actor has ended: that it has started,
    an episode, or the actor's death, after which another one is started.
    """

    def __init__(self, ray: ModuleType, actor_class: Any, arguments: list[Any]) -> None:
        super().__init__()
        self._ray = ray
        self._actor_class = actor_class
        self._arguments = arguments
        self._failed_starts = 0
        self._end = "killed"
        self.connection, self._notifier = mp.Pipe(duplex=False)
        self._start()

    def _start(self) -> None:
        self.is_started = False
        self._actor = self._actor_class.remote(*self._arguments)
        self._expect(self._actor.start.remote())

    def _expect(self, call: Any) -> None:
        """Write to the connection when a call of the actor has ended."""
        self._result: Future[Message | None] = call.future()
        self._result.add_done_callback(lambda _: self._notifier.send(None))

    @property
    def is_idle(self) -> bool:
        """Whether it has started and runs no request."""
        return self.is_started and self.request is None

    def _send(self, request: RolloutRequest) -> None:
        weights = cast(_Weights, request.weights).reference
        self._expect(self._actor.run.remote(weights, *request.arguments))

    def receive(self) -> Message | None:
        """Message of the actor; None if it has started.

        Raises:
            WorkerDied: the actor, or its node, was lost.
            UsageError: actors died while they started, ``MAX_FAILURES`` times in a row.
        """
        self.connection.recv()
        try:
            message = self._result.result()
        except self._ray.exceptions.RayError as error:
            self._end = reason(error)
            self._require_starts()
            raise WorkerDied from error
        self._failed_starts, self.is_started = 0, True
        return message and _owned(message)

    def _require_starts(self) -> None:
        """Refuse a cluster where no actor can start.

        Raises:
            UsageError: as :meth:`receive` does.
        """
        if self.is_started:
            return
        self._failed_starts += 1
        if self._failed_starts == MAX_FAILURES:
            raise UsageError(
                f"rollout actors did not start on the Ray cluster, {MAX_FAILURES} times "
                f"({self._end}); its nodes need the packages of this one, or use "
                "collector.backend=processes"
            )

    def kill(self) -> None:
        """Kill the actor; its call then ends with an error."""
        self._ray.kill(self._actor)

    def terminate(self) -> None:
        """Kill the actor, which has nothing to save."""
        self.kill()

    def stop(self) -> str:
        """Kill an actor that may only be out of reach; returns what Ray says of its end."""
        self.kill()
        return self._end

    def replace(self) -> None:
        """Start another actor, which waits for room on the cluster."""
        self._start()


def _owned(message: Message) -> Message:
    """Message whose arrays are copies: Ray's are read-only, and occupy its object store."""
    kind, content = message
    if isinstance(content, dict):
        content = {key: values.copy() for key, values in content.items()}
    return kind, content
