"""A frozen policy's actions beside the observations they answer."""

import copy

import pytest
import torch
from support.parts import episode
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.envs.transforms import Compose

from ibrl_torchrl.data.replay import CacheProposals, EpisodeToTransitions, episode_buffer
from ibrl_torchrl.modules import (
    CameraEncoder,
    FeatureActor,
    FlattenHead,
    FrozenPolicy,
    Normalize,
    PixelPolicy,
    ResNet96,
    StateActor,
)


class TenTimes(nn.Module):
    """A policy whose action tells which observation it saw."""

    def forward(self, state):
        return 10 * state


def ten_times():
    return FrozenPolicy(TensorDictModule(TenTimes(), ["state"], ["bc_action"]))


def state_policy():
    actor = StateActor(Normalize.identity(1), 2, hidden=[16, 16])
    return FrozenPolicy(TensorDictModule(actor, ["state"], ["bc_action"]))


def pixel_policy():
    encoder = CameraEncoder([ResNet96(9)], [(3, 9, 9)])
    actor = FeatureActor(FlattenHead(encoder.feature_shape), 2, hidden=[8])
    module = TensorDictModule(PixelPolicy(encoder, actor), ["camera_image"], ["bc_action"])
    return FrozenPolicy(module)


def with_images(td):
    """The same episode with camera images; what is next comes at the root one step later."""
    images = torch.randint(256, (len(td) + 1, 3, 9, 9), dtype=torch.uint8)
    td["camera_image"], td["next", "camera_image"] = images[:-1], images[1:]
    return td


def test_actions_stand_beside_the_observations_they_answer():
    recorded = CacheProposals(ten_times()).inv(episode(4, success=False))
    assert recorded["bc_action"].flatten().tolist() == [0, 10, 20, 30]
    assert recorded["next", "bc_action"].flatten().tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize("policy", [state_policy, pixel_policy])
def test_they_are_those_the_policy_gives_one_by_one(policy):
    torch.manual_seed(0)
    policy, td = policy(), with_images(episode(6, success=True))
    recorded = CacheProposals(policy).inv(td.clone())
    assert recorded["bc_action"].shape == recorded["next", "bc_action"].shape == (6, 2)
    for t in range(6):
        now = policy(td[t].select(*policy.in_keys))["bc_action"]
        then = policy(td["next"][t].select(*policy.in_keys))["bc_action"]
        assert torch.allclose(recorded["bc_action"][t], now, atol=1e-5)
        assert torch.allclose(recorded["next", "bc_action"][t], then, atol=1e-5)
    assert torch.equal(recorded["next", "bc_action"][:-1], recorded["bc_action"][1:])
    assert recorded["bc_action"].std(0).min() > 0  # and not all the same
    assert not recorded["bc_action"].requires_grad


def test_each_observation_is_answered_once():
    policy, asked = state_policy(), []
    policy.register_forward_hook(lambda module, args, out: asked.append(len(args[0])))
    CacheProposals(policy).inv(episode(5, success=True))
    assert asked == [6]  # five, and the last


def test_the_episode_that_comes_in_is_left_alone():
    td = with_images(episode(5, success=True))
    before = td.clone()
    recorded = CacheProposals(pixel_policy()).inv(td)
    assert set(td.keys(True, True)) == set(before.keys(True, True))
    assert (td == before).all()
    added = set(recorded.keys(True, True)) - set(before.keys(True, True))
    assert added == {"bc_action", ("next", "bc_action")}
    assert (recorded.select(*before.keys(True, True)) == before).all()


def compose(policy, n_steps=3):
    kept = EpisodeToTransitions(["state", "bc_action"], n_steps=n_steps, gamma=0.9)
    return Compose(kept, CacheProposals(policy))


def test_the_next_action_belongs_to_the_end_of_the_window():
    replay = episode_buffer(20, 4, compose(ten_times()))
    replay.extend(episode(5, success=True))
    content = replay[:]
    # s' of three steps on, or the last observation.
    assert content["next", "state"].flatten().tolist() == [3, 4, 5, 5, 5]
    assert content["next", "bc_action"].flatten().tolist() == [30, 40, 50, 50, 50]
    assert content["bc_action"].flatten().tolist() == [0, 10, 20, 30, 40]


def test_samples_carry_both_actions():
    torch.manual_seed(0)
    replay = episode_buffer(20, 4, compose(ten_times()))
    for length in (5, 2, 7):
        replay.extend(episode(length, success=False))
    for _ in range(5):
        batch = replay.sample()
        assert torch.equal(batch["bc_action"], 10 * batch["state"])
        assert torch.equal(batch["next", "bc_action"], 10 * batch["next", "state"])


def test_what_replay_does_not_keep_the_policy_still_sees():
    # The policy reads "extra", which is not stored.
    policy = FrozenPolicy(TensorDictModule(TenTimes(), ["extra"], ["bc_action"]))
    td = episode(4, success=True)
    td["next", "extra"] = td["extra"] + 1
    replay = episode_buffer(20, 4, compose(policy, n_steps=1))
    replay.extend(td)
    assert "extra" not in replay[:]
    assert replay[:]["next", "bc_action"].flatten().tolist() == [10, 20, 30, 40]


def test_samples_pass_through_as_they_are():
    td = TensorDict(state=torch.randn(3, 1), bc_action=torch.randn(3, 1), batch_size=[3])
    before = td.clone()
    assert (CacheProposals(ten_times())(td) == before).all()


def test_the_policy_is_not_the_transforms():
    policy = state_policy()
    transform = compose(policy)
    replay = episode_buffer(20, 4, transform)
    assert not [*transform.parameters()]
    assert not any("weight" in name or "policy" in name for name in transform.state_dict())
    assert not any(module is policy for module in transform.modules())
    transform.double()
    assert all(parameter.dtype == torch.float32 for parameter in policy.parameters())
    before = copy.deepcopy(policy.state_dict())
    replay.extend(episode(3, success=True))
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
