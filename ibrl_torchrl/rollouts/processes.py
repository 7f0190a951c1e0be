"""Episodes played in worker processes, with copies of the policies."""

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

MAX_DEATHS = 3  # of workers at one episode, or before their first
_EPISODE, _REFUSAL, _FAILURE = range(3)  # what a worker answers


@dataclass
class RolloutRequest:
    """An episode to be played; ``deaths`` counts the workers that were lost at it."""

    policy: str
    seed: int
    explore: bool
    weights: list[Tensor]
    played: Future[TensorDict] = field(default_factory=Future)
    deaths: int = 0


class RolloutWorkers:
    """Plays episodes in worker processes, each with an environment of its own.

    Orders are played by whoever is idle, exploring ones first. What an episode holds does not
    depend on by whom, when or beside what it is played, see :func:`rollout_episode`. A worker
    that dies is replaced and its episode played again from the start.

    Args:
        make_env: makes a worker's environment; it is pickled.
        policies: by name. Workers get copies, whose weights come with each order.
        num_workers: number of workers.
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
        self._orders: tuple[deque[RolloutRequest], deque[RolloutRequest]] = (
            deque(),
            deque(),
        )  # exploring, others
        self._lock = threading.Lock()
        self._wakeup_receiver, self._wakeup_sender = mp.Pipe(duplex=False)
        self._closing = False
        self._workers = [_Worker(make_env, policies) for _ in range(num_workers)]
        self._dispatcher = threading.Thread(target=self._work, daemon=True, name="rollouts")
        self._dispatcher.start()

    def snapshot(self) -> list[Tensor]:
        """The weights of all policies as they are now."""
        return [tensor.detach().clone() for tensor in self._tensors]

    def submit(
        self, policy: str, seed: int, *, explore: bool = False, weights: list[Tensor] | None = None
    ) -> Future[TensorDict]:
        """Let an episode be played, see :class:`Rollouts`.

        The result raises UsageError where the environment does, or where workers died at it
        ``MAX_DEATHS`` times.
        """
        order = RolloutRequest(
            policy, seed, explore, self.snapshot() if weights is None else weights
        )
        with self._lock:
            self._orders[not explore].append(order)
        self._wakeup_sender.send(None)
        return order.played

    def close(self) -> None:
        """Stop all workers; what is not played yet is cancelled."""
        self._closing = True
        self._wakeup_sender.send(None)
        self._dispatcher.join()
        for worker in self._workers:
            worker.stop()
        for order in self._open_orders():
            order.played.cancel()

    def _open_orders(self) -> list[RolloutRequest]:
        playing = [worker.order for worker in self._workers if worker.order is not None]
        return [*playing, *self._orders[0], *self._orders[1]]

    def _work(self) -> None:
        """Hand out orders and take in episodes, until closed."""
        try:
            while not self._closing:
                self._dispatch()
                ready = wait(
                    [self._wakeup_receiver, *(w.connection for w in self._workers if w.is_alive)]
                )
                if self._wakeup_receiver in ready:
                    self._wakeup_receiver.recv()
                for worker in self._workers:
                    if worker.connection in ready:
                        self._receive(worker)
        except BaseException as error:  # nobody else would hear of it
            for order in self._open_orders():
                order.played.set_exception(error)
            raise

    def _dispatch(self) -> None:
        idle = [worker for worker in self._workers if worker.order is None]
        for worker in idle:
            with self._lock:
                orders = self._orders[0] or self._orders[1]
                if not orders:
                    return
                order = orders.popleft()
            worker.play(order)

    def _receive(self, worker: _Worker) -> None:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, ConnectionError):
            self._handle_death(worker)
            return
        order, worker.order = worker.order, None
        if kind == _EPISODE:
            order.played.set_result(_from_arrays(content))
        elif kind == _REFUSAL:
            order.played.set_exception(UsageError(content))
        else:
            order.played.set_exception(RuntimeError(f"in a rollout worker:\n{content}"))

    def _handle_death(self, worker: _Worker) -> None:
        """Let another worker play what this one was lost at."""
        order, worker.order = worker.order, None
        code = worker.stop()
        if order is None:
            return
        order.deaths += 1
        if order.deaths < MAX_DEATHS:
            echo(f"warning: a rollout worker died (exit code {code}); its episode is played again")
            with self._lock:
                self._orders[not order.explore].appendleft(order)
        else:
            order.played.set_exception(
                UsageError(
                    f"rollout workers died {order.deaths} times (exit code {code}) at the episode "
                    f"of seed {order.seed}; free memory, or see why with collector.workers=0"
                )
            )


class _Worker:
    """A process, its end of the line, and the copy of the policies that both can see."""

    def __init__(
        self, make_env: Callable[[], EnvBase], policies: Mapping[str, TensorDictModuleBase]
    ) -> None:
        self._make_env = make_env
        self._twin = copy.deepcopy(nn.ModuleDict(dict(policies))).share_memory()
        self._tensors = _tensors(self._twin)
        self.order: RolloutRequest | None = None
        self._start()

    @property
    def is_alive(self) -> bool:
        return not self.connection.closed

    def _start(self) -> None:
        # Processes of joblib have a start method that one of spawn would be told of and not know.
        if mp.get_start_method() not in mp.get_all_start_methods():
            mp.set_start_method("spawn", force=True)
        context = mp.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._make_env, self._twin), daemon=True
        )
        self._process.start()
        other.close()  # so that only the process holds it, and its death closes the line

    @torch.no_grad()
    def play(self, order: RolloutRequest) -> None:
        """Begin an episode; the worker is idle, so nobody reads its weights now."""
        if not self.is_alive:
            self._start()
        for mine, given in zip(self._tensors, order.weights, strict=True):
            mine.copy_(given)
        if any(tensor.is_cuda for tensor in self._tensors):
            torch.cuda.synchronize()
        self.order = order
        with suppress(ConnectionError):  # it has died, and its line tells so again
            self.connection.send((order.policy, order.seed, order.explore))

    def stop(self) -> int | None:
        """End the process, if it has not ended itself; its exit code."""
        self.connection.close()
        self._process.terminate()
        self._process.join()
        return self._process.exitcode


def _serve(
    connection: Connection, make_env: Callable[[], EnvBase], policies: nn.ModuleDict
) -> None:
    """What a worker does: play what it is told to, until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who orders
    torch.set_num_threads(1)
    env: EnvBase | None = None
    try:
        while True:
            policy, seed, explore = connection.recv()
            try:
                env = env or make_env()
                answer = (
                    _EPISODE,
                    _to_arrays(rollout_episode(env, policies[policy], seed, explore=explore)),
                )
            except UsageError as error:
                answer = _REFUSAL, str(error)
            except Exception:
                answer = _FAILURE, traceback.format_exc()
            connection.send(answer)
    except (EOFError, ConnectionError):
        sys.exit()


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _to_arrays(episode: TensorDict) -> dict[str, np.ndarray]:
    """Packed episode as arrays, which travel through a pipe by value, not by open files."""
    return {key: value.numpy() for key, value in pack_episode(episode).items()}


def _from_arrays(arrays: dict[str, np.ndarray]) -> TensorDict:
    return unpack_episode({key: torch.from_numpy(value) for key, value in arrays.items()})
