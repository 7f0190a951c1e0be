"""Rollout backend in worker processes, with copies of the policies."""

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

import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torch import multiprocessing as mp
from torchrl.envs import EnvBase

from ibrl_torchrl.console import echo
from ibrl_torchrl.episodes import pack_episode, unpack_episode
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.rollouts.episode import rollout_episode

MAX_DEATHS = 3  # deaths of workers per request, after which its episode fails
_EPISODE, _USAGE_ERROR, _FAILURE = range(3)  # types of a worker's messages


@dataclass
class RolloutRequest:
    """Request for one episode.

    Attributes:
        policy: name of the policy.
        seed: seed of the episode.
        explore: act with exploration; such requests have priority.
        weights: parameters and buffers of all policies.
        future: future of the episode.
        deaths: number of workers that died while running it.
    """

    policy: str
    seed: int
    explore: bool
    weights: list[Tensor]
    future: Future[TensorDict] = field(default_factory=Future)
    deaths: int = 0


class RolloutWorkers:
    """Rollout backend in worker processes, each with a separate environment.

    A dispatcher thread sends requests to idle workers, first in, first out, exploring ones first.
    An episode is a function of its request
    (:func:`~ibrl_torchrl.rollouts.episode.rollout_episode`), whichever worker runs it. A worker
    that dies is restarted and its episode repeated.

    Args:
        make_env: picklable function that makes the environment of a worker.
        policies: policies by name. Workers have copies, updated by the weights of each request.
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
        # Requests that explore, and all others.
        self._queues: tuple[deque[RolloutRequest], deque[RolloutRequest]] = deque(), deque()
        self._lock = threading.Lock()
        self._wakeup_receiver, self._wakeup_sender = mp.Pipe(duplex=False)
        self._closing = False
        self._workers = [_Worker(make_env, policies) for _ in range(num_workers)]
        self._dispatcher = threading.Thread(target=self._dispatch_loop, daemon=True, name="rollout")
        self._dispatcher.start()

    def snapshot(self) -> list[Tensor]:
        """Copy of the current parameters and buffers of all policies."""
        return [tensor.detach().clone() for tensor in self._tensors]

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Request an episode, see :class:`~ibrl_torchrl.rollouts.episode.Rollouts`.

        The future raises UsageError if the environment does, or if ``MAX_DEATHS`` workers died
        during the episode; RuntimeError, with the worker's traceback, for any other exception.
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
        """Dispatch requests and receive episodes until the backend is closed."""
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
        except BaseException as error:  # reported by futures, as this thread has no caller
            for request in self._unfinished():
                request.future.set_exception(error)
            raise

    def _dispatch(self) -> None:
        """Send queued requests to idle workers."""
        idle = [worker for worker in self._workers if worker.request is None]
        for worker in idle:
            with self._lock:
                queue = self._queues[0] or self._queues[1]
                if not queue:
                    return
                request = queue.popleft()
            worker.run(request)

    def _receive(self, worker: _Worker) -> None:
        """Resolve the request of a worker that has replied or died."""
        request = worker.request
        try:
            message_type, content = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._handle_death(worker)
            return
        worker.request = None
        if request is None:
            raise RuntimeError("a rollout worker replied without a request")
        if message_type == _EPISODE:
            request.future.set_result(_from_arrays(content))
        elif message_type == _USAGE_ERROR:
            request.future.set_exception(UsageError(content))
        else:
            request.future.set_exception(RuntimeError(f"in a rollout worker:\n{content}"))

    def _handle_death(self, worker: _Worker) -> None:
        """Put the request of a dead worker back at the head of its queue."""
        request, worker.request = worker.request, None
        exit_code = worker.stop()
        if request is None:
            return
        request.deaths += 1
        if request.deaths < MAX_DEATHS:
            echo(f"warning: a rollout worker died (exit code {exit_code}); its episode is repeated")
            with self._lock:
                self._queues[not request.explore].appendleft(request)
        else:
            request.future.set_exception(
                UsageError(
                    f"rollout workers died {request.deaths} times (exit code {exit_code}) during "
                    f"the episode of seed {request.seed}; free memory, or find the cause with "
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
        # joblib sets a start method in its processes that a spawned child process does not know.
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
        """Send a request to an idle worker, which is not reading the shared weights."""
        if not self.is_alive:
            self._start()
        for tensor, value in zip(self._tensors, request.weights, strict=True):
            tensor.copy_(value)
        if any(tensor.is_cuda for tensor in self._tensors):
            torch.cuda.synchronize()
        self.request = request
        with suppress(ConnectionError):  # of a dead worker; the dispatcher's recv() reports it
            self.connection.send((request.policy, request.seed, request.explore))

    def stop(self) -> int | None:
        """Terminate the process; returns its exit code."""
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


def _to_arrays(episode: TensorDict) -> dict[str, NDArray[Any]]:
    """Pack an episode into arrays: pipes send these by value, but tensors by file descriptors."""
    return {key: value.numpy() for key, value in pack_episode(episode).items()}


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> TensorDict:
    """Unpack the episode of `_to_arrays`."""
    return unpack_episode({key: torch.from_numpy(value) for key, value in arrays.items()})
