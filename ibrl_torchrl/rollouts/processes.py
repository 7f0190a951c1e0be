"""Rollout backend in worker processes, with copies of the policies in shared memory."""

from __future__ import annotations

import copy
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import cast

import torch
from tensordict.nn import TensorDictModuleBase
from torch import multiprocessing as mp
from torch import nn
from torchrl.envs import EnvBase

from ibrl_torchrl.rollouts.pool import (
    EPISODE_TIMEOUT,
    STOP_SECONDS,
    EpisodeRunner,
    Message,
    RolloutPool,
    RolloutRequest,
    RolloutWorker,
    WorkerDied,
    copy_weights,
    module_tensors,
)
from ibrl_torchrl.runtime import die_with_parent


class RolloutWorkers(RolloutPool):
    """Rollout backend in worker processes, see :class:`~ibrl_torchrl.rollouts.pool.RolloutPool`.

    Workers die with their parent.

    Args:
        make_env: picklable function that makes the environment of a worker.
        policies: policies by name.
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
        workers = [_ProcessWorker(make_env, policies) for _ in range(num_workers)]
        super().__init__(policies, workers, episode_timeout=episode_timeout)


class _ProcessWorker(RolloutWorker):
    """Worker process, its connection, and a copy of the policies in shared memory.

    A dead process is replaced at its next request.
    """

    def __init__(
        self, make_env: Callable[[], EnvBase], policies: Mapping[str, TensorDictModuleBase]
    ) -> None:
        super().__init__()
        self._make_env = make_env
        self._policies = copy.deepcopy(nn.ModuleDict(dict(policies))).share_memory()
        self._tensors = module_tensors(self._policies)
        self._start()

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

    def _send(self, request: RolloutRequest) -> None:
        """Send a request to a process that is not reading the shared weights."""
        if self.connection.closed:
            self._start()
        copy_weights(self._tensors, request.weights)
        if any(tensor.is_cuda for tensor in self._tensors):
            torch.cuda.synchronize()
        with suppress(ConnectionError):  # of a dead worker; receive() reports it
            self.connection.send(request.arguments)

    def receive(self) -> Message:
        """Message of the process."""
        try:
            return cast(Message, self.connection.recv())
        except (EOFError, ConnectionError) as error:
            raise WorkerDied from error

    def kill(self) -> None:
        """Kill the process, without waiting for it."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask the process to stop, without waiting for it."""
        self._process.terminate()

    def stop(self) -> str:
        """Stop the process, by force where it does not answer; returns its exit code."""
        self._process.terminate()
        self._process.join(STOP_SECONDS)
        if self._process.is_alive():  # stopped by a debugger or SIGSTOP, or hung in the kernel
            self._process.kill()
            self._process.join()
        self.connection.close()
        return f"exit code {self._process.exitcode}"


def _worker_loop(
    connection: Connection, make_env: Callable[[], EnvBase], policies: nn.ModuleDict
) -> None:
    """Run requests until the connection closes."""
    if (parent := mp.parent_process()) is not None and parent.pid is not None:
        die_with_parent(parent.pid)
    for signum in (signal.SIGINT, signal.SIGHUP):  # of the terminal; handled by the parent
        signal.signal(signum, signal.SIG_IGN)
    runner = EpisodeRunner(make_env, cast(Mapping[str, TensorDictModuleBase], policies))
    try:
        while True:
            connection.send(runner(*connection.recv()))
    except (EOFError, ConnectionError):
        sys.exit()
