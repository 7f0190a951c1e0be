"""MixedReplay and ReplayWithDemos: exact fractions, priorities per buffer, state dicts."""

import numpy as np
import pytest
import torch
from support.parts import episode
from torchrl.envs import Compose

from ibrl_torchrl.data.replay import (
    ChunkActions,
    EpisodeToTransitions,
    MixedReplay,
    ReplayWithDemos,
    episode_buffer,
)

DEMO, ONLINE = 1.0, 0.0  # actions that mark where a transition comes from


def buffer(size=100, batch=8, **settings):
    return episode_buffer(size, batch, EpisodeToTransitions(["state"], gamma=0.9), **settings)


def marked(action, *, length=20, success=False):
    td = episode(length, success=success)
    return td.set("action", torch.full_like(td["action"], action))


def mixed(fraction=0.25, batch=8, keep_successes=False, annealing=None, **settings):
    replay = MixedReplay(
        buffer(**settings),
        buffer(**settings),
        offline_fraction=fraction,
        batch_size=batch,
        keep_successes=keep_successes,
        **(annealing or {}),
    )
    replay.demos.extend(marked(DEMO))
    replay.extend(marked(ONLINE))
    return replay


def priorities(buffer, index):
    return buffer.sampler._sum_tree[index]


# MixedReplay


@pytest.mark.parametrize(("fraction", "count"), [(0.25, 2), (0.5, 4), (0.3, 2), (0.9, 7)])
def test_mixed_sample_has_exact_offline_fraction(fraction, count):
    replay = mixed(fraction)
    for _ in range(20):
        batch = replay.sample()
        assert batch["action"].sum().item() == count
        assert torch.equal(batch["is_demo"], batch["action"].flatten().bool())
    assert replay.batch_size == 8 and len(replay) == 40


@pytest.mark.parametrize(("size", "count"), [(4, 1), (6, 2), (32, 8), (2000, 500)])
def test_mixed_sample_of_another_size_keeps_the_fraction(size, count):
    batch = mixed(0.25).sample(batch_size=size)
    assert batch.shape == (size,)
    assert batch["is_demo"].sum().item() == batch["action"].sum().item() == count


@pytest.mark.parametrize(("fraction", "size"), [(0.25, 1), (0.25, 2), (0.9, 3), (0.5, 0)])
def test_mixed_sample_refuses_size_that_leaves_one_side_empty(fraction, size):
    message = f"^offline_fraction {fraction} of a batch of {size} leaves one side empty; use .*"
    with pytest.raises(ValueError, match=message) as error:
        mixed(fraction).sample(size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fraction", [0.01, 0.99, 0.0, 1.0, 1.5, -1])
def test_mixed_replay_refuses_fraction_that_leaves_one_side_empty(fraction):
    with pytest.raises(ValueError, match="leaves one side empty"):
        mixed(fraction)


def demonstrations(replay):
    """Demonstration transitions in batches of 8, after each episode of 20."""
    counts = []
    for _ in range(6):
        batch = replay.sample()
        assert torch.equal(batch["is_demo"], batch["action"].flatten().bool())
        counts.append(int(batch["is_demo"].sum()))
        replay.extend(marked(ONLINE))
    return counts


@pytest.mark.parametrize(
    ("initial", "final", "counts"),
    [
        # Fractions after 20, 40, ... of 80 transitions: 3/4, 1/2, 1/4 of the way from the start.
        (0.5, 0.0, [3, 2, 1, 0, 0, 0]),
        (0.5, 0.25, [4, 3, 2, 2, 2, 2]),  # 3.5, 3, 2.5 and 2 of 8, halves to even
        (0.25, 0.75, [3, 4, 5, 6, 6, 6]),
        (0.5, None, [4] * 6),
    ],
)
def test_fraction_is_annealed_linearly_in_online_transitions(initial, final, counts):
    replay = mixed(initial, annealing={"final_fraction": final, "anneal_frames": 80})
    assert demonstrations(replay) == counts
    assert replay.offline_fraction == (initial if final is None else final)


def test_transitions_that_a_small_buffer_has_lost_count_for_annealing():
    replay = mixed(0.5, annealing={"final_fraction": 0.0, "anneal_frames": 80}, size=30)
    assert demonstrations(replay) == [3, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("restore", ["state_dict", "refill"])
def test_annealing_goes_on_where_it_was(restore):
    def build():
        annealing = {"final_fraction": 0.0, "anneal_frames": 200}
        return mixed(0.5, annealing=annealing, prioritized=True, size=40)

    torch.manual_seed(0)
    saved, loaded = build(), build()
    for _ in range(4):
        saved.extend(marked(ONLINE))
    if restore == "state_dict":
        loaded.load_state_dict(saved.state_dict())
    else:  # as a log of episodes does, which has dropped all but those in the buffer
        loaded.skip(40)
        for _ in range(2):
            loaded.extend(marked(ONLINE))
        loaded.load_sampler_state_dict(saved.sampler_state_dict())
    assert loaded.offline_fraction == saved.offline_fraction == 0.25  # after 100 of 200
    assert_equal(next_batches(loaded), next_batches(saved))


def test_priorities_of_a_batch_without_demonstrations_are_written():
    annealing = {"final_fraction": 0.0, "anneal_frames": 20}
    replay = mixed(0.5, annealing=annealing, prioritized=True)
    batch = replay.sample()
    assert not batch["is_demo"].any() and len(batch) == 8
    replay.update_tensordict_priority(batch.set("td_error", torch.full((8,), 7.0)))
    drawn = batch["index"].unique()
    assert torch.allclose(priorities(replay.online, drawn), torch.tensor(7.0**0.6), atol=1e-4)


@pytest.mark.parametrize(
    ("annealing", "message"),
    [
        ({"final_fraction": 0.01}, "offline_fraction 0.01 of a batch of 8 leaves one side empty"),
        ({"final_fraction": 1.0}, "offline_fraction 1.0 of a batch of 8 leaves one side empty"),
        ({"final_fraction": -0.5}, "offline_fraction -0.5 of a batch of 8 leaves one side empty"),
        ({"final_fraction": 0.0, "anneal_frames": 0}, "anneal_frames must be at least 1, got 0"),
    ],
)
def test_annealing_out_of_range_raises(annealing, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        mixed(0.5, annealing=annealing)


def test_mixed_replay_refuses_one_prioritized_buffer():
    with pytest.raises(ValueError, match="only one of demos and online is prioritized"):
        MixedReplay(buffer(), buffer(prioritized=True), offline_fraction=0.5, batch_size=8)


@pytest.mark.filterwarnings("error")
def test_mixed_sample_gives_no_warning_about_sizes():
    mixed().sample(6)


def test_mixed_draws_demonstrations_before_online_transitions():
    """The order of random draws, on which the numbers of a seeded run depend."""
    replay = mixed()
    torch.manual_seed(0)
    batch = replay.sample()
    torch.manual_seed(0)
    expected = [*torch.randint(20, (2,)), *torch.randint(20, (6,))]
    assert batch["index"].tolist() == expected


@pytest.mark.parametrize(("keep_successes", "expected"), [(True, 40), (False, 20)])
def test_keep_successes_adds_successful_episodes_to_demos(keep_successes, expected):
    replay = mixed(keep_successes=keep_successes)
    index = replay.extend(marked(ONLINE, success=True))
    assert (len(replay.demos), len(replay.online)) == (expected, 40)
    assert index.tolist() == [*range(20, 40)]


def test_keep_successes_splits_concatenated_episodes():
    replay = mixed(keep_successes=True)
    replay.extend(torch.cat([marked(ONLINE), marked(ONLINE, length=3, success=True)]))
    assert (len(replay.demos), len(replay.online)) == (23, 43)
    assert replay.demos[20:]["next", "reward"].flatten().tolist() == pytest.approx([0.81, 0.9, 1])


def test_online_episodes_never_overwrite_demonstrations():
    replay = mixed(size=30)
    for _ in range(5):
        replay.extend(marked(ONLINE))
    assert len(replay.online) == 30
    assert (replay.demos[:]["action"] == DEMO).all()
    assert replay.write_count == 120


@pytest.mark.parametrize("size", [None, 32])
@pytest.mark.parametrize("order", ["sampled", "reversed"])
def test_mixed_priorities_reach_the_buffer_of_each_transition(size, order):
    torch.manual_seed(0)
    replay = mixed(prioritized=True)
    batch = replay.sample(size)
    batch["td_error"] = torch.where(batch["is_demo"], 5.0, 7.0)
    replay.update_tensordict_priority(batch if order == "sampled" else batch.flip(0))
    for part, is_demo, value in ((replay.demos, True, 5.0), (replay.online, False, 7.0)):
        drawn = batch["index"][batch["is_demo"] == is_demo].unique()
        others = [i for i in range(20) if i not in drawn]
        assert torch.allclose(priorities(part, drawn), torch.tensor(value**0.6), atol=1e-4)
        assert torch.allclose(priorities(part, others), torch.tensor(1.0), atol=1e-4)


def test_mixed_priorities_of_uniform_buffers_are_ignored():
    replay = mixed()
    batch = replay.sample().set("td_error", torch.ones(8))
    replay.update_tensordict_priority(batch)
    assert replay.sampler_state_dict() == {"demos": {}, "online": {}}


# ReplayWithDemos


def with_demos(keep_successes=False, **settings):
    demos, online = buffer(), buffer(**settings)
    demos.extend(episode(3, success=True))
    replay = ReplayWithDemos(online, demos, keep_successes=keep_successes)
    td = episode(5, success=False)
    replay.extend(td.set("state", td["state"] + 10))
    return replay


@pytest.mark.parametrize(("size", "expected"), [(None, 8), (5, 5)])
def test_replay_with_demos_adds_demonstrations_under_demo(size, expected):
    replay = with_demos(prioritized=True)
    assert (len(replay), replay.batch_size, replay.write_count) == (5, 8, 5)
    batch = replay.sample(size)
    assert batch.shape == batch["demo"].shape == (expected,)
    assert (batch["state"] >= 10).all() and (batch["demo", "state"] < 3).all()


def test_replay_with_demos_extends_the_online_buffer_only():
    replay = with_demos()
    replay.extend(episode(4, success=True))
    assert (len(replay.replay), len(replay.demos)) == (9, 3)


def test_replay_with_demos_keeps_each_success_of_a_concatenation():
    replay = with_demos(keep_successes=True)
    episodes = [(4, False), (5, True), (6, True)]
    replay.extend(torch.cat([episode(length, success=each) for length, each in episodes]))
    assert (len(replay.replay), len(replay.demos)) == (5 + 15, 3 + 11)
    replay.skip(7, successful=2)
    assert replay.demos.extend(episode(2, success=True)).tolist() == [16, 17]


@pytest.mark.parametrize("before", [[], [(4, True)]])
def test_replay_with_demos_refuses_an_incomplete_episode(before):
    replay = with_demos(keep_successes=True)
    complete = [episode(length, success=each) for length, each in before]
    with pytest.raises(ValueError, match="steps is not done; pass trajs_per_batch=1"):
        replay.extend(torch.cat([*complete, episode(5, success=True)[:3]]))
    assert (len(replay.replay), len(replay.demos)) == (5, 3)


def test_replay_with_demos_keeps_no_success_that_the_replay_refuses():
    whole = episode_buffer(100, 8, Compose(EpisodeToTransitions(["state"]), ChunkActions(2)))
    replay = ReplayWithDemos(whole, buffer(), keep_successes=True)
    with pytest.raises(ValueError, match="ChunkActions takes one complete episode"):
        replay.extend(torch.cat([episode(4, success=True), episode(5, success=True)]))
    assert (len(whole), len(replay.demos)) == (0, 0)


def test_replay_with_demos_writes_priorities_to_the_replay():
    replay = with_demos(prioritized=True)
    batch = replay.sample()
    replay.update_tensordict_priority(batch.set("td_error", torch.full((8,), 3.0)))
    drawn = batch["index"].unique()
    assert torch.allclose(priorities(replay.replay, drawn), torch.tensor(3.0**0.6), atol=1e-4)


# State dicts


def nested():
    """The deepest composition: mixed batches, prioritized, with demonstrations under "demo"."""
    demos = buffer(batch=8)
    demos.extend(marked(DEMO, length=7))
    replay = mixed(prioritized=True, keep_successes=True)
    return ReplayWithDemos(replay, demos, keep_successes=True)


def prioritize(replay):
    batch = replay.sample()
    replay.update_tensordict_priority(batch.set("td_error", torch.rand(len(batch)) * 9))


def next_batches(replay, count=3):
    torch.manual_seed(3)
    np.random.seed(3)  # TorchRL's prioritized sampler draws from it
    return torch.stack([replay.sample() for _ in range(count)])


def assert_equal(first, second):
    assert set(first.keys(True, True)) == set(second.keys(True, True))
    assert (first == second).all()


@pytest.mark.parametrize("build", [nested, mixed, with_demos, buffer])
def test_state_dict_restores_storages_and_samplers(build):
    torch.manual_seed(0)
    saved, loaded = build(), build()
    for i in range(3):
        saved.extend(marked(i / 10, length=5 + i, success=i == 1))
    prioritize(saved)
    loaded.load_state_dict(saved.state_dict())
    assert len(loaded) == len(saved)
    assert_equal(next_batches(loaded), next_batches(saved))
    for replay in (saved, loaded):  # writers continue at the same position
        replay.extend(marked(0.5, length=4, success=True))
    assert_equal(next_batches(loaded), next_batches(saved))


def test_state_dict_restores_an_empty_online_buffer():
    def build():
        replay = MixedReplay(buffer(), buffer(), offline_fraction=0.5, batch_size=8)
        replay.demos.extend(marked(DEMO))
        return replay

    loaded = build()
    loaded.load_state_dict(build().state_dict())
    assert (len(loaded.demos), len(loaded.online)) == (20, 0)
    loaded.extend(marked(ONLINE))
    assert loaded.sample()["is_demo"].sum() == 4


def test_sampler_state_dict_restores_priorities_of_a_refilled_replay(tmp_path):
    torch.manual_seed(0)
    saved, loaded = nested(), nested()
    prioritize(saved)
    torch.save(saved.sampler_state_dict(), tmp_path / "samplers.pt")
    state = torch.load(tmp_path / "samplers.pt", weights_only=True)
    assert state.keys() == {"replay", "demos"} and state["replay"].keys() == {"demos", "online"}
    loaded.load_sampler_state_dict(state)
    assert_equal(next_batches(loaded), next_batches(saved))
