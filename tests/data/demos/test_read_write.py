"""record_demos, save_demos and load_demos: round trip, layout, validation."""

import json

import h5py
import numpy as np
import pytest
import torch
from support.small_disk import on_small_disk
from torchrl.envs import StepCounter, TransformedEnv

from ibrl_torchrl.data.demos import Demos, check_demos_match, load_demos, record_demos, save_demos
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    NEXT,
    PROPRIO,
    REWARD,
    SIMULATOR_STATE,
    STATE,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
)


@pytest.fixture
def small(tmp_path):
    """A valid file of two episodes, 4 and 3 steps long, for tests to modify."""
    path = tmp_path / "small.hdf5"
    write_file(path, {"demo_0": [0, 0, 0, 1], "demo_1": [0, 0, 1]}, next_obs=True)
    return path


def write_file(path, rewards, *, next_obs=False):
    """Write a float64 file whose observations count the steps."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Count", "type": 1, "env_kwargs": {}})
        for name, reward in rewards.items():
            steps = np.arange(len(reward), dtype=np.float64)
            group = data.create_group(name)
            group["obs/object"] = np.stack([steps, -steps], -1)
            group["obs/eef"] = steps[:, None] / 10
            if next_obs:
                group["next_obs/object"] = np.stack([steps + 1, -steps - 1], -1)
                group["next_obs/eef"] = (steps[:, None] + 1) / 10
            group["actions"] = np.full((len(reward), 3), 0.5)
            group["rewards"] = np.array(reward, dtype=np.float64)
            group["dones"] = np.array(reward, dtype=np.int64)
            group["states"] = np.zeros((len(reward), 5))


def flags(values):
    return values.flatten().tolist()


# Recording and the round trip


@pytest.mark.simulator
def test_save_and_load_round_trip_is_exact(tmp_path):
    pytest.importorskip("metaworld")
    env = make_env("metaworld", "box-close")
    recorded = list(record_demos(env, scripted_expert("metaworld", "box-close"), 2, seed=5))
    path = tmp_path / "new folder" / "demos.hdf5"
    save_demos(path, recorded, env.env_args)
    loaded = load_demos(path)
    assert loaded.path == path and loaded.env_args == env.env_args
    assert [p.name for p in path.parent.iterdir()] == ["demos.hdf5"]
    for before, after in zip(recorded, loaded.episodes, strict=True):
        before = before.exclude(SIMULATOR_STATE)
        assert set(before.keys(True, True)) == set(after.keys(True, True))
        for key in before.keys(True, True):
            assert before[key].dtype == after[key].dtype, key
            assert torch.equal(before[key], after[key]), key


@pytest.mark.simulator
def test_record_demos_is_reproducible_and_keeps_successes_only():
    pytest.importorskip("metaworld")
    env = make_env("metaworld", "box-close")
    expert = scripted_expert("metaworld", "box-close")
    first, second = record_demos(env, expert, 2, seed=3)
    assert first[NEXT, TERMINATED][-1] and second[NEXT, TERMINATED][-1]
    (repeated,) = record_demos(env, expert, 1, seed=4)
    assert torch.equal(repeated[STATE], second[STATE])

    resets = []

    def fails_first_episode(td):
        if td[STATE][18:36].equal(td[STATE][:18]):  # after a reset both frames are the same
            resets.append(1)
        return expert(td) if len(resets) > 1 else td.set(ACTION, torch.zeros(4))

    (success,) = record_demos(env, fails_first_episode, 1, seed=3)
    assert torch.equal(success[STATE], second[STATE])


@pytest.mark.simulator
def test_record_demos_raises_after_max_attempts():
    pytest.importorskip("metaworld")
    env = make_env("metaworld", "box-close", horizon=2)
    expert = scripted_expert("metaworld", "box-close")
    with pytest.raises(UsageError, match="0 of 2 episodes succeeded in 3 attempts"):
        list(record_demos(env, expert, 2, max_attempts=3))


@pytest.mark.simulator
def test_recorded_actions_reproduce_observations_and_success(box_close_demos):
    demos = load_demos(box_close_demos)
    args = demos.env_args
    env = make_env(args["type"], args["env_name"], **args["env_kwargs"])
    env.reset()
    with h5py.File(box_close_demos) as file:
        states = [file[f"data/demo_{i}/states"][0] for i in range(3)]
    for episode, state in zip(demos.episodes, states, strict=True):
        td = env.set_simulator_state(state)
        for step in episode:
            assert torch.equal(td[STATE], step[STATE])
            td = env.step(td.set(ACTION, step[ACTION]))[NEXT]
        assert td[SUCCESS]


@pytest.mark.simulator
def test_saved_file_has_robomimic_layout(box_close_demos):
    with h5py.File(box_close_demos) as file:
        data = file["data"]
        assert sorted(data) == ["demo_0", "demo_1", "demo_2"]
        assert json.loads(data.attrs["env_args"])["env_name"] == "box-close-v3"
        lengths = [data[name].attrs["num_samples"] for name in data]
        assert data.attrs["total"] == sum(lengths)
        demo, length = data["demo_0"], lengths[0]
        assert demo["obs/state"].shape == demo["next_obs/state"].shape == (length, 39)
        assert demo["obs/proprio"].shape == (length, 4)
        assert set(demo["obs"]) == set(demo["next_obs"]) == {STATE, PROPRIO}
        assert demo["actions"].shape == (length, 4)
        assert demo["rewards"][()].tolist() == demo["dones"][()].tolist()
        assert demo["rewards"][-1] == 1 and demo["rewards"][()].sum() == 1
        assert demo["states"].shape[0] == length and demo["states"].dtype == np.float64


def test_interrupted_save_keeps_existing_file(small):
    before = small.read_bytes()

    def interrupted():
        yield load_demos(small).episodes[0].set(SIMULATOR_STATE, torch.zeros(4, 1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_demos(small, interrupted(), {})
    with pytest.raises(ValueError, match="no episodes"):
        save_demos(small, [], {})
    assert small.read_bytes() == before
    assert list(small.parent.iterdir()) == [small]


# Files of other programs


def test_load_orders_episodes_by_number_and_cuts_at_first_success(tmp_path):
    path = tmp_path / "demos.hdf5"
    write_file(path, {"demo_10": [1], "demo_2": [0, 0, 1, 1, 1], "demo_0": [0, 1, 0, 1]})
    demos = load_demos(path)
    assert [len(episode) for episode in demos.episodes] == [2, 3, 1]
    assert demos.env_args["env_name"] == "Count"
    episode = demos.episodes[1]
    assert episode["object"].dtype == torch.float32
    assert episode["object"].tolist() == [[0, 0], [1, -1], [2, -2]]
    # The file continues after success, so the true next observation is stored.
    assert episode[NEXT, "object"].tolist() == [[1, -1], [2, -2], [3, -3]]
    assert flags(episode[NEXT, REWARD]) == [0, 0, 1]
    for key in (SUCCESS, TERMINATED, DONE):
        assert flags(episode[NEXT, key]) == [False, False, True]
        assert not episode[key].any()
    assert not episode[NEXT, TRUNCATED].any()


def test_load_without_next_obs_repeats_or_drops_last_step(tmp_path):
    path = tmp_path / "demos.hdf5"
    write_file(path, {"demo_0": [0, 0, 1], "demo_1": [0, 0, 0]})
    success, failure = load_demos(path).episodes
    assert success[NEXT, "object"][:, 0].tolist() == [1, 2, 2]
    assert failure[NEXT, "object"][:, 0].tolist() == [1, 2]
    assert flags(failure[NEXT, TRUNCATED]) == flags(failure[NEXT, DONE]) == [False, True]
    assert not failure[NEXT, TERMINATED].any()


def test_load_reads_stored_next_obs(small):
    with h5py.File(small, "a") as file:
        file["data/demo_1/next_obs/object"][2] = [7, 8]
    assert load_demos(small).episodes[1][NEXT, "object"][-1].tolist() == [7, 8]


def test_load_selects_keys_and_max_episodes(small):
    demos = load_demos(small, keys=["eef"], max_episodes=1)
    assert len(demos.episodes) == 1
    assert "object" not in demos.episodes[0] and "eef" in demos.episodes[0][NEXT]
    with pytest.raises(ValueError, match="max_episodes must be at least 1, found 0"):
        load_demos(small, max_episodes=0)


def test_load_images_are_uint8_channels_first(small):
    with h5py.File(small, "a") as file:
        for name, length in (("demo_0", 4), ("demo_1", 3)):
            for obs in ("obs", "next_obs"):
                file[f"data/{name}/{obs}/image"] = np.full((length, 2, 2, 3), 200, np.uint8)
    image = load_demos(small).episodes[0]["image"]
    assert image.dtype == torch.uint8 and image.shape == (4, 3, 2, 2)


def test_summary_equals_computed_values(tmp_path):
    path = tmp_path / "demos.hdf5"
    write_file(path, {"demo_0": [0, 0, 0, 1], "demo_1": [0, 1], "demo_2": [0, 0]}, next_obs=True)
    assert load_demos(path).summary() == {
        "episodes": 3,
        "transitions": 8,
        "length_min": 2,
        "length_mean": 8 / 3,
        "length_max": 4,
        "success_rate": 2 / 3,
        "action_size": 3,
        "observations": {"eef": [1], "object": [2]},
    }


# Invalid files


def replace(name, value):
    def modify(file):
        del file[f"data/{name}"]
        if value is not None:
            file[f"data/{name}"] = value

    return modify


def change(name, index, value):
    def modify(file):
        file[f"data/{name}"][index] = value

    return modify


def rename_data(file):
    file.move("data", "episodes")


def remove_episodes(file):
    del file["data/demo_0"], file["data/demo_1"]


def remove_success(file):
    file["data/demo_0/rewards"][3] = 0
    file["data/demo_1/rewards"][2] = 0


def break_env_args(file):
    file["data"].attrs["env_args"] = "{"


INVALID_FILES = {
    "no data group": (rename_data, "no group 'data', found episodes"),
    "no episodes": (remove_episodes, r"no episodes demo_0, demo_1, \.\.\., found nothing"),
    "env_args": (break_env_args, "env_args is not JSON"),
    "no actions": (
        replace("demo_1/actions", None),
        "demo_1: no 'actions', found dones, next_obs, obs, rewards, states",
    ),
    "no rewards": (replace("demo_1/rewards", None), "demo_1: no 'rewards', found actions"),
    "no obs": (replace("demo_0/obs", None), "demo_0: no observations under 'obs', found actions"),
    "no obs key": (
        replace("demo_1/obs/object", None),
        "demo_1: no 'obs/object', found eef",
    ),
    "no next_obs key": (
        replace("demo_1/next_obs/eef", None),
        "demo_1: no 'next_obs/eef', found object",
    ),
    "short rewards": (
        replace("demo_1/rewards", np.zeros(2)),
        r"demo_1: rewards has shape \[2\], expected 3 steps",
    ),
    "long obs": (
        replace("demo_1/obs/eef", np.zeros((9, 1))),
        r"demo_1: obs/eef has shape \[9, 1\], expected 3 steps",
    ),
    "flat actions": (
        replace("demo_0/actions", np.zeros(4)),
        r"demo_0: actions need shape \[T, A\], found \[4\]",
    ),
    "empty": (
        replace("demo_0/actions", np.zeros((0, 3))),
        r"demo_0: actions need shape \[T, A\], found \[0, 3\]",
    ),
    "scalar actions": (replace("demo_0/actions", 1.0), r"demo_0: actions has shape \[\]"),
    "square rewards": (
        replace("demo_0/rewards", np.zeros((4, 1))),
        r"demo_0: rewards need shape \[T\], found \[4, 1\]",
    ),
    "action size": (
        replace("demo_1/actions", np.zeros((3, 5))),
        r"demo_1: action has shape \[5\] per step, the first episode has \[3\]",
    ),
    "obs shape": (
        replace("demo_1/obs/eef", np.zeros((3, 6))),
        r"demo_1: eef has shape \[6\] per step, the first episode has \[1\]",
    ),
    "next_obs shape": (
        replace("demo_1/next_obs/eef", np.zeros((3, 6))),
        r"demo_1: next_obs/eef has shape \[6\] per step",
    ),
    "text": (
        replace("demo_1/obs/eef", np.array([b"a", b"b", b"c"])),
        r"demo_1: obs/eef must be numeric, found dtype \|S1",
    ),
    "nan": (
        change("demo_1/obs/object", (2, 1), np.nan),
        r"demo_1: obs/object has nan at index \[2, 1\]",
    ),
    "too large": (
        change("demo_1/obs/object", (0, 0), 1e300),
        r"demo_1: obs/object has inf at index \[0, 0\]",
    ),
    "nan action": (
        change("demo_0/actions", (1, 2), np.nan),
        r"demo_0: actions has nan at index \[1, 2\]",
    ),
    "large action": (
        change("demo_1/actions", (2, 0), -1.5),
        r"demo_1: actions must lie in \[-1, 1\], found -1.5 at step 2, dimension 0",
    ),
    "dense reward": (
        change("demo_0/rewards", 1, 0.25),
        "demo_0: rewards must be 1 at success and else 0, found 0.25 at step 1",
    ),
    "no success": (remove_success, "none of 2 episodes reaches a reward of 1"),
}


@pytest.mark.parametrize(("modify", "message"), INVALID_FILES.values(), ids=INVALID_FILES.keys())
def test_load_reports_invalid_file_in_one_line(small, modify, message):
    assert load_demos(small).summary()["episodes"] == 2
    with h5py.File(small, "a") as file:
        modify(file)
    assert_refused(small, message)


def assert_refused(path, message, **kwargs):
    with pytest.raises(UsageError, match=message) as error:
        load_demos(path, **kwargs)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_load_reports_missing_file(tmp_path):
    assert_refused(tmp_path / "nowhere.hdf5", "no such file")
    assert_refused(tmp_path, "is a folder without meta/info.json")


def test_load_reports_truncated_file(small):
    content = small.read_bytes()
    small.write_bytes(content[: len(content) // 2])
    assert_refused(small, "not a readable HDF5 file")


def test_load_reports_file_of_another_format(small):
    small.write_text("not a demonstration")
    assert_refused(small, "not a readable HDF5 file")


def test_load_reports_missing_keys(small):
    assert_refused(small, "demo_0: no 'obs/state', found eef, object", keys=["state"])


def test_load_refuses_single_step_without_success(tmp_path):
    path = tmp_path / "demos.hdf5"
    write_file(path, {"demo_0": [0, 1], "demo_1": [0]})
    assert_refused(path, "demo_1: a single step without success needs next_obs")


# Demonstrations and environments


@pytest.fixture(scope="module")
def box_close():
    pytest.importorskip("metaworld")
    return make_env("metaworld", "box-close")


@pytest.mark.simulator
def test_check_demos_match_accepts_recording_environment(box_close_demos, box_close):
    demos = load_demos(box_close_demos)
    check_demos_match(demos, box_close)
    check_demos_match(demos, TransformedEnv(make_env("metaworld", "box-close"), StepCounter()))


@pytest.mark.simulator
def test_check_demos_match_refuses_other_task_or_action_repeat(box_close_demos):
    demos = load_demos(box_close_demos)
    with pytest.raises(UsageError, match="with task box-close-v3, the environment has reach-v3"):
        check_demos_match(demos, make_env("metaworld", "reach"))
    other = make_env("metaworld", "box-close", action_repeat=4)
    with pytest.raises(UsageError, match="with action_repeat 2, the environment has 4"):
        check_demos_match(demos, other)


@pytest.mark.simulator
def test_check_demos_match_refuses_other_shapes_and_keys(box_close_demos, box_close):
    demos = load_demos(box_close_demos)

    def with_entry(key, size):
        episode = demos.episodes[0].clone()
        episode[key] = torch.zeros(len(episode), size)
        if key != ACTION:
            episode[NEXT, key] = episode[key]
        return Demos([episode], demos.env_args, demos.path)

    with pytest.raises(UsageError, match="with action size 7, the environment has 4"):
        check_demos_match(with_entry(ACTION, 7), box_close)
    with pytest.raises(UsageError, match=r"shape of state \[40\], the environment has \[39\]"):
        check_demos_match(with_entry(STATE, 40), box_close)
    with pytest.raises(UsageError, match="no observation 'object', it has"):
        check_demos_match(with_entry("object", 2), box_close)


RECORD_UNTIL_FULL = """
import sys, torch
from pathlib import Path
from tensordict import TensorDict
from ibrl_torchrl.data.demos import save_demos
from ibrl_torchrl.errors import UsageError

def episodes():
    done = torch.tensor([[False], [True]])
    after = {"state": torch.ones(2, 3), "reward": done.float(), "done": done}
    for _ in range(int(sys.argv[2])):
        yield TensorDict(
            {
                "state": torch.ones(2, 3),
                "action": torch.ones(2, 1),
                "simulator_state": torch.ones(2, 60_000, dtype=torch.float64),
                "next": after,
            },
            [2],
        )

path = Path(sys.argv[1], "demos.hdf5")
try:
    save_demos(path, episodes(), {})
except UsageError as error:
    print("error:", error)
print([(file.name, file.stat().st_size // 10**5) for file in path.parent.iterdir()])
"""


def test_full_disk_while_recording_is_one_line_and_leaves_nothing(tmp_path):
    ended = on_small_disk(tmp_path, "4m", RECORD_UNTIL_FULL.replace("int(sys.argv[2])", "9"))
    assert ended.returncode == 0, ended.stderr
    line, names = ended.stdout.splitlines()
    assert line.startswith(f"error: {tmp_path}/demos.hdf5: cannot be written (No space left on ")
    assert names == "[]"


def test_file_ends_with_its_last_episode(tmp_path):
    """Two episodes of 960 kB; what was reserved beyond them is given back."""
    ended = on_small_disk(tmp_path, "6m", RECORD_UNTIL_FULL.replace("int(sys.argv[2])", "2"))
    assert ended.stdout == "[('demos.hdf5', 19)]\n", ended.stderr
