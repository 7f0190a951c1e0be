"""Memory-mapped replay: disk space is reserved; a full disk is an error, not SIGBUS."""

import os

import pytest
import torch
from support.parts import episode
from support.small_disk import on_small_disk
from tensordict import TensorDict

from ibrl_torchrl.data.replay import DeduplicateImages, EpisodeToTransitions, episode_buffer
from ibrl_torchrl.data.replay.footprint import available_disk
from ibrl_torchrl.data.replay.memmap import ReservedMemmapStorage

# 50,000 values of 8 bytes in an item, 10 items: 4 MB.
FILL_AFTER_INIT = """
import sys, torch
from pathlib import Path
from tensordict import TensorDict
from ibrl_torchrl.data.replay.memmap import ReservedMemmapStorage
from ibrl_torchrl.errors import UsageError

folder = Path(sys.argv[1])
data = TensorDict({"a": torch.ones(10, 50_000, dtype=torch.float64)}, [10])
storage = ReservedMemmapStorage(10, scratch_dir=folder / "replay")
try:
    storage.set(range(1), data[:1])
    with open(folder / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            print("disk is full")
    storage.set(range(1, 10), data[1:])
    print(storage.get(range(10))["a"].sum().item())
except UsageError as error:
    print("error:", error)
"""


def test_disk_that_fills_after_the_start_does_no_harm(tmp_path):
    ended = on_small_disk(tmp_path, "6m", FILL_AFTER_INIT)
    assert (ended.returncode, ended.stdout) == (0, "disk is full\n500000.0\n"), ended.stderr


def test_disk_that_is_too_small_is_an_error_at_the_first_episode(tmp_path):
    ended = on_small_disk(tmp_path, "3m", FILL_AFTER_INIT)
    expected = f"error: {tmp_path}/replay: cannot be written (No space left on device); free"
    assert ended.returncode == 0 and ended.stdout.startswith(expected), ended.stderr
    assert ended.stdout.count("\n") == 1


def test_every_file_is_reserved(tmp_path):
    data = TensorDict({"a": torch.ones(2, 3000), "b": {"c": torch.ones(2, 4000)}}, [2])
    storage = ReservedMemmapStorage(100, scratch_dir=tmp_path)
    storage.set(range(2), data)
    files = [*tmp_path.rglob("*.memmap")]
    assert sorted(file.stat().st_size for file in files) == [1_200_000, 1_600_000]
    for file in files:
        assert 512 * file.stat().st_blocks >= file.stat().st_size
    assert torch.equal(storage.get(range(2))["b", "c"], data["b", "c"])


def test_frame_pools_are_reserved(tmp_path):
    images = torch.arange(12 * 3 * 64 * 64).reshape(12, 3, 64, 64).to(torch.uint8)
    steps = episode(12, success=True)
    steps["camera_image"] = images
    steps["next", "camera_image"] = torch.cat([images[1:], images[-1:]])
    pool = DeduplicateImages(["camera_image"], 500, storage="memmap", scratch_dir=tmp_path)
    pool.inv(EpisodeToTransitions(["state", "camera_image"]).inv(steps))
    (file,) = tmp_path.glob("*.memmap")
    assert 512 * file.stat().st_blocks >= file.stat().st_size == pool.nbytes


def test_available_disk_counts_what_the_folder_holds(tmp_path):
    before = available_disk(tmp_path)
    with (tmp_path / "old.memmap").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 200_000_000)
    assert available_disk(tmp_path) == pytest.approx(before, abs=50_000_000)


def test_memory_mapped_buffer_samples_as_one_in_memory(tmp_path):
    batches = []
    for storage in ("memory", "memmap"):
        torch.manual_seed(0)
        replay = episode_buffer(
            50, 16, EpisodeToTransitions(["state"]), storage=storage, scratch_dir=tmp_path
        )
        for length in (20, 30, 10):
            replay.extend(episode(length, success=True))
        batches.append(replay.sample())
    for key, value in batches[0].items(True, True):
        assert torch.equal(value, batches[1][key]), key
