"""Checkpoints: whole, safe to read, and refused when they belong to something else."""

import errno
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.training.checkpoint import load_checkpoint, load_state, save_checkpoint


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.pt"
    save_checkpoint(path, "bc", {"task": "a"}, {"policy": nn.Linear(3, 2).state_dict()})
    return path


def test_round_trip(saved):
    meta, state = load_checkpoint(saved, "bc", {"task": "a"})
    network = nn.Linear(3, 2)
    load_state(network, state["policy"], saved)
    assert meta == {"task": "a"}
    assert torch.equal(network.weight, state["policy"]["weight"])
    assert [*saved.parent.iterdir()] == [saved]


def test_a_full_disk_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UsageError, match=r"cannot be written .* free some space"):
        save_checkpoint(saved, "bc", {}, {})
    assert saved.read_bytes() == before
    assert [*saved.parent.iterdir()] == [saved]


def test_pickled_code_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "bomb.pt"
    torch.save({"format": 1, "kind": "bc", "meta": {}, "state": Bomb()}, path)
    with pytest.raises(UsageError, match="not a checkpoint"):
        load_checkpoint(path, "bc", {})
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UsageError, match="not a checkpoint"):
        load_checkpoint(path, "bc", {})
    assert not (tmp_path / "executed").exists()


def test_refusals_name_what_differs(saved, tmp_path):
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "missing.pt", "bc", {})
    with pytest.raises(UsageError, match="holds a 'bc' checkpoint, expected 'ibrl'"):
        load_checkpoint(saved, "ibrl", {})
    with pytest.raises(UsageError, match="trained with task=a, this run has task=b"):
        load_checkpoint(saved, "bc", {"task": "b"})
    saved.write_bytes(saved.read_bytes()[:200])
    with pytest.raises(UsageError, match="damaged"):
        load_checkpoint(saved, "bc", {})


def test_shapes_and_names_must_fit(saved):
    _, state = load_checkpoint(saved, "bc", {})
    with pytest.raises(UsageError, match=r"weight has shape \[2, 3\].*\[2, 4\]"):
        load_state(nn.Linear(4, 2), state["policy"], saved)
    with pytest.raises(UsageError, match=r"has no 0\.weight"):
        load_state(nn.Sequential(nn.Linear(3, 2)), state["policy"], saved)
