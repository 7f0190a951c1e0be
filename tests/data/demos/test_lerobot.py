"""LeRobot's datasets: written by LeRobot itself, by this package, and by hand in layout 2.1.

``lerobot_v3`` was written by LeRobot 0.4.4, which cannot be installed here (it needs torch < 2.11):
two episodes of 4 and 3 steps, a video and an image. LeRobot 0.4.4 also read what ``save_lerobot``
writes, by hand.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.data.demos.arrays import Selection
from ibrl_torchrl.data.demos.frames import read_video
from ibrl_torchrl.data.demos.lerobot_write import save_lerobot
from ibrl_torchrl.data.demos.read import read_description, read_episodes
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    EXPERT_ACTION,
    MODEL_XML,
    NEXT,
    REWARD,
    SIMULATOR_STATE,
    STATE,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
)

parquet = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")

REAL = Path(__file__).parent / "lerobot_v3"
EXACT = [ACTION, STATE, (NEXT, STATE), (NEXT, REWARD), (NEXT, SUCCESS), (NEXT, DONE)]


def episode(length, seed, success):
    """Episode of random vectors and of images that move."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(length + 1, 5, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(48), indexing="ij")
    images = torch.stack(
        [
            torch.stack([columns * 4 + t, rows * 6, torch.full_like(rows, 20 * t)])
            for t in range(length + 1)
        ]
    ).to(torch.uint8)
    done = torch.zeros(length, 1, dtype=torch.bool)
    done[-1] = True
    succeeded = done if success else torch.zeros_like(done)
    return TensorDict(
        {
            STATE: states[:-1],
            "front_image": images[:-1],
            ACTION: torch.rand(length, 3, generator=generator) * 2 - 1,
            "proposal": torch.arange(length) % 2,
            SIMULATOR_STATE: torch.randn(length, 7, generator=generator, dtype=torch.float64),
            NEXT: {
                STATE: states[1:],
                "front_image": images[1:],
                REWARD: succeeded.float(),
                DONE: done,
                TERMINATED: succeeded,
                TRUNCATED: done & ~succeeded,
                SUCCESS: succeeded,
            },
        },
        [length],
    )


EPISODES = [episode(6, 0, True), episode(4, 1, False), episode(9, 2, True)]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "saved"
    env_args = {"env_name": "Toy", "env_kwargs": {"robots": ["Panda"]}}
    save_lerobot(path, EPISODES, env_args, images="png", fps=10, proposals=["rl", "bc"])
    return path


@pytest.fixture
def real(tmp_path):
    return Path(shutil.copytree(REAL, tmp_path / "real"))


def edit_info(path, **values):
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps({**info, **values}))


def edit_table(path, name, edit):
    file = next((path / name).rglob("*.parquet"))
    parquet.write_table(edit(parquet.read_table(file)), file)


# Reading what LeRobot wrote


def test_dataset_of_lerobot_is_read(real):
    demos = load_demos(real)
    assert demos.env_args == {} and demos.path == real
    assert demos.summary()["observations"] == {
        **{"state": [2], "top_image": [3, 32, 48], "wrist_image": [3, 8, 8]},
    }
    first, second = demos.episodes
    assert first[STATE].tolist() == [[0, 0], [0, 0.125], [0, 0.25], [0, 0.375]]
    assert second[ACTION].tolist() == [[0, 0], [0.25, -0.25], [0.5, -0.5]]
    assert first[NEXT, STATE].tolist() == [[0, 0.125], [0, 0.25], [0, 0.375], [0, 0.375]]
    assert first[NEXT, REWARD].flatten().tolist() == [0, 0, 0, 1] and second[NEXT, SUCCESS][-1]
    assert second["wrist_image"][:, 0, 0, 0].tolist() == [100, 120, 140]  # PNG: exact
    for number, each in enumerate(demos.episodes):  # of one video, each frame of one grey
        greys = torch.arange(len(each)) * 20 + 100 * number
        difference = (each["top_image"].int() - greys[:, None, None, None]).abs()
        assert difference.max() <= 4


def test_actions_in_other_units_are_read_within_given_bounds(real, saved):
    bounds = np.float32([-4, 0]), np.float32([4, 0.5])
    with pytest.raises(UsageError, match=r"action must lie in \[0, 0.5\], found -0.25 at step 1"):
        load_demos(real, action_bounds=bounds)
    bounds = np.float32([-4, -1]), np.float32([4, 1])
    demos = load_demos(real, action_bounds=bounds)
    assert demos.episodes[1][ACTION].tolist() == [[0, 0], [0.25, -0.25], [0.5, -0.5]]
    assert demos.env_args["action_bounds"] == {"low": [-4, -1], "high": [4, 1]}


def test_key_map_takes_columns_by_their_names(real):
    demos = load_demos(real, keys=[STATE], key_map={STATE: ["action", "observation.state"]})
    assert demos.episodes[0][STATE][1].tolist() == [0.25, -0.25, 0, 0.125]
    with pytest.raises(
        UsageError, match=r"no 'observation.gripper', found observation.state, action, next.success"
    ):
        load_demos(real, key_map={STATE: ["observation.gripper"]})
    with pytest.raises(UsageError, match=r"no 'observation.proprio', .*demos.keys.proprio=\["):
        load_demos(real, keys=["proprio"])


def test_splits_are_filter_keys(real):
    edit_info(real, splits={"train": "0:1", "valid": "1:2", "odd": "all"})
    (held_out,) = load_demos(real, keys=[STATE], filter_key="valid").episodes
    assert held_out[STATE][0].tolist() == [1, 0]
    assert len(load_demos(real, keys=[STATE], max_episodes=1).episodes) == 1
    for name in ("test", "odd"):
        with pytest.raises(UsageError, match=f"no split '{name}'; .* train, valid, odd"):
            load_demos(real, filter_key=name)


def test_recordings_without_rewards_end_in_success(real):
    info = json.loads((real / "meta/info.json").read_text())
    del info["features"]["next.success"]
    edit_info(real, features=info["features"])
    assert load_demos(real, keys=[STATE]).summary()["success_rate"] == 1


# Layout 2.1, by hand


def write_v21(path):
    """The layout of version 2.1: one table and one video an episode."""
    (path / "meta").mkdir(parents=True)
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": None},
        "action": {"dtype": "float32", "shape": [1], "names": None},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "observation.images.top": {"dtype": "video", "shape": [32, 48, 3], "names": None},
    }
    info = {"codebase_version": "v2.1", "fps": 10, "chunks_size": 1, "features": features}
    (path / "meta/info.json").write_text(json.dumps(info))
    rows = [{"episode_index": i, "tasks": ["x"], "length": n} for i, n in enumerate((3, 2))]
    (path / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for row in rows:
        number, length = row["episode_index"], row["length"]
        name = f"chunk-{number:03d}/{{}}episode_{number:06d}"
        file = path / "data" / f"{name.format('')}.parquet"
        file.parent.mkdir(parents=True)
        states = [[number, step] for step in range(length)]
        parquet.write_table(
            pyarrow.table(
                {
                    "observation.state": pyarrow.array(states, pyarrow.list_(pyarrow.float32())),
                    "action": pyarrow.array([0.5] * length, pyarrow.float32()),
                    "next.reward": pyarrow.array([0.0] * (length - 1) + [1.0], pyarrow.float32()),
                    "episode_index": [number] * length,
                    "frame_index": [*range(length)],
                }
            ),
            file,
        )
        video = path / "videos" / f"{name.format('observation.images.top/')}.mp4"
        video.parent.mkdir(parents=True)
        shutil.copy(next(REAL.rglob("*.mp4")), video)


def test_layout_2_1_is_read(tmp_path):
    write_v21(tmp_path / "old")
    first, second = load_demos(tmp_path / "old").episodes
    assert first[STATE].tolist() == [[0, 0], [0, 1], [0, 2]] and second[STATE][0].tolist() == [1, 0]
    assert second[ACTION].tolist() == [[0.5], [0.5]] and second[NEXT, REWARD][-1] == 1
    assert second["top_image"].shape == (2, 3, 32, 48) and second["top_image"][1].int().max() < 25


# What this package writes


@pytest.mark.parametrize("images", ["png", "video"])
def test_round_trip_is_exact_for_numbers_and_bounded_for_video(tmp_path, images):
    path = tmp_path / "saved"
    save_lerobot(path, EPISODES, {"env_name": "Toy"}, images=images)
    loaded = [*read_episodes(path, Selection(with_states=True))]
    assert read_description(path) == {"env_name": "Toy"} and len(loaded) == 3
    for before, after in zip(EPISODES, loaded, strict=True):
        # Of a failure with images the last step has no next image.
        length = len(before) if before[NEXT, SUCCESS][-1] else len(before) - 1
        assert len(after) == length
        keys = (
            [*EXACT, SIMULATOR_STATE] if length == len(before) else [ACTION, STATE, (NEXT, STATE)]
        )
        for key in keys:
            assert before[key].dtype == after[key].dtype, key
            assert torch.equal(before[key][:length], after[key]), key
        difference = (before["front_image"][:length].int() - after["front_image"].int()).abs()
        assert difference.max() == 0 if images == "png" else difference.float().mean() < 3


def test_failures_without_images_keep_their_last_step(tmp_path):
    states = [each.exclude("front_image", (NEXT, "front_image")) for each in EPISODES]
    save_lerobot(tmp_path / "saved", states, {})
    loaded = [*read_episodes(tmp_path / "saved", Selection())]
    assert [len(each) for each in loaded] == [6, 4, 9]
    assert torch.equal(loaded[1][NEXT, STATE], states[1][NEXT, STATE])
    assert loaded[1][NEXT, TRUNCATED][-1] and not loaded[1][NEXT, TERMINATED].any()


def test_tables_have_the_documented_columns(saved):
    table = parquet.read_table(saved / "data/chunk-000/file-000.parquet")
    assert table.column_names == [
        *("observation.state", "next.observation.state", "action", "next.reward", "next.done"),
        *("next.success", "policy", "simulator_state", "timestamp", "frame_index"),
        *("episode_index", "index", "task_index", "observation.images.front"),
    ]
    rows = table.select(["policy", "index", "timestamp", "next.done"]).to_pylist()
    assert [row["policy"] for row in rows[:3]] == ["rl", "bc", "rl"]
    assert [row["index"] for row in rows] == [*range(19)]
    assert rows[7]["timestamp"] == pytest.approx(0.1) and rows[9]["next.done"]
    info = json.loads((saved / "meta/info.json").read_text())
    assert {info[name] for name in ("total_episodes", "total_frames", "fps")} == {3, 19, 10}
    assert info["robot_type"] == "Panda" and set(info["features"]) == set(table.column_names)
    episodes = parquet.read_table(saved / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    places = [(each["dataset_from_index"], each["dataset_to_index"]) for each in episodes]
    assert places == [(0, 6), (6, 10), (10, 19)] and episodes[0]["tasks"] == ["Toy"]
    statistics = json.loads((saved / "meta/stats.json").read_text())
    states = torch.cat([each[STATE] for each in EPISODES]).double()
    for name, value in (("mean", states.mean(0)), ("std", states.std(0, correction=0))):
        assert statistics["observation.state"][name] == pytest.approx(value.tolist())
    assert np.shape(statistics["observation.images.front"]["max"]) == (3, 1, 1)


def test_labels_and_models_are_kept(tmp_path):
    labelled = EPISODES[0].exclude("proposal").set(EXPERT_ACTION, EPISODES[0][ACTION] / 2)
    labelled.set_non_tensor(MODEL_XML, "<mujoco/>")
    save_lerobot(tmp_path / "saved", [labelled], {}, images="png")
    (loaded,) = read_episodes(tmp_path / "saved", Selection(with_states=True))
    assert torch.equal(loaded[ACTION], labelled[ACTION])
    assert torch.equal(loaded[EXPERT_ACTION], labelled[EXPERT_ACTION])
    assert loaded.get_non_tensor(MODEL_XML) == "<mujoco/>"
    table = parquet.read_table(tmp_path / "saved/data/chunk-000/file-000.parquet")
    assert set(table["policy"].to_pylist()) == {"mixture"}


def test_long_datasets_have_several_files(tmp_path, monkeypatch):
    from ibrl_torchrl.data.demos import lerobot_write

    monkeypatch.setattr(lerobot_write, "_BYTES_A_FILE", 1)
    monkeypatch.setattr(lerobot_write, "_FRAMES_A_VIDEO", 7)
    save_lerobot(tmp_path / "saved", EPISODES, {})
    assert len([*(tmp_path / "saved/data").rglob("*.parquet")]) == 3
    assert len([*(tmp_path / "saved/videos").rglob("*.mp4")]) == 2  # 6 + 4 frames, then 9
    loaded = [*read_episodes(tmp_path / "saved", Selection())]
    assert torch.equal(loaded[2][STATE], EPISODES[2][STATE])
    difference = loaded[2]["front_image"].int() - EPISODES[2]["front_image"].int()
    assert difference.abs().float().mean() < 3


def test_what_cannot_be_written_leaves_nothing(tmp_path, saved):
    with pytest.raises(UsageError, match="exists already; choose another folder"):
        save_lerobot(saved, EPISODES, {})
    odd = EPISODES[0].clone()
    odd["front_image"] = odd["front_image"][..., 1:]
    odd[NEXT, "front_image"] = odd["front_image"]
    with pytest.raises(UsageError, match=r"32 x 47 pixels do not fit a video.*images=png"):
        save_lerobot(tmp_path / "new", [odd], {})
    with pytest.raises(UsageError, match="differs from the first episode's in episode 1"):
        save_lerobot(tmp_path / "new", [EPISODES[0], odd], {}, images="png")
    with pytest.raises(ValueError, match="no episodes to save"):
        save_lerobot(tmp_path / "new", [], {})
    assert [each.name for each in tmp_path.iterdir()] == ["saved"]


# Files of unknown origin


def dense(table):
    rewards = pyarrow.array(np.linspace(0, 2, len(table)), pyarrow.float32())
    index = table.column_names.index("next.success")
    return table.set_column(index, "next.success", rewards)


def beyond(table):
    index = table.column_names.index("action")
    values = pyarrow.array([[0.0, 1.5]] * len(table), pyarrow.list_(pyarrow.float32()))
    return table.set_column(index, "action", values)


def ragged(table):
    index = table.column_names.index("action")
    values = [[0.0] * (1 + step % 2) for step in range(len(table))]
    return table.set_column(
        index, "action", pyarrow.array(values, pyarrow.list_(pyarrow.float32()))
    )


def text(table):
    index = table.column_names.index("action")
    return table.set_column(index, "action", pyarrow.array(["x"] * len(table)))


def not_finite(table):
    index = table.column_names.index("observation.state")
    values = [[0.0, float("nan")]] * len(table)
    return table.set_column(
        index, "observation.state", pyarrow.array(values, pyarrow.list_(pyarrow.float32()))
    )


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (dense, "next.reward must be 1 at success and else 0, found .*next.success"),
        (beyond, r"action must lie in \[-1, 1\], found 1.5 at step 0, dimension 1; rescale them"),
        (ragged, r"episode 0: action: has vectors of \[1, 2\] numbers"),
        (text, "action: must hold a number at each step, found string"),
        (not_finite, r"observation.state has nan at index \[0, 1\]"),
        (lambda table: table.slice(1), "has 3 steps in file-000.parquet, 4 are declared"),
        (lambda table: table.drop(["action"]), "no 'action', found observation.state"),
    ],
    ids=["dense", "beyond", "ragged", "text", "nan", "short", "no actions"],
)
def test_damaged_tables_are_refused_in_one_line(real, edit, message):
    edit_table(real, "data", edit)
    with pytest.raises(UsageError, match=message) as error:
        load_demos(real, keys=[STATE])
    assert "\n" not in str(error.value) and str(real) in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codebase_version": "v1.6"}, "codebase_version is v1.6, 2.0, 2.1 and 3.0 are read"),
        ({"features": []}, "has no features with a dtype"),
        ({"fps": 0}, "has fps=0, must be from 0.001 to 100000"),
        ({"fps": "20"}, "has fps=20, must be"),
        ({"codebase_version": "v2.1"}, "meta/episodes.jsonl: no such file"),
    ],
)
def test_damaged_descriptions_are_refused(real, values, message):
    edit_info(real, **values)
    with pytest.raises(UsageError, match=message):
        load_demos(real)


def test_missing_files_are_named(real, tmp_path):
    next(real.rglob("*.mp4")).unlink()
    with pytest.raises(UsageError, match=r"file-000.mp4: no such video, .*; copy it again"):
        load_demos(real)
    next((real / "data").rglob("*.parquet")).unlink()
    with pytest.raises(UsageError, match=r"file-000.parquet: no such file, .*; copy it again"):
        load_demos(real, keys=[STATE])
    with pytest.raises(UsageError, match=r"is a folder without meta/info.json \(LeRobot\)"):
        load_demos(tmp_path)


def test_no_path_leaves_the_folder(real, tmp_path):
    """By links, and by the name of a column, of which the path of its video is made."""
    table = next((real / "data").rglob("*.parquet"))
    shutil.move(table, tmp_path / "elsewhere.parquet")
    table.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(UsageError, match="leads out of the dataset's folder; copy the file into"):
        load_demos(real, keys=[STATE])
    table.unlink()
    shutil.move(tmp_path / "elsewhere.parquet", table)
    info = json.loads((real / "meta/info.json").read_text())
    name = "observation.images./../../../other"
    edit_info(real, features={**info["features"], name: {"dtype": "video", "shape": [32, 48, 3]}})
    prefix = f"videos/{name}"

    def add(rows):
        for column, value in (("chunk_index", 0), ("file_index", 0), ("from_timestamp", 0.0)):
            rows = rows.append_column(f"{prefix}/{column}", pyarrow.array([value] * len(rows)))
        return rows

    edit_table(real, "meta/episodes", add)
    with pytest.raises(UsageError, match="leads out of the dataset's folder"):
        load_demos(real, key_map={"front_image": [name]}, keys=["front_image"])


def test_tables_that_declare_more_than_they_hold_are_refused(real):
    """A constant column of 20 million rows takes some kilobytes."""
    rows = pyarrow.table({"episode_index": pyarrow.array(np.zeros(20_000_000, np.int8))})
    parquet.write_table(rows, next((real / "data").rglob("*.parquet")))
    with pytest.raises(UsageError, match=r"not a readable table .20000000 rows of .* declared"):
        load_demos(real, keys=[STATE])


def test_damaged_bytes_are_refused(real):
    video, table = next(real.rglob("*.mp4")), next((real / "data").rglob("*.parquet"))
    content = video.read_bytes()
    for damaged in (b"", b"#EXTM3U\nfile:///etc/passwd\n", content[: len(content) // 2]):
        video.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"not a readable video|frames from 0 s on"):
            read_video(video, 0, 4, 10)
    rows = table.read_bytes()
    for damaged in (b"", rows[:200], rows[:-10]):
        table.write_bytes(damaged)
        with pytest.raises(UsageError, match="not a readable table"):
            load_demos(real, keys=[STATE])
