"""EpisodeLog: round trips, resuming, damaged logs."""

import pytest
import torch
from support.parts import episode

from ibrl_torchrl.episodes import stack_frames
from ibrl_torchrl.errors import UsageError
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
        assert_equal(actual, original)


def test_resumed_episode_log_deletes_episodes_after_the_checkpoint(tmp_path):
    first, second, third, fourth = episodes(4)
    written_log(tmp_path / "log", [first, second], [third])
    resumed = EpisodeLog(tmp_path / "log", ["state"])
    assert [len(entry) for entry in resumed.read(2)] == [1, 2]
    assert len([*(tmp_path / "log").iterdir()]) == 1
    resumed.append(fourth)
    assert resumed.flush() == 3
    again = EpisodeLog(tmp_path / "log", ["state"])
    assert [len(entry) for entry in again.read(3)] == [1, 2, 4]


def test_incomplete_episode_log_is_refused(tmp_path):
    first, second, third = episodes(3)
    written_log(tmp_path / "log", [first], [second, third])
    with pytest.raises(UsageError, match=r"holds 3 episodes, .* written after 4; start the run"):
        [*EpisodeLog(tmp_path / "log", ["state"]).read(4)]
    (tmp_path / "log/0000000.pt").unlink()
    with pytest.raises(UsageError, match=r"log: holds no episode 0, which precedes 0000001\.pt"):
        [*EpisodeLog(tmp_path / "log", ["state"]).read(3)]


def test_episode_log_removes_its_folder(tmp_path):
    log = written_log(tmp_path / "log", episodes(1))
    log.remove()
    assert not (tmp_path / "log").exists()
