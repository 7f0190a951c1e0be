"""``ibrl dagger`` on the real simulator: file of all rounds, uses of it, refusals, repetition."""

import json
import shutil
import sys
from collections import defaultdict

import h5py
import numpy as np
import pytest
import torch
from tensordict import TensorDict

from ibrl_torchrl.builders.experts import any_state_expert
from ibrl_torchrl.builders.replay import build_replay, require_demonstrated
from ibrl_torchrl.config.commands import DaggerRunConfig
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.replay import ReplayConfig
from ibrl_torchrl.config.task import DemosConfig
from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import scripted_expert
from ibrl_torchrl.runs.checkpoint import load_checkpoint
from ibrl_torchrl.runs.tables import read_rows

# A stack of states, which files hold once; a network too small to solve the task.
SETTINGS = [
    *("task=metaworld/handle-press", "task.horizon=30", "task.state_stack=2", "demos.episodes=2"),
    *("imitation.bc.network.hidden=[4]", "imitation.bc.steps=5", "eval.final_episodes=2"),
]
ROUNDS = ["dagger.rounds=3", "dagger.episodes=2"]


def run_ibrl(*arguments):
    from ibrl_torchrl.cli import main as cli

    argv, sys.argv = sys.argv, ["ibrl", *map(str, arguments)]
    try:
        cli.main()
    finally:
        sys.argv = argv


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Finished run of three rounds."""
    pytest.importorskip("metaworld")
    folder = tmp_path_factory.mktemp("dagger") / "run"
    run_ibrl("dagger", f"run_dir={folder}", *SETTINGS, *ROUNDS)
    return folder


def arrays(path):
    with h5py.File(path) as file:
        found = {}
        file.visititems(
            lambda name, node: found.update({name: node[()]} if hasattr(node, "dtype") else {})
        )
    return found


@pytest.mark.simulator
def test_file_holds_the_experts_labels_and_what_was_executed(run_dir):
    expert = scripted_expert("metaworld", "handle-press")
    by_expert = defaultdict(list)
    with h5py.File(run_dir / "demos.hdf5") as file:
        data = file["data"]
        assert sorted(data) == [f"demo_{index}" for index in range(6)]
        assert data.attrs["total"] == sum(len(group["actions"]) for group in data.values())
        assert json.loads(data.attrs["env_args"])["env_name"] == "handle-press-v3"
        for index in range(6):
            group = data[f"demo_{index}"]
            states = torch.from_numpy(group["obs/state"][()])
            assert states.shape[1] == 39  # single, though the learner reads a stack of two
            labels = expert(TensorDict(state=states))["action"].numpy()
            np.testing.assert_array_equal(group["actions"], labels)
            assert ("executed_actions" in group) == (index >= 2)
            if index >= 2:
                executed = group["executed_actions"][()]
                by_expert[index // 2].append((executed == labels).all(-1))
        for flags in by_expert.values():  # beta is 0.5 and 0.25
            assert 0 < np.concatenate(flags).mean() < 1
        # Rewards and dones are those of the executed actions: failures are kept.
        assert any(group["rewards"][()].max() == 0 for group in data.values())
        assert all(group["dones"][-1] == 1 for group in data.values())


@pytest.mark.simulator
def test_loaded_episodes_have_executed_actions_and_labels(run_dir):
    episodes = load_demos(run_dir / "demos.hdf5", keys=["state"]).episodes
    with h5py.File(run_dir / "demos.hdf5") as file:
        for index, episode in enumerate(episodes):
            group = file[f"data/demo_{index}"]
            name = "executed_actions" if index >= 2 else "actions"
            np.testing.assert_array_equal(episode["action"], group[name])
            assert ("expert_action" in episode) == (index >= 2)
            if index >= 2:
                np.testing.assert_array_equal(episode["expert_action"], group["actions"])


@pytest.mark.simulator
def test_evaluation_has_every_round_by_the_number_of_its_labels(run_dir):
    rows = read_rows(run_dir / "evaluation.csv")
    lengths = [len(episode) for episode in load_demos(run_dir / "demos.hdf5").episodes]
    labels = [sum(lengths[: 2 * (index + 1)]) for index in range(3)]
    assert [int(row["frames"]) for row in rows] == [labels[index // 2] for index in range(6)]
    assert {row["policy"] for row in rows} == {"bc"}


@pytest.mark.simulator
def test_round_0_is_behaviour_cloning(ibrl, tmp_path):
    for command, settings in (("dagger", ["dagger.rounds=1"]), ("bc", [])):
        code, _, error = ibrl(command, f"run_dir={tmp_path / command}", *SETTINGS, *settings)
        assert code == 0, error
    first, second = (
        load_checkpoint(tmp_path / command / "imitation/bc.pt", "imitation", {})[1]["policy"]
        for command in ("dagger", "bc")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert {*arrays(tmp_path / "dagger/demos.hdf5")} == {*arrays(tmp_path / "bc/demos.hdf5")}


@pytest.mark.simulator
def test_one_seed_gives_one_result_and_another_seed_another(ibrl, run_dir, tmp_path):
    for seed in (1, 2):
        again = tmp_path / str(seed)
        assert ibrl("dagger", f"run_dir={again}", f"seed={seed}", *SETTINGS, *ROUNDS)[0] == 0
    original, same, other = (
        arrays(folder / "demos.hdf5") for folder in (run_dir, tmp_path / "1", tmp_path / "2")
    )
    assert all(np.array_equal(original[name], same[name]) for name in original)
    assert (run_dir / "evaluation.csv").read_text() == (tmp_path / "1/evaluation.csv").read_text()
    first = "data/demo_2/obs/state"  # of round 1
    assert not np.array_equal(original[first][0], other[first][0])


@pytest.mark.simulator
def test_commands_take_the_file(ibrl, run_dir, tmp_path):
    path = run_dir / "demos.hdf5"
    code, out, _ = ibrl("demos", "info", path)
    assert code == 0 and "the expert's in 4 episodes" in out
    code, out, error = ibrl("demos", "check", path)
    successes = sum(bool(e["next", "success"].any()) for e in load_demos(path).episodes)
    expected = f"{successes} of {successes} episodes succeed and {6 - successes} of {6 - successes}"
    assert code == 0 and f"{expected} fail again; positions are at most 0 " in out, error
    out_file = tmp_path / "rendered.hdf5"
    code, _, error = ibrl("demos", "render", path, f"out={out_file}", "cameras=[]")
    assert code == 0, error
    rendered = arrays(out_file)
    for name, values in arrays(path).items():
        if name.endswith(("actions", "rewards")):
            np.testing.assert_array_equal(rendered[name], values)
    given = [*SETTINGS, f"demos.path={path}", "demos.episodes=6"]
    assert ibrl("bc", f"run_dir={tmp_path / 'bc'}", *given)[0] == 0
    small = [
        *("total_frames=60", "algo.warmup.episodes=1", "algo.actor.hidden=[4]", "eval.every=50"),
        *("algo.critic.hidden=[4]", "eval.episodes=1", "collector.workers=0"),
    ]
    code, _, error = ibrl("train", f"run_dir={tmp_path / 'rl'}", *small, *given)
    assert code == 0, error
    code, _, error = ibrl("train", f"run_dir={tmp_path / 'no'}", "algo=sqil", *small, *given)
    assert code == 2 and error.count("\n") == 1 and not (tmp_path / "no").exists()
    assert "replay.offline_reward=1.0 must be null with demonstrations of ibrl dagger" in error


def labelled_episode():
    """Three steps whose executed actions are 0 and whose labels are 1."""
    end = torch.tensor([[False], [False], [True]])
    after = {"state": torch.ones(3, 2), "reward": end.float(), "terminated": end, "done": end}
    after |= {"truncated": torch.zeros_like(end), "success": end}
    return TensorDict(
        {
            "state": torch.zeros(3, 2),
            "action": torch.zeros(3, 1),
            "expert_action": torch.ones(3, 1),
            "next": after,
        },
        [3],
    )


def test_critics_learn_from_executed_actions_and_cloning_from_labels(tmp_path):
    config = ReplayConfig(capacity=10, batch_size=8)
    read = ["state", "action", ("next", "state"), ("demo", "state"), ("demo", "action")]
    batch = build_replay(config, read, 0.99, [labelled_episode()], tmp_path).sample()
    assert batch["action"].unique().tolist() == [0.0]
    assert batch["demo", "action"].unique().tolist() == [1.0]


def test_a_reward_of_every_demonstrated_step_needs_demonstrated_steps():
    config = ReplayConfig(offline_fraction=0.5, offline_reward=1.0, online_reward=0.0)
    require_demonstrated(config, [labelled_episode().exclude("expert_action")])
    require_demonstrated(ReplayConfig(), [labelled_episode()])
    with pytest.raises(UsageError, match=r"^replay\.offline_reward=1\.0 must be null with"):
        require_demonstrated(config, [labelled_episode()])


@pytest.mark.simulator
def test_executed_actions_of_another_shape_are_refused(run_dir, tmp_path):
    path = shutil.copy(run_dir / "demos.hdf5", tmp_path / "demos.hdf5")
    with h5py.File(path, "r+") as file:
        group = file["data/demo_3"]
        actions = group["executed_actions"][1:]
        del group["executed_actions"]
        group["executed_actions"] = actions
    with pytest.raises(UsageError, match=r"demo_3: executed_actions has shape \[\d+, 4\], actions"):
        load_demos(path)


def test_experts_with_a_plan_are_refused():
    pytest.importorskip("robosuite")
    task = parse(DaggerRunConfig, composed("dagger", ["task=robosuite/lift"])).task
    with pytest.raises(UsageError, match=r"^task=robosuite/Lift: its scripted expert follows a"):
        any_state_expert(DemosConfig(), task, "DAgger")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["+imitation.wide={}"], r"^imitation=bc, wide must be one policy, the learner; train"),
        (["~imitation.bc"], r"^imitation=none must be one policy"),
        (["demos.path=x.hdf5"], r"^demos\.path=x\.hdf5 must be null: round 0 records episodes$"),
        (["demos.noise=0.1"], r"^demos\.noise=0\.1 must be 0: the expert's actions are labels$"),
        (["imitation.bc.path=x.pt"], r"^imitation\.bc\.path=x\.pt must be null: every round"),
        (["imitation.bc.chunk.size=4"], r"^imitation\.bc\.chunk\.size=4 must be 1: the expert"),
        (["dagger.beta=1.5"], r"^dagger\.beta=1\.5 must be at least 0 and at most 1$"),
        (["dagger.rounds=0"], r"^dagger\.rounds=0 must be at least 1$"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        parse(DaggerRunConfig, composed("dagger", settings))


@pytest.mark.slow
@pytest.mark.simulator
def test_a_sampled_policy_of_stacked_images(ibrl, tmp_path):
    """Files hold each image once, as the expert's demonstrations do."""
    settings = [
        *("experiment=small_pixels", "task=metaworld/handle-press", "task.frame_stack=2"),
        *("imitation.bc.policy=flow", "imitation.bc.steps=5", "eval.final_episodes=1"),
        *("dagger.rounds=2", "dagger.episodes=1", "demos.episodes=1"),
    ]
    code, _, error = ibrl("dagger", f"run_dir={tmp_path / 'run'}", *settings)
    assert code == 0, error
    with h5py.File(tmp_path / "run/demos.hdf5") as file:
        for group in file["data"].values():
            assert group["obs/corner2_image"].shape == (len(group["actions"]), 64, 64, 3)
