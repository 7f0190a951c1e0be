"""EpisodeLog: round trips, resuming, damaged logs."""

import random

import numpy as np
import pytest
import torch
from support.parts import episode
from torchrl.envs import Compose

from ibrl_torchrl.data.replay import (
    DeduplicateImages,
    EpisodeToTransitions,
    MixedReplay,
    episode_buffer,
)
from ibrl_torchrl.episodes import stack_frames
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.checkpoint import load_checkpoint, save_checkpoint
from ibrl_torchrl.runs.episode_log import EpisodeLog


def episodes(count):
    return [episode(length, success=length % 2 == 0) for length in range(1, count + 1)]


def written_log(folder, *flushes):
    log = EpisodeLog(folder, ["state"])
    for group in flushes:
        for entry in group:
            log.append(entry)
        log.flush()
    return log


def lengths(logged):
    return [len(entry.episode) for entry in logged]


def assert_equal(actual, expected):
    for key, value in expected.items(True, True):
        assert torch.equal(actual[key], value), key


@pytest.mark.parametrize("state_stack", [1, 3])
def test_episode_log_reads_the_episodes_it_wrote(tmp_path, state_stack):
    expected = episodes(4)
    for entry in expected:
        stack_frames(entry, 1, state_stack)
    log = EpisodeLog(tmp_path / "log", ["state"], state_stack=state_stack)
    for length, entry in enumerate(expected, 1):
        log.append(entry)
        if length % 2 == 0:
            assert log.flush() == length
    resumed = EpisodeLog(tmp_path / "log", ["state"], state_stack=state_stack)
    for actual, original in zip(resumed.read(4), expected, strict=True):
        assert_equal(actual.episode, original)


def test_resumed_episode_log_deletes_episodes_after_the_checkpoint(tmp_path):
    first, second, third, fourth = episodes(4)
    written_log(tmp_path / "log", [first, second], [third])
    resumed = EpisodeLog(tmp_path / "log", ["state"])
    assert lengths(resumed.read(2)) == [1, 2]
    assert len([*(tmp_path / "log").iterdir()]) == 1
    resumed.append(fourth)
    assert resumed.flush() == 3
    again = EpisodeLog(tmp_path / "log", ["state"])
    assert lengths(again.read(3)) == [1, 2, 4]


def test_incomplete_episode_log_is_refused(tmp_path):
    first, second, third = episodes(3)
    written_log(tmp_path / "log", [first], [second, third])
    with pytest.raises(UsageError, match=r"holds episodes up to 3, .* after 4; start the run"):
        [*EpisodeLog(tmp_path / "log", ["state"]).read(4)]
    (tmp_path / "log/0000000.pt").unlink()
    for capacity in (None, 6):
        with pytest.raises(UsageError, match=r"log: holds no episode 0, which the replay needs"):
            [*EpisodeLog(tmp_path / "log", ["state"], capacity=capacity).read(3)]
    assert lengths(EpisodeLog(tmp_path / "log", ["state"], capacity=5).read(3)) == [2, 3]


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    written_log(tmp_path / "log", episodes(1))
    (tmp_path / "log/mine.pt").touch()
    assert lengths(EpisodeLog(tmp_path / "log", ["state"]).read(1)) == [1]
    assert (tmp_path / "log/mine.pt").exists()


@pytest.mark.parametrize("places", [None, 3, [[0, 0, 0]], [[0, 0, 0, 2, 1]], [[0, -1, 0, 1, 1]]])
def test_damaged_file_of_episodes_is_refused(tmp_path, places):
    path = written_log(tmp_path / "log", episodes(1))._folder / "0000000.pt"
    _, state = load_checkpoint(path, "episodes", {})
    save_checkpoint(path, "episodes", {"episodes": places}, state)
    with pytest.raises(UsageError, match=r"0000000\.pt: damaged"):
        [*EpisodeLog(tmp_path / "log", ["state"]).read(1)]


def log_of_checkpoints(folder, lengths_and_successes, every, **keep):
    """Log that is flushed and pruned after some episodes each, as checkpoints do."""
    log = EpisodeLog(folder, ["state"], **keep)
    for number, (length, success) in enumerate(lengths_and_successes, 1):
        log.append(episode(length, success=success))
        if number % every == 0:
            log.flush()
            log.prune()
    return log


def stored(folder):
    return [int(path.stem) for path in sorted(folder.iterdir())]


def test_log_is_pruned_to_what_the_last_two_checkpoints_need(tmp_path):
    """Two episodes of 10 transitions a checkpoint and 40 kept: 4 episodes and those of 1 more."""
    log_of_checkpoints(tmp_path / "log", [(10, False)] * 20, 2, capacity=40)
    assert stored(tmp_path / "log") == [14, 16, 18]
    log_of_checkpoints(tmp_path / "odd", [(10, False)] * 20, 2, capacity=45)
    assert stored(tmp_path / "odd") == [12, 14, 16, 18]


def test_successes_are_kept_as_long_as_their_buffer_does(tmp_path):
    """Every fifth episode succeeds: 4 of them fill the buffer of 40 transitions."""
    played = [(10, number % 5 == 0) for number in range(60)]
    log_of_checkpoints(tmp_path / "log", played, 2, capacity=40, keep_successes=True)
    logged = EpisodeLog(tmp_path / "log", ["state"], capacity=40, keep_successes=True).read(60)
    # Episodes 40, 45 and 50, then 54 and all later ones.
    skipped = [(entry.skipped // 10, entry.skipped_successful // 10) for entry in logged]
    assert skipped == [(40, 8), (4, 0), (4, 0), (3, 0), *[(0, 0)] * 5]
    assert stored(tmp_path / "log") == [40, 44, 50, 54, 56, 58]


BUFFERS = {
    "one buffer": {},
    "two buffers": {"mixed": True},
    "successes": {"mixed": True, "keep": True},
}


def replay_of(*, mixed=False, keep=False):
    """Replay of 45 transitions with priorities, which holds demonstrations."""
    buffers = [
        episode_buffer(45, 16, EpisodeToTransitions(["state"]), prioritized=True) for _ in range(2)
    ]
    for length in (7, 8):
        buffers[0].extend(episode(length, success=True))
    if not mixed:
        return buffers[0]
    return MixedReplay(*buffers, offline_fraction=0.5, batch_size=16, keep_successes=keep)


@pytest.mark.parametrize("settings", BUFFERS.values(), ids=BUFFERS)
@pytest.mark.parametrize("every", [1, 3, 5])
@pytest.mark.parametrize("lost", [False, True])
def test_pruned_log_refills_a_replay_exactly(tmp_path, settings, every, lost):
    """Every index holds the same transition, at the last checkpoint and at the one before it."""
    rng = random.Random(every)
    played = [(rng.randint(3, 30), rng.random() < 0.3) for _ in range(60)]
    keep = {"capacity": 45, "keep_successes": settings.get("keep", False)}
    log_of_checkpoints(tmp_path / "log", played, every, **keep)
    count = len(played) - every * lost
    whole, refilled = replay_of(**settings), replay_of(**settings)
    for length, success in played[:count]:
        whole.extend(episode(length, success=success))
    read = 0
    for logged in EpisodeLog(tmp_path / "log", ["state"], **keep).read(count):
        refilled.skip(logged.skipped, logged.skipped_successful)
        refilled.extend(logged.episode)
        read += 1
    assert read < count / 2
    assert (len(refilled), refilled.write_count) == (len(whole), whole.write_count)
    refilled.load_sampler_state_dict(whole.sampler_state_dict())
    for parts in zip(
        *(getattr(r, "_buffers", {"": r}).values() for r in (whole, refilled)), strict=True
    ):
        expected, actual = (part[:] for part in parts)
        assert_equal(actual, expected)
        assert parts[0].writer.state_dict() == parts[1].writer.state_dict()
    batches = []
    for replay in (whole, refilled):
        torch.manual_seed(0)
        np.random.seed(0)
        replay.extend(episode(9, success=True))
        batches.append(replay.sample())
    assert_equal(*batches)


def test_pruned_log_refills_a_frame_pool_exactly(tmp_path):
    keys = ["state", "camera_image"]

    def filmed(length, number):
        played = episode(length, success=number % 3 == 0)
        frames = (torch.arange(length + 1) + 40 * number)[:, None, None, None] % 256
        frames = frames.expand(-1, 3, 2, 2).to(torch.uint8)
        played["camera_image"], played["next", "camera_image"] = frames[:-1], frames[1:]
        return played

    def buffer():
        transform = Compose(DeduplicateImages(["camera_image"], 45), EpisodeToTransitions(keys))
        return episode_buffer(45, 16, transform)

    log, whole, refilled = EpisodeLog(tmp_path / "log", keys, capacity=45), buffer(), buffer()
    for number in range(40):
        played = filmed(10 + number % 7, number)
        whole.extend(played)
        log.append(played)
        log.flush()
        log.prune()
    for logged in EpisodeLog(tmp_path / "log", keys, capacity=45).read(40):
        refilled.skip(logged.skipped)
        refilled.extend(logged.episode)
    index = torch.arange(45)
    assert_equal(refilled[index], whole[index])
