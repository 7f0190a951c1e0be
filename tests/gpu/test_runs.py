"""Methods as a whole on a device: they act, store, learn, and use it for everything."""

import math

import numpy as np
import pytest
import torch
from support.device_parts import EXACT, SETTINGS, build_parts, collect_and_learn, tensors

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]


def elsewhere(parts, device):
    """Parameters and buffers of loss and policies that are on another device, by name."""
    modules = {"loss": parts.agent.loss, **parts.agent.rollout_policies}
    return {
        f"{name}.{key}": tensor.device
        for name, module in modules.items()
        for key, tensor in [*module.named_parameters(), *module.named_buffers()]
        if tensor.device != device
    }


@pytest.mark.parametrize(
    "method",
    [
        *("ibrl", "cautious", "residual", "rft", "chunks", "cached", "prioritised", "drq", "vit"),
        *("replay-on-device", "pixels-on-device"),
    ],
)
def test_numbers_are_those_of_the_cpu(method, device, tmp_path):
    settings = [*SETTINGS[method], *EXACT]
    settings += ["algo.encoder.shift=0"] if "experiment=small_pixels" in settings else []
    metrics, weights = [], []
    for where in (torch.device("cpu"), device):
        parts = build_parts(settings, where, tmp_path / where.type)
        np.random.seed(0)  # of prioritised sampling
        metrics.append(collect_and_learn(parts, where))
        weights.append(tensors(parts.learner.state_dict()))
    for one, two in zip(*metrics, strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4)
    for one, two in zip(*weights, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", SETTINGS)
def test_a_method_collects_and_learns_on_the_device(method, device, tmp_path):
    parts = build_parts(SETTINGS[method], device, tmp_path)
    assert elsewhere(parts, device) == {}
    before = tensors(parts.agent.loss.state_dict())
    metrics = collect_and_learn(parts, device)
    assert metrics and all(math.isfinite(value) for each in metrics for value in each.values())
    after = tensors(parts.agent.loss.state_dict())
    assert any(not torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert elsewhere(parts, device) == {}
    if parts.config.replay.storage == "device":
        assert parts.replay.sample().device == device
