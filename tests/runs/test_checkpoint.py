"""Checkpoints: whole, safe to read, and refused when they belong to something else."""

import errno
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


@pytest.mark.parametrize("text", ["", "task,median", "junk", "{}", "0"])
def test_other_files_are_no_checkpoints(text, tmp_path):
    (path := tmp_path / "other.pt").write_text(text)
    with pytest.raises(UsageError, match="not a checkpoint"):
        load_checkpoint(path, "bc", {})


def test_a_file_that_cannot_be_read_is_not_called_damaged(saved, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UsageError, match=r"cannot be read \(Input/output error\)"):
        load_checkpoint(saved, "bc", {})


@pytest.mark.parametrize("length", [1, 200, 20_000, 300_000, 355_000])
def test_truncated_files_are_refused(length, tmp_path):
    path = tmp_path / "net.pt"
    save_checkpoint(path, "bc", {}, {"policy": nn.Linear(300, 300).state_dict()})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UsageError, match="damaged"):
        load_checkpoint(path, "bc", {})


def test_any_damage_is_refused_in_one_line(saved, tmp_path):
    """Bytes of the pickled part are changed, with a right checksum."""
    with zipfile.ZipFile(saved) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    draw, path = random.Random(0), tmp_path / "damaged.pt"
    refused = 0
    for _ in range(300):
        damaged = bytearray(parts[pickled])
        for _ in range(draw.choice([1, 2, 5])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (parts | {pickled: bytes(damaged)}).items():
                archive.writestr(name, content)
        try:
            load_checkpoint(path, "bc", {})
        except UsageError:
            refused += 1
    assert refused > 200  # the others have another name or number somewhere


def test_shapes_and_names_must_fit(saved):
    _, state = load_checkpoint(saved, "bc", {})
    with pytest.raises(UsageError, match=r"weight has shape \[2, 3\].*\[2, 4\]"):
        load_state(nn.Linear(4, 2), state["policy"], saved)
    with pytest.raises(UsageError, match=r"has no 0\.weight"):
        load_state(nn.Sequential(nn.Linear(3, 2)), state["policy"], saved)
    with pytest.raises(UsageError, match="has bias, which this network lacks"):
        load_state(nn.Linear(3, 2, bias=False), state["policy"], saved)
