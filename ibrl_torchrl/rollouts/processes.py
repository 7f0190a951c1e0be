"""Rollout backend in worker processes, with copies of the policies."""

from __future__ import annotations

import copy
import signal
import sys
import threading
import time
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
from ibrl_torchrl.errors import UsageError, brief
from ibrl_torchrl.rollouts.episode import rollout_episode
from ibrl_torchrl.runtime import die_with_parent

MAX_FAILURES = 3  # attempts at an episode, after which it fails
EPISODE_TIMEOUT = 600.0  # seconds
_POLL_SECONDS = 0.5
_STOP_SECONDS = 5.0  # until a process that does not stop is killed
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
        failures: attempts in which a worker died, hung, or its simulator raised an exception.
    """

    policy: str
    seed: int
    explore: bool
    weights: list[Tensor]
    future: Future[TensorDict] = field(default_factory=Future)
    failures: int = 0


class RolloutWorkers:
    """Rollout backend in worker processes, each with a separate environment.

    A dispatcher thread sends requests to idle workers, first in, first out, exploring ones first.
    An episode is a function of its request
    (:func:`~ibrl_torchrl.rollouts.episode.rollout_episode`), whichever worker runs it. A worker
    that dies or does not finish an episode in time is replaced, an environment that raises an
    exception is made anew, and the episode is repeated. Workers die with their parent.

    Args:
        make_env: picklable function that makes the environment of a worker.
        policies: policies by name. Workers have copies, updated by the weights of each request.
        num_workers: number of processes.
        episode_timeout: seconds after which a worker that runs one episode is replaced; the first
            one includes making the environment. Default ``EPISODE_TIMEOUT``; None never does.
    """

    def __init__(
        self,
        make_env: Callable[[], EnvBase],
        policies: Mapping[str, TensorDictModuleBase],
        num_workers: int,
        *,
        episode_timeout: float | None = EPISODE_TIMEOUT,
    ) -> None:
        self.policies = policies
        self.num_workers = num_workers
        self._tensors = _tensors(nn.ModuleDict(dict(policies)))
        # Requests that explore, and all others.
        self._queues: tuple[deque[RolloutRequest], deque[RolloutRequest]] = deque(), deque()
        self._lock = threading.Lock()
        self._wakeup_receiver, self._wakeup_sender = mp.Pipe(duplex=False)
        self._timeout = episode_timeout
        self._closing = threading.Event()
        self._workers = [_Worker(make_env, policies) for _ in range(num_workers)]
        self._dispatcher = threading.Thread(target=self._dispatch_loop, daemon=True, name="rollout")
        self._dispatcher.start()
        self._watchdog = threading.Thread(target=self._watch, daemon=True, name="watchdog")
        self._watchdog.start()

    def snapshot(self) -> list[Tensor]:
        """Copy of the current parameters and buffers of all policies."""
        return [tensor.detach().clone() for tensor in self._tensors]

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Request an episode, see :class:`~ibrl_torchrl.rollouts.episode.Rollouts`.

        The future raises UsageError if the environment does, or if ``MAX_FAILURES`` workers died or
        hung during the episode; RuntimeError, with the worker's traceback, if the simulator raised
        another exception as often.
        """
        request = RolloutRequest(
            policy, seed, explore, self.snapshot() if weights is None else weights
        )
        with self._lock:
            self._queues[not explore].append(request)
        self._wakeup_sender.send(None)
        return request.future

    def close(self) -> None:
        """Stop all workers, those that hang by force, and cancel unfinished requests."""
        self._closing.set()
        self._wakeup_sender.send(None)
        self._dispatcher.join(_STOP_SECONDS)
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.stop()  # ends a dispatcher that still receives a message
        self._dispatcher.join()
        self._watchdog.join()
        for request in self._unfinished():
            request.future.cancel()

    def _unfinished(self) -> list[RolloutRequest]:
        running = [worker.request for worker in self._workers if worker.request is not None]
        return [*running, *self._queues[0], *self._queues[1]]

    def _dispatch_loop(self) -> None:
        """Dispatch requests and receive episodes until the backend is closed."""
        try:
            while not self._closing.is_set():
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

    def _watch(self) -> None:
        """Kill workers that do not finish in time; the dispatcher then takes them for dead.

        A thread of its own: a worker may hang while the dispatcher receives its message.
        """
        while not self._closing.wait(_POLL_SECONDS):
            for worker in self._workers:
                worker.kill_if_overdue()

    def _dispatch(self) -> None:
        """Send queued requests to idle workers."""
        idle = [worker for worker in self._workers if worker.request is None]
        for worker in idle:
            with self._lock:
                queue = self._queues[0] or self._queues[1]
                if not queue:
                    return
                request = queue.popleft()
            worker.run(request, self._timeout)

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
            request.future.set_exception(content)
        else:
            raised = content.splitlines()[-1]
            reason = f"the simulator of a rollout worker raised {raised}"
            error = RuntimeError(f"in a rollout worker: {raised}\n{content}")
            self._repeat(request, reason, error)

    def _handle_death(self, worker: _Worker) -> None:
        """Repeat the episode of a dead worker."""
        if self._closing.is_set():  # close() stops it and cancels its request
            return
        request, worker.request = worker.request, None
        exit_code = worker.stop()
        if request is None:
            return
        episode = f"the episode of seed {request.seed}; free memory, or find the cause with"
        if worker.was_overdue:
            reason = f"a rollout worker did not finish its episode in {self._timeout:g} s"
            error = UsageError(
                f"rollout workers did not finish in {self._timeout:g} s, {MAX_FAILURES} times, "
                f"{episode} collector.workers=0, or raise collector.episode_timeout"
            )
        else:
            reason = f"a rollout worker died (exit code {exit_code})"
            error = UsageError(
                f"rollout workers died {MAX_FAILURES} times (exit code {exit_code}) during "
                f"{episode} collector.workers=0"
            )
        self._repeat(request, reason, error)

    def _repeat(self, request: RolloutRequest, reason: str, error: Exception) -> None:
        """Put a request back at the head of its queue, or give its episode up with an error."""
        request.failures += 1
        if request.failures < MAX_FAILURES:
            echo(f"warning: {brief(reason, 300)}; its episode is repeated")
            with self._lock:
                self._queues[not request.explore].appendleft(request)
        else:
            request.future.set_exception(error)


class _Worker:
    """Worker process, its connection, and a copy of the policies in shared memory."""

    def __init__(
        self, make_env: Callable[[], EnvBase], policies: Mapping[str, TensorDictModuleBase]
    ) -> None:
        self._make_env = make_env
        self._policies = copy.deepcopy(nn.ModuleDict(dict(policies))).share_memory()
        self._tensors = _tensors(self._policies)
        self.request: RolloutRequest | None = None
        self.was_overdue = False
        self._deadline: float | None = None
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
    def run(self, request: RolloutRequest, timeout: float | None) -> None:
        """Send a request to an idle worker, which is not reading the shared weights.

        Args:
            request: the request.
            timeout: seconds after which :meth:`kill_if_overdue` kills the worker; None never does.
        """
        if not self.is_alive:
            self._start()
        for tensor, value in zip(self._tensors, request.weights, strict=True):
            tensor.copy_(value)
        if any(tensor.is_cuda for tensor in self._tensors):
            torch.cuda.synchronize()
        self.request, self.was_overdue = request, False
        self._deadline = None if timeout is None else time.monotonic() + timeout
        with suppress(ConnectionError):  # of a dead worker; the dispatcher's recv() reports it
            self.connection.send((request.policy, request.seed, request.explore))

    def kill_if_overdue(self) -> None:
        """Kill a worker that has not finished its request in time."""
        deadline = self._deadline
        if self.request is not None and deadline is not None and time.monotonic() > deadline:
            self._deadline, self.was_overdue = None, True
            self._process.kill()

    def terminate(self) -> None:
        """Ask the process to stop, without waiting for it."""
        self._process.terminate()

    def stop(self) -> int | None:
        """Stop the process, by force where it does not answer; returns its exit code."""
        self._process.terminate()
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():  # stopped by a debugger or SIGSTOP, or hung in the kernel
            self._process.kill()
            self._process.join()
        self.connection.close()
        return self._process.exitcode


def _worker_loop(
    connection: Connection, make_env: Callable[[], EnvBase], policies: nn.ModuleDict
) -> None:
    """Run requests until the connection closes."""
    if (parent := mp.parent_process()) is not None and parent.pid is not None:
        die_with_parent(parent.pid)
    for signum in (signal.SIGINT, signal.SIGHUP):  # of the terminal; handled by the parent
        signal.signal(signum, signal.SIG_IGN)
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
                message = _USAGE_ERROR, error.with_traceback(None)
            except Exception:
                message = _FAILURE, traceback.format_exc()
                env = None  # its simulator may be in any state
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
