"""Interventions in replay: both buffers hold them, with n-step windows that end with them."""

import itertools

import numpy as np
import pytest
import torch
from support.parts import episode as plain_episode
from tensordict import TensorDict
from torchrl.envs import Compose

from ibrl_torchrl.data.replay import (
    DeduplicateImages,
    EpisodeToTransitions,
    MixedReplay,
    episode_buffer,
)
from ibrl_torchrl.data.replay.images import pool_size
from ibrl_torchrl.episodes import intervened_segments, stack_frames
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.contents import require_packed_episode
from ibrl_torchrl.runs.episode_log import EpisodeLog

NO, YES = False, True


def episode(*flags, success=True):
    """Episode of states 0, 1, ..., where somebody else acted at the flagged steps."""
    td = plain_episode(len(flags), success=success)
    return td.set("intervention", torch.tensor(flags)[:, None])


def mixed(*, n=3, size=100, gamma=0.5, transforms=(), keep_interventions=True, **settings):
    def buffer():
        rows = EpisodeToTransitions(
            ["state"], n_steps=n, gamma=gamma, time_limit_terminates=settings.get("limit", False)
        )
        return episode_buffer(size, 4, Compose(*transforms, rows))

    return MixedReplay(
        buffer(),
        buffer(),
        offline_fraction=0.5,
        batch_size=4,
        keep_interventions=keep_interventions,
        **{name: value for name, value in settings.items() if name != "limit"},
    )


def rows(buffer):
    """(s, s', steps, reward, done, terminated) of the transitions of a buffer, in order."""
    content = buffer[:] if len(buffer) else TensorDict(batch_size=[0])
    names = ["state", ("next", "state"), "steps_to_next_obs", ("next", "reward")]
    names += [("next", "done"), ("next", "terminated")]
    return [tuple(row[name].item() for name in names) for row in content]


def test_two_interventions_by_hand():
    """An episode of five steps: the policy, two of somebody else, the policy, somebody else."""
    replay = mixed()
    replay.extend(episode(NO, YES, YES, NO, YES))
    # All steps are online transitions: three-step windows, discounted by 1/2 a step.
    assert rows(replay.online) == [
        (0, 3, 3, 0, NO, NO),
        (1, 4, 3, 0, NO, NO),
        (2, 5, 3, 0.25, YES, YES),
        (3, 5, 2, 0.5, YES, YES),
        (4, 5, 1, 1, YES, YES),
    ]
    # Of the demonstrations windows end where the policy acted again, without a terminal.
    assert rows(replay.demos) == [
        (1, 3, 2, 0, YES, NO),
        (2, 3, 1, 0, YES, NO),
        (4, 5, 1, 1, YES, YES),
    ]
    assert not replay.demos[:]["next", "truncated"].any()


def test_the_end_of_an_intervention_is_no_time_limit():
    """With time limits that terminate, as in the original code."""
    replay = mixed(limit=True)
    replay.extend(episode(YES, NO, YES, success=False))
    assert rows(replay.demos) == [(0, 1, 1, 0, YES, NO), (2, 3, 1, 0, YES, YES)]


def test_segments_leave_their_episode_unchanged():
    td = episode(NO, YES, NO)
    before = td.clone()
    (segment,) = intervened_segments(td)
    assert segment["next", "done"].all() and (td == before).all()
    assert intervened_segments(plain_episode(3, success=True)) == []
    assert intervened_segments(episode(NO, NO)) == []


@pytest.mark.parametrize(
    ("settings", "states"),
    [
        ({}, [1, 2]),
        ({"keep_interventions": False}, []),
        ({"keep_successes": True}, [0, 1, 2]),  # whole, once
        ({"keep_successes": True, "keep_interventions": False}, [0, 1, 2]),
        ({"shortest_intervention": 3}, []),
    ],
)
def test_what_joins_the_demonstrations(settings, states):
    replay = mixed(**settings)
    replay.extend(episode(NO, YES, YES))
    assert [row[0] for row in rows(replay.demos)] == states
    assert len(replay.online) == 3


def test_concatenated_episodes_are_split():
    """As collectors write them: what ends one episode and begins the next is two parts."""
    replay = mixed()
    parts = [episode(NO, YES), episode(YES, NO, success=False)]
    replay.extend(torch.cat(parts))
    assert rows(replay.demos) == [(1, 2, 1, 1, YES, YES), (0, 1, 1, 0, YES, NO)]


def test_reports_of_a_collector_are_stored_as_executed():
    """Rollouts of TorchRL: the policy's action, and the environment's reports under next."""
    td = plain_episode(3, success=True)
    td["next", "intervention"] = torch.tensor([[NO], [YES], [NO]])
    td["next", "executed_action"] = torch.full((3, 1), 0.7)
    replay = mixed()
    replay.extend(td)
    actions = [0, pytest.approx(0.7), pytest.approx(-0.02)]
    assert replay.online[:]["action"].flatten().tolist() == actions
    assert replay.demos[:]["action"].flatten().tolist() == [pytest.approx(0.7)]


# Images


def filmed(flags, first, stack, success):
    """Episode with frames of random pixels, stacked."""
    td = episode(*flags, success=success)
    td["state"], td["next", "state"] = td["state"] + first, td["next", "state"] + first
    frames = torch.randint(0, 256, (len(flags) + 1, 3, 2, 4), dtype=torch.uint8)
    td["camera_image"], td["next", "camera_image"] = frames[:-1], frames[1:]
    stack_frames(td, stack, 1)
    return td


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("capacity", [25, 60, 500])
def test_images_of_interventions_equal_those_of_a_plain_buffer(stack, capacity):
    """Also those that the first stack of a part has from before it, in a pool that is reused."""
    torch.manual_seed(capacity)
    keys = ["state", "camera_image"]

    def buffer(*transforms):
        rows = EpisodeToTransitions(keys, n_steps=2, gamma=0.9)
        return episode_buffer(capacity, 8, Compose(*transforms, rows))

    def replay(*transforms):
        return MixedReplay(
            buffer(*transforms),
            buffer(),
            offline_fraction=0.5,
            batch_size=8,
            keep_interventions=True,
            shortest_intervention=10,
        )

    pool = DeduplicateImages(["camera_image"], capacity, frame_stack=stack, parts=True)
    stored, plain = replay(pool), replay()
    kept = 0
    for number in range(30):
        flags = [NO] * (0, 1, 2, 5)[number % 4] + [YES] * (10 + number % 3)
        flags += ([], [NO] * 3, [NO] + [YES] * 4, [NO] + [YES] * 10)[number % 5 % 4]
        td = filmed(flags, 100 * number, stack, success=number % 7 == 0)
        kept += sum(len(part) for part in intervened_segments(td) if len(part) >= 10)
        for each in (stored, plain):
            each.extend(td)
        expected, found = plain.demos[:], stored.demos[:]
        bootstrapping = ~expected["next", "terminated"].flatten()
        for key in ("state", "camera_image", "action"):
            assert torch.equal(found[key], expected[key])
        after = ("next", "camera_image")  # of no use after a terminal, and not stored
        assert torch.equal(found[after][bootstrapping], expected[after][bootstrapping])
    assert len(stored.demos) == min(capacity, kept) and kept > 300


def test_the_pool_has_room_for_the_frames_before_parts():
    # Of 31 transitions: 4 ends of parts, each with 2 frames before it and 1 after.
    assert pool_size(31, 3, parts=True) == 31 + 4 * 3 + 2
    assert pool_size(31, 3) == 31 + 4 + 2


def test_a_short_part_with_images_is_refused_by_the_pool():
    (part,) = intervened_segments(filmed([NO] + [YES] * 9, 0, 3, True))
    buffer = episode_buffer(
        50,
        4,
        Compose(
            DeduplicateImages(["camera_image"], 50, frame_stack=3, parts=True),
            EpisodeToTransitions(["camera_image"]),
        ),
    )
    with pytest.raises(ValueError, match="truncated after 9 steps, DeduplicateImages needs at"):
        buffer.extend(part)


# Resumption


@pytest.mark.parametrize("every", [1, 4])
def test_an_episode_log_refills_both_buffers(tmp_path, every):
    """A log that is not pruned: the demonstrations keep more than the newest transitions."""
    whole, refilled = mixed(size=40), mixed(size=40)
    log = EpisodeLog(tmp_path / "log", ["state"])
    rng = np.random.default_rng(every)
    for number in range(30):
        td = episode(*(rng.random(rng.integers(3, 9)) < 0.3).tolist(), success=number % 3 == 0)
        whole.extend(td)
        log.append(td)
        if number % every == 0:
            log.flush()
            log.prune()
    log.flush()
    for logged in EpisodeLog(tmp_path / "log", ["state"]).read(30):
        refilled.skip(logged.skipped, logged.skipped_successful)
        refilled.extend(logged.episode)
    assert len(whole.demos) == 40  # more than the newest 40 online transitions hold
    for part in ("demos", "online"):
        assert rows(getattr(refilled, part)) == rows(getattr(whole, part))


def test_a_damaged_flag_of_a_log_is_refused():
    done = torch.tensor([[NO], [YES]])
    packed = {"observation/state": torch.zeros(3, 1), "root/action": torch.zeros(2, 1)}
    packed |= {"next/reward": torch.zeros(2, 1), "next/done": done}
    packed |= {"next/terminated": done, "next/truncated": ~done}
    require_packed_episode(packed | {"root/intervention": done}, "log")
    for bad in (torch.zeros(2, 1), done.expand(2, 3), done[:, 0], done[:1]):
        with pytest.raises(UsageError, match=r"^log: root/intervention .*bool \[2, 1\]"):
            require_packed_episode(packed | {"root/intervention": bad}, "log")


def test_every_pattern_of_flags_is_split_once():
    """Of all patterns of six steps each flagged step is in one part, in order."""
    for flags in itertools.product([NO, YES], repeat=6):
        steps = [part["state"].flatten().tolist() for part in intervened_segments(episode(*flags))]
        assert [*itertools.chain(*steps)] == [step for step, flag in enumerate(flags) if flag]
        assert all(b[0] - a[-1] > 1 for a, b in itertools.pairwise(steps))
