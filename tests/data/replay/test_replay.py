"""Replay: n-step ends by hand, exact shares, priorities that reach their owner."""

import pytest
import torch
from support.parts import actor, critics, episode
from torchrl.data.postprocs import MultiStep
from torchrl.envs import Compose

from ibrl_torchrl.data.replay import (
    ConstantReward,
    EpisodeToTransitions,
    MixedReplay,
    ReplayWithDemos,
    episode_buffer,
)
from ibrl_torchrl.objectives import IBRLTD3Loss


def buffer(n=3, gamma=0.9, size=100, batch=8, terminates=False, **settings):
    transform = EpisodeToTransitions(
        ["state"], n_steps=n, gamma=gamma, time_limit_terminates=terminates
    )
    return episode_buffer(size, batch, transform, **settings)


def stored(td, **settings):
    replay = buffer(**settings)
    replay.extend(td)
    content = replay[:]
    columns = [
        content["next", "reward"],
        content["next", "state"],
        content["steps_to_next_obs"],
        content["next", "terminated"].int(),
        content["next", "done"].int(),
    ]
    return [[round(x, 4) for x in column.flatten().tolist()] for column in columns]


def test_three_steps_into_a_success():
    # Five steps, reward 1 at the last: 0.9^2 from two steps before the end, then 0.9, 1.
    reward, state, steps, terminated, done = stored(episode(5, success=True))
    assert reward == [0, 0, 0.81, 0.9, 1]
    assert state == [3, 4, 5, 5, 5]
    assert steps == [3, 3, 3, 2, 1]
    assert terminated == done == [0, 0, 1, 1, 1]


def test_three_steps_into_the_horizon_bootstrap_from_the_last_observation():
    reward, state, steps, terminated, done = stored(episode(5, success=False))
    assert reward == [0, 0, 0, 0, 0]
    assert state == [3, 4, 5, 5, 5]
    assert steps == [3, 3, 3, 2, 1]
    assert terminated == [0, 0, 0, 0, 0] and done == [0, 0, 1, 1, 1]


def test_the_original_codes_time_limit_is_a_switch():
    _, _, _, terminated, _ = stored(episode(5, success=False), terminates=True)
    assert terminated == [0, 0, 1, 1, 1]


def test_one_step():
    reward, state, steps, terminated, _ = stored(episode(3, success=True), n=1)
    assert (reward, state, steps, terminated) == ([0, 0, 1], [1, 2, 3], [1, 1, 1], [0, 0, 1])


def test_an_episode_shorter_than_n():
    reward, state, steps, terminated, _ = stored(episode(2, success=True), n=5)
    assert (reward, state, steps, terminated) == ([0.9, 1], [2, 2], [2, 1], [1, 1])


def test_windows_do_not_cross_episodes():
    replay = buffer()
    replay.extend(episode(2, success=True))
    replay.extend(episode(4, success=False))
    assert replay[:]["steps_to_next_obs"].flatten().tolist() == [2, 1, 3, 3, 2, 1]


def test_targets_of_a_stored_episode_by_hand():
    # Q = a and the actor answers 0.5: y = R + 0.9^k * 0.5, and no bootstrap into the success.
    replay = buffer()
    replay.extend(episode(5, success=True))
    loss = IBRLTD3Loss(actor(0.5), critics([1.0]), num_min=1, policy_noise=0.0)
    _, info = loss.make_value_estimator(gamma=0.9).qvalue_loss(replay[:].clone())
    expected = torch.tensor([0.729 * 0.5, 0.729 * 0.5, 0.81, 0.9, 1.0])
    assert torch.allclose(info["target_value"].flatten(), expected)


def test_only_what_learning_needs_is_stored_and_the_episode_is_untouched():
    td = episode(3, success=True)
    before = td.clone()
    replay = buffer()
    replay.extend(td)
    assert "extra" not in replay[:]
    assert (td == before).all() and set(td.keys(True)) == set(before.keys(True))


def test_incomplete_episodes_are_refused():
    with pytest.raises(ValueError, match="does not end with done"):
        buffer().extend(episode(5, success=True)[:3])


def test_torchrls_own_flags_are_still_wrong():
    """Fails once TorchRL moves the done flags with the window: then our setting can go."""
    flags = MultiStep(gamma=0.9, n_steps=3)(episode(5, success=True))["next", "terminated"]
    assert flags.flatten().tolist() == [False, False, False, False, True]


def test_memory_map_keeps_the_same(tmp_path):
    mapped = buffer(storage="memmap", scratch_dir=tmp_path / "map")
    plain = buffer()
    for replay in (mapped, plain):
        replay.extend(episode(5, success=True))
    assert (mapped[:] == plain[:]).all()
    assert [*tmp_path.rglob("*.memmap")]


# Demonstration share


def shared(share=0.25, batch=8, keep=False, **settings):
    replay = MixedReplay(
        buffer(**settings),
        buffer(**settings),
        demo_share=share,
        batch_size=batch,
        keep_successes=keep,
    )
    replay.demos.extend(_tagged(1.0))
    replay.extend(_tagged(0.0))
    return replay


def _tagged(tag, success=False):
    td = episode(20, success=success)
    return td.set("action", torch.full_like(td["action"], tag))


@pytest.mark.parametrize(("share", "count"), [(0.25, 2), (0.5, 4), (0.3, 2), (0.9, 7)])
def test_the_share_is_exact_in_every_batch(share, count):
    replay = shared(share)
    for _ in range(20):
        batch = replay.sample()
        assert batch["action"].sum().item() == count
        assert torch.equal(batch["is_demo"], batch["action"].flatten().bool())
    assert len(replay) == 40


def test_successes_join_the_demonstrations_when_asked():
    for keep, expected in ((True, 40), (False, 20)):
        replay = shared(keep=keep)
        replay.extend(_tagged(0.0, success=True))
        assert (len(replay.demos), len(replay.online)) == (expected, 40)


def test_new_episodes_never_push_out_demonstrations():
    replay = shared(size=30)
    for _ in range(5):
        replay.extend(_tagged(0.0))
    assert len(replay.online) == 30
    assert (replay.demos[:]["action"] == 1).all()


def test_priorities_return_to_their_buffer():
    torch.manual_seed(0)
    replay = shared(prioritized=True)
    batch = replay.sample()
    batch["td_error"] = torch.where(batch["is_demo"], 5.0, 7.0)
    replay.update_tensordict_priority(batch)
    for part, name in ((replay.demos, 5.0), (replay.online, 7.0)):
        drawn = batch["index"][batch["is_demo"] == (name == 5.0)].unique()
        values = part.sampler._sum_tree[drawn]
        assert torch.allclose(values, torch.tensor(name**0.6), atol=1e-4)


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_that_leaves_a_side_empty_is_refused(share):
    with pytest.raises(ValueError, match="leaves one side empty"):
        shared(share)


def test_a_constant_reward_is_earned_at_every_step_of_the_window():
    to_transitions = EpisodeToTransitions(["state"], n_steps=3, gamma=0.9)
    replay = episode_buffer(100, 8, Compose(to_transitions, ConstantReward(1.0)))
    own = episode(4, success=False)
    replay.extend(own)
    rewards = replay[:]["next", "reward"].flatten().tolist()
    assert rewards == pytest.approx([1 + 0.9 + 0.81, 1 + 0.9 + 0.81, 1 + 0.9, 1])
    assert own["next", "reward"].sum() == 0  # the caller's episode is not touched


def test_demonstrations_come_along_with_every_batch():
    demos, online = buffer(), buffer(prioritized=True)
    demos.extend(episode(3, success=True))
    replay = ReplayWithDemos(online, demos)
    own = episode(5, success=False)
    own["state"] = own["state"] + 10
    replay.extend(own)
    assert len(replay) == 5 and len(demos) == 3
    batch = replay.sample()
    assert (batch["state"] >= 10).all() and (batch["demo", "state"] < 3).all()
    batch["td_error"] = torch.ones(8)
    replay.update_tensordict_priority(batch)
