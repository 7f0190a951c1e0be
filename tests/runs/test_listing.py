"""Runs at a glance: states, success and minutes of run folders."""

import json

import pytest
import yaml
from support.synthetic_runs import write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import write_table
from ibrl_torchrl.runs.folder import lock_folder
from ibrl_torchrl.runs.listing import RunSummary, list_runs
from ibrl_torchrl.runs.names import (
    CHECKPOINT,
    CONFIG,
    EVAL,
    EVALUATION,
    PREVIOUS,
    PROVENANCE,
    TIMING,
    TRAIN,
)


def summaries(folder):
    return {run.path.name: run for run in list_runs([folder])}


def write_bc_run(path):
    """Run of ``ibrl bc``: 3 of 4 episodes."""
    path.mkdir()
    config = {
        "seed": 4,
        "task": {"suite": "robosuite", "name": "Lift"},
        "imitation": {"bc": {"steps": 10}},
    }
    (path / CONFIG).write_text(yaml.safe_dump(config))
    (path / PROVENANCE).write_text("{}")
    rows = [[0, "bc", seed, int(seed > 0), 9, 9] for seed in range(4)]
    columns = ["frames", "policy", "seed", "success", "length", "proposal_frames/bc"]
    write_table(path / EVALUATION, columns, rows)


def test_a_finished_run(tmp_path):
    path = write_run(tmp_path / "a", seed=3, final=0.8)
    (path / TIMING).write_text(json.dumps({"wall": 90.0, "update": 60.0}))
    expected = RunSummary(path, "finished", "metaworld/box-close", "ibrl", 3, 3007, 3000, 0.8, 1.5)
    assert list_runs([tmp_path]) == [expected]


def test_unfinished_runs(tmp_path):
    for name in ("interrupted", "running", "new", "started", "previous"):
        write_run(tmp_path / name, curve=(0.0, 0.25), final=None)
    for name in ("interrupted", "running"):
        (tmp_path / name / CHECKPOINT).touch()
    (tmp_path / "previous" / PREVIOUS).touch()  # the last checkpoint is missing
    (tmp_path / "started" / EVAL).unlink()
    columns = ["frames", "wall_s"]
    write_table(tmp_path / "running" / TRAIN, columns, [[500, 60], [2500, 300]])
    with lock_folder(tmp_path / "running"):
        runs = summaries(tmp_path)
    assert {name: run.state for name, run in runs.items()} == {
        "interrupted": "interrupted",
        "running": "running",
        "previous": "interrupted",
        "new": "no checkpoint",
        "started": "no checkpoint",
    }
    assert (runs["interrupted"].success, runs["interrupted"].frames) == (0.25, 2007)
    assert (runs["running"].frames, runs["running"].minutes) == (2500, 5.0)
    assert runs["started"] == RunSummary(
        tmp_path / "started", "no checkpoint", "metaworld/box-close", "ibrl", 1, 0, 3000
    )
    assert summaries(tmp_path)["running"].state == "interrupted"  # its process has ended


def test_a_run_that_is_listed_can_be_locked_at_once(tmp_path):
    path = write_run(tmp_path / "a", final=None)
    with lock_folder(path):
        pass
    list_runs([tmp_path])
    with lock_folder(path):
        assert list_runs([tmp_path])[0].state == "running"


def test_imitation_alone(tmp_path):
    write_bc_run(tmp_path / "bc")
    expected = RunSummary(
        tmp_path / "bc", "finished", "robosuite/Lift", "imitation", 4, success=0.75
    )
    assert list_runs([tmp_path]) == [expected]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (CONFIG, "seed: ["),
        (CONFIG, "{seed: 1, imitation: {}, task: 3}"),
        (CONFIG, b"\xff\xfe\x00"),
        (CONFIG, "{seed: .inf, imitation: {}, task: {suite: a, name: b}}"),
        (CONFIG, '{seed: 1, imitation: {}, task: {suite: "\\e[2J", name: b}}'),
        (EVAL, "frames,policy\n1,hybrid\n"),
        (EVALUATION, "policy,success\nhybrid,x\n"),
        (TRAIN, "frames\n1\n"),
        (TIMING, "{}"),
        (TIMING, "{"),
        (TIMING, '{"wall": "nan"}'),
    ],
)
def test_a_damaged_run_is_listed_beside_others(tmp_path, file, content):
    write_run(tmp_path / "good")
    damaged = write_run(tmp_path / "damaged")
    data = content if isinstance(content, bytes) else content.encode()
    (damaged / file).write_bytes(data)
    runs = summaries(tmp_path)
    assert runs["damaged"] == RunSummary(damaged, "unreadable")
    assert runs["good"].state == "finished"


def test_other_configuration_files_are_no_runs(tmp_path):
    write_run(tmp_path / "a")
    for name, content in (("other", "seed: {value: 1}\n"), ("list", "[1]\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONFIG).write_text(content)
    assert [*summaries(tmp_path)] == ["a"]
    for folder in (tmp_path / "other", tmp_path / "none"):
        with pytest.raises(UsageError, match="contains no run"):
            list_runs([folder])


def test_the_command_prints_a_table(ibrl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "a", final=0.5)
    write_run(tmp_path / "more" / "b", "td3", seed=12, final=None)
    code, output, errors = ibrl("runs", "more", "runs", "runs/a")
    assert code == 0, errors
    assert output.splitlines() == [
        "run     state          task                 method  seed     frames  success  minutes",
        "more/b  no checkpoint  metaworld/box-close  td3       12  3007/3000     1.00      3.0",
        "runs/a  finished       metaworld/box-close  ibrl       1  3007/3000     0.50      3.0",
        "1 no checkpoint, 1 finished",
    ]
    assert ibrl("runs")[1].startswith("run     state ")
    code, _, errors = ibrl("runs", "nowhere")
    assert (
        code == 2
        and errors == "error: nowhere: contains no run (a folder with config.yaml and run.json)\n"
    )
