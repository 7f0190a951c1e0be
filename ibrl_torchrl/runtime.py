"""Runtime of a process: random seeds, threads, device, deferred signals."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from ibrl_torchrl.console import echo, leave_terminal
from ibrl_torchrl.errors import UsageError

if TYPE_CHECKING:  # it takes seconds and memory that a process which waits for others need not have
    import torch


def setup_process(
    seed: int, threads: int | None, device: str, trial: int | None = None
) -> torch.device:
    """Seed Python, NumPy and PyTorch, set the number of threads, and check the device.

    Args:
        seed: seed of the global random number generators.
        threads: intra-op threads of PyTorch; None for its default.
        device: name of the device, such as ``"cuda:0"``.
        trial: number of the trial in a sweep, see :func:`spread_device`; default None.

    Returns:
        The device, with its index.

    Raises:
        UsageError: the device is not available.
    """
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    return require_device(device, trial)


@contextmanager
def forked_rng(device: torch.device | None) -> Iterator[None]:
    """Random numbers of PyTorch whose state is restored afterwards: the CPU's and one device's.

    By default ``torch.random.fork_rng`` reads the states of all GPUs, and warns where there are
    several.

    Args:
        device: device whose generator is restored, too; a CPU or None: none.
    """
    import torch

    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def require_device(device: str, trial: int | None = None) -> torch.device:
    """Device of a name, with its index.

    Args:
        device: name of the device, such as ``"cuda:0"``.
        trial: number of the trial in a sweep, see :func:`spread_device`; default None.

    Raises:
        UsageError: the device is not available.
    """
    import torch

    try:
        cards = torch.cuda.device_count() if device == "cuda" else 0
        probe = torch.zeros(1, device=spread_device(device, trial, cards))
        probe.item()  # a device without memory, such as meta, has no values
        return probe.device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: not available here; use device=cpu") from error


def spread_device(device: str, trial: int | None, cards: int) -> str:
    """Device of a trial: those of a sweep take the cards in turn, if ``device`` names none.

    Args:
        device: name of the device, such as ``"cuda"`` or ``"cuda:0"``.
        trial: number of the trial in a sweep; None outside of one.
        cards: number of GPUs.

    Example:
        >>> [spread_device("cuda", trial, cards=2) for trial in range(3)]
        ['cuda:0', 'cuda:1', 'cuda:0']
        >>> spread_device("cuda:1", 4, cards=2), spread_device("cuda", None, cards=2)
        ('cuda:1', 'cuda')
    """
    return f"cuda:{trial % cards}" if device == "cuda" and trial is not None and cards else device


# Loaded here: a forked process that has not yet executed a program may not import.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent has died; on Linux.

    Also a stopped process, or one that hangs in a simulator. The setting stays when another program
    is executed, so that it is a ``preexec_fn`` of ``subprocess``. The parent is, to the kernel, the
    thread that has started the process.

    Args:
        parent: id of the parent, which may have died before.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


class InterruptHandler:
    """Context manager that defers the first Ctrl-C, SIGTERM or SIGHUP to the next :meth:`check`.

    A second signal interrupts immediately. An ignored SIGHUP (``nohup``) stays ignored. Outside the
    main thread, where Python delivers no signals, it does nothing.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> InterruptHandler:
        if threading.current_thread() is threading.main_thread():
            for signum in self._SIGNALS:
                if signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN:
                    continue
                self._handlers[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def check(self) -> None:
        """Raise a deferred interrupt.

        Raises:
            Interrupted: a signal has arrived.
        """
        if self._requested:
            raise Interrupted

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        if signum == signal.SIGHUP:
            leave_terminal()
        echo("stopping after this episode; interrupt again to stop immediately")


class Interrupted(KeyboardInterrupt):
    """Deferred interrupt, raised between two episodes, where a run can save a checkpoint."""
