"""The process: seeds, threads, device, signals."""

from __future__ import annotations

import random
import signal
import threading
from types import FrameType

import numpy as np
import torch

from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError


def setup_process(seed: int, threads: int | None, device: str) -> torch.device:
    """Fix the random states and the number of threads; find the device.

    Raises:
        UsageError: there is no such device.
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
    """Holds back the first Ctrl-C or SIGTERM until :meth:`check`; a second one stops at once.

    Within ``with``; in threads other than the main one, where signals do not arrive, it does
    nothing.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> InterruptHandler:
        if threading.current_thread() is threading.main_thread():
            for each in self._SIGNALS:
                self._before[each] = signal.signal(each, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def check(self) -> None:
        """A moment at which to stop.

        Raises:
            Interrupted: it was asked for.
        """
        if self._asked:
            raise Interrupted

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        echo("stopping after this episode; once more to stop at once")


class Interrupted(KeyboardInterrupt):
    """Stopped between episodes, where a run can go on from."""
