"""Rollouts in worker processes, with copies of the policies."""

from __future__ import annotations

import copy
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torch import multiprocessing as mp
from torchrl.envs import EnvBase

from ibrl_torchrl.console import echo
from ibrl_torchrl.episodes import pack_episode, unpack_episode
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.rollouts.episode import rollout_episode

MAX_DEATHS = 3  # of workers during one episode, or before their first
_EPISODE, _USAGE_ERROR, _FAILURE = range(3)  # kinds of a worker's messages


@dataclass
class RolloutRequest:
    """Request for one episode.

    Attributes:
        policy: name of the policy.
        seed: of the episode.
        explore: act with exploration; such requests have priority.
        weights: weights of all policies.
        future: result.
        deaths: workers that died while running it.
    """

    policy: str
    seed: int
    explore: bool
    weights: list[Tensor]
    future: Future[TensorDict] = field(default_factory=Future)
    deaths: int = 0


class RolloutWorkers:
    """Rollouts in worker processes, each with an environment of its own.

    Idle workers take requests in their order, exploring ones first. An episode is a function of its
    request alone (:func:`~ibrl_torchrl.rollouts.episode.rollout_episode`), so that neither the
    worker nor the time matter. A worker that dies is replaced and its episode repeated.

    Args:
        make_env: makes a worker's environment; it is pickled.
        policies: by name. Workers have copies, whose weights come with each request.
        num_workers: number of processes.
    """

    def __init__(
        self,
        make_env: Callable[[], EnvBase],
        policies: Mapping[str, TensorDictModuleBase],
        num_workers: int,
    ) -> None:
        self.policies = policies
        self.num_workers = num_workers
        self._tensors = _tensors(nn.ModuleDict(dict(policies)))
        # Exploring requests, then all others.
        self._queues: tuple[deque[RolloutRequest], deque[RolloutRequest]] = deque(), deque()
        self._lock = threading.Lock()
        self._wakeup_receiver, self._wakeup_sender = mp.Pipe(duplex=False)
        self._closing = False
        self._workers = [_Worker(make_env, policies) for _ in range(num_workers)]
        self._dispatcher = threading.Thread(target=self._dispatch_loop, daemon=True, name="rollout")
        self._dispatcher.start()

    def snapshot(self) -> list[Tensor]:
        """Copy of the current weights of all policies."""
        return [tensor.detach().clone() for tensor in self._tensors]

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Request an episode, see :class:`~ibrl_torchrl.rollouts.episode.Rollouts`.

        The result raises UsageError where the environment does, or where ``MAX_DEATHS`` workers
        died during the episode.
        """
        request = RolloutRequest(
            policy, seed, explore, self.snapshot() if weights is None else weights
        )
        with self._lock:
            self._queues[not explore].append(request)
        self._wakeup_sender.send(None)
        return request.future

    def close(self) -> None:
        """Stop all workers and cancel unfinished requests."""
        self._closing = True
        self._wakeup_sender.send(None)
        self._dispatcher.join()
        for worker in self._workers:
            worker.stop()
        for request in self._unfinished():
            request.future.cancel()

    def _unfinished(self) -> list[RolloutRequest]:
        running = [worker.request for worker in self._workers if worker.request is not None]
        return [*running, *self._queues[0], *self._queues[1]]

    def _dispatch_loop(self) -> None:
        """Dispatch requests and receive episodes until closed."""
        try:
            while not self._closing:
                self._dispatch()
                connections = [worker.connection for worker in self._workers if worker.is_alive]
                ready = wait([self._wakeup_receiver, *connections])
                if self._wakeup_receiver in ready:
                    self._wakeup_receiver.recv()
                for worker in self._workers:
                    if worker.connection in ready:
                        self._receive(worker)
        except BaseException as error:  # futures are the only way to report from this thread
            for request in self._unfinished():
                request.future.set_exception(error)
            raise

    def _dispatch(self) -> None:
        """Send waiting requests to idle workers."""
        idle = [worker for worker in self._workers if worker.request is None]
        for worker in idle:
            with self._lock:
                queue = self._queues[0] or self._queues[1]
                if not queue:
                    return
                request = queue.popleft()
            worker.run(request)

    def _receive(self, worker: _Worker) -> None:
        """Resolve the request of a worker that has answered or died."""
        request = worker.request
        try:
            kind, content = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._handle_death(worker)
            return
        worker.request = None
        if request is None:
            raise RuntimeError("a rollout worker answered without a request")
        if kind == _EPISODE:
            request.future.set_result(_from_arrays(content))
        elif kind == _USAGE_ERROR:
            request.future.set_exception(UsageError(content))
        else:
            request.future.set_exception(RuntimeError(f"in a rollout worker:\n{content}"))

    def _handle_death(self, worker: _Worker) -> None:
        """Requeue the request of a worker that died, first in its queue."""
        request, worker.request = worker.request, None
        code = worker.stop()
        if request is None:
            return
        request.deaths += 1
        if request.deaths < MAX_DEATHS:
            echo(f"warning: a rollout worker died (exit code {code}); its episode is repeated")
            with self._lock:
                self._queues[not request.explore].appendleft(request)
        else:
            request.future.set_exception(
                UsageError(
                    f"rollout workers died {request.deaths} times (exit code {code}) during the "
                    f"episode of seed {request.seed}; free memory, or see the cause with "
                    "collector.workers=0"
                )
            )


class _Worker:
    """Worker process, its connection, and a copy of the policies in shared memory."""

    def __init__(
        self, make_env: Callable[[], EnvBase], policies: Mapping[str, TensorDictModuleBase]
    ) -> None:
        self._make_env = make_env
        self._policies = copy.deepcopy(nn.ModuleDict(dict(policies))).share_memory()
        self._tensors = _tensors(self._policies)
        self.request: RolloutRequest | None = None
        self._start()

    @property
    def is_alive(self) -> bool:
        return not self.connection.closed

    def _start(self) -> None:
        # joblib's processes have a start method of their own, which a spawned child does not know.
        if mp.get_start_method() not in mp.get_all_start_methods():
            mp.set_start_method("spawn", force=True)
        context = mp.get_context("spawn")
        self.connection, remote = context.Pipe()
        self._process = context.Process(
            target=_worker_loop, args=(remote, self._make_env, self._policies), daemon=True
        )
        self._process.start()
        remote.close()  # so that the connection closes when the process dies

    @torch.no_grad()
    def run(self, request: RolloutRequest) -> None:
        """Start an episode in an idle worker, which reads no weights at this time."""
        if not self.is_alive:
            self._start()
        for tensor, value in zip(self._tensors, request.weights, strict=True):
            tensor.copy_(value)
        if any(tensor.is_cuda for tensor in self._tensors):
            torch.cuda.synchronize()
        self.request = request
        with suppress(ConnectionError):  # a dead worker, which the connection reports again
            self.connection.send((request.policy, request.seed, request.explore))

    def stop(self) -> int | None:
        """Terminate the process; its exit code."""
        self.connection.close()
        self._process.terminate()
        self._process.join()
        return self._process.exitcode


def _worker_loop(
    connection: Connection, make_env: Callable[[], EnvBase], policies: nn.ModuleDict
) -> None:
    """Run requests until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    torch.set_num_threads(1)
    env: EnvBase | None = None
    try:
        while True:
            policy, seed, explore = connection.recv()
            message: tuple[int, Any]
            try:
                env = env or make_env()
                episode = rollout_episode(env, policies[policy], seed, explore=explore)
                message = _EPISODE, _to_arrays(episode)
            except UsageError as error:
                message = _USAGE_ERROR, str(error)
            except Exception:
                message = _FAILURE, traceback.format_exc()
            connection.send(message)
    except (EOFError, ConnectionError):
        sys.exit()


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _to_arrays(episode: TensorDict) -> dict[str, np.ndarray]:
    """Packed episode as arrays, which travel through a pipe by value, not by open files."""
    return {key: value.numpy() for key, value in pack_episode(episode).items()}


def _from_arrays(arrays: dict[str, np.ndarray]) -> TensorDict:
    return unpack_episode({key: torch.from_numpy(value) for key, value in arrays.items()})
