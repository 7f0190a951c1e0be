"""The command line as a user meets it: real files, real simulator, smallest sizes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import pytest
from support.tables import timeless

from ibrl_torchrl.cli import main as cli

pytest.importorskip("metaworld")
pytestmark = pytest.mark.simulator

TINY = [
    *("total_frames=250", "algo.warmup.episodes=1", "algo.update.frames_per_round=20"),
    *("task.horizon=60", "imitation.bc.steps=20", "log.every=1"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "imitation.bc.network.hidden=[16]"),
    *("eval.every=200", "eval.episodes=1", "eval.final_episodes=2"),
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
        *("config.yaml", "run.json", ".lock", "demos.hdf5", "imitation", "checkpoint.pt"),
        *("best.pt", "train.csv", "eval.csv", "evaluation.csv", "curve.png", "timing.json"),
        *("summary.json", "spaces.json", ".ibrl-run"),
    }
    final = [row for row in _rows(run_dir / "eval.csv") if int(row["frames"]) >= 250]
    assert [row["policy"] for row in final[-3:]] == ["hybrid", "rl", "bc"]
    train = _rows(run_dir / "train.csv")
    assert int(train[-1]["frames"]) >= 250
    assert int(train[-1]["rounds"]) == int(train[-1]["frames"]) // 20  # the warm-up's, too
    successes = [float(row["episode_success"]) for row in train]  # log.every=1: every episode
    means = [sum(successes[: n + 1]) / (n + 1) for n in range(len(successes))]
    assert [float(row["success_last_20_episodes"]) for row in train] == pytest.approx(means)


def test_the_summary_holds_the_final_evaluation_and_the_dip(run_dir):
    summary = json.loads((run_dir / "summary.json").read_text())
    episodes = _rows(run_dir / "evaluation.csv")
    for policy in ("hybrid", "rl", "bc"):
        solved = [int(row["success"]) for row in episodes if row["policy"] == policy]
        final = summary["final"][policy]
        assert final["success"] == sum(solved) / 2 and final["episodes"] == 2
        assert final["success_low"] <= final["success"] <= final["success_high"]
    assert summary["task"] == "metaworld/box-close" and summary["seed"] == 1
    assert summary["rounds"] == int(_rows(run_dir / "train.csv")[-1]["rounds"])
    assert summary["dip"]["policy"] == "bc" and summary["versions"]["torch"]
    assert 0 < summary["minutes"] < 10


def test_train_returns_the_final_success_to_sweepers(run_dir):
    from ibrl_torchrl.cli import train
    from ibrl_torchrl.config.compose import composed
    from ibrl_torchrl.config.parse import parse
    from ibrl_torchrl.config.train import TrainConfig

    finished = composed("train", [f"run_dir={run_dir}", "if_exists=resume"])
    summary = json.loads((run_dir / "summary.json").read_text())
    result = train.run(parse(TrainConfig, finished))
    assert isinstance(result, float) and result == summary["final"]["hybrid"]["success"]


def test_the_last_frame_is_evaluated_and_printed_once(ibrl, tmp_path):
    run = tmp_path / "run"
    code, out, error = ibrl("train", f"run_dir={run}", *TINY, "eval.every=60")
    assert code == 0, error
    rows = _rows(run / "eval.csv")
    last = rows[-1]["frames"]
    assert [row["policy"] for row in rows if row["frames"] == last] == ["hybrid", "rl", "bc"]
    assert f"frame {int(last):>7}" not in out  # the table below has these results
    *_, table, _, _, _, time = out.splitlines()
    assert table.startswith("policy") and "minutes; results in" in time


def test_a_budget_that_ends_within_the_warmup_is_told_three_times(ibrl, tmp_path):
    short = [*TINY, "total_frames=100", "algo.warmup={episodes: 5, updates: false}"]
    code, out, _ = ibrl("train", f"run_dir={tmp_path / 'run'}", *short)
    assert code == 0
    plan, measured, end = (line for line in out.splitlines() if line.startswith("warning: "))
    assert "total_frames=100 may end within the warm-up, up to 300 frames" in plan
    assert "total_frames=100 ends within the warm-up, about " in measured
    assert "the warm-up took all 120 frames; no update was made" in end
    assert json.loads((tmp_path / "run/summary.json").read_text())["rounds"] == 0


def test_log_txt_holds_the_programs_own_lines(tmp_path):
    """In a process of its own: TorchRL sets the level of its logger when it is first imported."""
    run = tmp_path / "run"
    program = [sys.executable, "-m", "ibrl_torchrl", "train", f"run_dir={run}", "quiet=true"]
    done = subprocess.run([*program, *TINY], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == done.stderr == ""
    log = (run / "log.txt").read_text()
    assert "run folder" in log and "[INFO]" not in log and "\x1b" not in log


@pytest.mark.slow
def test_results_come_after_what_weights_and_biases_prints(tmp_path):
    pytest.importorskip("wandb")
    program = [sys.executable, "-m", "ibrl_torchrl", "train", f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [*program, *TINY, "log.wandb=offline"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "wandb:" in done.stdout
    *_, header, _, _, _, time = done.stdout.splitlines()
    assert header.startswith("policy") and "minutes; results in" in time


@pytest.mark.slow
def test_one_seed_gives_one_run_with_and_without_workers(ibrl, run_dir, tmp_path):
    again = tmp_path / "again"
    workers = ["collector.workers=1", "collector.overlap=false"]
    code, _, error = ibrl("train", f"run_dir={again}", *TINY, *workers)
    assert code == 0, error
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(again / name) == timeless(run_dir / name)


def test_divergence_is_reported_and_the_networks_are_kept(ibrl, tmp_path, monkeypatch):
    from ibrl_torchrl.training.learner import Learner

    original = Learner.update
    calls = []

    def broken(self, term, batch):
        calls.append(1)
        if len(calls) == 7:  # the first update of the third round
            batch["action"][0] = float("inf")
        return original(self, term, batch)

    monkeypatch.setattr(Learner, "update", broken)
    run = tmp_path / "run"
    code, out, error = ibrl("train", f"run_dir={run}", *TINY)
    assert code == 2 and error.count("\n") == 1
    assert "pred_value became nan in round 3, by frame" in error
    assert str(run / "not-finite.pt") in out and (run / "not-finite.pt").exists()


@pytest.mark.slow
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
    network = ["imitation.bc.network.hidden=[16]", "imitation.bc.steps=20"]
    given = [f"demos.path={demos}", "demos.episodes=2", *network]
    code, out, _ = ibrl("bc", f"run_dir={tmp_path / 'bc'}", "eval.final_episodes=1", *given)
    assert code == 0 and "imitation/bc.pt" in out
    policy = f"imitation.bc.path={tmp_path / 'bc/imitation/bc.pt'}"
    code, _, _ = ibrl(
        *("train", f"run_dir={tmp_path / 'run'}", policy),
        *(*TINY, "task.horizon=100", *given),
    )
    assert code == 0 and not (tmp_path / "run/demos.hdf5").exists()
    # The same task in another setting, and another network, are refused before anything is made.
    code, _, error = ibrl(
        *("train", f"run_dir={tmp_path / 'no'}", policy),
        *(*TINY, "task=metaworld/assembly"),
    )
    assert code == 2 and "task=metaworld/box-close" in error and error.count("\n") == 1
    code, _, error = ibrl(
        *("train", f"run_dir={tmp_path / 'no'}", policy),
        *(*TINY, "imitation.bc.network.hidden=[32]", "algo.actor.hidden=[32]"),
    )
    assert code == 2 and "shape" in error and error.count("\n") == 1
    assert not (tmp_path / "no").exists()


def test_bc_takes_the_kind_of_policy_by_its_short_name(ibrl, box_close_demos, tmp_path):
    run, demos = tmp_path / "bc", f"demos.path={box_close_demos}"
    tiny = ["imitation.bc.network.hidden=[16]", "imitation.bc.steps=5", "eval.final_episodes=1"]
    code, _, error = ibrl("bc", "policy=gmm", f"run_dir={run}", demos, *tiny, "task.horizon=60")
    assert code == 0, error
    assert "policy: gmm" in (run / "config.yaml").read_text()
    code, _, error = ibrl("bc", "policy=gm", f"run_dir={tmp_path / 'no'}")
    assert code == 2 and error.startswith("error: imitation.bc.policy=gm must be one of mlp, gmm")
    code, _, error = ibrl("train", "policy=gmm", f"run_dir={tmp_path / 'no'}")
    assert code == 2 and "unknown setting 'policy'" in error


@pytest.mark.slow
def test_variants_of_the_algorithm_run(ibrl, tmp_path):
    for number, variant in enumerate(
        [
            ["algo.proposals.select=soft", "replay.prioritized=true"],
            [
                "algo.proposals.acting.policies=[rl]",
                *("replay.offline_fraction=0.5", "replay.keep_successes=true"),
            ],
            [
                "algo.proposals.bootstrap.policies=[rl]",
                *("algo.proposals.acting_critic=target", "replay.storage=memmap"),
            ],
        ]
    ):
        code, _, error = ibrl("train", f"run_dir={tmp_path / str(number)}", *TINY, *variant)
        assert code == 0, error


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_result(ibrl, run_dir, tmp_path, monkeypatch):
    from ibrl_torchrl.training.learner import Learner

    rounds = []
    original = Learner.round

    def interrupted(self, *arguments, **options):
        rounds.append(1)
        if len(rounds) == 4:  # Ctrl-C, in the middle of an episode's rounds
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Learner, "round", interrupted)
    run = tmp_path / "run"
    code, out, _ = ibrl("train", f"run_dir={run}", *TINY)
    assert code == 130 and f"ibrl train resume={run}" in out and f"ibrl eval {run}" in out
    assert ibrl("eval", run, "episodes=1")[0] == 0
    for other in (300, 12000):  # 12000 is what a run without it would have
        code, _, error = ibrl("train", f"resume={run}", f"total_frames={other}")
        assert code == 2 and f"was started with total_frames=250, this call has {other}" in error
    code, out, error = ibrl("train", f"resume={run}", "total_frames=250")
    assert code == 0 and "resuming from frame" in out, error
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(run / name) == timeless(run_dir / name)
    code, out, _ = ibrl("train", f"resume={run}")
    assert code == 0 and "finished" in out
    assert ibrl("eval", run, "checkpoint=best.pt", "episodes=1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["train", "longer"], "unknown command 'train longer'"),
        (["train", "~sed"], "Could not delete from config. 'sed' does not exist"),
        (["train", "~algo.loss"], "replay.imitate_successes=True must be false unless algo.loss."),
        (["train", "+new"], "Error parsing override '+new' missing EQUAL"),
        (["train", "++new"], "Error parsing override '++new' missing EQUAL"),
        (["demos", "info", "~/f.hdf5"], "~/f.hdf5: no such file"),
        (["demos", "inof", "f.hdf5"], "unknown command 'demos inof'; did you mean demos info"),
        (["demos", "info"], "file=... is needed"),
        (["train", "experiment=paper_pixels", "task.image_size=20"], "image size 20 is too small"),
        (["train", "task=robosuite/door"], "unknown robosuite task with a scripted expert 'Door'"),
        (["train", "sed=1"], "unknown setting 'sed'; did you mean seed?"),
        (["train", "frames=100"], "frames: is called total_frames since version 0.2"),
        (["train", "bc.steps=100"], "bc.steps: is called imitation.bc.steps since version 0.2"),
        (["train", "task=box-close"], "unknown task 'box-close'; did you mean task=metaworld/box-"),
        (["train", "task=lift"], "did you mean task=robosuite/lift?"),
        (["train", "task=robosuite/box-close"], "did you mean task=metaworld/box-close?"),
        (["train", "task=metaworld"], "known are metaworld/assembly, metaworld/basketball"),
        (["train", "task=a/b"], "known are custom, gym, metaworld/... (50), robosuite/... (17)"),
        (["eval", "--help", "algo"], "unknown group of settings 'algo'; there are none"),
        (["train", "--config-name", "eval"], "--config-name and --config-path are the program's"),
        (["train", "--cfg", "job", "sed=1"], "unknown setting 'sed'; did you mean seed?"),
        (["train", "--nosuch"], "unrecognized arguments: --nosuch; see: ibrl train --help"),
        (["train", "--resolve"], "--resolve and --package belong to --cfg job"),
        (["eval", "r", "algo=td3"], "algo: is a setting of ibrl train; ibrl eval takes it from"),
        (["eval", "r", "algo.update.lr=1"], "train another with algo.update.lr=..."),
        (["bench", "total_frames=9"], "write it after --: ibrl bench ... -- total_frames=..."),
        (["bc", "algo=td3"], "algo: is a setting of ibrl train; ibrl bc does without it"),
        (["bench", "seeds=9-1"], "seeds=9-1: must be FIRST-LAST or range(FIRST,END)"),
        (["bench", "seeds=range(1,99999)"], "of 1 to 10000 numbers"),
        (["bench", "algos=ibrl,tdd"], "unknown algo 'tdd'; did you mean td3?"),
        (["train", "--help", "algos"], "unknown group of settings 'algos'; did you mean algo"),
        (["--completion", "fish"], "unknown shell 'fish'"),
        (["train", "task=metaworld/boxclose"], "did you mean task=metaworld/box-close or"),
        (["train", "seed=one"], "seed: Value 'one'"),
        (["train", "+new=1"], "new: there is no such setting"),
        (["train", "task.horizon=400"], "product at most 500"),
        (["train", "device=tpu"], "device=tpu: not available"),
        (["train", "demos.path=missing.hdf5"], "missing.hdf5: no such file"),
        (["train", "imitation.bc.path=missing.pt"], "missing.pt: no such checkpoint"),
        (["eval"], "run=... is needed; usage: ibrl eval RUN [SETTING=VALUE ...]"),
        (["report"], "runs=... is needed; usage: ibrl report FOLDER ..."),
        (["eval", "missing"], "missing: not a run folder"),
        (["eval", "missing", "checkpoint=../x.pt"], "checkpoint=../x.pt must be one of checkpoint"),
        (["train", "resume=missing"], "missing: not a run folder"),
        (["eval", "run=missing", "workers=-1"], "workers=-1 must be at least 0"),
        (["train", "collector.workers=-1"], "collector.workers=-1 must be at least 0"),
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
        (
            [f"demos.path={box_close_demos}", "task=metaworld/assembly"],
            "is of the task box-close-v3, the environment is assembly-v3; use task=metaworld/box-c",
        ),
        ([f"demos.path={box_close_demos}", "demos.episodes=9"], "demos.episodes=9"),
    ):
        code, _, error = ibrl("train", f"run_dir={tmp_path / 'run'}", *given)
        assert code == 2 and named in error and error.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_a_run_folder_is_never_overwritten(ibrl, run_dir):
    code, output, error = ibrl("train", f"run_dir={run_dir}", *TINY)
    assert code == 2 and "holds a run already" in error and not output  # no plan before it


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([], "ibrl train"),
        (["--help"], "ibrl train"),
        (["train", "--help"], "algo.update.lr"),
        (["train", "algo=td3", "--help", "replay"], "replay.batch_size"),
        (["train", "--help=replay"], "replay.batch_size"),
        (["train", "--help", "algo"], "algo.warmup.episodes"),
        (["eval", "-h"], "ibrl eval RUN --video"),
        (["--version"], f"ibrl_torchrl {version('ibrl_torchrl')}"),
        (["--completion", "bash"], "complete -o default -F _ibrl ibrl"),
        (["--complete", "train", "algo=rl"], "algo=rlpd_pixels"),
    ],
)
def test_help_version_and_completion(ibrl, command, expected):
    code, out, _ = ibrl(*command)
    assert code == 0 and expected in out


def test_eval_out_needs_a_folder(ibrl, run_dir, tmp_path):
    code, _, error = ibrl("eval", run_dir, f"out={tmp_path / 'missing/e.csv'}")
    assert code == 2 and "no such folder" in error and error.count("\n") == 1


@pytest.mark.slow
def test_videos_are_written_on_request(ibrl, run_dir, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("horizon: 60", "horizon: 3"))  # videos of 3 frames
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


def test_every_mistake_of_a_sweep_is_reported(ibrl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, errors = ibrl("train", "--multirun", "algo.proposals.num_min=8,9")
    assert code == 2
    for trial, value in enumerate((8, 9)):
        (line,) = (each for each in errors.splitlines() if f"(trial {trial}: " in each)
        assert line.startswith(f"error: algo.proposals.num_min={value} must be at most")
    assert "Traceback" not in errors
    code, _, errors = ibrl("train", "--multirun", "algo=td3,tdd")
    assert code == 2 and errors == "error: unknown algo 'tdd'; did you mean td3?\n"


@pytest.mark.parametrize("command", [["demos", "info"], ["train", "--help"], ["--help"]])
def test_a_closed_pipe_is_no_error(run_dir, command):
    if "info" in command:
        command = [*command, str(run_dir / "demos.hdf5")]
    program = [sys.executable, "-m", "ibrl_torchrl", *command]
    done = subprocess.run(
        ["bash", "-c", '"$@" | true', "bash", *program], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""
