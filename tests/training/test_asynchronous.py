"""Updates never synchronise with the device, so that a GPU computes while batches are drawn.

Tensors of PyTorch's ``meta`` device have no values: reading one (``item``, ``bool``, a mask as an
index), which on a GPU would wait for it, is an error.
"""

from contextlib import nullcontext

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, Unbounded

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.imitation import frozen_policies
from ibrl_torchrl.builders.networks import build_policy
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.modules import Normalize
from ibrl_torchrl.training.learner import Learner

META = torch.device("meta")
IMAGE = "corner2_image"


class StateSpecs:
    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(state=Unbounded(5))


class PixelSpecs:
    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(
        {IMAGE: Unbounded((3, 64, 64), dtype=torch.uint8), "proprio": Unbounded(4)}
    )


SETTINGS = {
    "states": (StateSpecs, ["algo=ibrl"]),
    "plus": (StateSpecs, ["algo.exploration_correlation=0"]),
    "soft": (StateSpecs, ["algo=ibrl_soft"]),
    "rft": (StateSpecs, ["algo=rft_dynamic"]),
    "pixels": (PixelSpecs, ["experiment=small_pixels", "algo=ibrl"]),
    "plus-pixels": (PixelSpecs, ["experiment=small_pixels", "algo.exploration_correlation=0"]),
    "drq": (PixelSpecs, ["experiment=paper_pixels_basic", "task.image_size=64"]),
}


def make_learner(specs, overrides):
    config = parse(TrainConfig, composed("train", ["run_dir=none", *overrides]))
    normalizers = {
        key: Normalize.identity(spec.shape[-1])
        for key, spec in specs.observation_spec.items()
        if key != IMAGE
    }
    networks = {
        name: build_policy(policy.network, policy.encoder, normalizers, specs.observation_spec, 4)
        for name, policy in config.imitation.items()
    }
    policies = frozen_policies(networks, config.imitation)
    agent = build_agent(config.algo, policies, normalizers, specs, META)
    return Learner(
        agent.loss,
        agent.terms,
        lr=1e-3,
        tau=0.01,
        critic_updates=1,
        target_proposals=agent.target_proposals,
    )


def make_batch(specs, rows=4):
    def observations():
        return {key: spec.rand((rows,)) for key, spec in specs.observation_spec.items()}

    step = {
        **{"reward": torch.zeros(rows, 1)},
        **{key: torch.zeros(rows, 1, dtype=torch.bool) for key in ("done", "terminated")},
    }
    content = {
        **observations(),
        "action": specs.action_spec.rand((rows,)),
        "steps_to_next_obs": torch.full((rows, 1), 3),
        "next": {**observations(), **step},
    }
    return TensorDict(content | {"demo": dict(content)}, [rows]).to(META)


@pytest.mark.parametrize("name", SETTINGS)
def test_updates_read_no_value_from_the_device(name, monkeypatch):
    specs, overrides = SETTINGS[name]
    # Not available for meta tensors: a check of TorchRL when targets are made, PyTorch's fused
    # optimiser step, which runs on the device alone, and lower precision.
    monkeypatch.setattr(torch.Tensor, "is_set_to", lambda tensor, other: tensor is other)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    learner = make_learner(specs, overrides)
    batch = make_batch(specs)
    metrics = [learner.update(term, batch) for term in learner.loss.terms()]
    assert {value.device for update in metrics for value in update.values()} == {META}


def test_reading_a_value_of_a_meta_tensor_is_an_error():
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        bool(torch.ones(1, device=META) > 0)
