"""EpisodeToTransitions and ConstantReward: n-step returns against numbers computed on paper."""

from functools import partial

import pytest
import torch
from support.parts import Countdown, actor, critics, episode, executing
from torchrl.collectors import MultiSyncCollector
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


# Rows that span several environment steps


def chunks(rewards, steps, *, success=True):
    """Episode whose row t spans ``steps[t]`` environment steps and has reward ``rewards[t]``."""
    td = episode(len(steps), success=success)
    td["next", "reward"] = torch.tensor(rewards)[:, None]
    return td.set("steps_to_next_obs", torch.tensor(steps)[:, None])


def test_rewards_are_discounted_by_cumulated_steps_of_rows():
    # Chunks of 4, 4 and 2 steps, gamma 1/2: 1 + 2/2^4 = 1.125, 2 + 4/2^4 = 2.25, 4.
    td = chunks([1.0, 2.0, 4.0], [4, 4, 2])
    reward, state, steps, terminated, done = stored_columns(td, n=2, gamma=0.5)
    assert reward == [1.125, 2.25, 4]
    assert state == [2, 3, 3]
    assert steps == [8, 6, 2]
    assert terminated == done == [0, 1, 1]


def test_window_of_all_rows_is_discounted_by_all_earlier_steps():
    # 1 + 2/2^3 + 4/2^(3 + 1) = 1.5 after 3 + 1 + 5 steps; 2 + 4/2 = 4; 4.
    td = chunks([1.0, 2.0, 4.0], [3, 1, 5], success=False)
    reward, _, steps, terminated, done = stored_columns(td, n=5, gamma=0.5)
    assert (reward, steps) == ([1.5, 4, 4], [9, 6, 5])
    assert terminated == [0, 0, 0] and done == [1, 1, 1]


def test_one_row_windows_keep_rewards_and_steps_of_rows():
    reward, _, steps, _, _ = stored_columns(chunks([1.0, 2.0, 4.0], [4, 4, 2]), n=1)
    assert (reward, steps) == ([1, 2, 4], [4, 4, 2])


def test_windows_of_rows_end_with_each_of_several_episodes():
    td = torch.cat([chunks([1.0, 2.0], [2, 3]), chunks([4.0, 8.0], [1, 2], success=False)])
    reward, _, steps, terminated, _ = stored_columns(td, n=3, gamma=0.5)
    assert (reward, steps) == ([1.5, 2, 8, 8], [5, 3, 3, 2])
    assert terminated == [1, 1, 0, 0]


def test_td_targets_of_chunks_are_discounted_by_their_steps():
    # Q = a, the actor outputs 0.5: y_0 = 1 + 2/2^2 + 0.5/2^(2 + 3); ends in success: no bootstrap.
    td = chunks([1.0, 2.0, 4.0], [2, 3, 1])
    replay = buffer(n=2, gamma=0.5)
    replay.extend(td)
    loss = IBRLTD3Loss(actor(0.5), critics([1.0]), num_min=1, policy_noise=0.0)
    _, info = loss.make_value_estimator(gamma=0.5).qvalue_loss(replay[:].clone())
    expected = torch.tensor([1.5 + 0.5 / 32, 2 + 4 / 8, 4.0])
    assert torch.allclose(info["target_value"].flatten(), expected)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_episodes_equal_multi_step_exactly_and_rows_of_one_step_closely(n, dtype):
    torch.manual_seed(n)
    for length in range(1, 12):
        td = episode(length, success=length % 2 == 0)
        td["next", "reward"] = torch.randn(length, 1, dtype=dtype)
        expected = MultiStep(gamma=0.9, n_steps=n)(td.clone())
        plain, ones = buffer(n=n), buffer(n=n)
        plain.extend(td)
        ones.extend(td.clone().set("steps_to_next_obs", torch.ones(length, 1, dtype=torch.int64)))
        expected["steps_to_next_obs"] = expected["steps_to_next_obs"][:, None]
        for key in [("next", "reward"), ("next", "state"), "steps_to_next_obs"]:
            assert torch.equal(plain[:][key], expected[key])
            assert plain[:][key].dtype == ones[:][key].dtype == expected[key].dtype
            assert torch.allclose(ones[:][key], expected[key], rtol=0, atol=1e-6)
        assert set(plain[:].keys(True)) == set(ones[:].keys(True))


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        (torch.tensor([[2], [0], [1]]), r"torch.int64 \[3, 1\] with a minimum of 0$"),
        (torch.tensor([[2.0], [1.0], [1.0]]), r"torch.float32 \[3, 1\]"),
        (torch.ones(3, 2, dtype=torch.int64), r"torch.int64 \[3, 2\]"),
    ],
)
def test_invalid_steps_of_rows_raise(steps, found):
    td = episode(3, success=True).set("steps_to_next_obs", steps)
    message = rf"steps_to_next_obs must be int64 \[3, 1\] of at least 1, got {found}"
    with pytest.raises(ValueError, match=message):
        buffer().extend(td)


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


def test_truncation_follows_from_done_where_the_environment_does_not_report_it():
    for success in (True, False):
        whole = episode(4, success=success)
        transform = EpisodeToTransitions(["state"], n_steps=2)
        expected = transform.inv(whole)
        assert (transform.inv(whole.exclude(("next", "truncated"))) == expected).all()


def test_several_episodes_at_once_are_refused():
    with pytest.raises(ValueError, match=r"one episode \[T\] at a time, got the batch size \[2, 3"):
        EpisodeToTransitions(["state"]).inv(torch.stack([episode(3, success=True)] * 2))


def test_extend_refuses_incomplete_episode_and_names_trajs_per_batch():
    message = r"last of 3 steps is not done; pass trajs_per_batch=1 .* shared=True"
    with pytest.raises(ValueError, match=message):
        buffer().extend(episode(5, success=True)[:3])


def collector_without_trajs_per_batch(replay):
    return MultiSyncCollector(
        [partial(Countdown, 5, 7)] * 2,
        executing(1.0, 0),
        total_frames=40,
        frames_per_batch=20,
        replay_buffer=replay,
        auto_register_policy_transforms=True,
    )


def test_collector_of_processes_without_trajs_per_batch_is_refused_at_construction():
    with pytest.raises(ValueError, match=r"pass trajs_per_batch=1 to the collector, .* shared=T"):
        collector_without_trajs_per_batch(buffer())


@pytest.mark.slow
def test_collector_processes_without_trajs_per_batch_print_the_remedy(capfd):
    collector = collector_without_trajs_per_batch(buffer(shared=True))
    with pytest.raises(RuntimeError, match="process failed"):
        next(iter(collector))
    collector.shutdown()
    lines = [line for line in capfd.readouterr().err.splitlines() if "complete episodes" in line]
    assert lines and all("pass trajs_per_batch=1 to the collector" in line for line in lines)


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
