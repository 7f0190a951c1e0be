"""Commands for files of robosuite demonstrations, on the real simulator."""

import json
import re
import shlex
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ibrl_torchrl.data.demos import check_demos_match, load_demos
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import NEXT, REWARD, STATE

pytest.importorskip("robosuite")
pytestmark = pytest.mark.simulator


@pytest.fixture
def copy(lift_demos, tmp_path):
    """Copy of the recorded file for tests that edit it."""
    return Path(shutil.copy(lift_demos, tmp_path / "copy.hdf5"))


def edit_env_args(path, edit):
    with h5py.File(path, "r+") as file:
        args = json.loads(file["data"].attrs["env_args"])
        edit(args)
        file["data"].attrs["env_args"] = json.dumps(args)


def make_raw(path):
    """Remove what robomimic's raw files lack: observations, rewards and dones."""
    with h5py.File(path, "r+") as file:
        for group in file["data"].values():
            for key in ("obs", "next_obs", "rewards", "dones"):
                del group[key]


def make_old(path):
    """Edit a file to robosuite 1.4.1's conventions: object order, controller and model."""
    arm = {"type": "OSC_POSE", "kp": 150, "control_delta": True, "input_max": 1, "input_min": -1}
    arm |= {"output_max": [0.05] * 3 + [0.5] * 3, "output_min": [-0.05] * 3 + [-0.5] * 3}
    arm |= {"impedance_mode": "fixed", "interpolation": None, "ramp_ratio": 0.2, "damping": 1}

    def edit(args):
        args["env_version"] = "1.4.1"
        args["env_kwargs"] = {"robots": ["Panda"], "control_freq": 20, "controller_configs": arm}
        del args["ibrl_torchrl"]

    edit_env_args(path, edit)
    with h5py.File(path, "r+") as file:
        for group in file["data"].values():
            for folder in ("obs", "next_obs"):
                group[f"{folder}/object"][:, 7:] *= -1
            xml = group.attrs["model_file"]
            # 1.5 cannot load 1.4's names; only the size of the cube is read.
            xml = re.sub(r'(name="cube_g0" [^>]*size=")[^"]*', r"\g<1>0.03 0.03 0.03", xml)
            group.attrs["model_file"] = xml.replace("gripper0_right", "gripper0")


def test_recorded_file_has_robomimic_layout(lift_demos):
    with h5py.File(lift_demos) as file:
        args = json.loads(file["data"].attrs["env_args"])
        group = file["data/demo_0"]
        assert args["type"] == 1 and args["env_kwargs"]["robots"] == ["Panda"]
        assert set(group["obs"]) == {
            *("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"),
        }
        assert set(group["next_obs"]) == set(group["obs"])
        assert group["states"].shape == (len(group["actions"]), 32)
        assert group.attrs["model_file"].startswith("<mujoco")


def test_info_describes_recorded_raw_and_metaworld_files(ibrl, lift_demos, copy, box_close_demos):
    code, out, _ = ibrl("demos", "info", lift_demos)
    assert code == 0
    for part in ("Lift (recorded with version 1.5", "OSC_POSE", "['Panda']", "[10] float32"):
        assert part in out
    assert re.search(r"success +3 episodes", out) and re.search(r"models +yes", out)

    make_raw(copy)
    with h5py.File(copy, "r+") as file:
        file["mask/train"] = np.array(["demo_0", "demo_1"], dtype="S")
    _, out, _ = ibrl("demos", "info", copy)
    assert re.search(r"filter key train +2 episodes", out) and "no rewards" in out
    assert f"ibrl demos render {copy} out={copy.with_name('copy-observations.hdf5')}" in out

    _, out, _ = ibrl("demos", "info", box_close_demos)
    assert "box-close-v3" in out and re.search(r"models +no", out)


def advised(out):
    """Command that `ibrl demos info` advises; None if it advises none."""
    found = re.search(r"make them with: ibrl (.+)", out)
    return None if found is None else shlex.split(found[1])


@pytest.mark.parametrize("name", ["raw.hdf5", "my raw (1), a=b.hdf5"])
@pytest.mark.parametrize("suite", ["robosuite", "metaworld"])
def test_what_info_advises_is_not_refused(ibrl, lift_demos, box_close_demos, tmp_path, suite, name):
    path = tmp_path / name
    shutil.copy(lift_demos if suite == "robosuite" else box_close_demos, path)
    make_raw(path)
    (tmp_path / f"{path.stem}-observations.hdf5").write_text("in the way")
    _, out, _ = ibrl("demos", "info", f"file='{path}'")
    code, _, error = ibrl(*advised(out), "episodes=1")
    assert code == 0, error
    made = [each.name for each in tmp_path.iterdir() if "observations-2" in each.name]
    assert made == [f"{path.stem}-observations-2.hdf5"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [("states", "no simulator states in all episodes"), ("env_args", "cannot be rendered here: ")],
)
def test_info_says_why_observations_cannot_be_rendered(ibrl, copy, key, reason):
    make_raw(copy)
    with h5py.File(copy, "r+") as file:
        if key == "states":
            del file["data/demo_1/states"]  # of one episode: rendering would end there
        else:
            file["data"].attrs["env_args"] = json.dumps({"env_name": "Nosuch", "type": 1})
    code, out, _ = ibrl("demos", "info", copy)
    assert code == 0 and advised(out) is None and reason in out


@pytest.mark.slow
def test_check_counts_successful_playbacks(ibrl, copy, box_close_demos):
    code, out, _ = ibrl("demos", "check", copy)
    assert code == 0 and "3 of 3 episodes succeed again" in out
    with h5py.File(copy, "r+") as file:
        file["data/demo_1/actions"][:, -1] = -1  # an open hand lifts nothing
    _, out, _ = ibrl("demos", "check", copy)
    assert "2 of 3 episodes succeed again" in out and "demo_1: no success in" in out
    _, out, _ = ibrl("demos", "check", copy, "episodes=1")
    assert "1 of 1 episodes succeed again" in out
    _, out, _ = ibrl("demos", "check", box_close_demos)
    assert "3 of 3 episodes succeed again; positions are at most 0 " in out


def test_render_adds_observations_and_rewards_to_raw_file(ibrl, lift_demos, copy, tmp_path):
    make_raw(copy)
    with pytest.raises(UsageError, match=r"no observations under 'obs'.*ibrl demos render"):
        load_demos(copy)
    code, _, err = ibrl("demos", "render", copy, f"out={tmp_path / 'new.hdf5'}", "cameras=[]")
    assert (code, err.count("error")) == (0, 0)
    before, after = load_demos(lift_demos).episodes, load_demos(tmp_path / "new.hdf5").episodes
    for recorded, rendered in zip(before, after, strict=True):
        torch.testing.assert_close(recorded[STATE], rendered[STATE], atol=1e-6, rtol=0)
        torch.testing.assert_close(recorded[NEXT, STATE], rendered[NEXT, STATE], atol=2e-3, rtol=0)
        assert torch.equal(recorded[NEXT, REWARD], rendered[NEXT, REWARD])


@pytest.mark.slow
def test_render_adds_images(ibrl, copy, tmp_path):
    out = tmp_path / "images.hdf5"
    camera = "robot0_eye_in_hand"
    code, _, _ = ibrl(
        *("demos", "render", copy, f"out={out}", f"cameras=[{camera}]", "image_size=24"),
        "episodes=2",
    )
    assert code == 0
    demos = load_demos(out)
    assert len(demos.episodes) == 2
    env = make_env("robosuite", "Lift", cameras=[camera], image_size=24)
    check_demos_match(demos, env)
    env.set_seed(0)  # the fixture's first initial state
    image = env.reset()[f"{camera}_image"]
    assert (demos.episodes[0][f"{camera}_image"][0].float() - image.float()).abs().mean() < 0.5
    assert "3 of 3" in ibrl("demos", "check", copy)[1]
    other_quality = make_env(
        "robosuite", "Lift", cameras=[camera], image_size=24, render_quality="full"
    )
    with pytest.raises(UsageError, match="render_quality fast, the environment has full"):
        check_demos_match(demos, other_quality)
    code, _, err = ibrl("demos", "render", copy, f"out={out}")
    assert code == 2 and "exists already; choose another out=" in err


def test_robosuite_1_4_file_is_converted(ibrl, lift_demos, copy, tmp_path):
    make_old(copy)
    old, new = load_demos(copy).episodes, load_demos(lift_demos).episodes
    torch.testing.assert_close(old[0][STATE], new[0][STATE])
    out = tmp_path / "new.hdf5"
    code, _, err = ibrl("demos", "render", copy, f"out={out}", "cameras=[agentview]")
    assert (code, err.count("error")) == (0, 0), err
    assert "version 1.4.1" in ibrl("demos", "info", copy)[1]


def other_observation(file):
    file["data/demo_1/obs/object"][5, 2] += 0.5


def short_states(file):
    states = file["data/demo_1/states"][:, :-3]
    del file["data/demo_1/states"]
    file["data/demo_1/states"] = states


def no_states(file):
    del file["data/demo_1/states"]


def other_model(file):
    file["data/demo_1"].attrs["model_file"] = "<mujoco><asset/></mujoco>"


def broken_model(file):
    file["data/demo_1"].attrs["model_file"] = "<mujoco><asset>"


def other_task(file):
    args = json.loads(file["data"].attrs["env_args"])
    file["data"].attrs["env_args"] = json.dumps({**args, "env_name": "Door"})


def no_env_args(file):
    del file["data"].attrs["env_args"]


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            other_observation,
            r"demo_1: number 11 of the state at step 5 was .*tolerance",
        ),
        (short_states, r"demo_1 does not fit .*Lift has shape \(32,\), found \(29,\)"),
        (no_states, "demo_1: no 'states', found"),
        (other_model, r"demo_1 does not fit .*Lift has sizes \(16, 15, 9\), found \(0, 0, 0\)"),
        (broken_model, "demo_1 does not fit .*not a model for robosuite 1.5"),
        (other_task, "demo_0 does not fit the environment: a model of Door has sizes"),
        (no_env_args, "env_args lacks env_name"),
    ],
)
def test_render_refuses_mismatch_and_writes_nothing(ibrl, copy, tmp_path, damage, message):
    with h5py.File(copy, "r+") as file:
        damage(file)
    code, _, err = ibrl(
        *("demos", "render", copy, f"out={tmp_path / 'out.hdf5'}", "cameras=[]"),
    )
    (line,) = [line for line in err.splitlines() if line.startswith("error")]
    assert code == 2 and re.search(message, line)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.hdf5"]


def test_truncated_file_is_refused(ibrl, copy):
    data = copy.read_bytes()
    copy.write_bytes(data[: len(data) // 2])
    for command in ("info", "check"):
        code, _, err = ibrl("demos", command, copy)
        assert code == 2 and "not a readable HDF5 file" in err and err.count("\n") == 1


def lower_frequency(args):
    args["env_kwargs"]["control_freq"] = 10


def other_robot(args):
    args["env_kwargs"]["robots"] = ["Sawyer"]


def wider_output(args):
    args["env_kwargs"]["controller_configs"]["body_parts"]["right"]["output_max"] = [0.1] * 6


@pytest.mark.parametrize(
    "edit, message",
    [
        (lower_frequency, "control_freq 10, the environment has 20"),
        (other_robot, r"robots \['Sawyer'\], the environment has \['Panda'\]"),
        (wider_output, r"controller's output_max \[0.1.*, the environment has \[0.05"),
    ],
)
def test_other_robot_or_controller_is_refused(copy, edit, message):
    edit_env_args(copy, edit)
    with pytest.raises(UsageError, match=message):
        check_demos_match(load_demos(copy), make_env("robosuite", "Lift"))


@pytest.mark.slow
def test_robomimic_file_trains_a_policy(ibrl, copy, tmp_path):
    make_old(copy)
    small = ["total_frames=60", "algo.warmup.episodes=1", "algo.update.frames_per_round=20"]
    small += ["algo.actor.hidden=[8]", "algo.critic.hidden=[8]", "imitation.bc.network.hidden=[8]"]
    small += ["imitation.bc.steps=5", "task.horizon=25"]
    small += ["eval.every=50", "eval.episodes=1", "eval.final_episodes=1"]
    run = tmp_path / "run"
    code, out, _ = ibrl(
        *("train", "task=robosuite/lift", f"demos.path={copy}", "demos.episodes=2"),
        *(f"run_dir={run}", *small),
    )
    assert code == 0 and "recorded with version 1.4.1 of the simulator, here is 1.5" in out
    assert ibrl("eval", run, "episodes=1")[0] == 0
    code, _, err = ibrl("train", "task=robosuite/can", f"demos.path={copy}", f"run_dir={run}2")
    assert code == 2 and "is of the task Lift, the environment is PickPlaceCan" in err
    assert err.endswith("; use task=robosuite/lift\n")
