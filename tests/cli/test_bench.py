"""A grid on the real simulator: shared inputs, resuming after a kill, failures by name."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ibrl_torchrl.config.commands import BenchConfig
from ibrl_torchrl.config.compose import DEFAULT_METHOD, composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.runs.folder import is_finished, lock_folder

pytest.importorskip("metaworld")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]
pytest.importorskip("hydra_plugins.hydra_joblib_launcher")

TINY = [
    *("total_frames=160", "demos.episodes=1", "imitation.bc.steps=10", "algo.warmup.episodes=1"),
    *(
        "task.horizon=80",
        "algo.update.frames_per_round=20",
        "eval.every=1000",
        "eval.final_episodes=1",
    ),
]


def grid(folder, *settings):
    return ["bench", "algos=[ibrl,rft]", "seeds=[1]", f"dir={folder}", *settings, "--", *TINY]


def _descendants(process):
    """Ids of all processes below a process."""
    children = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_grid_compares_the_default_method_with_others_that_share_its_imitation_policy():
    algos = parse(BenchConfig, composed("bench")).algos
    assert algos[0] == DEFAULT_METHOD and len(algos) > 1
    runs = [parse(TrainConfig, composed("train", [f"algo={algo}"])) for algo in algos]
    assert [run.algo.name for run in runs] == algos
    assert all(run.imitation == runs[0].imitation for run in runs)


def test_kill_9_of_the_grid_leaves_no_orphans(tmp_path):
    folder = tmp_path / "grid"
    tables = [folder / f"metaworld-box-close/{name}-seed1/eval.csv" for name in ("ibrl", "rft")]
    program = [sys.executable, "-m", "ibrl_torchrl", *grid(folder, "jobs=2"), "total_frames=99999"]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not all(table.exists() for table in tables):  # both runs and their workers have started
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    below = _descendants(process.pid)
    assert len(below) >= 5  # the sweep, two runs and a worker each
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while (orphans := [*filter(_is_running, below)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not orphans


def test_a_killed_grid_resumes(ibrl, tmp_path):
    folder = tmp_path / "a grid"
    runs = [folder / f"metaworld-box-close/{name}-seed1" for name in ("ibrl", "rft")]
    program = [sys.executable, "-m", "ibrl_torchrl", *grid(folder, "jobs=1")]
    process = subprocess.Popen(program, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (runs[0] / "train.csv").exists():  # the first run has started
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not any(map(is_finished, runs))
    shared = (folder / "metaworld-box-close/shared/seed1/imitation/bc.pt").stat().st_mtime_ns

    code, output, errors = ibrl(*grid(folder))
    assert code == 0, errors
    assert "metaworld-box-close: 2 of 2 finished" in output
    assert (folder / "report/index.html").is_file()
    assert (
        folder / "metaworld-box-close/shared/seed1/imitation/bc.pt"
    ).stat().st_mtime_ns == shared
    origins = [json.loads((run / "run.json").read_text()) for run in runs]
    assert origins[0]["inputs"] == origins[1]["inputs"]
    assert "algo=rft" in origins[1]["command"] and "seed=1" in origins[1]["command"]
    assert "run folder" in (runs[0] / "log.txt").read_text()

    # A run that was killed in its last evaluation: that alone is repeated.
    written = [(run / "checkpoint.pt").stat().st_mtime_ns for run in runs]
    trained = (runs[1] / "train.csv").read_text()
    evaluated = (runs[1] / "evaluation.csv").read_text()
    (runs[1] / "evaluation.csv").unlink()
    code, _, errors = ibrl(*grid(folder))
    assert code == 0, errors
    assert (runs[0] / "checkpoint.pt").stat().st_mtime_ns == written[0]
    assert (runs[1] / "checkpoint.pt").stat().st_mtime_ns > written[1]
    assert (runs[1] / "train.csv").read_text() == trained
    assert (runs[1] / "evaluation.csv").read_text() == evaluated


def test_self_imitation_starts_from_the_shared_policy(ibrl, tmp_path):
    folder = tmp_path / "grid"
    algos = ["algos=[ibrl,ibrl_self_imitation]", "seeds=[1]", f"dir={folder}"]
    code, _, errors = ibrl("bench", *algos, "--", *TINY)
    assert code == 0, errors
    inputs = [
        json.loads((folder / f"metaworld-box-close/{name}-seed1/run.json").read_text())["inputs"]
        for name in ("ibrl", "ibrl_self_imitation")
    ]
    assert inputs[0] == inputs[1] and {*inputs[0]} == {"demos", "bc"}


def test_a_run_that_fails_is_named_and_the_others_finish(ibrl, tmp_path):
    folder = tmp_path / "grid"
    (folder / "metaworld-box-close").mkdir(parents=True)
    (folder / "metaworld-box-close/rft-seed1").write_text("in the way")
    code, _, errors = ibrl(*grid(folder, "launcher=basic"))
    assert code == 2
    assert "1 of 2 runs did not finish" in errors and "rft-seed1" in errors
    assert is_finished(folder / "metaworld-box-close/ibrl-seed1")
    assert "rft" not in (folder / "report/1-metaworld-box-close-final.csv").read_text()


def test_failed_shared_inputs_are_named_as_the_cause(ibrl, tmp_path):
    shared = tmp_path / "grid/metaworld-box-close/shared"
    shared.mkdir(parents=True)
    (shared / "seed1").write_text("in the way")
    code, _, errors = ibrl(*grid(tmp_path / "grid", "launcher=basic"))
    assert code == 2 and errors.count("\n") == 1
    assert "2 of 2 runs did not finish" in errors and str(shared / "seed1") in errors


def test_two_grids_in_one_folder_are_refused(ibrl, tmp_path):
    with lock_folder(tmp_path):
        code, _, errors = ibrl(*grid(tmp_path))
    assert code == 2 and f"{tmp_path}: is locked by another process" in errors
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["algos=[ibrl,rfd]"], "unknown algo 'rfd'; did you mean rft?"),
        (["tasks=[metaworld/box-clos]"], "did you mean task=metaworld/box-close"),
        (["tasks=[]"], "tasks=[] must be a list of one or more"),
        (["jobs=0"], "jobs=0 must be at least 1"),
        (["launcher=nosuch_one"], "pip install hydra-nosuch-launcher"),
        (["--", "fraames=3"], "unknown setting 'fraames'"),
        (["--", "algo.actor.hidden=[8]"], "algo.actor.hidden=[8], for algo.actor_init"),
    ],
)
def test_mistakes_are_answered_before_anything_runs(ibrl, tmp_path, arguments, message):
    code, _, errors = ibrl("bench", f"dir={tmp_path / 'grid'}", *arguments)
    assert code == 2 and message in errors
    assert not (tmp_path / "grid").exists()
