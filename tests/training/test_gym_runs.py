"""A task of Gymnasium from demonstrations of a file to a trained and evaluated policy."""

import json

import h5py
import numpy as np
import pytest

from ibrl_torchrl.data.demos import load_demos, record_demos, save_demos
from ibrl_torchrl.deployment import load_policy
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.runs.tables import read_rows

pytestmark = [pytest.mark.simulator, pytest.mark.filterwarnings("ignore")]
POINT = "support.point_env:PlanePoint-v0"
TINY = [
    *("total_frames=40", "imitation.bc.steps=30", "imitation.bc.network.hidden=[8]"),
    *("algo.actor.hidden=[8]", "algo.critic.hidden=[8]", "algo.warmup.episodes=2"),
    *("algo.update.frames_per_round=10", "eval.every=20", "eval.episodes=2"),
    *("eval.final_episodes=4", "collector.workers=0", "task.num_init_states=5", "log.every=10"),
]
GYM = ["task=gym", f"id={POINT}", "task.horizon=8"]


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """A file of three episodes of an expert, recorded without the command line."""
    from support.point_env import expert

    env = make_env("gym", POINT, horizon=8)
    path = tmp_path_factory.mktemp("demos") / "point.hdf5"
    save_demos(path, record_demos(env, expert("PlanePoint-v0"), 3), env.env_args)
    return path


def test_a_file_trains_end_to_end(ibrl, demos, tmp_path):
    run = tmp_path / "run"
    code, output, error = ibrl(
        *("train", *GYM, *TINY, f"demos.path={demos}", f"run_dir={run}", "task.state_stack=2"),
    )
    assert code == 0, error
    assert f"gym/{POINT}, episodes of 8 frames at most" in output
    assert read_rows(run / "train.csv")
    assert len(read_rows(run / "evaluation.csv")) == 12  # of three policies
    code, output, error = ibrl("eval", run, "episodes=2", "workers=0", f"video={run / 'v.gif'}")
    assert code == 0 and (run / "v.gif").exists(), error

    policy = load_policy(run)
    action = policy.act({"state": np.zeros(4, np.float32)})
    assert (action >= [-2, 0]).all() and (action <= [2, 4]).all()  # the environment's own bounds
    spaces = json.loads((run / "spaces.json").read_text())
    assert spaces["native_action"] == {"low": [-2.0, 0.0], "high": [2.0, 4.0]}
    assert spaces["state_parts"] == {"position": 2, "goal": 2}

    code, _, error = ibrl("diagnose", run, "episodes=1", "num_states=1")
    assert code == 2 and "ibrl diagnose needs an environment whose simulator states" in error


def test_actions_in_the_environments_bounds_train_alike(ibrl, demos, tmp_path):
    """A file of another program, whose actions are in [-2, 2] x [0, 4]."""
    native, arguments = tmp_path / "native.hdf5", [*GYM, *TINY]
    native.write_bytes(demos.read_bytes())
    with h5py.File(native, "r+") as file:
        for episode in file["data"].values():
            episode["actions"][...] = episode["actions"][...] * 2 + [0, 2]
    code, _, error = ibrl("train", *arguments, f"demos.path={native}", f"run_dir={tmp_path / 'a'}")
    assert code == 2 and "actions must lie in [-1, 1]" in error, error
    for name, path, option in (("b", native, "true"), ("c", demos, "false")):
        settings = [f"demos.path={path}", f"demos.native_actions={option}"]
        code, _, error = ibrl("train", *arguments, *settings, f"run_dir={tmp_path / name}")
        assert code == 0, error
    columns = {"episode_success", "episode_frames", "proposal_share/acting/bc"}
    rows = [
        [{key: row[key] for key in columns} for row in read_rows(tmp_path / name / "train.csv")]
        for name in "bc"
    ]
    assert rows[0] == rows[1]


def test_a_run_records_an_expert_of_a_python_path(ibrl, tmp_path):
    run = tmp_path / "run"
    expert = "demos.expert=support.point_env:expert"
    code, _, error = ibrl("bc", *GYM, "task.horizon=null", expert, f"run_dir={run}", *BC)
    assert code == 0, error
    summary = load_demos(run / "demos.hdf5").summary()
    assert summary["episodes"] == 3 and summary["length_max"] <= 5
    recorded = tmp_path / "recorded.hdf5"
    code, output, error = ibrl("demos", *GYM, expert, f"out={recorded}")
    assert code == 0 and "3 episodes" in output, error
    code, _, error = ibrl("demos", "check", recorded)
    assert code == 2 and "would import a Python module" in error


BC = ["imitation.bc.steps=5", "imitation.bc.network.hidden=[4]", "eval.final_episodes=2"]


def test_pixels_without_proprioception(ibrl, demos, tmp_path):
    env = make_env("gym", POINT, horizon=10, cameras=["pixels_top"], image_size=32)
    from support.point_env import expert

    path = tmp_path / "pixels.hdf5"
    save_demos(path, record_demos(env, expert("PlanePoint-v0"), 1), env)
    pixels = ["experiment=small_pixels", "task=gym", f"id={POINT}", "task.horizon=10"]
    cameras = [f"{name}.encoder.cameras=[pixels_top]" for name in ("algo", "imitation.bc")]
    pixels += [*cameras, "task.cameras=[pixels_top]", "task.image_size=32"]
    settings = [*pixels, f"demos.path={path}", f"run_dir={tmp_path / 'run'}", "demos.episodes=1"]
    code, _, error = ibrl("bc", *settings, *BC)
    assert code == 2
    assert "the environment does not observe proprio; set encoder.proprio=false, or" in error
    code, _, error = ibrl("bc", *settings, *BC, "imitation.bc.encoder.proprio=false")
    assert code == 0, error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([*GYM], f"task=gym/{POINT}: has no scripted expert; set demos.path=FILE or demos.expert="),
        (["task=gym"], "task.name=... is needed"),
        (["task=custom", "id=x"], "task.suite=... is needed"),
        (["task=gym", "id=CartPole-v1"], "CartPole-v1: its actions are Discrete(2)"),
        (["task=gym", "id=Pendulum-v1"], "Pendulum-v1: task.success=info:is_success: the info of"),
        ([*GYM, "task.success=won"], "task.success=won must be info:KEY, reward:NUMBER or"),
        (["task.success=terminated"], "task.suite=metaworld takes no success=terminated; leave it"),
        ([*GYM, "task.kwargs.size=1"], "got an unexpected keyword argument 'size'"),
        ([*GYM, "task.state_parts=[hand]"], "unknown part of the state of support.point_env:Plan"),
    ],
)
def test_bad_input_costs_one_line(ibrl, tmp_path, settings, message):
    code, _, error = ibrl("train", *settings, f"run_dir={tmp_path / 'run'}")
    assert code == 2 and message in error and len(error.strip().splitlines()) == 1, error
    assert not (tmp_path / "run").exists()


def test_demonstrations_of_other_bounds_or_tasks_are_refused(ibrl, demos, tmp_path):
    arguments = ["train", f"demos.path={demos}", f"run_dir={tmp_path / 'run'}", *TINY]
    other = ["task=gym", "id=MountainCarContinuous-v0", "task.success=terminated"]
    code, _, error = ibrl(*arguments, *other)
    assert code == 2 and f"is of the task {POINT}, the environment is MountainCarCon" in error
