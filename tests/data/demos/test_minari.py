"""Minari's datasets, written by Minari itself."""

import json
import shutil

import gymnasium
import h5py
import numpy as np
import pytest
import torch

from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.data.demos.read import read_description
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, NEXT, REWARD, STATE, TRUNCATED

minari = pytest.importorskip("minari")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
BOX = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
IMAGE = gymnasium.spaces.Box(0, 255, (16, 16, 3), np.uint8)


def write(folder, observations, space, *, infos=True, rewards=0.0, **settings):
    """Two episodes of 3 and 2 steps, of which the first succeeds; actions from -2 to 2."""
    from minari.data_collector import EpisodeBuffer

    episodes = []
    for number, length in enumerate((3, 2)):
        success = np.zeros(length + 1, bool)
        success[-1] = number == 0
        episodes.append(
            EpisodeBuffer(
                id=number,
                observations=observations(number, length + 1),
                actions=np.linspace(-2, 2, length, dtype=np.float32)[:, None],
                rewards=success[1:].astype(np.float64) + rewards,
                terminations=success[1:],
                truncations=np.zeros(length, bool),
                infos={"success": success} if infos else {},
            )
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        minari.create_dataset_from_buffers(
            "toy/small-v0",
            buffer=episodes,
            action_space=gymnasium.spaces.Box(-2, 2, (1,)),
            observation_space=space,
            **settings,
        )
    return folder / "toy/small-v0"


def vector(number, length):
    return np.arange(2.0 * length).reshape(length, 2) + 100 * number


@pytest.fixture
def boxes(tmp_path):
    return write(tmp_path, vector, BOX)


def test_box_observations_are_the_state(boxes):
    first, second = load_demos(boxes).episodes
    assert first[STATE].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert first[NEXT, STATE].tolist() == [[2, 3], [4, 5], [6, 7]]
    assert first[ACTION].tolist() == [[-1], [0], [1]]  # from [-2, 2]
    assert first[NEXT, REWARD].flatten().tolist() == [0, 0, 1]
    # A failure keeps its last step, whose next observation the format has.
    assert second[NEXT, STATE][-1].tolist() == [104, 105] and second[NEXT, TRUNCATED][-1]
    assert len(load_demos(boxes / "data").episodes) == 2


def test_dict_observations_are_concatenated_by_name_beside_images(tmp_path):
    def observe(number, length):
        grey = np.full((length, 16, 16, 3), 60 * (number + 1), np.uint8)
        return {"rgb": grey, "observation": vector(number, length), "goal": -vector(number, length)}

    space = gymnasium.spaces.Dict({"rgb": IMAGE, "observation": BOX, "goal": BOX})
    path = write(tmp_path, observe, space)
    first, second = load_demos(path).episodes
    assert first[STATE][1].tolist() == [-2, -3, 2, 3]
    assert first["rgb_image"].shape == (3, 3, 16, 16) and first["rgb_image"].dtype == torch.uint8
    assert (second["rgb_image"].int() - 120).abs().max() <= 2  # JPEG
    mapped = load_demos(path, keys=[STATE, "goal"], key_map={STATE: ["observation", "goal"]})
    assert mapped.episodes[0][STATE][1].tolist() == [2, 3, -2, -3]
    assert mapped.episodes[0]["goal"][1].tolist() == [-2, -3]
    with pytest.raises(UsageError, match="no 'observations/achieved', found goal, obs"):
        load_demos(path, key_map={STATE: ["achieved"]})


def test_the_environment_is_named(tmp_path):
    path = write(tmp_path, vector, BOX)
    assert read_description(path) == {}
    metadata = json.loads((path / "data/metadata.json").read_text())
    spec = json.dumps({"id": "FetchPush-v4", "kwargs": {}})
    (path / "data/metadata.json").write_text(json.dumps({**metadata, "env_spec": spec}))
    assert read_description(path) == {"env_name": "FetchPush-v4", "type": "gym"}


def test_sparse_rewards_are_successes_and_dense_ones_are_refused(tmp_path):
    assert len(load_demos(write(tmp_path / "a", vector, BOX, infos=False)).episodes) == 2
    dense = write(tmp_path / "b", vector, BOX, infos=False, rewards=0.25)
    with pytest.raises(UsageError, match=r"rewards are \[0.25\] and infos have neither success"):
        load_demos(dense)


def edit(path, change):
    with h5py.File(path / "data/main_data.hdf5", "r+") as file:
        change(file)


def other_actions(file):
    del file["episode_0/actions"]
    file["episode_0/actions"] = np.zeros((3, 2))


def short_observations(file):
    del file["episode_0/observations"]
    file["episode_0/observations"] = np.zeros((3, 2))


def elsewhere(file):
    del file["episode_0/observations"]
    file["episode_0/observations"] = h5py.ExternalLink("/other.hdf5", "/x")


def no_episodes(file):
    for name in list(file):
        del file[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_actions, r"actions have shape \[3, 2\], the action space \[1\]"),
        (short_observations, r"observations has shape \[3, 2\], expected 4 steps"),
        (elsewhere, "is a link to another file; copy the data here"),
        (no_episodes, "no episodes episode_0"),
    ],
)
def test_damaged_files_are_refused_in_one_line(boxes, change, message):
    edit(boxes, change)
    with pytest.raises(UsageError, match=message) as error:
        load_demos(boxes)
    assert "\n" not in str(error.value) and str(boxes) in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data_format": "arrow"}, "is in Minari's format arrow, hdf5 is read; .*data_format"),
        ({"action_space": '{"type": "Discrete", "n": 3}'}, "the action space is no Box"),
        ({"action_space": None}, "the action space is no Box"),
    ],
)
def test_other_formats_and_spaces_are_refused(boxes, values, message):
    metadata = json.loads((boxes / "data/metadata.json").read_text())
    (boxes / "data/metadata.json").write_text(json.dumps({**metadata, **values}))
    with pytest.raises(UsageError, match=message):
        load_demos(boxes)


def test_missing_file_and_filter_keys_are_refused(boxes):
    with pytest.raises(UsageError, match="has no filter key 'train'; leave it out"):
        load_demos(boxes, filter_key="train")
    shutil.rmtree(boxes)
    with pytest.raises(UsageError, match="no such file"):
        load_demos(boxes)
