"""DeduplicateImages: transitions bit-identical to a plain image buffer, at its memory estimate."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import CatFrames, Compose, EnvBase, TransformedEnv

from ibrl_torchrl.data.replay import EpisodeToTransitions, MixedReplay, episode_buffer
from ibrl_torchrl.data.replay.footprint import image_replay_bytes
from ibrl_torchrl.data.replay.images import INDEX_BYTES, DeduplicateImages, pool_size

CAMERAS = ["front_image", "wrist_image"]
KEYS = ["state", *CAMERAS]


class Camera(EnvBase):
    """Random frames; an action above 0 in the last of ``length`` steps succeeds."""

    def __init__(self, length):
        super().__init__(batch_size=[])
        self.length = length
        self.elapsed = 0
        flag = Categorical(2, shape=(1,), dtype=torch.bool)
        image = Bounded(0, 255, shape=(3, 2, 4), dtype=torch.uint8)
        self.observation_spec = Composite(
            state=Unbounded(1), front_image=image, wrist_image=image.clone()
        )
        self.action_spec = Bounded(-1.0, 1.0, shape=(1,))
        self.reward_spec = Bounded(0.0, 1.0, shape=(1,))
        self.done_spec = Composite(
            done=flag.clone(), terminated=flag.clone(), truncated=flag.clone()
        )

    def _set_seed(self, seed):
        pass

    def _reset(self, tensordict=None):
        self.elapsed = 0
        return TensorDict(self._observe())

    def _step(self, tensordict):
        self.elapsed += 1
        end = torch.tensor([self.elapsed == self.length])
        success = end & (tensordict["action"] > 0)
        flags = {"terminated": success, "truncated": end & ~success, "done": end}
        return TensorDict(reward=success.float(), **flags, **self._observe())

    def _observe(self):
        images = {key: torch.randint(256, (3, 2, 4), dtype=torch.uint8) for key in CAMERAS}
        return {"state": torch.tensor([float(self.elapsed)]), **images}


def stacked(frames, count):
    """Frames [T, 3, H, W] to stacks [T, count * 3, H, W], the first frame repeated."""
    rows = [[frames[max(0, t - j)] for j in reversed(range(count))] for t in range(len(frames))]
    return torch.stack([torch.cat(row) for row in rows])


def episode(length, *, success, first=0, stack=1, size=(2, 4)):
    """Random frames; the states are ``first``, ``first`` + 1, ..."""
    end = torch.zeros(length, 1, dtype=torch.bool)
    end[-1] = True
    states = first + torch.arange(length + 1, dtype=torch.float32)[:, None]
    observations = {"state": states}
    for key in CAMERAS:
        frames = torch.randint(256, (length + 1, 3, *size), dtype=torch.uint8)
        observations[key] = stacked(frames, stack)
    step = {
        "reward": (end & success).float(),
        "terminated": end & success,
        "truncated": end & (not success),
        "done": end,
    }
    return TensorDict(
        {
            **{key: value[:-1] for key, value in observations.items()},
            "action": torch.rand(length, 1),
            "next": {**{key: value[1:] for key, value in observations.items()}, **step},
        },
        batch_size=[length],
    )


def deduplicated(capacity=40, batch=16, *, n=3, stack=1, pool="memory", pool_dir=None, **settings):
    frames = DeduplicateImages(
        CAMERAS, capacity, frame_stack=stack, storage=pool, scratch_dir=pool_dir
    )
    transform = Compose(frames, EpisodeToTransitions(KEYS, n_steps=n))
    return episode_buffer(capacity, batch, transform, **settings), frames


def plain_buffer(capacity=40, batch=16, *, n=3):
    return episode_buffer(capacity, batch, EpisodeToTransitions(KEYS, n_steps=n))


def assert_equal(actual, expected):
    """Compare all entries except the images after a terminated episode."""
    assert set(actual.keys(True, True)) - {"index"} == set(expected.keys(True, True)) - {"index"}
    live = ~expected["next", "terminated"].flatten()
    for key in expected.keys(True, True):
        exempt = isinstance(key, tuple) and key[1] in CAMERAS
        rows = live if exempt else torch.ones_like(live)
        if key != "index":
            assert actual[key].dtype == expected[key].dtype
            assert torch.equal(actual[key][rows], expected[key][rows]), key


def random_episodes(count, stack):
    first = 0
    for i in range(count):
        success = bool(torch.rand(()) < 0.4)
        length = int(torch.randint(1 if success else 10, 16, ()))
        if i % 8 > 3:  # consecutive episodes that need most frames
            success, length = False, 10
        yield episode(length, success=success, first=first, stack=stack)
        first += length + 1


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("capacity", [9, 31, 40])
def test_transitions_equal_those_of_plain_buffer(capacity, stack, n):
    torch.manual_seed(capacity)
    replay, _ = deduplicated(capacity, n=n, stack=stack)
    plain = plain_buffer(capacity, n=n)
    for td in random_episodes(32, stack):
        replay.extend(td)
        plain.extend(td)
        assert len(replay) == len(plain)
        expected = plain[:].clone()
        assert_equal(replay[:], expected)
        batch = replay.sample()
        row = (batch["state"] == expected["state"].T).int().argmax(1)
        assert_equal(batch, expected[row])
    assert len(replay) == capacity


def test_pool_size_is_tight():
    # Truncated episodes of 10 steps need most frames. Of 31 transitions one is the end of an older
    # episode: 31 frames, 4 last ones and the first two of the oldest transition's stack.
    torch.manual_seed(0)
    replay, frames = deduplicated(31, stack=3)
    for i in range(5):
        replay.extend(episode(10, success=False, first=11 * i, stack=3))
    content = replay[:]
    images = torch.cat([content["front_image"], content["next", "front_image"]])
    num_frames = len(images.reshape(-1, 3 * 2 * 4).unique(dim=0))
    assert num_frames == pool_size(31, 3) == 31 + 4 + 2
    assert frames.nbytes == len(CAMERAS) * num_frames * 3 * 2 * 4


@pytest.mark.parametrize("action", [-1.0, 1.0])
def test_stacks_equal_those_of_catframes(action):
    torch.manual_seed(0)
    stack = CatFrames(N=3, dim=-3, in_keys=CAMERAS, padding="same")
    env = TransformedEnv(Camera(12), stack)

    def policy(td):
        return td.set("action", torch.tensor([action]))

    replay, plain = deduplicated(stack=3)[0], plain_buffer()
    for _ in range(3):
        td = env.rollout(50, policy)
        assert td.shape == (12,) and td["front_image"].shape == (12, 9, 2, 4)
        assert bool(td["next", "terminated"][-1]) == (action > 0)
        replay.extend(td)
        plain.extend(td)
    assert_equal(replay[:], plain[:])


def test_after_success_the_last_stored_frame_stands_in():
    td = episode(5, success=True)
    replay, _ = deduplicated(n=3)
    replay.extend(td)
    content = replay[:]
    for key in CAMERAS:
        assert torch.equal(content["next", key], td[key][[3, 4, 4, 4, 4]])


def test_the_time_limit_as_terminal_costs_no_frame():
    td = episode(4, success=False)  # too short, were its last observation needed
    frames = DeduplicateImages(CAMERAS, 40)
    ends = EpisodeToTransitions(KEYS, time_limit_terminates=True)
    replay = episode_buffer(40, 4, Compose(frames, ends))
    replay.extend(td)
    assert torch.equal(replay[:]["front_image"], td["front_image"])
    assert frames.get_extra_state()["written"] == 4


def test_an_episode_longer_than_the_buffer_leaves_its_end():
    replay, _ = deduplicated(20)
    td = episode(70, success=False)
    replay.extend(td)
    content = replay[:]
    row = content["state"].flatten().long()
    assert sorted(row.tolist()) == [*range(50, 70)]
    assert torch.equal(content["front_image"], td["front_image"][row])


def test_extend_and_read_modify_neither_input_nor_storage():
    td = episode(10, success=False)
    before = td.clone()
    replay, _ = deduplicated(10)
    replay.extend(td)
    first = replay[:]
    assert_equal(replay[:], first)  # the content of a full buffer is the storage itself
    assert (td == before).all() and set(td.keys(True)) == set(before.keys(True))


def test_integer_index_reads_one_transition():
    td = episode(10, success=False, stack=3)
    replay, _ = deduplicated(stack=3, n=1)
    replay.extend(td)
    assert torch.equal(replay[4]["front_image"], td["front_image"][4])
    assert torch.equal(replay[4]["next", "wrist_image"], td["wrist_image"][5])


@pytest.mark.parametrize("with_scratch_dir", [True, False])
def test_memmap_pool_equals_memory_pool(tmp_path, with_scratch_dir):
    torch.manual_seed(1)
    folder = tmp_path / "replay" if with_scratch_dir else None
    replay, frames = deduplicated(
        pool="memmap", pool_dir=folder, stack=3, storage="memmap", scratch_dir=folder
    )
    plain = plain_buffer()
    for td in random_episodes(8, 3):
        replay.extend(td)
        plain.extend(td)
    assert_equal(replay[:], plain[:])
    replay.sample()
    if with_scratch_dir:
        sizes = [(folder / f"{key}_frames.memmap").stat().st_size for key in CAMERAS]
        assert sum(sizes) == frames.nbytes


def test_priorities_update_the_sampler():
    torch.manual_seed(0)
    replay, _ = deduplicated(prioritized=True)
    for td in random_episodes(6, 1):
        replay.extend(td)
    batch = replay.sample()
    batch["td_error"] = torch.full((16,), 5.0)
    replay.update_tensordict_priority(batch)
    values = replay.sampler._sum_tree[torch.arange(40)]
    drawn = torch.zeros(40, dtype=torch.bool).index_fill(0, batch["index"], True)
    assert torch.allclose(values[drawn], torch.tensor(5.0**0.6), atol=1e-4)
    assert (values[~drawn] < 2).all()
    assert "priority_weight" in batch and batch["front_image"].shape == (16, 3, 2, 4)


def test_mixed_batches_gather_images_of_both_buffers():
    torch.manual_seed(0)
    demos, online = deduplicated(prioritized=True)[0], deduplicated(prioritized=True)[0]
    replay = MixedReplay(demos, online, offline_fraction=0.25, batch_size=16, keep_successes=True)
    episodes = [episode(12, success=i == 2, first=100 * i) for i in range(3)]
    demos.extend(episodes[0])
    for td in episodes[1:]:
        replay.extend(td)
    assert (len(demos), len(online)) == (24, 24)
    batch = replay.sample()
    images = torch.stack([td["front_image"] for td in episodes])
    number = batch["state"].flatten().long()
    assert torch.equal(batch["front_image"], images[number // 100, number % 100])
    assert batch["is_demo"].sum() == 4
    batch["td_error"] = torch.full((16,), 5.0)
    replay.update_tensordict_priority(batch)
    drawn = batch["index"][batch["is_demo"]]
    assert torch.allclose(demos.sampler._sum_tree[drawn], torch.tensor(5.0**0.6), atol=1e-4)


@pytest.mark.parametrize("count", [3, 12])  # a partly filled pool, an overwritten pool
@pytest.mark.parametrize("pool", ["memory", "memmap"])
def test_dumps_and_loads_continue_identically(tmp_path, count, pool):
    torch.manual_seed(2)
    replay, _ = deduplicated(pool=pool)
    for td in random_episodes(count, 1):
        replay.extend(td)
    replay.dumps(tmp_path / "dump")
    loaded, _ = deduplicated(pool=pool)
    loaded.loads(tmp_path / "dump")
    following = episode(11, success=False, first=9000)
    for part in (replay, loaded):
        part.extend(following)
    assert len(loaded) == len(replay)
    assert (loaded[:] == replay[:]).all()


def test_dumps_writes_filled_part_of_pool_only(tmp_path):
    replay, frames = deduplicated(10_000)
    replay.extend(episode(10, success=False))
    replay.dumps(tmp_path)
    assert (tmp_path / "transform.t").stat().st_size < 10_000 < frames.nbytes


def test_load_state_dict_refuses_pool_of_another_size():
    _, frames = deduplicated(40)
    with pytest.raises(ValueError, match=r"has 44 frames, this one has 55"):
        deduplicated(50)[1].load_state_dict(frames.state_dict())


@pytest.mark.parametrize("stack", [1, 3])
def test_memory_of_a_transition_is_at_most_1_1_images(stack):
    capacity, size = 500, (16, 16)
    replay, frames = deduplicated(capacity, stack=stack)
    for i in range(60):
        replay.extend(episode(10, success=i % 2 == 0, stack=stack, size=size))
    assert len(replay) == capacity
    stored = replay.storage._storage
    image = len(CAMERAS) * 3 * 16 * 16
    numbers = 4 + 4 + 4 + 4 + 3 + 8 + 8  # s, s', action, reward, flags, k, TorchRL's index
    assert stored.bytes() == capacity * (numbers + INDEX_BYTES)
    total = stored.bytes() + frames.nbytes
    bound = 1.1 * image + numbers + INDEX_BYTES
    assert total <= capacity * bound + (stack - 1) * image
    estimate = image_replay_bytes(capacity, dict.fromkeys(CAMERAS, (3, *size)), numbers, stack)
    assert estimate == total


# Invalid episodes


@pytest.mark.parametrize(("length", "stack"), [(9, 1), (1, 3)])
def test_extend_refuses_short_truncated_episode(length, stack):
    replay, frames = deduplicated(stack=stack)
    with pytest.raises(ValueError, match=rf"truncated after {length} steps.*raise the horizon"):
        replay.extend(episode(length, success=False, stack=stack))
    assert frames.nbytes == 0 and len(replay) == 0


def test_extend_refuses_two_episodes_at_once():
    both = torch.cat([episode(12, success=False), episode(12, success=False)])
    with pytest.raises(ValueError, match="one complete episode at a time"):
        deduplicated()[0].extend(both)


@pytest.mark.parametrize("last", [1, 2])
def test_extend_refuses_rows_of_several_steps(last):
    chunks = episode(3, success=True)
    chunks["steps_to_next_obs"] = torch.tensor([[4], [4], [last]])
    with pytest.raises(ValueError, match=r"3 rows span .* leave it out for action chunks"):
        deduplicated(n=1)[0].extend(chunks)


def test_extend_refuses_float_images_and_wrong_channel_count():
    td = episode(12, success=False)
    with pytest.raises(ValueError, match=r"front_image must be uint8 \[T, 2 \* C, H, W\]"):
        deduplicated(stack=2)[0].extend(td)
    floats = td.clone().set("wrist_image", td["wrist_image"].float())
    with pytest.raises(ValueError, match=r"wrist_image must be uint8 .*float32 \[12, 3, 2, 4\]"):
        deduplicated()[0].extend(floats)


def test_extend_refuses_stack_with_newest_frame_first():
    td = episode(12, success=False, stack=3)
    td["wrist_image"] = td["wrist_image"].view(12, 3, 3, 2, 4).flip(1).view(12, 9, 2, 4)
    replay, frames = deduplicated(stack=3)
    with pytest.raises(ValueError, match="wrist_image does not stack the episode's last 3 frames"):
        replay.extend(td)
    assert frames.nbytes == 0


def test_extend_refuses_frames_of_another_size():
    replay, _ = deduplicated()
    replay.extend(episode(12, success=False))
    with pytest.raises(ValueError, match=r"frames of shape \[3, 4, 4\], earlier episodes had"):
        replay.extend(episode(12, success=False, size=(4, 4)))
