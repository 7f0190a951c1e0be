"""Runs with interventions: by a scripted expert, by the environment, from gym-hil."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.tables import timeless
from support.teleoperation import POINT

from ibrl_torchrl.data.demos import load_demos, record_demos, save_demos
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.runs.checkpoint import load_checkpoint
from ibrl_torchrl.runs.episode_log import read_log
from ibrl_torchrl.runs.tables import read_rows

pytestmark = [pytest.mark.simulator, pytest.mark.filterwarnings("ignore")]
TABLES = ("train.csv", "eval.csv", "evaluation.csv")
TINY = [
    *("algo=rlpd", "total_frames=60", "imitation.bc.steps=5", "imitation.bc.network.hidden=[8]"),
    *("algo.actor.hidden=[8]", "algo.critic.hidden=[8]", "algo.warmup.episodes=2"),
    *("algo.update.frames_per_round=10", "eval.every=30", "eval.episodes=1"),
    *("eval.final_episodes=2", "task.num_init_states=5", "log.every=1", "replay.batch_size=8"),
    *("replay.capacity=40", "checkpoint_every=20", "log.keep_episodes=true", "task.horizon=5"),
]
EXPERT = ["demos.expert=support.teleoperation:memoryless_expert", "interventions.expert=true"]
SCRIPTED = ["task=gym", "id=support.point_env:PlanePoint-v0", *EXPERT, *TINY]
SCRIPTED += ["interventions.after=1", "interventions.probability=0.6"]


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """Finished run with a scripted intervention, of a worker process."""
    run = tmp_path_factory.mktemp("scripted") / "run"
    train(run, *SCRIPTED, "collector.workers=1", "collector.overlap=false")
    return run


def train(run, *settings):
    from ibrl_torchrl.cli import main as cli

    argv, sys.argv = sys.argv, ["ibrl", "train", f"run_dir={run}", *settings]
    try:
        cli.main()
    finally:
        sys.argv = argv


def test_the_expert_takes_over_after_the_warmup_and_is_counted(scripted):
    rows = read_rows(scripted / "train.csv")
    shares = [float(row["intervention_share"] or 0) for row in rows]
    lengths = [int(row["episode_frames"]) for row in rows]
    assert shares[:2] == [0, 0]  # the warm-up's
    for share, length in zip(shares, lengths, strict=True):
        assert share in (
            0,
            pytest.approx((length - 1) / length, abs=1e-5),
        )  # from step 1 to the end
    assert 0.2 < sum(share > 0 for share in shares[2:]) / len(shares[2:]) < 0.95
    for row, share in zip(rows, shares, strict=True):
        named = sum(float(row[f"proposal_share/acting/{name}"]) for name in ("rl", "bc"))
        assert named + share == pytest.approx(1, abs=1e-5)
    # An intervention solves the task in these episodes, which are none of the policy's.
    assert any(float(r["episode_success"]) and s for r, s in zip(rows, shares, strict=True))
    alone = [float(r["episode_success"]) and not s for r, s in zip(rows, shares, strict=True)]
    recent = [sum(alone[max(0, i - 20) : i]) / min(i, 20) for i in range(1, len(rows) + 1)]
    found = [float(row["success_last_20_episodes"]) for row in rows]
    assert found == pytest.approx(recent, abs=1e-5)


def test_the_log_says_who_acted(scripted):
    episodes = [*read_log(scripted / "episodes")]
    rows = read_rows(scripted / "train.csv")
    assert len(episodes) == len(rows)  # more than the 40 transitions of the replay
    for episode, row in zip(episodes[2:], rows[2:], strict=True):
        flags = episode["intervention"].flatten()
        assert flags.float().mean().item() == pytest.approx(
            float(row["intervention_share"]), abs=1e-5
        )
        assert (episode["proposal"] == -1).tolist() == flags.tolist()


def test_no_evaluation_has_interventions(scripted):
    for row in read_rows(scripted / "evaluation.csv"):
        frames = sum(int(row[f"proposal_frames/{name}"]) for name in ("rl", "bc"))
        assert frames == int(row["length"])


def test_episodes_convert_to_lerobot(ibrl, scripted, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "dataset"
    code, _, error = ibrl("demos", "convert", scripted, f"out={out}", "to=lerobot")
    assert code == 0, error
    (table,) = out.glob("data/*/*.parquet")
    names = parquet.read_table(table)["policy"].to_pylist()
    flags = [
        e["intervention"].any() for e in read_log(scripted / "episodes") if "intervention" in e
    ]
    assert any(flags) and {"rl", "intervention"} <= {*names} <= {"rl", "bc", "intervention"}


def test_a_process_of_its_own_changes_no_number(scripted, tmp_path):
    train(tmp_path / "run", *SCRIPTED, "collector.workers=0")
    for name in TABLES:
        assert timeless(tmp_path / "run" / name) == timeless(scripted / name), name


def test_resuming_gives_the_results_of_an_uninterrupted_run(ibrl, scripted, tmp_path, monkeypatch):
    """Interrupted when more episodes have passed than the replay holds, then resumed."""
    from ibrl_torchrl.runtime import Interrupted, InterruptHandler

    def check(self, counts=[0]):  # noqa: B006
        counts[0] += 1
        if counts[0] == 13:
            raise Interrupted

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(InterruptHandler, "check", check)
        code, _, _ = ibrl("train", f"run_dir={run}", *SCRIPTED, "collector.workers=0")
    assert code == 130 and len(read_rows(run / "train.csv")) == 13
    code, _, error = ibrl("train", f"resume={run}")
    assert code == 0, error
    for name in TABLES:
        assert timeless(run / name) == timeless(scripted / name), name
    (one, two) = (load_checkpoint(r / "checkpoint.pt", "ibrl", {})[1] for r in (run, scripted))
    assert all((one["loss"][key] == value).all() for key, value in two["loss"].items())


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """A file of three episodes of the point's expert."""
    from support.point_env import expert

    env = make_env("gym", POINT, steps=[])
    path = tmp_path_factory.mktemp("demos") / "point.hdf5"
    save_demos(path, record_demos(env, expert("PlanePoint-v0"), 3), env.env_args)
    return path


def test_a_person_acts_through_the_environment(ibrl, demos, tmp_path):
    run = tmp_path / "run"
    task = ["task=gym", f"id={POINT}", "+task.kwargs.steps=[1,2]", f"demos.path={demos}"]
    code, _, error = ibrl("train", f"run_dir={run}", *task, *TINY, "collector.workers=0")
    assert code == 0, error
    for row in read_rows(run / "train.csv"):
        steps = min(2, int(row["episode_frames"]) - 1)
        share = steps / int(row["episode_frames"])
        assert float(row["intervention_share"]) == pytest.approx(share, abs=1e-5)
    assert {"rl", "hybrid", "bc"} == {row["policy"] for row in read_rows(run / "evaluation.csv")}
    code, _, error = ibrl("eval", run, "episodes=1", "workers=0")
    assert code == 0, error


@pytest.mark.slow
def test_gym_hil_with_a_scripted_controller(tmp_path):
    """Demonstrations and interventions by one wrapper, in which a script is the person."""
    pytest.importorskip("gym_hil")
    support = Path(__file__).parents[1]
    paths = os.pathsep.join([str(support), os.environ.get("PYTHONPATH", "")])
    environ = {**os.environ, "PYTHONPATH": paths}
    environ.setdefault("MUJOCO_GL", "egl")  # it makes a renderer, whatever is observed

    def run(*arguments):
        command = [sys.executable, "-W", "ignore", "-m", "ibrl_torchrl", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
        assert done.returncode == 0, done.stderr

    task = ["task=gym", "id=support.scripted_hil:ScriptedPick-v0", "task.success=info:succeed"]
    demos, folder = tmp_path / "demos.hdf5", tmp_path / "run"
    expert = "demos.expert=support.scripted_hil:still"
    run("demos", *task, expert, "demos.episodes=1", f"out={demos}", "+task.kwargs.after=0")
    (demo,) = load_demos(demos).episodes
    assert demo["next", "success"].any() and demo["action"].abs().sum() > 0
    settings = [*TINY, "task.horizon=30", f"demos.path={demos}", "demos.episodes=1"]
    settings += [f"run_dir={folder}", "collector.workers=0", "eval.every=1000"]
    run("train", *task, *settings)
    for episode in read_log(folder / "episodes"):
        flags = episode["intervention"].flatten().tolist()
        assert flags == [step >= 5 for step in range(len(flags))]
        assert episode["next", "success"].any() and (episode["action"][-1, 2:] == 1).all()
    shares = [float(row["intervention_share"]) for row in read_rows(folder / "train.csv")]
    assert all(0.5 < share < 1 for share in shares)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["task=robosuite/lift", "interventions.expert=true"],
            "its scripted expert follows a plan through its own episode, and interventions.exp",
        ),
        (
            ["task=gym", f"id={POINT}", *EXPERT],
            "interventions.expert=True must be false, for the environment reports interventions it",
        ),
        (["interventions.probability=1.5"], "interventions.probability=1.5 must be at least 0 and"),
        (["interventions.after=-1"], "interventions.after=-1 must be at least 0"),
    ],
)
def test_bad_input_costs_one_line(ibrl, tmp_path, settings, message):
    code, _, error = ibrl("train", *settings, f"run_dir={tmp_path / 'run'}")
    assert code == 2 and message in error and len(error.strip().splitlines()) == 1, error
    assert not (tmp_path / "run").exists()
