"""The command line as a user meets it: real files, real simulator, smallest sizes."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from support.tables import timeless

from ibrl_torchrl.cli import main as cli

pytest.importorskip("metaworld")

TINY = [
    *("frames=250", "algo.warmup_episodes=1", "algo.update_every=20", "task.horizon=60"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "bc.network.hidden=[16]"),
    *("bc.steps=20", "eval.every=200", "eval.episodes=1", "eval.final_episodes=2", "log.every=1"),
    "collector.workers=0",
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A tiny finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    argv, sys.argv = sys.argv, ["ibrl", "train", f"run_dir={folder}", *TINY]
    try:
        cli.main()
    finally:
        sys.argv = argv
    return folder


def _rows(path):
    return [*csv.DictReader(path.open())]


def test_train_leaves_a_complete_run_folder(run_dir):
    assert {path.name for path in run_dir.iterdir()} == {
        *("config.yaml", "run.json", ".lock", "demos.hdf5", "bc.pt", "checkpoint.pt", "best.pt"),
        *("train.csv", "eval.csv", "evaluation.csv", "curve.png", "timing.json"),
    }
    final = [row for row in _rows(run_dir / "eval.csv") if int(row["frames"]) >= 250]
    assert [row["policy"] for row in final[-3:]] == ["hybrid", "rl", "bc"]
    train = _rows(run_dir / "train.csv")
    assert int(train[-1]["frames"]) >= 250
    learning = int(train[-1]["frames"]) - int(train[0]["frames"])  # one warm-up episode
    assert int(train[-1]["rounds"]) == learning // 20


def test_the_same_seed_gives_the_same_run_whoever_plays_its_episodes(ibrl, run_dir, tmp_path):
    again = tmp_path / "again"
    workers = ["collector.workers=1", "collector.overlap=false"]
    code, _, error = ibrl("train", f"run_dir={again}", *TINY, *workers)
    assert code == 0, error
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(again / name) == timeless(run_dir / name)


def test_a_run_that_goes_wrong_says_where_and_keeps_its_networks(ibrl, tmp_path, monkeypatch):
    from ibrl_torchrl.training.learner import Learner

    original = Learner.update_critics
    calls = []

    def broken(self, batch):
        calls.append(1)
        if len(calls) == 5:
            batch["action"][0] = float("inf")
        return original(self, batch)

    monkeypatch.setattr(Learner, "update_critics", broken)
    run = tmp_path / "run"
    code, out, error = ibrl("train", f"run_dir={run}", *TINY)
    assert code == 2 and error.count("\n") == 1
    assert "q_mean became nan in round 3, by frame" in error
    assert str(run / "not-finite.pt") in out and (run / "not-finite.pt").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_eval_repeats_the_final_evaluation(ibrl, run_dir, tmp_path, workers):
    asked = ["episodes=2", f"workers={workers}"]
    code, out, _ = ibrl("eval", run_dir, *asked, f"out={tmp_path / 'e.csv'}")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["policy", "hybrid", "rl", "bc"]
    assert _rows(tmp_path / "e.csv") == _rows(run_dir / "evaluation.csv")


def test_demos_bc_and_train_share_files(ibrl, tmp_path):
    demos = tmp_path / "demos.hdf5"
    code, out, _ = ibrl("demos", "demos.episodes=2", f"out={demos}")
    assert code == 0 and "2 episodes" in out and "success 1.00" in out
    given = [f"demos.path={demos}", "demos.episodes=2", "bc.network.hidden=[16]", "bc.steps=20"]
    code, out, _ = ibrl("bc", f"run_dir={tmp_path / 'bc'}", "eval.final_episodes=1", *given)
    assert code == 0 and "bc.pt" in out
    code, _, _ = ibrl(
        *("train", f"run_dir={tmp_path / 'run'}", f"bc.path={tmp_path / 'bc/bc.pt'}"),
        *(*TINY, "task.horizon=100", *given),
    )
    assert code == 0 and not (tmp_path / "run/demos.hdf5").exists()
    # The same task in another setting, and another network, are refused before anything is made.
    code, _, error = ibrl(
        *("train", f"run_dir={tmp_path / 'no'}", f"bc.path={tmp_path / 'bc/bc.pt'}"),
        *(*TINY, "task=metaworld/assembly"),
    )
    assert code == 2 and "task=metaworld/box-close" in error and error.count("\n") == 1
    code, _, error = ibrl(
        *("train", f"run_dir={tmp_path / 'no'}", f"bc.path={tmp_path / 'bc/bc.pt'}"),
        *(*TINY, "bc.network.hidden=[32]"),
    )
    assert code == 2 and "shape" in error and error.count("\n") == 1
    assert not (tmp_path / "no").exists()


def test_variants_of_the_algorithm_run(ibrl, tmp_path):
    for number, variant in enumerate(
        [
            ["algo.soft=true", "replay.prioritized=true"],
            ["algo.acting=rl", "replay.demo_share=0.5", "replay.keep_successes=true"],
            ["algo.bootstrap=rl", "algo.score_acting_with=target", "replay.storage=memmap"],
        ]
    ):
        code, _, error = ibrl("train", f"run_dir={tmp_path / str(number)}", *TINY, *variant)
        assert code == 0, error


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(ibrl, run_dir, tmp_path, monkeypatch):
    from ibrl_torchrl.training.learner import Learner

    rounds = []
    original = Learner.round

    def interrupted(self, *arguments):
        rounds.append(1)
        if len(rounds) == 4:  # Ctrl-C, in the middle of an episode's rounds
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(Learner, "round", interrupted)
    run = tmp_path / "run"
    code, out, _ = ibrl("train", f"run_dir={run}", *TINY)
    assert code == 130 and f"ibrl train resume={run}" in out and f"ibrl eval {run}" in out
    assert ibrl("eval", run, "episodes=1")[0] == 0
    for other in (300, 30000):  # 30000 is what a run without it would have
        code, _, error = ibrl("train", f"resume={run}", f"frames={other}")
        assert code == 2 and f"was begun with frames=250, this call has {other}" in error
    code, out, error = ibrl("train", f"resume={run}", "frames=250")
    assert code == 0 and "going on from frame" in out, error
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(run / name) == timeless(run_dir / name)
    code, out, _ = ibrl("train", f"resume={run}")
    assert code == 0 and "finished already" in out
    assert ibrl("eval", run, "checkpoint=best.pt", "episodes=1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["train", "longer"], "unknown command 'train longer'"),
        (["demos", "inof", "f.hdf5"], "unknown command 'demos inof'; did you mean demos info"),
        (["demos", "info"], "file=... is needed"),
        (["train", "experiment=paper_pixels", "task.image_size=20"], "image size 20 is too small"),
        (["train", "task=robosuite/door"], "unknown robosuite task with a scripted expert 'Door'"),
        (["train", "sed=1"], "unknown setting 'sed'; did you mean seed?"),
        (["train", "task=metaworld/boxclose"], "did you mean box-close"),
        (["train", "seed=one"], "seed: Value 'one'"),
        (["train", "+new=1"], "Key 'new' not in 'TrainConfig'"),
        (["train", "task.horizon=400"], "product at most 500"),
        (["train", "device=tpu"], "device=tpu: not available"),
        (["train", "demos.path=missing.hdf5"], "missing.hdf5: no such file"),
        (["train", "bc.path=missing.pt"], "missing.pt: no such checkpoint"),
        (["eval"], "run=... is needed"),
        (["eval", "missing"], "missing: not a run folder"),
        (["eval", "missing", "checkpoint=../x.pt"], "checkpoint=../x.pt must be one of checkpoint"),
        (["train", "resume=missing"], "missing: not a run folder"),
        (["eval", "run=missing", "workers=-1"], "workers=-1 must be null or 0 or more"),
        (["train", "collector.workers=-1"], "collector.workers=-1 must be null or 0 or more"),
    ],
)
def test_mistakes_cost_one_line(ibrl, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, error = ibrl(*arguments)
    assert code == 2
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_demos_that_do_not_fit_are_refused(ibrl, box_close_demos, tmp_path):
    damaged = tmp_path / "nan.hdf5"
    damaged.write_bytes(Path(box_close_demos).read_bytes())
    with h5py.File(damaged, "r+") as file:
        file["data/demo_1/obs/state"][3, 5] = float("nan")
    for given, named in (
        ([f"demos.path={damaged}"], "demo_1"),
        ([f"demos.path={box_close_demos}", "task=metaworld/assembly"], "box-close"),
        ([f"demos.path={box_close_demos}", "demos.episodes=9"], "demos.episodes=9"),
    ):
        code, _, error = ibrl("train", f"run_dir={tmp_path / 'run'}", *given)
        assert code == 2 and named in error and error.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_a_run_folder_is_never_overwritten(ibrl, run_dir):
    code, _, error = ibrl("train", f"run_dir={run_dir}", *TINY)
    assert code == 2 and "holds a run already" in error


@pytest.mark.parametrize("command", [[], ["--help"], ["train", "--help"], ["eval", "--help"]])
def test_help_teaches(ibrl, command):
    code, out, _ = ibrl(*command)
    assert (code == 0 and "ibrl train" in out) or "ibrl eval" in out


def test_eval_out_needs_a_folder(ibrl, run_dir, tmp_path):
    code, _, error = ibrl("eval", run_dir, f"out={tmp_path / 'missing/e.csv'}")
    assert code == 2 and "no such folder" in error and error.count("\n") == 1


def test_films_are_made_on_request(ibrl, run_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("horizon: 60", "horizon: 3"))  # films of 3 frames
    evaluating = ["eval", run, "episodes=1", "video_episodes=1"]
    assert ibrl(*evaluating)[0] == 0 and not (run / "video.mp4").exists()
    code, out, _ = ibrl(*evaluating, "--video")
    assert code == 0 and str(run / "video.mp4") in out and (run / "video.mp4").stat().st_size > 1000
    code, _, _ = ibrl("eval", f"--video={tmp_path / 'a.gif'}", *evaluating[1:])
    assert code == 0 and (tmp_path / "a.gif").stat().st_size > 1000
    code, _, error = ibrl(*evaluating, f"video={tmp_path / 'a.avi'}")
    assert code == 2 and "must end in .mp4 or .gif" in error and error.count("\n") == 1
    demos = ["demos.episodes=1", "task=metaworld/handle-press", f"out={tmp_path / 'demos.hdf5'}"]
    assert ibrl("demos", *demos, "--video")[0] == 0 and (tmp_path / "demos.mp4").exists()


@pytest.mark.parametrize(
    ("module", "extra", "setting"),
    [("metaworld", "metaworld", "seed=1"), ("wandb", "wandb", "log.wandb=offline")],
)
def test_a_missing_extra_is_answered_with_its_install_line(
    ibrl, tmp_path, monkeypatch, module, extra, setting
):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, error = ibrl("train", f"run_dir={tmp_path / 'run'}", *TINY, setting)
    assert code == 2
    assert f"pip install 'ibrl_torchrl[{extra}]'" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_every_mistake_of_a_sweep_is_told(ibrl, tmp_path):
    code, _, errors = ibrl("train", "--multirun", "algo.num_min=8,9", f"run_dir={tmp_path / 'x'}")
    assert code == 2
    assert errors.count("error: ") == 2 and "num_min=8" in errors and "num_min=9" in errors


@pytest.mark.parametrize("command", [["demos", "info"], ["train", "--help"], ["--help"]])
def test_a_reader_may_leave_early(run_dir, command):
    if "info" in command:
        command = [*command, str(run_dir / "demos.hdf5")]
    program = [sys.executable, "-m", "ibrl_torchrl", *command]
    done = subprocess.run(
        ["bash", "-c", '"$@" | true', "bash", *program], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
