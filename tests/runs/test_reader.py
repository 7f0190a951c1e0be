"""Reading run folders."""

import pytest
from support.synthetic_runs import write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs.reader import find_runs, read_run


def test_read_run_returns_settings_and_evaluations_by_proposal(tmp_path):
    run = read_run(write_run(tmp_path / "a", "ibrl", 3, imitation=("bc", "act"), final=0.8))
    assert (run.method, run.seed, run.task) == ("ibrl", 3, "metaworld/box-close")
    assert (run.total_frames, run.eval_every) == (3000, 1000)
    assert run.proposals == run.acting_proposals == ("rl", "bc", "act")
    assert [point.frames for point in run.curves["hybrid"]] == [1007, 2007, 3007]
    assert run.curves["hybrid"][0].shares == pytest.approx({"rl": 0.6, "bc": 0.2, "act": 0.2})
    assert run.curves["hybrid"][0].length is None and run.curves["act"][0].length == 60
    assert run.final["hybrid"][0].proposal_frames == {"rl": 16, "bc": 2, "act": 2}
    assert (run.success("hybrid"), run.success("act")) == (0.8, 0.1)
    assert run.settings["algo.update.lr"] == 3e-4


def test_read_run_accepts_an_unfinished_run(tmp_path):
    run = read_run(write_run(tmp_path / "a", curve=(0.5,), final=None))
    assert run.final == {} and len(run.curves["hybrid"]) == 1


def test_find_runs_refuses_folders_without_runs(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="contains no run"):
            find_runs([folder])


def test_find_runs_reads_each_run_once(tmp_path):
    write_run(tmp_path / "a")
    assert len(find_runs([tmp_path, tmp_path / "a", tmp_path])) == 1


def test_runs_of_version_01_are_refused(tmp_path):
    config = write_run(tmp_path / "a") / "config.yaml"
    config.write_text(config.read_text().replace("total_frames", "frames"))
    with pytest.raises(UsageError, match=r"a: was written by version 0\.1, .*; run it again$"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", "a: ["),
        ("config.yaml", "seed: 1"),
        ("config.yaml", "- 1"),
        ("config.yaml", ""),
        ("config.yaml", "!!python/object/apply:os.getcwd []"),
        ("eval.csv", "frames,policy\n1,hybrid\n"),
        ("eval.csv", "frames,wall_s,policy,success,success_length,il_share\n1,2,bc,1,1,1\n"),
        ("evaluation.csv", "frames,policy,seed,success\n1,hybrid,3,1\n"),
        ("run.json", "{"),
        ("run.json", "[]"),
    ],
)
def test_damaged_runs_are_refused(tmp_path, file, content):
    run = write_run(tmp_path / "a")
    (run / file).write_text(content)
    with pytest.raises(
        UsageError, match=r"a(: is not a readable run folder|/\S*: cannot be read) \("
    ):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("original", "damaged"),
    [("total_frames: 3000", "total_frames: many"), ("- bc", "- act"), ("every: 1000", "e: 1")],
)
def test_damaged_settings_are_refused(tmp_path, original, damaged):
    config = write_run(tmp_path / "a") / "config.yaml"
    content = config.read_text()
    assert original in content
    config.write_text(content.replace(original, damaged))
    with pytest.raises(UsageError, match=r"a: is not a readable run folder \("):
        read_run(tmp_path / "a")
