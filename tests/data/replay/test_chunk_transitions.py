"""Chunk transitions: actions, discounts and ends against numbers computed on paper."""

import pytest
import torch
from support.parts import episode
from tensordict import TensorDict
from torchrl.envs import ActionChunkTransform, Compose

from ibrl_torchrl.data.replay import ChunkActions, EpisodeToTransitions, episode_buffer
from ibrl_torchrl.episodes import action_chunks


def stored(td, size, n=1, gamma=0.9):
    """Transitions of chunks, as the program's replay stores them."""
    transform = EpisodeToTransitions(["state"], n_steps=n * size, gamma=gamma)
    replay = episode_buffer(100, 8, Compose(transform, ChunkActions(size)))
    replay.extend(td)
    return replay[:]


def numbered(length, success):
    """Episode whose action at step t is t + 1."""
    td = episode(length, success=success)
    return td.set("action", torch.arange(1.0, length + 1)[:, None])


def test_chunks_start_at_every_step_and_repeat_the_last_action():
    content = stored(numbered(4, success=True), 3)
    assert content["action"].tolist() == [[1, 2, 3], [2, 3, 4], [3, 4, 4], [4, 4, 4]]


def test_reward_and_discount_are_those_of_the_steps_of_a_chunk():
    # Reward 1 at the last of 5 steps; chunks of 3, gamma 0.9.
    content = stored(numbered(5, success=True), 3)
    rewards = content["next", "reward"].flatten()
    torch.testing.assert_close(rewards, torch.tensor([0.0, 0.0, 0.81, 0.9, 1.0]))
    assert content["steps_to_next_obs"].flatten().tolist() == [3, 3, 3, 2, 1]
    assert content["next", "terminated"].flatten().tolist() == [False, False, True, True, True]
    assert content["next", "state"][:, 0].tolist() == [3, 4, 5, 5, 5]


def test_a_ragged_last_chunk_at_the_horizon_bootstraps():
    content = stored(numbered(5, success=False), 3)
    assert not content["next", "terminated"].any()
    assert content["steps_to_next_obs"].flatten().tolist() == [3, 3, 3, 2, 1]


def test_n_steps_count_chunks():
    # Two chunks of 2: windows of 4 steps, discounted by gamma^4.
    content = stored(numbered(6, success=True), 2, n=2)
    rewards = content["next", "reward"].flatten()
    torch.testing.assert_close(rewards, torch.tensor([0.0, 0.0, 0.729, 0.81, 0.9, 1.0]))
    assert content["steps_to_next_obs"].flatten().tolist() == [4, 4, 4, 3, 2, 1]
    assert content["action"].shape == (6, 2)


def test_chunks_of_one_action_change_nothing():
    td = numbered(5, success=True)
    transform = EpisodeToTransitions(["state"], n_steps=3, gamma=0.9)
    replay = episode_buffer(100, 8, transform)
    replay.extend(td)
    plain, chunked = replay[:], stored(td, 1, n=3)
    assert all(torch.equal(plain[key], chunked[key]) for key in plain.keys(True, True))


def test_several_episodes_at_once_are_refused():
    both = torch.cat([numbered(2, success=True), numbered(3, success=True)])
    with pytest.raises(ValueError, match=r"^ChunkActions takes one .* trajs_per_write=1 to the"):
        stored(both, 2)


@pytest.mark.parametrize("size", [1, 3, 9])
def test_chunks_are_those_of_torchrl(size):
    actions = torch.randn(5, 2)
    td = TensorDict(action=actions[None], batch_size=[1])
    expected = ActionChunkTransform(size)(td)["vla_action", "chunk"][0].flatten(1)
    assert torch.equal(action_chunks(actions, size), expected)


def test_the_episode_itself_is_unchanged():
    td = numbered(4, success=True)
    before = td.clone()
    stored(td, 3)
    assert (td == before).all()
