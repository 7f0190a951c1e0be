"""Policies of other libraries as proposals, with a small ACT of LeRobot's interface."""

import pytest
import torch
from support.parts import networks, transitions
from tensordict import TensorDict
from tensordict.nn import TensorDictSequential
from torch import nn

from ibrl_torchrl.modules import (
    ChunkExecutor,
    ExecuteProposal,
    ExternalPolicy,
    FrozenPolicy,
    IBRLSelector,
    Normalize,
)
from ibrl_torchrl.objectives import IBRLTD3Loss

STATE, CAMERA = "observation.state", "observation.images.top"
KEYS = {"state": STATE, "top_image": CAMERA}
CHUNK, ACTION = 5, 2


class SmallACT(nn.Module):
    """Action chunking transformer (arXiv 2304.13705) without its VAE, as LeRobot calls one."""

    def __init__(self, state_size=6, width=16):
        super().__init__()
        self.state = nn.Linear(state_size, width)
        self.image = nn.Conv2d(3, width, 8, stride=8)
        self.queries = nn.Parameter(torch.randn(CHUNK, width))
        self.transformer = nn.Transformer(
            width, 2, 1, 1, dim_feedforward=32, dropout=0.5, batch_first=True
        )
        self.head = nn.Linear(width, ACTION)
        self.batches = []

    def predict_action_chunk(self, batch):
        self.batches.append(batch)
        patches = self.image(batch[CAMERA]).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.state(batch[STATE]).unsqueeze(1), patches], 1)
        queries = self.queries.expand(len(tokens), -1, -1)
        return self.head(self.transformer(tokens, queries))

    def select_action(self, batch):
        raise AssertionError("its action depends on the queue of earlier chunks")


def observations(*batch):
    return TensorDict(
        state=torch.randn(*batch, 6),
        top_image=torch.randint(256, (*batch, 3, 16, 16), dtype=torch.uint8),
        batch_size=batch,
    )


def act(**settings):
    torch.manual_seed(0)
    return FrozenPolicy(ExternalPolicy(SmallACT(), KEYS, **settings))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("size", [1, 3])
def test_proposes_the_first_actions_of_a_chunk(batch, size):
    policy, td = act(chunk_size=size, bounds=(-9, 9)), observations(*batch)
    network = policy.policy.policy
    flat = {
        STATE: td["state"].reshape(-1, 6),
        CAMERA: td["top_image"].reshape(-1, 3, 16, 16) / 255,
    }
    with torch.no_grad():
        expected = network.predict_action_chunk(flat)[:, :size].reshape(*batch, size * ACTION)
    torch.testing.assert_close(policy(td)["bc_action"], expected)
    assert not policy(td)["bc_action"].requires_grad


def test_normalises_observations_and_actions():
    class Sum(nn.Module):
        def forward(self, batch):
            return batch["s"].sum(-1, keepdim=True)

    policy = ExternalPolicy(
        Sum(),
        {"state": "s"},
        out_key="arm_action",
        normalize={"s": Normalize(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 4.0]))},
        action_normalize=Normalize(torch.tensor([0.1]), torch.tensor([0.2])),
    )
    # (2 - 1) / 2 + 2 / 4 = 1, and 1 * 0.2 + 0.1 = 0.3; 10 times the state is out of bounds.
    td = TensorDict(state=torch.tensor([[2.0, 2.0], [20.0, 20.0]]), batch_size=[2])
    torch.testing.assert_close(policy(td)["arm_action"], torch.tensor([[0.3], [1.0]]))
    assert policy.out_keys == ["arm_action"]
    assert {"normalizers.0.mean", "action_normalize.std"} <= {*policy.state_dict()}


def test_proposes_in_loss_and_selector():
    actor, critic, _ = networks(state_size=6, action_size=ACTION)
    policy = act()
    loss = IBRLTD3Loss(actor, critic, [policy]).make_value_estimator(gamma=0.99)
    batch = transitions(8, state_size=6, action_size=ACTION)
    batch["steps_to_next_obs"] = torch.ones(8, 1, dtype=torch.int64)
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    batch["top_image"] = images
    batch["next", "top_image"] = images
    losses = loss(batch)
    losses["loss_qvalue"].backward()
    assert all(parameter.grad is None for parameter in policy.parameters())
    td = IBRLSelector(critic)(policy(actor(observations(4))))
    expected = torch.where(td["proposal"].bool()[:, None], td["bc_action"], td["rl_action"])
    assert torch.equal(td["action"], expected)


def test_acts_in_chunks():
    policy = act(chunk_size=CHUNK)
    network = policy.policy.policy
    proposal = TensorDictSequential(policy, ExecuteProposal("bc_action", 1))
    executor = ChunkExecutor(proposal, CHUNK, replan=3)
    td = observations()
    for _ in range(4):
        td = executor(td)
        assert td["action"].shape == (ACTION,)
    assert len(network.batches) == 2


def test_other_calls():
    class Policy(nn.Module):
        def act(self, batch):
            return batch["s"] / 2

    policy = ExternalPolicy(Policy(), {"state": "s"}, call=lambda policy, batch: policy.act(batch))
    assert policy(TensorDict(state=torch.ones(2)))["bc_action"].tolist() == [0.5, 0.5]


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="keys must name at least one observation"):
        ExternalPolicy(SmallACT(), {})
    with pytest.raises(ValueError, match=r"normalize must name observations of .*got \['state'\]"):
        act(normalize={"state": Normalize.identity(6)})
    with pytest.raises(ValueError, match=f"observation 'top_image', the policy's '{CAMERA}'"):
        act()(observations().exclude("top_image"))
    with pytest.raises(ValueError, match=r"shape \[1, 5, 2\].* h at least 6"):
        act(chunk_size=6)(observations())
    actor, critic, _ = networks(state_size=6, action_size=3)
    with pytest.raises(ValueError, match=r"actions of one size, got .*'bc_action': \[1, 1, 2\]"):
        IBRLSelector(critic)(act()(actor(observations(1))))
