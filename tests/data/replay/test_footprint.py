"""Memory estimate of image replay, and available memory and disk."""

import pytest

from ibrl_torchrl.data.replay.footprint import (
    available_disk,
    available_memory,
    image_replay_bytes,
    require_memory,
)
from ibrl_torchrl.errors import UsageError

MACHINE = 8_000_000 * 1024


def fake_proc(root, groups, innermost="/job/step"):
    """Write proc and sys with 8e6 KiB of available memory and groups {path: (max, current)}."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    (root / "proc/self/cgroup").write_text(f"1:cpu:/elsewhere\n0::{innermost}\n")
    for path, (limit, current) in groups.items():
        folder = root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{current}\n")
        (folder / "memory.stat").write_text("anon 500\ninactive_file 300\n")
    return root


def test_image_replay_bytes_equals_computed_value():
    # 1000 transitions: 1000 frames, at most 1 + 99 last ones, and 2 before the oldest.
    estimate = image_replay_bytes(1000, {"a": (3, 96, 96), "b": (1, 10, 10)}, 50, frame_stack=3)
    assert estimate == 1102 * (3 * 96 * 96 + 100) + 1000 * (50 + 32)


def test_image_replay_bytes_of_100000_transitions():
    assert image_replay_bytes(100_000, {"corner2_image": (3, 96, 96)}, 0) / 1e9 == pytest.approx(
        3.04, abs=0.005
    )


def test_require_memory_states_needed_and_available_bytes():
    with pytest.raises(UsageError) as error:
        require_memory(3_040_000_000, 1_500_000_000, "lower replay.capacity")
    assert str(error.value) == (
        "replay needs 3.04 GB and 1.50 GB are available; lower replay.capacity"
    )
    require_memory(10, 10, "")


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, MACHINE),
        ({"job/step": ("max", 100)}, MACHINE),
        ({"job/step": (5000, 1000)}, 4300),  # 300 of the 1000 are file pages
        (
            {"job/step": ("max", 1000), "job": (4000, 1000)},
            3300,
        ),  # the parent's is lower
        ({"job/step": (2000, 1000), "job": (4000, 1000)}, 1300),
        ({"elsewhere": (2000, 1000)}, MACHINE),
        ({"job/step": (1000, 2000)}, 0),
    ],
)
def test_available_memory_respects_control_groups(tmp_path, groups, expected):
    assert available_memory(fake_proc(tmp_path, groups)) == expected


def test_available_memory_without_proc_is_total_memory(tmp_path):
    assert available_memory(tmp_path) >= available_memory() > 0


def test_available_disk_of_missing_folder_is_that_of_parent(tmp_path):
    assert available_disk(tmp_path / "not" / "yet") == pytest.approx(
        available_disk(tmp_path), rel=0.01
    )
    assert available_disk(tmp_path) > 0
