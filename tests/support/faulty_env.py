"""Environment that fails at some seeds, and what tests of rollout workers share."""

import os
import signal
import time

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import ExecuteProposal
from support.parts import Constant, Countdown

LENGTHS = (3, 1, 4, 1, 5, 9)


class FaultyEnv(Countdown):
    """Countdown that fails at seeds above 100; a step lasts ``seconds``."""

    def __init__(self, marker, seconds=0.0):
        super().__init__(*LENGTHS)
        self.marker, self.seconds = marker, seconds

    def _step(self, tensordict):
        time.sleep(self.seconds)
        if self.number == 101 and not self.marker.exists():  # once
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.number == 102:
            os._exit(3)
        if self.number == 103:
            raise ValueError("a defect")
        if self.number == 104:
            raise UsageError("no such camera")
        if self.number == 105 and not self.marker.with_name("raised").exists():  # once
            self.marker.with_name("raised").touch()
            raise ValueError("a rare defect")
        if self.number == 106 and not self.marker.with_name("hung").exists():  # once
            self.marker.with_name("hung").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.number == 107:
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.number == 108:
            time.sleep(600)
        return super()._step(tensordict)


def noisy(value):
    """Exploring policy whose network's weight is the first of its tensors."""
    noise = AdditiveGaussianModule(Countdown(1).action_spec, sigma_init=0.3, action_key="rl_action")
    network = TensorDictModule(Constant(value), ["state"], ["rl_action"])
    return TensorDictSequential(network, noise, ExecuteProposal("rl_action", 0))


def assert_equal(episode, expected):
    """Assert that two episodes have the same keys and values."""
    assert episode.batch_size == expected.batch_size
    assert {*episode.keys(True, True)} == {*expected.keys(True, True)}
    for key, value in expected.items(True, True):
        assert torch.equal(episode[key], value), key
