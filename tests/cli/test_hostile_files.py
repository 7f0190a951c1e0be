"""Damaged and hand-made checkpoints, run folders and demonstrations, by the hundred."""

import random
import shutil
import sys

import numpy as np
import pytest
import torch
from support.damage import TENSOR_MUTATIONS, leaves, mutated_bytes, mutated_content, replaced

from ibrl_torchrl.cli import main as cli
from ibrl_torchrl.envs.metaworld import MetaWorldEnv
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.training.loop import train
from ibrl_torchrl.training.state import TrainingState, read_checkpoint

pytest.importorskip("metaworld")
pytestmark = pytest.mark.simulator

TASK = "metaworld/handle-press"
TINY = [
    *(f"task={TASK}", "task.horizon=30", "demos.episodes=1", "total_frames=80"),
    *("algo.warmup.episodes=1", "algo.update.frames_per_round=10", "imitation.bc.steps=5"),
    *("algo.actor.hidden=[8]", "algo.critic.hidden=[8]", "imitation.bc.network.hidden=[8]"),
    *("log.every=1", "eval.every=60", "eval.episodes=1", "eval.final_episodes=1"),
    *("algo=ibrl", "collector.workers=0", "replay.capacity=200", "replay.prioritized=true"),
    "replay.batch_size=8",
]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A tiny run that ended before its final evaluation."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    argv, sys.argv = sys.argv, ["ibrl", "train", f"run_dir={folder}", *TINY]
    try:
        cli.main()
    finally:
        sys.argv = argv
    (folder / "evaluation.csv").unlink()
    return folder


@pytest.fixture(scope="module")
def state(run_dir, tmp_path_factory):
    """The training state of that run as a resumption builds it, before it restores anything."""
    folder = tmp_path_factory.mktemp("state") / "run"
    shutil.copytree(run_dir, folder)
    built = []

    def capture(self, checkpoint):
        built.append(self)
        raise UsageError("captured")

    argv, sys.argv = sys.argv, ["ibrl", "train", f"resume={folder}"]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainingState, "require_fits", capture)
            with pytest.raises(SystemExit):
                cli.main()
    finally:
        sys.argv = argv
    return built[0]


@pytest.fixture(scope="module")
def content(run_dir):
    return torch.load(run_dir / "checkpoint.pt", weights_only=True)


def refusal(state: TrainingState) -> str | None:
    """Message with which a checkpoint is refused; None where it is restored."""
    try:
        checkpoint = read_checkpoint(state.run_dir, TASK)
        state.require_fits(checkpoint)
        state.restore(checkpoint, refill=False)
        state._load_samplers(checkpoint)
    except UsageError as error:
        return str(error)
    torch.rand(10_000), random.random()  # would crash on a position out of bounds
    return None


def assert_one_line(message: str, path) -> None:
    assert message.isprintable() and len(message) < 600, message
    assert str(path) in message or path.name in message, message


def test_the_checkpoint_itself_is_restored(state, content):
    torch.save(content, state.run_dir / "checkpoint.pt")
    assert refusal(state) is None


def test_every_tensor_of_another_shape_dtype_or_value_is_refused(state, content):
    path = state.run_dir / "checkpoint.pt"
    rng = random.Random(0)
    tensors = [
        (name, value)
        for name, value in leaves(content)
        if isinstance(value, torch.Tensor) and name[1] in ("loss", "optimizers")
    ]
    for name, value in rng.sample(tensors, 8):
        for label, mutate in TENSOR_MUTATIONS.items():
            if value.is_floating_point():
                torch.save(replaced(content, name, mutate(value)), path)
                message = refusal(state)
                assert message is not None, (name, label)
                assert_one_line(message, path)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("state", "random", "numpy"), ("MT19937", torch.zeros(624).long(), 10**9, 0, 0.0)),
        (("state", "random", "numpy"), ("MT19937", torch.zeros(600).long(), 3, 0, 0.0)),
        (("state", "random", "numpy"), ("MT19937", -torch.ones(624).long(), 3, 0, 0.0)),
        (("state", "random", "python"), (3, (1,) * 624 + (10**9,), None)),
        (("state", "random", "torch_cpu"), torch.zeros(5056, dtype=torch.uint8)),
        (("state", "random", "torch_cuda"), [torch.zeros(16, dtype=torch.uint8)] * 99),
        (("state", "optimizers", "loss_actor", "state", 0, "exp_avg"), torch.zeros(3)),
        (("state", "optimizers", "loss_actor", "state", 0, "step"), torch.tensor(-1.0)),
        (("state", "optimizers", "loss_actor", "state", 99), {}),
        (("state", "optimizers", "loss_actor", "param_groups"), []),
        (("state", "samplers", "sum"), torch.zeros(200).fill_(-1.0)),
        (("state", "samplers", "max"), (1.0, 10**9)),
        (("meta", "counters", "episodes"), 10**9),
        (("meta", "counters", "warmup_frames"), 10**9),
        (("meta", "logger", "train_size"), 10**12),
        (("meta", "logger", "eval_size"), -1),
        (("meta", "logger", "best"), float("nan")),
    ],
)
def test_states_that_would_read_or_write_out_of_bounds_are_refused(state, content, where, value):
    path = state.run_dir / "checkpoint.pt"
    torch.save(replaced(content, where, value), path)
    message = refusal(state)
    assert message is not None
    assert message.isprintable()


def test_checkpoints_that_unpack_to_more_than_they_hold_are_refused(state, content):
    path = state.run_dir / "checkpoint.pt"
    nested: object = "x"
    for _ in range(12):
        nested = [nested] * 30  # 30 ** 12 entries in 100 bytes
    torch.save(replaced(content, ("meta", "counters", "successes"), nested), path)
    assert "not a checkpoint" in refusal(state)
    huge = torch.zeros(1).expand(10**13)
    torch.save(replaced(content, ("state", "loss"), {"x": huge}), path)
    assert "not a checkpoint" in refusal(state)


def test_a_hundred_mutated_checkpoints_are_refused_in_one_line_or_read(state, content):
    path, rng = state.run_dir / "checkpoint.pt", random.Random(1)
    refused = 0
    for _ in range(120):
        label, changed = mutated_content(content, rng)
        torch.save(changed, path)
        if (message := refusal(state)) is not None:
            refused += 1
            assert message.isprintable(), label
        else:  # the record of the run that it is of, two fifths of the entries; resuming reads none
            assert label.startswith("meta.origin."), label
    original = (state.run_dir / "best.pt").with_name("checkpoint-original.pt")
    torch.save(content, original)
    for _ in range(60):
        path.write_bytes(mutated_bytes(original.read_bytes(), rng))
        if (message := refusal(state)) is not None:
            refused += 1
            assert_one_line(message, path)
    assert refused > 110  # 120 and 121 were seen


def test_resuming_from_a_hand_made_checkpoint_changes_no_file(ibrl, run_dir, content, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    where = ("state", "optimizers", "loss_qvalue", "state", 0, "exp_avg_sq")
    torch.save(replaced(content, where, torch.zeros(2)), folder / "checkpoint.pt")
    torch.save(content, folder / "checkpoint.pt.original")
    before = {p.name: p.read_bytes() for p in folder.glob("*.csv")}
    code, _, error = ibrl("train", f"resume={folder}")
    assert code == 2 and error.count("\n") == 1
    assert "optimizers.loss_qvalue.0.exp_avg_sq has shape [2]" in error
    assert {p.name: p.read_bytes() for p in folder.glob("*.csv")} == before
    code, _, error = ibrl("eval", folder, "episodes=1")  # reads the networks alone
    assert code == 0, error
    weight = ("state", "loss", next(iter(content["state"]["loss"])))
    for bad in (torch.full((39,), float("nan")), torch.zeros(39).half(), torch.zeros(39).int()):
        torch.save(replaced(content, weight, bad), folder / "checkpoint.pt")
        code, _, error = ibrl("eval", folder, "episodes=1")
        assert code == 2 and error.count("\n") == 1 and weight[-1] in error


def test_a_nan_observation_in_mid_episode_is_the_promised_line(ibrl, tmp_path, monkeypatch):
    original, armed = MetaWorldEnv._low_dim_observation, []

    def unstable(self):
        observation = original(self)
        if armed and self._elapsed >= 7:
            observation["state"] = np.full_like(observation["state"], np.nan)
        return observation

    def armed_train(*arguments, **settings):  # after demonstrations and the first evaluation
        armed.append(1)
        train(*arguments, **settings)

    monkeypatch.setattr("ibrl_torchrl.training.reinforcement.train", armed_train)
    monkeypatch.setattr(MetaWorldEnv, "_low_dim_observation", unstable)
    run = tmp_path / "run"
    code, out, error = ibrl("train", f"run_dir={run}", *TINY)
    assert code == 2 and error.count("\n") == 1
    assert "state is not finite at step 7 of an episode; the simulation has become unst" in error
    assert str(run / "not-finite.pt") in out and (run / "not-finite.pt").exists()
