"""Pool of rollout workers: queue, dispatch, and repetition of episodes whose worker was lost.

Where the workers are is left to subclasses: processes of this machine
(:mod:`~ibrl_torchrl.rollouts.processes`) or a Ray cluster (:mod:`~ibrl_torchrl.rollouts.ray`).
"""

from __future__ import annotations

import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
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

MAX_FAILURES = 3  # attempts at an episode, after which it fails
EPISODE_TIMEOUT = 600.0  # seconds
_POLL_SECONDS = 0.5
STOP_SECONDS = 5.0  # until a process that does not stop is killed
_EPISODE, _USAGE_ERROR, _FAILURE = range(3)  # types of a worker's messages

Message = tuple[int, Any]


@dataclass
class RolloutRequest:
    """Request for one episode.

    Attributes:
        policy: name of the policy.
        seed: seed of the episode.
        explore: act with exploration.
        max_steps: steps after which it is truncated; None: the environment decides.
        urgent: comes before requests that are not.
        weights: parameters and buffers of all policies.
        future: future of the episode.
        failures: attempts in which a worker died, hung, or its simulator raised an exception.
    """

    policy: str
    seed: int
    explore: bool
    max_steps: int | None
    urgent: bool
    weights: list[Tensor]
    future: Future[TensorDict] = field(default_factory=Future)
    failures: int = 0

    @property
    def arguments(self) -> tuple[str, int, bool, int | None]:
        """Arguments of :class:`EpisodeRunner`."""
        return self.policy, self.seed, self.explore, self.max_steps


class WorkerDied(Exception):
    """Death of a worker, instead of a message."""


class RolloutWorker(ABC):
    """Worker as its pool sees it: runs one request at a time, elsewhere.

    Attributes:
        request: request that it runs; None while it is idle.
        was_overdue: whether it was killed because it did not finish in time.
        connection: becomes readable when :meth:`receive` has a message or the worker has died;
            closed while there is nothing to wait for.
    """

    connection: Connection

    def __init__(self) -> None:
        self.request: RolloutRequest | None = None
        self.was_overdue = False
        self._deadline: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it can run a request now."""
        return self.request is None

    def run(self, request: RolloutRequest, timeout: float | None) -> None:
        """Send a request to an idle worker.

        Args:
            request: the request.
            timeout: seconds after which :meth:`kill_if_overdue` kills the worker; None never does.
        """
        self.request, self.was_overdue = request, False
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._send(request)

    def kill_if_overdue(self) -> None:
        """Kill a worker that has not finished its request in time."""
        deadline = self._deadline
        if self.request is not None and deadline is not None and time.monotonic() > deadline:
            self._deadline, self.was_overdue = None, True
            self.kill()

    @abstractmethod
    def _send(self, request: RolloutRequest) -> None:
        """Send a request, after starting a worker that is not alive."""

    @abstractmethod
    def receive(self) -> Message | None:
        """Message of the worker; None if it has become idle without one.

        Raises:
            WorkerDied: there is none, because the worker died.
        """

    @abstractmethod
    def kill(self) -> None:
        """Kill the worker, without waiting for it; its pool then takes it for dead."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask the worker to stop, without waiting for it."""

    @abstractmethod
    def stop(self) -> str:
        """Stop the worker, by force where it does not answer; returns how it has ended."""

    def replace(self) -> None:
        """Start a worker in place of one that has stopped; by default the next request does."""
        return


class RolloutPool:
    """Rollout backend of workers, each with a separate environment.

    A dispatcher thread sends requests to idle workers, first in, first out, urgent ones first.
    An episode is a function of its request
    (:func:`~ibrl_torchrl.rollouts.episode.rollout_episode`), whichever worker runs it. A worker
    that dies or does not finish an episode in time is replaced, an environment that raises an
    exception is made anew, and the episode is repeated.

    Args:
        policies: policies by name. Workers have copies, updated by the weights of each request.
        workers: the workers.
        episode_timeout: seconds after which a worker that runs one episode is replaced; the first
            one includes making the environment. Default ``EPISODE_TIMEOUT``; None never does.
    """

    def __init__(
        self,
        policies: Mapping[str, TensorDictModuleBase],
        workers: Sequence[RolloutWorker],
        *,
        episode_timeout: float | None = EPISODE_TIMEOUT,
    ) -> None:
        self.policies = policies
        self.num_workers = len(workers)
        self._tensors = module_tensors(nn.ModuleDict(dict(policies)))
        # Urgent requests, and all others.
        self._queues: tuple[deque[RolloutRequest], deque[RolloutRequest]] = deque(), deque()
        self._lock = threading.Lock()
        self._error: BaseException | None = None  # that has ended the dispatcher
        self._wakeup_receiver, self._wakeup_sender = mp.Pipe(duplex=False)
        self._timeout = episode_timeout
        self._closing = threading.Event()
        self._workers = workers
        self._dispatcher = threading.Thread(target=self._dispatch_loop, daemon=True, name="rollout")
        self._dispatcher.start()
        self._watchdog = threading.Thread(target=self._watch, daemon=True, name="watchdog")
        self._watchdog.start()

    def snapshot(self) -> list[Tensor]:
        """Copy of the current parameters and buffers of all policies."""
        return [tensor.detach().clone() for tensor in self._tensors]

    def submit(
        self,
        policy: str,
        seed: int,
        *,
        explore: bool = False,
        max_steps: int | None = None,
        urgent: bool = False,
        weights: list[Tensor] | None = None,
    ) -> Future[TensorDict]:
        """Request an episode, see :class:`~ibrl_torchrl.rollouts.episode.Rollouts`.

        The future raises UsageError if the environment does, or if ``MAX_FAILURES`` workers died or
        hung during the episode; RuntimeError, with the worker's traceback, if the simulator raised
        another exception as often.
        """
        weights = self.snapshot() if weights is None else self._sendable(weights)
        request = RolloutRequest(policy, seed, explore, max_steps, urgent, weights)
        with self._lock:
            if self._error is not None:
                request.future.set_exception(self._error)
                return request.future
            self._queues[not urgent].append(request)
        self._wakeup_sender.send(None)
        return request.future

    def _sendable(self, weights: list[Tensor]) -> list[Tensor]:
        """Weights in the form in which workers receive them, as :meth:`snapshot` returns them."""
        return weights

    def close(self) -> None:
        """Stop all workers, those that hang by force, and cancel unfinished requests."""
        self._closing.set()
        self._wakeup_sender.send(None)
        self._dispatcher.join(STOP_SECONDS)
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
                connections = [w.connection for w in self._workers if not w.connection.closed]
                ready = wait([self._wakeup_receiver, *connections])
                if self._wakeup_receiver in ready:
                    self._wakeup_receiver.recv()
                for worker in self._workers:
                    if worker.connection in ready:
                        self._receive(worker)
        except BaseException as error:  # reported by futures, as this thread has no caller
            with self._lock:
                self._error = error
                for request in self._unfinished():
                    request.future.set_exception(error)
            if not isinstance(error, UsageError):
                raise

    def _watch(self) -> None:
        """Kill workers that do not finish in time; the dispatcher then takes them for dead.

        A thread of its own: a worker may hang while the dispatcher receives its message.
        """
        while not self._closing.wait(_POLL_SECONDS):
            self._check_workers()

    def _check_workers(self) -> None:
        for worker in self._workers:
            worker.kill_if_overdue()

    def _dispatch(self) -> None:
        """Send queued requests to idle workers."""
        idle = [worker for worker in self._workers if worker.is_idle]
        for worker in idle:
            with self._lock:
                queue = self._queues[0] or self._queues[1]
                if not queue:
                    return
                request = queue.popleft()
            worker.run(request, self._timeout)

    def _receive(self, worker: RolloutWorker) -> None:
        """Resolve the request of a worker that has replied or died."""
        request = worker.request
        try:
            message = worker.receive()
        except WorkerDied:
            self._handle_death(worker)
            return
        if message is None:
            return
        worker.request = None
        if request is None:
            raise RuntimeError("a rollout worker replied without a request")
        message_type, content = message
        if message_type == _EPISODE:
            request.future.set_result(_from_arrays(content))
        elif message_type == _USAGE_ERROR:
            request.future.set_exception(content)
        else:
            raised = content.splitlines()[-1]
            reason = f"the simulator of a rollout worker raised {raised}"
            error = RuntimeError(f"in a rollout worker: {raised}\n{content}")
            self._repeat(request, reason, error)

    def _handle_death(self, worker: RolloutWorker) -> None:
        """Repeat the episode of a dead worker."""
        if self._closing.is_set():  # close() stops it and cancels its request
            return
        request, worker.request = worker.request, None
        end = worker.stop()
        worker.replace()
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
            reason = f"a rollout worker died ({end})"
            error = UsageError(
                f"rollout workers died {MAX_FAILURES} times ({end}) during "
                f"{episode} collector.workers=0"
            )
        self._repeat(request, reason, error)

    def _repeat(self, request: RolloutRequest, reason: str, error: Exception) -> None:
        """Put a request back at the head of its queue, or give its episode up with an error."""
        request.failures += 1
        if request.failures < MAX_FAILURES:
            echo(f"warning: {brief(reason, 300)}; its episode is repeated")
            with self._lock:
                self._queues[not request.urgent].appendleft(request)
        else:
            request.future.set_exception(error)


class EpisodeRunner:
    """Environment and policies of a worker, where it is.

    Args:
        make_env: function that makes the environment, at the first episode and after an exception.
        policies: policies by name.
    """

    def __init__(
        self, make_env: Callable[[], EnvBase], policies: Mapping[str, TensorDictModuleBase]
    ) -> None:
        torch.set_num_threads(1)
        self._make_env = make_env
        self._policies = policies
        self._env: EnvBase | None = None

    def __call__(self, policy: str, seed: int, explore: bool, max_steps: int | None) -> Message:
        """Message to the pool: a packed episode, an error of the user, or a traceback."""
        try:
            self._env = self._env or self._make_env()
            episode = rollout_episode(
                self._env, self._policies[policy], seed, explore=explore, max_steps=max_steps
            )
            return _EPISODE, _to_arrays(episode)
        except UsageError as error:
            return _USAGE_ERROR, error.with_traceback(None)
        except Exception:
            self._env = None  # its simulator may be in any state
            return _FAILURE, traceback.format_exc()


def module_tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a module."""
    return [*module.parameters(), *module.buffers()]


@torch.no_grad()
def copy_weights(tensors: Iterable[Tensor], weights: Iterable[Tensor]) -> None:
    """Copy weights of a request into the tensors of a worker's policies, in place."""
    for tensor, value in zip(tensors, weights, strict=True):
        tensor.copy_(value)


def _to_arrays(episode: TensorDict) -> dict[str, NDArray[Any]]:
    """Pack an episode into arrays: pipes send these by value, but tensors by file descriptors."""
    return {key: value.numpy() for key, value in pack_episode(episode).items()}


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> TensorDict:
    """Unpack the episode of `_to_arrays`."""
    return unpack_episode({key: torch.from_numpy(value) for key, value in arrays.items()})
