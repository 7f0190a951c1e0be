"""CacheProposals: actions of frozen policies stored with each observation."""

import copy

import pytest
import torch
from support.parts import episode
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import distributions, nn
from torchrl.envs.transforms import Compose
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import LSTMModule, ProbabilisticActor

from ibrl_torchrl.data.replay import CacheProposals, EpisodeToTransitions, episode_buffer
from ibrl_torchrl.keys import proposal_key
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
    """A policy whose action identifies its observation."""

    def forward(self, state):
        return 10 * state


def ten_times(key="bc_action"):
    return FrozenPolicy(TensorDictModule(TenTimes(), ["state"], [key]))


def state_policy():
    actor = StateActor(Normalize.identity(1), 2, hidden=[16, 16])
    return FrozenPolicy(TensorDictModule(actor, ["state"], ["bc_action"]))


def pixel_policy():
    encoder = CameraEncoder([ResNet96(9)], [(3, 9, 9)])
    actor = FeatureActor(FlattenHead(encoder.feature_shape), 2, hidden=[8])
    module = TensorDictModule(PixelPolicy(encoder, actor), ["camera_image"], ["bc_action"])
    return FrozenPolicy(module)


def with_images(td):
    """Add camera images to an episode."""
    images = torch.randint(256, (len(td) + 1, 3, 9, 9), dtype=torch.uint8)
    td["camera_image"], td["next", "camera_image"] = images[:-1], images[1:]
    return td


def test_actions_are_stored_with_their_observations():
    cached = CacheProposals(ten_times()).inv(episode(4, success=False))
    assert cached["bc_action"].flatten().tolist() == [0, 10, 20, 30]
    assert cached["next", "bc_action"].flatten().tolist() == [10, 20, 30, 40]


@pytest.mark.parametrize("policy", [state_policy, pixel_policy])
def test_cached_actions_equal_policy_outputs_per_step(policy):
    torch.manual_seed(0)
    policy, td = policy(), with_images(episode(6, success=True))
    cached = CacheProposals(policy).inv(td.clone())
    assert cached["bc_action"].shape == cached["next", "bc_action"].shape == (6, 2)
    for t in range(6):
        now = policy(td[t].select(*policy.in_keys))["bc_action"]
        then = policy(td["next"][t].select(*policy.in_keys))["bc_action"]
        assert torch.allclose(cached["bc_action"][t], now, atol=1e-5)
        assert torch.allclose(cached["next", "bc_action"][t], then, atol=1e-5)
    assert torch.equal(cached["next", "bc_action"][:-1], cached["bc_action"][1:])
    assert cached["bc_action"].std(0).min() > 0  # not constant
    assert not cached["bc_action"].requires_grad


def test_policy_evaluates_each_observation_once():
    policy, batch_sizes = state_policy(), []
    policy.register_forward_hook(lambda module, args, out: batch_sizes.append(len(args[0])))
    CacheProposals(policy).inv(episode(5, success=True))
    assert batch_sizes == [6]  # five observations and the last next observation


def test_input_episode_is_not_modified():
    td = with_images(episode(5, success=True))
    before = td.clone()
    cached = CacheProposals(pixel_policy()).inv(td)
    assert set(td.keys(True, True)) == set(before.keys(True, True))
    assert (td == before).all()
    added = set(cached.keys(True, True)) - set(before.keys(True, True))
    assert added == {"bc_action", ("next", "bc_action")}
    assert (cached.select(*before.keys(True, True)) == before).all()


def test_several_episodes_at_once_are_refused():
    both = torch.cat([episode(2, success=True), episode(3, success=False)])
    with pytest.raises(ValueError, match=r"^CacheProposals takes one .* trajs_per_write=1 to the"):
        CacheProposals(ten_times()).inv(both)


def test_mode_of_a_stochastic_policy_is_stored():
    class Normal(nn.Module):
        def forward(self, state):
            return 10 * state, torch.ones_like(state)

    parameters = TensorDictModule(Normal(), ["state"], ["loc", "scale"])
    actor = ProbabilisticActor(
        parameters,
        ["loc", "scale"],
        out_keys=["bc_action"],
        distribution_class=distributions.Normal,
    )
    policy = FrozenPolicy(actor, out_key="bc_action")
    with set_exploration_type(ExplorationType.RANDOM):
        cached = CacheProposals(policy).inv(episode(4, success=False))
    assert cached["bc_action"].flatten().tolist() == [0, 10, 20, 30]
    assert cached["next", "bc_action"].flatten().tolist() == [10, 20, 30, 40]


def compose(*policies, n_steps=3):
    stored = ["state", *(policy.out_keys[0] for policy in policies)]
    to_transitions = EpisodeToTransitions(stored, n_steps=n_steps, gamma=0.9)
    return Compose(to_transitions, *(CacheProposals(policy) for policy in policies))


def test_next_action_is_that_of_the_window_end():
    replay = episode_buffer(20, 4, compose(ten_times()))
    replay.extend(episode(5, success=True))
    content = replay[:]
    # s' of three steps on, or the last observation.
    assert content["next", "state"].flatten().tolist() == [3, 4, 5, 5, 5]
    assert content["next", "bc_action"].flatten().tolist() == [30, 40, 50, 50, 50]
    assert content["bc_action"].flatten().tolist() == [0, 10, 20, 30, 40]


def test_samples_contain_actions_of_both_observations():
    torch.manual_seed(0)
    replay = episode_buffer(20, 4, compose(ten_times()))
    for length in (5, 2, 7):
        replay.extend(episode(length, success=False))
    for _ in range(5):
        batch = replay.sample()
        assert torch.equal(batch["bc_action"], 10 * batch["state"])
        assert torch.equal(batch["next", "bc_action"], 10 * batch["next", "state"])


def test_policy_reads_keys_that_replay_does_not_store():
    # The policy reads "extra", which is not stored.
    policy = FrozenPolicy(TensorDictModule(TenTimes(), ["extra"], ["bc_action"]))
    td = episode(4, success=True)
    td["next", "extra"] = td["extra"] + 1
    replay = episode_buffer(20, 4, compose(policy, n_steps=1))
    replay.extend(td)
    assert "extra" not in replay[:]
    assert replay[:]["next", "bc_action"].flatten().tolist() == [10, 20, 30, 40]


def test_forward_returns_samples_unchanged():
    td = TensorDict(state=torch.randn(3, 1), bc_action=torch.randn(3, 1), batch_size=[3])
    before = td.clone()
    assert (CacheProposals(ten_times())(td) == before).all()


def test_policy_is_no_submodule_of_the_transform():
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


@pytest.mark.parametrize("names", [("bc", "flow"), ("flow", "bc")])
def test_two_named_proposals_compose(names):
    """The second policy is a network, whose actions differ from those of the first."""
    torch.manual_seed(0)
    first, second = (proposal_key(name) for name in names)
    network = TensorDictModule(
        StateActor(Normalize.identity(1), 2, hidden=[8]), ["state"], [second]
    )
    policies = ten_times(first), FrozenPolicy(network)
    replay = episode_buffer(20, 4, compose(*policies))
    replay.extend(episode(5, success=True))
    content = replay[:]
    for observation, actions in (
        (content["state"], content.select(first, second)),
        (content["next", "state"], content["next"].select(first, second)),
    ):
        assert torch.equal(actions[first], 10 * observation)
        expected = network(TensorDict(state=observation, batch_size=[5]))[second]
        assert torch.allclose(actions[second], expected, atol=1e-6)
    assert {first, second} <= set(replay.sample().keys())


def test_recurrent_policy_is_cached_as_it_acts_step_by_step():
    torch.manual_seed(0)
    lstm = LSTMModule(input_size=1, hidden_size=2, in_key="state", out_key="bc_action")
    policy = FrozenPolicy(lstm, action_key="bc_action")
    steps = episode(5, success=False)
    cached = CacheProposals(policy).inv(steps)
    hidden, acted = {}, []
    states = [*steps["state"], steps["next", "state"][-1]]
    for i, state in enumerate(states):
        td = TensorDict({"state": state, "is_init": torch.tensor([i == 0]), **hidden})
        hidden = dict(policy(td)["next"].items())
        acted.append(td["bc_action"])
    expected = torch.stack(acted)
    assert torch.allclose(cached["bc_action"], expected[:-1], atol=1e-6)
    assert torch.allclose(cached["next", "bc_action"], expected[1:], atol=1e-6)
    assert not torch.allclose(expected[2], policy_from_start(policy, states[2]))


def policy_from_start(policy, state):
    """Action in a state that a recurrent policy takes for the first of an episode."""
    return policy(TensorDict(state=state, is_init=torch.tensor([True])))["bc_action"]
