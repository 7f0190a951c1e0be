"""Provenance: run.json, fingerprints of inputs."""

import json
import subprocess

import pytest
import torch
from support.parts import episode
from torch import nn

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs import provenance
from ibrl_torchrl.runs.provenance import (
    append_resumption,
    fingerprint,
    input_fingerprints,
    read_provenance,
    write_inputs,
    write_provenance,
)


def linear(weight, bias):
    network = nn.Linear(1, 1)
    network.load_state_dict(
        {"weight": torch.tensor([[float(weight)]]), "bias": torch.tensor([float(bias)])}
    )
    return network


def test_input_fingerprints_are_those_of_stored_runs():
    """Values as computed by version 0.1, so that runs of both can be compared."""
    demos = [episode(3, success=True), episode(2, success=False)]
    assert input_fingerprints(demos, {"bc": linear(1, 2), "act": linear(2, 1)}) == {
        "demos": "7442b1c85b8ff22a",
        "bc": "cabbb9f5f1b37d25",
        "act": "e7a56a2e4458db4a",
    }


def test_commit_is_that_of_this_program_alone(tmp_path, monkeypatch):
    """A virtual environment within another project's repository."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*git, *command], check=True)
    installed = tmp_path / "provenance.py"
    installed.touch()
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance._commit() is None
    subprocess.run([*git, "add", "provenance.py"], check=True)
    assert provenance._commit().endswith("-dirty")


def test_fingerprint_differs_by_value_dtype_and_shape():
    tensors = [torch.zeros(4), torch.ones(4), torch.zeros(4, dtype=torch.int32), torch.zeros(2, 2)]
    assert len({fingerprint([tensor]) for tensor in tensors}) == 4
    assert fingerprint([tensors[0]]) == fingerprint([torch.zeros(4)])


def test_write_inputs_refuses_other_inputs_than_those_of_the_start(tmp_path):
    write_provenance(tmp_path)
    inputs = {"demos": "a", "bc": "b"}
    write_inputs(tmp_path, inputs)
    write_inputs(tmp_path, inputs)
    assert read_provenance(tmp_path)["inputs"] == inputs
    with pytest.raises(UsageError, match="bc differs from the one of its start; restore the file"):
        write_inputs(tmp_path, inputs | {"bc": "c"})


def test_resumption_says_where_the_processor_is_another_one(tmp_path, capsys):
    write_provenance(tmp_path)
    append_resumption(tmp_path)
    assert capsys.readouterr().out == ""
    start = read_provenance(tmp_path)
    here, there = start["processor"], "AMD EPYC 7B13, cpu family 25, model 1"
    (tmp_path / "run.json").write_text(json.dumps(start | {"processor": there}))
    append_resumption(tmp_path)
    assert f"was started on {there}, this is {here}, which may round" in capsys.readouterr().out
    assert read_provenance(tmp_path)["processor"] == there
    assert [each["processor"] for each in read_provenance(tmp_path)["resumed"]] == [here, here]


def test_runs_without_a_processor_can_be_resumed(tmp_path, capsys):
    """Of before it was recorded."""
    write_provenance(tmp_path)
    start = read_provenance(tmp_path)
    del start["processor"]
    (tmp_path / "run.json").write_text(json.dumps(start))
    append_resumption(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [None, "{", "3"])
def test_read_provenance_refuses_damaged_files(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run.json: cannot be read"):
        read_provenance(tmp_path)
