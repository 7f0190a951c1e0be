"""Checkpoints: round trip, atomic writes, damaged files, other origins."""

import errno
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.checkpoint import load_checkpoint, load_state, save_checkpoint


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.pt"
    save_checkpoint(path, "bc", {"task": "a"}, {"policy": nn.Linear(3, 2).state_dict()})
    return path


def test_checkpoint_round_trip(saved):
    meta, state = load_checkpoint(saved, "bc", {"task": "a"})
    network = nn.Linear(3, 2)
    load_state(network, state["policy"], saved)
    assert meta == {"task": "a"}
    assert torch.equal(network.weight, state["policy"]["weight"])
    assert [*saved.parent.iterdir()] == [saved]


def test_save_checkpoint_keeps_the_old_file_on_a_full_disk(saved, monkeypatch):
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


def test_save_checkpoint_writes_through_no_link(saved, tmp_path):
    """Neither through a link of its name nor through one of its temporary file."""
    (victim := tmp_path / "victim").write_text("mine")
    saved.unlink()
    for link in (saved, saved.with_name(f".{saved.name}.{os.getpid()}.tmp")):
        link.symlink_to(victim)
    save_checkpoint(saved, "bc", {}, {})
    assert victim.read_text() == "mine"
    assert saved.is_file() and not saved.is_symlink()


def test_load_checkpoint_executes_no_pickled_code(tmp_path):
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


def test_load_checkpoint_refuses_other_kinds_and_origins(saved, tmp_path):
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "missing.pt", "bc", {})
    with pytest.raises(UsageError, match="holds a 'bc' checkpoint, expected 'ibrl'"):
        load_checkpoint(saved, "ibrl", {})
    with pytest.raises(UsageError, match="trained with task=a, this run has task=b"):
        load_checkpoint(saved, "bc", {"task": "b"})
    saved.write_bytes(saved.read_bytes()[:200])
    with pytest.raises(UsageError, match="damaged"):
        load_checkpoint(saved, "bc", {})


@pytest.mark.parametrize("text", ["", "task,median", "junk", "{}", "0"])
def test_load_checkpoint_refuses_other_files(text, tmp_path):
    (path := tmp_path / "other.pt").write_text(text)
    with pytest.raises(UsageError, match="not a checkpoint"):
        load_checkpoint(path, "bc", {})


def test_load_checkpoint_reports_read_errors(saved, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UsageError, match=r"cannot be read \(Input/output error\)"):
        load_checkpoint(saved, "bc", {})


@pytest.mark.parametrize("length", [1, 200, 20_000, 300_000, 355_000])
def test_load_checkpoint_refuses_truncated_files(length, tmp_path):
    path = tmp_path / "net.pt"
    save_checkpoint(path, "bc", {}, {"policy": nn.Linear(300, 300).state_dict()})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UsageError, match="damaged"):
        load_checkpoint(path, "bc", {})


def test_load_checkpoint_refuses_damaged_files(saved, tmp_path):
    """Random bytes of the pickled part are changed, with a valid checksum."""
    with zipfile.ZipFile(saved) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    rng, path = random.Random(0), tmp_path / "damaged.pt"
    refused = 0
    for _ in range(300):
        damaged = bytearray(parts[pickled])
        for _ in range(rng.choice([1, 2, 5])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (parts | {pickled: bytes(damaged)}).items():
                archive.writestr(name, content)
        try:
            load_checkpoint(path, "bc", {})
        except UsageError:
            refused += 1
    assert refused > 200  # the others are valid, with another name or number


def test_load_state_refuses_other_shapes_and_names(saved):
    _, state = load_checkpoint(saved, "bc", {})
    with pytest.raises(UsageError, match=r"weight has shape \[2, 3\].*\[2, 4\]"):
        load_state(nn.Linear(4, 2), state["policy"], saved)
    with pytest.raises(UsageError, match=r"has no 0\.weight"):
        load_state(nn.Sequential(nn.Linear(3, 2)), state["policy"], saved)
    with pytest.raises(UsageError, match="has bias, which this network lacks"):
        load_state(nn.Linear(3, 2, bias=False), state["policy"], saved)
