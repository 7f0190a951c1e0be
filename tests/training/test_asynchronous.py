"""Updates never wait for the device: on a GPU the next batch is drawn while the last is learned.

Tensors of PyTorch's ``meta`` device have no numbers, so whoever asks for one (``item``, ``bool``,
a mask as an index), which on a GPU would wait for it, is told so by an error.
"""

from contextlib import nullcontext

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Composite, Unbounded

from ibrl_torchrl.builders.agent import bc_policy, build_agent
from ibrl_torchrl.builders.networks import build_policy
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.modules import Normalize, StateActor

META = torch.device("meta")
IMAGE = "corner2_image"


class States:
    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(state=Unbounded(5))


class Pixels:
    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(
        {IMAGE: Unbounded((3, 64, 64), dtype=torch.uint8), "proprio": Unbounded(4)}
    )


SETTINGS = {
    "states": (States, []),
    "soft": (States, ["algo=ibrl_soft"]),
    "rft": (States, ["algo=rft_dynamic"]),
    "pixels": (Pixels, ["experiment=small_pixels"]),
    "drq": (Pixels, ["experiment=paper_pixels_basic", "task.image_size=64"]),
}


def make_learner(specs, overrides):
    config = parse(TrainConfig, composed("train", ["run_dir=none", *overrides]))
    scales = {
        key: Normalize.identity(spec.shape[-1])
        for key, spec in specs.observation_spec.items()
        if key != IMAGE
    }
    if specs is Pixels:
        bc = build_policy(config.bc.network, config.bc.encoder, scales, specs.observation_spec, 4)
    else:
        bc = StateActor(scales["state"], 4, hidden=config.bc.network.hidden)
    policy = bc_policy(bc, config.bc.encoder)
    return build_agent(config.algo, policy, scales, specs, META).learner


def make_batch(specs, rows=4):
    def observed():
        return {key: spec.rand((rows,)) for key, spec in specs.observation_spec.items()}

    step = {
        **{"reward": torch.zeros(rows, 1)},
        **{key: torch.zeros(rows, 1, dtype=torch.bool) for key in ("done", "terminated")},
    }
    content = {
        **observed(),
        "action": specs.action_spec.rand((rows,)),
        "steps_to_next_obs": torch.full((rows, 1), 3),
        "next": {**observed(), **step},
    }
    return TensorDict(content | {"demo": dict(content)}, [rows]).to(META)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_round_asks_the_device_for_no_number(name, monkeypatch):
    specs, overrides = SETTINGS[name]
    # Not there for tensors without numbers: what TorchRL asks once, when target networks are made,
    # PyTorch's fused step, which runs on the device alone, and lower precision.
    monkeypatch.setattr(torch.Tensor, "is_set_to", lambda mine, other: mine is other)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    learner = make_learner(specs, overrides)
    batch = make_batch(specs)
    reports = [learner.update_critics(batch), learner.update_actor(batch)]
    assert {value.device for report in reports for value in report.values()} == {META}


def test_asking_would_be_noticed():
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        bool(torch.ones(1, device=META) > 0)
