"""``ibrl demos convert``: runs, files and datasets, there and back."""

import json

import h5py
import pytest
import torch
from omegaconf import OmegaConf

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.data.demos import load_demos, save_demos
from ibrl_torchrl.data.demos.arrays import Selection
from ibrl_torchrl.data.demos.playback import open_playback, play_actions
from ibrl_torchrl.data.demos.read import read_description, read_episodes
from ibrl_torchrl.keys import ACTION, MODEL_XML, NEXT, REWARD, SIMULATOR_STATE, STATE, SUCCESS
from ibrl_torchrl.runs.episode_log import EpisodeLog

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.simulator

EXACT = [ACTION, STATE, SIMULATOR_STATE, (NEXT, STATE), (NEXT, REWARD), (NEXT, SUCCESS)]


@pytest.mark.parametrize("name", ["box_close_demos", "lift_demos"])
def test_file_to_lerobot_and_back_is_exact(ibrl, request, tmp_path, name):
    path = request.getfixturevalue(name)
    code, out, error = ibrl("demos", "convert", path, f"out={tmp_path / 'a'}", "to=lerobot")
    assert code == 0 and f"{tmp_path / 'a'}: 3 episodes, " in out, error
    back = tmp_path / "back.hdf5"
    code, _, error = ibrl("demos", "convert", tmp_path / "a", f"out={back}", "to=robomimic")
    assert code == 0, error
    assert read_description(back) == read_description(path)
    selection = Selection(with_states=True)
    originals, copies = read_episodes(path, selection), read_episodes(back, selection)
    for before, after in zip(originals, copies, strict=True):
        for key in EXACT:
            assert before[key].dtype == after[key].dtype and torch.equal(before[key], after[key])
        text = (each.get_non_tensor(MODEL_XML, default=None) for each in (before, after))
        assert len({*text}) == 1
    (result,) = play_actions(open_playback(back, episodes=1, cameras=[]))
    assert result.success
    info = json.loads((tmp_path / "a/meta/info.json").read_text())
    assert info["robot_type"] == ("Panda" if name == "lift_demos" else None) and info["fps"] == 20


@pytest.fixture
def run_dir(box_close_demos, tmp_path):
    """A run folder with a log of two episodes, whose second fails."""
    first, second = load_demos(box_close_demos, max_episodes=2).episodes
    for each in (first, second):
        each["proposal"] = torch.arange(len(each)) % 2
    second[NEXT, REWARD].zero_(), second[NEXT, SUCCESS].zero_(), second[NEXT, "terminated"].zero_()
    second[NEXT, "truncated"] = second[NEXT, "done"].clone()
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        OmegaConf.to_yaml(composed("train", [f"run_dir={folder}"]), resolve=True)
    )
    log = EpisodeLog(folder / "episodes", [STATE])
    log.append(first)
    log.append(second)
    log.flush()
    return folder, [first, second]


@pytest.mark.parametrize("given", [".", "episodes"])
def test_run_to_both_formats(ibrl, run_dir, tmp_path, given):
    folder, episodes = run_dir
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))]
    for to, out in (("lerobot", tmp_path / "a"), ("robomimic", tmp_path / "a.hdf5")):
        code, _, error = ibrl("demos", "convert", folder / given, f"out={out}", f"to={to}")
        assert code == 0, error
        copies = [*read_episodes(out, Selection())]
        for episode, copy in zip(episodes, copies, strict=True):
            for key in (ACTION, STATE, (NEXT, STATE), (NEXT, REWARD), (NEXT, SUCCESS)):
                assert torch.equal(episode[key], copy[key]), (to, key)
        assert read_description(out)["env_name"] == "box-close-v3"
    table = parquet.read_table(tmp_path / "a/data/chunk-000/file-000.parquet")
    assert table["policy"].to_pylist()[:3] == ["rl", "bc", "rl"]
    assert before == [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))]


def test_a_finished_run_keeps_its_episodes_if_asked(ibrl, tmp_path):
    tiny = [
        *("task=metaworld/handle-press", "task.horizon=30", "demos.episodes=1", "total_frames=50"),
        *("algo.warmup.episodes=1", "algo.update.frames_per_round=10", "imitation.bc.steps=3"),
        *("algo.actor.hidden=[8]", "algo.critic.hidden=[8]", "imitation.bc.network.hidden=[8]"),
        *("eval.every=1000", "eval.final_episodes=1", "collector.workers=0", "quiet=true"),
    ]
    for keep in (True, False):
        run_dir, out = tmp_path / f"run-{keep}", tmp_path / f"out-{keep}"
        code, _, error = ibrl("train", f"run_dir={run_dir}", f"log.keep_episodes={keep}", *tiny)
        assert code == 0, error
        code, _, error = ibrl("demos", "convert", run_dir, f"out={out}", "to=lerobot")
        if keep:
            assert code == 0, error
            table = parquet.read_table(out / "data/chunk-000/file-000.parquet")
            assert len(table) >= 50 and {*table["policy"].to_pylist()} <= {"rl", "bc"}
        else:
            assert code == 2 and "keeps them with log.keep_episodes=true" in error


def test_settings_of_the_conversion(ibrl, box_close_demos, tmp_path):
    with h5py.File(box_close_demos) as file:
        original = file["data/demo_0/obs/state"][:, :3]
    convert = ["demos", "convert", box_close_demos, "to=lerobot", f"out={tmp_path / 'a'}"]
    keys = "keys.state=[state]"
    code, _, error = ibrl(*convert, "episodes=1", "fps=8", "description=close the box", keys)
    assert code == 0, error
    (episode,) = read_episodes(tmp_path / "a", Selection())
    assert episode[STATE][:, :3].numpy().tolist() == original[: len(episode)].tolist()
    info = json.loads((tmp_path / "a/meta/info.json").read_text())
    assert info["fps"] == 8 and info["total_episodes"] == 1
    tasks = parquet.read_table(tmp_path / "a/meta/tasks.parquet").to_pylist()
    assert "close the box" in tasks[0].values()


def test_mistakes_cost_one_line(ibrl, box_close_demos, run_dir, tmp_path):
    folder, _ = run_dir
    new, exists = f"out={tmp_path / 'new'}", f"out={folder}"
    for arguments, message in (
        ([box_close_demos, exists, "to=lerobot"], "exists already; choose another out="),
        ([box_close_demos, new], "to=... is needed"),
        ([box_close_demos, new, "to=zarr"], "to=zarr must be one of lerobot, robomimic"),
        ([tmp_path / "none", new, "to=lerobot"], "no such file; check the path"),
        ([tmp_path, new, "to=robomimic"], "is a folder without meta/info.json (LeRobot)"),
        ([folder, new, "to=lerobot", "filter_key=train"], "filter_key=train: belongs to a file"),
        ([box_close_demos, new, "to=lerobot", "keys.state=[tcp]"], "no 'obs/tcp', found proprio, "),
    ):
        code, _, error = ibrl("demos", "convert", *arguments)
        assert code == 2 and message in error and error.count("\n") == 1, error
    assert not (tmp_path / "new").exists()


def test_dataset_of_lerobot_trains_a_policy(ibrl, box_close_demos, tmp_path):
    ibrl("demos", "convert", box_close_demos, f"out={tmp_path / 'a'}", "to=lerobot")
    command = ["bc", f"run_dir={tmp_path / 'run'}", f"demos.path={tmp_path / 'a'}"]
    command += ["imitation.bc.steps=5", "eval.final_episodes=1", "task.horizon=20"]
    code, _, error = ibrl("demos", "info", tmp_path / "a")
    assert code == 2 and "is a folder, an HDF5 file is needed; convert a dataset: ibrl" in error
    code, _, error = ibrl(*command)
    assert code == 0 and (tmp_path / "run/imitation/bc.pt").is_file(), error
    code, _, error = ibrl(
        *command[:1], f"run_dir={tmp_path / 'b'}", *command[2:], "task=robosuite/lift"
    )
    assert code == 2 and "is of the task box-close-v3" in error and error.count("\n") == 1


def test_save_demos_without_states(box_close_demos, tmp_path):
    (episode,) = load_demos(box_close_demos, max_episodes=1).episodes
    save_demos(tmp_path / "new.hdf5", [episode], {})
    with h5py.File(tmp_path / "new.hdf5") as file:
        assert "states" not in file["data/demo_0"]
