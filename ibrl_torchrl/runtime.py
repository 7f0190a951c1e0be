"""Runtime of a process: random seeds, threads, device, deferred signals."""

from __future__ import annotations

import random
import signal
import threading
from types import FrameType
from typing import Any

import numpy as np
import torch

from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError


def setup_process(seed: int, threads: int | None, device: str) -> torch.device:
    """Seed Python, NumPy and PyTorch, set the number of threads, and check the device.

    Args:
        seed: seed of the global random number generators.
        threads: intra-op threads of PyTorch; None for its default.
        device: name of the device, such as ``"cuda:0"``.

    Returns:
        The device, with its index.

    Raises:
        UsageError: the device is not available.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={device}: not available here; use device=cpu") from error


class InterruptHandler:
    """Context manager that defers the first Ctrl-C or SIGTERM to the next :meth:`check`.

    A second signal interrupts immediately. Outside the main thread, where Python delivers no
    signals, it does nothing.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> InterruptHandler:
        if threading.current_thread() is threading.main_thread():
            for signum in self._SIGNALS:
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
        del signum, frame
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        echo("stopping after this episode; interrupt again to stop immediately")


class Interrupted(KeyboardInterrupt):
    """Deferred interrupt, raised between two episodes, where a run can save a checkpoint."""
