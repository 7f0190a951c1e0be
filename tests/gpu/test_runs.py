"""Methods as a whole on a device: they act, store, learn, and use it for everything."""

import math

import numpy as np
import pytest
import torch
from support.device_parts import EXACT, PIXELS, SMALL, build_parts, collect_and_learn, tensors

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]

METHODS = {
    "ibrl": [],
    "soft": ["algo=ibrl_soft"],
    "epsilon": ["algo.proposals.select=epsilon"],
    "cautious": ["algo=ibrl_cautious", "algo.proposals.bootstrap.gate=confidence"],
    "target-critic": ["algo.proposals.acting_critic=target"],
    "candidates": ["algo.proposals.samples=3"],
    "residual": ["algo=residual"],
    "expo": ["algo=expo"],
    "rft": ["algo=rft_dynamic", "imitation.bc.network.dropout=${algo.actor.dropout}"],
    "rlpd+": ["algo=rlpd_plus"],
    "sac": ["algo=ibrl_sac"],
    "tqc": ["algo=ibrl_tqc"],
    "redq": ["algo=ibrl_redq_sac"],
    "sac-by-value": ["algo=ibrl_sac", "algo.loss.choose_by=value"],
    "gmm": ["imitation.bc.policy=gmm", "algo.proposals.samples=3"],
    "cvae": ["imitation.bc.policy=cvae"],
    "flow": ["imitation.bc.policy=flow", "algo.proposals.samples=3"],
    "diffusion": ["imitation.bc.policy=diffusion", "imitation.bc.diffusion.steps=10"],
    "chunks": ["algo.chunk.size=3", "imitation.bc.chunk={size: 5, replan: 4}"],
    "chunk-prefix": ["imitation.bc.chunk={size: 5, replan: 2}"],
    "cached": ["replay.cache_proposals=true"],
    "prioritised": ["replay.prioritized=true"],
    "prioritised-halves": ["algo=rlpd", "replay.prioritized=true"],
    "drq": [*PIXELS, "encoder@algo.encoder=drq", "algo.critic.head=drq"],
    "vit": [*PIXELS, "replay.cache_proposals=false"],
}
SETTINGS = {name: [*SMALL, *settings] for name, settings in METHODS.items()}
# Its imitation policy has the actor's network.
SETTINGS["rft-pixels"] = [*SMALL[1:], *PIXELS, "algo=rft_pixels"]


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
    ["ibrl", "cautious", "residual", "rft", "chunks", "cached", "prioritised", "drq", "vit"],
)
def test_numbers_are_those_of_the_cpu(method, device, tmp_path):
    settings = [*SETTINGS[method], *EXACT]
    settings += ["algo.encoder.shift=0"] if method in ("drq", "vit") else []
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
