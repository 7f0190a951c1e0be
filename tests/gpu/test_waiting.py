"""Updates that do not wait for the device: what fast GPUs and CUDA graphs need."""

from contextlib import contextmanager

import pytest
import torch
from support.device_parts import SETTINGS, build_parts

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]


@contextmanager
def no_waiting(device):
    """Context in which reading from the device, or copying to it from pageable memory, fails."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    if device.type == "cpu":
        pytest.skip("nothing waits on a CPU")
    from support.simulated_device import CROSSINGS

    CROSSINGS.clear()
    yield
    assert CROSSINGS == []


TANH_NORMAL = "TorchRL's TanhNormal copies its bounds to the device and compares them"
WAITING = dict.fromkeys(["sac", "tqc", "redq", "sac-by-value"], TANH_NORMAL)
WAITING["diffusion"] = "TorchRL's DiffusionActor copies the number of each step to the device"


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=WAITING[name]))
        if name in WAITING
        else name
        for name in SETTINGS
    ],
)
def test_updates_neither_read_from_the_device_nor_copy_to_it(method, device, tmp_path):
    parts = build_parts(SETTINGS[method], device, tmp_path)
    if "rlpd" in str(SETTINGS[method]):
        parts.replay.extend(parts.env.rollout(12).cpu())
    batch = parts.replay.sample().to(device)
    for name in parts.learner.optimizers:
        parts.learner.update(name, batch)  # the first one checks bounds, once
    with no_waiting(device):
        for name in parts.learner.optimizers:
            parts.learner.update(name, batch)


def test_a_read_and_a_copy_are_noticed(device):
    tensor = torch.ones(3, device=device)
    for wait in (lambda: tensor.sum().item(), lambda: torch.ones(3).to(device)):
        with pytest.raises((AssertionError, RuntimeError)), no_waiting(device):
            wait()
