"""HDF5 files with other names: key maps, and robosuite's own recordings."""

import json
import re

import h5py
import numpy as np
import pytest
import torch

from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.data.demos.playback import open_playback, play_actions
from ibrl_torchrl.data.demos.read import read_description
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, NEXT, REWARD, STATE

KEYS = {"state": ["ee_pos", "gripper", "objects/pose"], "front_image": ["rgb"]}


@pytest.fixture
def foreign(tmp_path):
    """Two episodes of 3 and 2 steps; images channels first; a scalar per step."""
    path = tmp_path / "foreign.hdf5"
    with h5py.File(path, "w") as file:
        for index, length in enumerate((3, 2)):
            group = file.create_group(f"data/demo_{index}")
            steps = np.arange(length, dtype=np.float64) + 10 * index
            group["obs/ee_pos"] = np.stack([steps, steps + 0.25], -1)
            group["obs/gripper"] = -steps
            group["obs/objects/pose"] = np.stack([steps * 2], -1)
            group["obs/rgb"] = np.full((length, 3, 8, 6), index, np.uint8)
            group["actions"] = np.full((length, 4), 0.5)
            group["rewards"] = np.eye(length)[-1]
    return path


def test_mapped_parts_are_concatenated_in_their_order(foreign):
    demos = load_demos(foreign, keys=["state", "front_image"], key_map=KEYS)
    first, second = demos.episodes
    assert first["state"].tolist() == [[0, 0.25, 0, 0], [1, 1.25, -1, 2], [2, 2.25, -2, 4]]
    assert second[NEXT, "state"].tolist() == [[11, 11.25, -11, 22]] * 2
    assert first["front_image"].shape == (3, 3, 8, 6) and first["front_image"].dtype == torch.uint8
    assert second["front_image"].eq(1).all()
    swapped = load_demos(foreign, keys=["state"], key_map={"state": ["gripper", "ee_pos"]})
    assert swapped.episodes[0]["state"][1].tolist() == [-1, 1, 1.25]


def test_all_observations_are_mapped_ones_and_the_rest(foreign):
    with h5py.File(foreign, "r+") as file:
        del file["data/demo_0/obs/objects"]
    keys = load_demos(foreign, key_map={"state": ["ee_pos", "gripper"]}, max_episodes=1)
    assert keys.summary()["observations"] == {"rgb": [6, 3, 8], "state": [3]}


@pytest.mark.parametrize(
    ("key_map", "message"),
    [
        (
            {},
            r"demo_0: no 'obs/state', found ee_pos, gripper, objects, rgb; name what makes up "
            r"state: demos.keys.state=\[ee_pos,gripper\]",
        ),
        ({"state": ["ee_quat"]}, "demo_0: no 'obs/ee_quat', found ee_pos, gripper, objects, rgb; "),
        ({"state": ["ee_pos", "rgb"]}, "rgb is an image, which cannot be concatenated .* of state"),
        ({"state": ["objects"]}, "demo_0: no 'obs/objects', found ee_pos"),
        ({"state": ["../actions"]}, "demo_0: no 'obs/../actions', found"),
        ({"state": []}, r"demos.keys.state=\[\] must name one array or more"),
    ],
)
def test_names_that_the_file_lacks_are_refused_with_those_it_has(foreign, key_map, message):
    with pytest.raises(UsageError, match=message):
        load_demos(foreign, keys=["state"], key_map=key_map)


def test_mapped_external_link_is_refused(foreign, tmp_path):
    with h5py.File(foreign, "r+") as file:
        file["data/demo_0/obs/secret"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/x")
    with pytest.raises(UsageError, match="is a link to another file; copy the data here"):
        load_demos(foreign, keys=["state"], key_map={"state": ["secret"]})


@pytest.mark.simulator
def test_train_maps_names_on_the_command_line(ibrl, foreign, tmp_path):
    """Up to the check that follows: this task has a state of 39 numbers."""
    pytest.importorskip("metaworld")
    command = ["bc", f"run_dir={tmp_path / 'run'}", f"demos.path={foreign}", "demos.episodes=2"]
    code, _, error = ibrl(*command)
    assert code == 2 and "demos.keys.state=[ee_pos,gripper]" in error
    code, _, error = ibrl(*command, "demos.keys.state=[ee_pos,gripper]")
    assert code == 2 and error.count("\n") == 1
    assert "recorded with action size 4" in error or "shape of state [3]" in error
    code, _, error = ibrl(*command, "demos.keys.sate=[ee_pos]")
    assert code == 2 and "unknown observation 'sate'; did you mean state?" in error
    assert not (tmp_path / "run").exists()


# robosuite's recordings


@pytest.fixture
def recording(lift_demos, tmp_path):
    """Episodes of a file as robosuite's script stores what a person shows, by its own code."""
    collect = pytest.importorskip("robosuite.scripts.collect_human_demonstrations")
    with h5py.File(lift_demos) as file:
        env_args = json.loads(file["data"].attrs["env_args"])
        for name, group in file["data"].items():
            folder = tmp_path / "episodes" / name
            folder.mkdir(parents=True)
            (folder / "model.xml").write_text(group.attrs["model_file"])
            states = np.concatenate([group["states"], group["states"][-1:]])
            infos = [{"actions": action} for action in group["actions"]]
            np.savez(
                folder / "state_1_0.npz",
                states=states,
                action_infos=infos,
                successful=True,
                env="Lift",
            )
    info = {"env_name": "Lift", **env_args["env_kwargs"]}
    collect.gather_demonstrations_as_hdf5(
        str(tmp_path / "episodes"), str(tmp_path), json.dumps(info)
    )
    return tmp_path / "demo.hdf5"


@pytest.mark.simulator
def test_robosuite_recording_names_its_task(ibrl, lift_demos, recording):
    args, original = read_description(recording), read_description(lift_demos)
    assert args["env_name"] == "Lift" and args["type"] == 1
    assert args["env_version"] == original["env_version"]
    assert args["env_kwargs"] == original["env_kwargs"]
    code, out, _ = ibrl("demos", "info", recording)
    assert code == 0 and re.search(r"task +Lift \(recorded with version 1.5", out)
    assert re.search(r"success +no rewards", out) and "make them with: ibrl demos render" in out
    if pytest.importorskip("metaworld"):
        code, _, error = ibrl("train", f"demos.path={recording}", f"run_dir={recording}-run")
        assert code == 2 and "is of the task Lift, the environment is box-close-v3" in error
        assert "use task=robosuite/lift" in error


@pytest.mark.simulator
def test_robosuite_recording_is_played_back_and_rendered(ibrl, lift_demos, recording, tmp_path):
    (result,) = play_actions(open_playback(recording, episodes=1, cameras=[]))
    assert result.name == "demo_1" and result.success and result.recorded_success
    code, _, error = ibrl("demos", "render", recording, f"out={tmp_path / 'o.hdf5'}", "cameras=[]")
    assert code == 0, error
    originals = {
        tuple(episode[ACTION][0].tolist()): episode for episode in load_demos(lift_demos).episodes
    }
    episodes = load_demos(tmp_path / "o.hdf5").episodes
    assert len(episodes) == len(originals) == 3
    for episode in episodes:  # in the order of a folder's names
        original = originals[tuple(episode[ACTION][0].tolist())]
        torch.testing.assert_close(episode[STATE], original[STATE], atol=1e-5, rtol=0)
        assert torch.equal(episode[NEXT, REWARD], original[NEXT, REWARD])


@pytest.mark.simulator
def test_damaged_env_info_is_refused_in_one_line(recording):
    with h5py.File(recording, "r+") as file:
        file["data"].attrs["env_info"] = "{Lift"
    with pytest.raises(UsageError, match=r"the attribute env_info is not JSON .*; fix it"):
        read_description(recording)
