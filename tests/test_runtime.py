"""Runtime of a process: device, deferred signals."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest
import torch

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runtime import Interrupted, InterruptHandler, setup_process, spread_device


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_handler_defers_the_first_signal(signum):
    # The tests themselves may run under nohup, which has SIGHUP ignored.
    inherited = signal.signal(signum, before := signal.default_int_handler)
    try:
        with InterruptHandler() as interrupt:
            interrupt.check()
            signal.raise_signal(signum)
            with pytest.raises(Interrupted):
                interrupt.check()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signum)
        assert signal.getsignal(signum) is before
    finally:
        signal.signal(signum, inherited)


def test_interrupt_handler_leaves_an_ignored_hangup_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with InterruptHandler() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            interrupt.check()
    finally:
        signal.signal(signal.SIGHUP, before)


CLOSED_TERMINAL = """
import contextlib, signal, sys
from ibrl_torchrl.console import echo
from ibrl_torchrl.runtime import Interrupted, InterruptHandler
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
with InterruptHandler() as interrupt:
    echo("ready")
    with contextlib.suppress(OSError):
        sys.stdin.readline()  # ends when the terminal is closed
    signal.raise_signal(signal.SIGHUP)  # as the kernel does to those whose terminal it was
    echo("saving")
    try:
        interrupt.check()
    except Interrupted:
        open(sys.argv[1], "w").write("saved")
"""


def test_a_closed_terminal_interrupts_without_an_error(tmp_path):
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", CLOSED_TERMINAL, str(tmp_path / "checkpoint")]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    )
    os.close(follower)
    output = b""
    while b"\n" not in output:  # the end of the line is a write of its own
        output += os.read(leader, 100)
    os.close(leader)
    assert process.wait(20) == 0
    assert (tmp_path / "checkpoint").read_text() == "saved"


def test_interrupt_handler_does_nothing_outside_the_main_thread():
    before, during = signal.getsignal(signal.SIGINT), []

    def run():
        with InterruptHandler() as interrupt:
            during.append(signal.getsignal(signal.SIGINT))
            interrupt.check()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during == [before]


def test_setup_process_seeds_and_refuses_unavailable_devices():
    assert setup_process(3, None, "cpu") == torch.device("cpu")
    first = torch.rand(2)
    setup_process(3, None, "cpu")
    assert torch.equal(torch.rand(2), first)
    with pytest.raises(UsageError, match=r"^device=meta: not available here"):
        setup_process(3, None, "meta")
    with pytest.raises(UsageError, match=r"^device=cuda:99: not available here; use device=cpu$"):
        setup_process(3, None, "cuda:99")


@pytest.mark.parametrize(
    ("device", "trial", "cards", "expected"),
    [
        ("cuda", 0, 2, "cuda:0"),
        ("cuda", 3, 2, "cuda:1"),
        ("cuda", 5, 1, "cuda:0"),
        ("cuda", None, 2, "cuda"),  # no sweep
        ("cuda", 1, 0, "cuda"),  # no card: refused by its name
        ("cuda:1", 0, 2, "cuda:1"),
        ("cpu", 3, 2, "cpu"),
    ],
)
def test_trials_of_a_sweep_take_the_cards_in_turn(device, trial, cards, expected):
    assert spread_device(device, trial, cards) == expected
