"""EpisodeToTransitions and ConstantReward: n-step returns against numbers computed on paper."""

import pytest
import torch
from support.parts import actor, critics, episode
from torchrl.data.postprocs import MultiStep
from torchrl.envs import Compose

from ibrl_torchrl.data.replay import ConstantReward, EpisodeToTransitions, episode_buffer
from ibrl_torchrl.objectives import IBRLTD3Loss


def buffer(n=3, gamma=0.9, size=100, batch=8, terminates=False, **settings):
    transform = EpisodeToTransitions(
        ["state"], n_steps=n, gamma=gamma, time_limit_terminates=terminates
    )
    return episode_buffer(size, batch, transform, **settings)


def stored_columns(td, **settings):
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


def test_n_step_windows_before_success_terminate():
    # Five steps, reward 1 at the last: 0.9^2 from two steps before the end, then 0.9, 1.
    reward, state, steps, terminated, done = stored_columns(episode(5, success=True))
    assert reward == [0, 0, 0.81, 0.9, 1]
    assert state == [3, 4, 5, 5, 5]
    assert steps == [3, 3, 3, 2, 1]
    assert terminated == done == [0, 0, 1, 1, 1]


def test_n_step_windows_before_horizon_bootstrap_from_last_observation():
    reward, state, steps, terminated, done = stored_columns(episode(5, success=False))
    assert reward == [0, 0, 0, 0, 0]
    assert state == [3, 4, 5, 5, 5]
    assert steps == [3, 3, 3, 2, 1]
    assert terminated == [0, 0, 0, 0, 0] and done == [0, 0, 1, 1, 1]


def test_time_limit_terminates_marks_windows_before_horizon():
    _, _, _, terminated, _ = stored_columns(episode(5, success=False), terminates=True)
    assert terminated == [0, 0, 1, 1, 1]


def test_one_step_transitions_keep_rewards_and_flags():
    reward, state, steps, terminated, _ = stored_columns(episode(3, success=True), n=1)
    assert (reward, state, steps, terminated) == ([0, 0, 1], [1, 2, 3], [1, 1, 1], [0, 0, 1])


def test_episode_shorter_than_n_steps_shortens_windows():
    reward, state, steps, terminated, _ = stored_columns(episode(2, success=True), n=5)
    assert (reward, state, steps, terminated) == ([0.9, 1], [2, 2], [2, 1], [1, 1])


def test_n_step_windows_stay_within_their_episode():
    replay = buffer()
    replay.extend(episode(2, success=True))
    replay.extend(episode(4, success=False))
    assert replay[:]["steps_to_next_obs"].flatten().tolist() == [2, 1, 3, 3, 2, 1]


def test_td_targets_of_stored_episode_equal_computed_values():
    # Q = a and the actor outputs 0.5: y = R + 0.9^k * 0.5, and no bootstrap into the success.
    replay = buffer()
    replay.extend(episode(5, success=True))
    loss = IBRLTD3Loss(actor(0.5), critics([1.0]), num_min=1, policy_noise=0.0)
    _, info = loss.make_value_estimator(gamma=0.9).qvalue_loss(replay[:].clone())
    expected = torch.tensor([0.729 * 0.5, 0.729 * 0.5, 0.81, 0.9, 1.0])
    assert torch.allclose(info["target_value"].flatten(), expected)


def test_extend_stores_observation_keys_only_and_keeps_the_input():
    td = episode(3, success=True)
    before = td.clone()
    replay = buffer()
    replay.extend(td)
    assert "extra" not in replay[:]
    assert (td == before).all() and set(td.keys(True)) == set(before.keys(True))


def test_extend_stores_no_gradients():
    td = episode(3, success=True)
    td["action"] = td["action"].requires_grad_()
    replay = buffer()
    replay.extend(td)
    assert not replay[:]["action"].requires_grad and td["action"].requires_grad


def test_extend_refuses_incomplete_episode_and_names_trajs_per_batch():
    message = r"last of 3 steps is not done; pass trajs_per_batch=1 .* shared=True"
    with pytest.raises(ValueError, match=message):
        buffer().extend(episode(5, success=True)[:3])


def test_multi_step_default_keeps_flags_of_first_step():
    """Fails once TorchRL moves the done flags with the window: then our setting can be removed."""
    flags = MultiStep(gamma=0.9, n_steps=3)(episode(5, success=True))["next", "terminated"]
    assert flags.flatten().tolist() == [False, False, False, False, True]


def test_memmap_storage_equals_memory_storage(tmp_path):
    mapped = buffer(storage="memmap", scratch_dir=tmp_path / "map")
    plain = buffer()
    for replay in (mapped, plain):
        replay.extend(episode(5, success=True))
    assert (mapped[:] == plain[:]).all()
    assert [*tmp_path.rglob("*.memmap")]


def test_constant_reward_accumulates_over_n_step_window():
    to_transitions = EpisodeToTransitions(["state"], n_steps=3, gamma=0.9)
    replay = episode_buffer(100, 8, Compose(to_transitions, ConstantReward(1.0)))
    td = episode(4, success=False)
    replay.extend(td)
    rewards = replay[:]["next", "reward"].flatten().tolist()
    assert rewards == pytest.approx([1 + 0.9 + 0.81, 1 + 0.9 + 0.81, 1 + 0.9, 1])
    assert td["next", "reward"].sum() == 0  # the input is not modified
