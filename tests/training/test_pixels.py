"""The program from pixels: configuration to run folder, on the real simulator, smallest sizes."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("metaworld")

from ibrl_torchrl.builders.agent import bc_policy, build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import restore_bc, save_bc
from ibrl_torchrl.builders.networks import build_policy, observed_keys
from ibrl_torchrl.builders.normalization import observation_scales, placeholder_scales
from ibrl_torchrl.builders.replay import build_replay, replay_bytes, require_replay_fits
from ibrl_torchrl.cli import bc as bc_job
from ibrl_torchrl.cli import eval as eval_job
from ibrl_torchrl.cli import train as train_job
from ibrl_torchrl.config.commands import BCRunConfig, EvalRunConfig
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.data.demos import load_demos
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.imitation.train import TopKWeights
from ibrl_torchrl.modules import (
    CachedProposal,
    DrQConvolutions,
    DrQCriticEnsemble,
    PixelPolicy,
    RandomShift,
    ResNet18,
    SpatialCriticEnsemble,
    ViT,
)

CPU = torch.device("cpu")
IMAGE = "corner2_image"
TINY = [
    *("experiment=small_pixels", "task=metaworld/reach", "task.image_size=32", "task.horizon=40"),
    *("algo.warmup_episodes=2", "algo.actor.hidden=[16]", "algo.critic.hidden=[16]"),
    *("algo.critic.embedding_size=16", "bc.network.hidden=[16]", "bc.steps=20"),
    *("replay.capacity=400", "replay.batch_size=8", "frames=130", "log.every=1"),
    *("eval.every=1000", "eval.episodes=1", "eval.final_episodes=2"),
]


def config(*overrides):
    return parse(
        TrainConfig, composed("train", ["run_dir=none", "collector.workers=0", *TINY, *overrides])
    )


def networks_of(*overrides):
    """Environment, observation statistics and an untrained imitation policy of a configuration."""
    built = config(*overrides)
    env = build_env(built.task)
    scales = placeholder_scales(built.task, env)
    bc = build_policy(built.bc.network, built.bc.encoder, scales, env.observation_spec, 4)
    return built, env, scales, bc


def train(run_dir, *overrides):
    train_job.run(replace(config(*overrides), run_dir=str(run_dir)))
    return run_dir


def rows(path: Path, *without):
    return [
        {key: value for key, value in row.items() if key not in without}
        for row in csv.DictReader(path.open())
    ]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return train(tmp_path_factory.mktemp("pixels") / "run")


def test_a_run_from_pixels_repeats_number_for_number(run_dir, tmp_path):
    again = train(tmp_path / "again")
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert rows(again / name, "wall_s") == rows(run_dir / name, "wall_s")
    assert any(row["loss_qvalue"] for row in rows(run_dir / "train.csv"))


def test_its_demonstrations_hold_the_images_once(run_dir):
    demos = load_demos(run_dir / "demos.hdf5")
    episode = demos.episodes[0]
    assert episode[IMAGE].shape[1:] == (3, 32, 32) and episode[IMAGE].dtype == torch.uint8
    assert demos.env_args["env_kwargs"]["render_quality"] == "fast"
    assert not [*(run_dir / "replay").rglob("*")]


def test_eval_reads_what_train_left(run_dir, tmp_path, capsys):
    out = tmp_path / "episodes.csv"
    overrides = [f"run={run_dir}", "episodes=2", f"out={out}"]
    eval_job.run(parse(EvalRunConfig, composed("eval_run", overrides)))
    assert rows(out) == rows(run_dir / "evaluation.csv")


def test_an_imitation_policy_is_reloaded_exactly(run_dir, tmp_path):
    built, env, _, network = networks_of()
    save_bc(tmp_path / "bc.pt", network, built.bc, built.task)
    restored = restore_bc(tmp_path / "bc.pt", built.bc, built.task, env)
    seen = [env.reset()[key] for key in observed_keys(built.bc.encoder)]
    assert torch.equal(restored(*seen), network.eval()(*seen))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.render_quality=full", "quality fast.*quality full"),
        ("task.image_size=40", "32 px.*40 px"),
        ("task.frame_stack=3", "1 x 32 px.*3 x 32 px"),
        ("task=metaworld/push", "metaworld/reach.*metaworld/push"),
        ("bc.network.hidden=[8]", "has shape"),
    ],
)
def test_an_imitation_policy_of_other_images_is_refused(run_dir, override, message):
    built = config(override, f"bc.path={run_dir / 'bc.pt'}")
    env = build_env(built.task)
    with pytest.raises(UsageError, match=message):
        restore_bc(run_dir / "bc.pt", built.bc, built.task, env)


def test_demonstrations_without_images_are_refused(run_dir, tmp_path):
    with pytest.raises(UsageError, match="no 'obs/gripperPOV_image', found corner2_image"):
        train(
            tmp_path / "run",
            f"demos.path={run_dir / 'demos.hdf5'}",
            "task.cameras=[corner2,gripperPOV]",
        )
    assert not (tmp_path / "run").exists()


def test_states_can_learn_with_an_imitation_policy_of_pixels(tmp_path):
    """As in the paper's state runs; the replay needs no images then."""
    run = train(tmp_path / "run", "algo.encoder=null", "algo.num_min=2")
    assert any(row["loss_qvalue"] for row in rows(run / "train.csv"))


def test_proprioception_several_cameras_and_stacks_compose(tmp_path):
    more = ["task.cameras=[corner2,gripperPOV]", "task.frame_stack=2", "replay.storage=memmap"]
    more += ["algo.encoder.proprio=true", "bc.encoder.proprio=true", "bc.encoder.fusion=add"]
    more += ["bc.encoder.proprio_noise=0.1", "bc.grad_clip=1.0", "algo.actor.embedding=spatial"]
    run = train(tmp_path / "run", *more, "replay.record_proposals=false")
    assert any(row["loss_qvalue"] for row in rows(run / "train.csv"))
    image = load_demos(run / "demos.hdf5", frame_stack=2).episodes[0]["gripperPOV_image"]
    assert image.shape[1:] == (6, 32, 32)


def test_bc_keeps_its_best_stage(tmp_path, capsys):
    overrides = [o for o in TINY if not o.startswith(("algo", "replay", "frames", "log"))]
    overrides = [o for o in overrides if not o.startswith(("eval.every", "eval.episodes"))]
    overrides += ["bc.evaluate_every=100", "bc.steps=200", "bc.eval_episodes=2", "bc.keep_best=1"]
    run = tmp_path / "run"
    bc_job.run(parse(BCRunConfig, composed("bc_run", [f"run_dir={run}", *overrides])))
    said = capsys.readouterr().out
    scores = [line.split() for line in said.splitlines() if line.startswith("bc step")]
    stages, chosen = scores[:-1], scores[-1]
    assert [line[2] for line in stages] == ["100", "200"] and chosen[3] == "chosen,"
    best = max(stages, key=lambda line: (float(line[4]), int(line[2])))
    assert (chosen[2], chosen[-1]) == (best[2], best[4])


def test_best_weights_are_copies_and_one_of_the_best_is_drawn():
    network = torch.nn.Linear(1, 1)
    best = TopKWeights(keep=2)
    for step, score in [(1, 0.2), (2, 0.9), (3, 0.5), (4, 0.5)]:
        torch.nn.init.constant_(network.weight, step)
        best.consider(network, step, score)
    torch.manual_seed(0)
    drawn = {(*best.restore(network), network.weight.item()) for _ in range(30)}
    assert drawn == {(2, 0.9, 2.0), (4, 0.5, 4.0)}


@pytest.mark.parametrize(
    ("experiment", "eyes", "critics", "bc_eyes"),
    [
        ("paper_pixels", ViT, SpatialCriticEnsemble, ResNet18),
        ("paper_pixels_basic", DrQConvolutions, DrQCriticEnsemble, ResNet18),
        ("small_pixels", ViT, SpatialCriticEnsemble, ViT),
    ],
)
def test_experiments_become_the_parts_they_name(experiment, eyes, critics, bc_eyes):
    built = parse(TrainConfig, composed("train", ["run_dir=none", f"experiment={experiment}"]))
    env = build_env(built.task)
    scales = placeholder_scales(built.task, env)
    network = build_policy(built.bc.network, built.bc.encoder, scales, env.observation_spec, 4)
    agent = build_agent(
        built.algo,
        bc_policy(network, built.bc.encoder),
        scales,
        env,
        CPU,
        recorded_proposals=built.replay.record_proposals,
    )
    assert isinstance(network, PixelPolicy)
    assert isinstance(network.encoder.networks[0], bc_eyes)
    assert isinstance(agent.loss.encoder.module.networks[0], eyes)
    assert isinstance(agent.loss.qvalue_network.module, critics)
    assert isinstance(agent.loss.proposals[0], CachedProposal)
    assert agent.policies["hybrid"](env.reset())["action"].shape == (4,)
    random = [
        module
        for policy in (agent.explore, *agent.policies.values())
        for module in policy.modules()
        if isinstance(module, (torch.nn.Dropout, RandomShift))
    ]
    assert random and not any(module.training for module in random)


def test_what_a_replay_costs_is_known_before(tmp_path):
    built, env, _, network = networks_of("task.horizon=20", "replay.capacity=200")
    bc = bc_policy(network, built.bc.encoder)
    keys = [IMAGE]
    demos = [env.rollout(20) for _ in range(11)]
    replay = build_replay(built.replay, 0.99, demos, tmp_path, keys=keys, recorded=bc)
    assert len(replay) == 200
    pool = replay.transform[0].nbytes
    rows_stored = replay.storage._storage
    held = pool + sum(v.numel() * v.element_size() for v in rows_stored.values(True, True))
    predicted = replay_bytes(built.replay, env, keys)
    assert held <= predicted <= 1.01 * held
    assert pool / 200 <= 1.1 * 3 * 32 * 32


def test_a_replay_that_does_not_fit_is_refused_with_the_number():
    built, env, *_ = networks_of("replay.capacity=1000000000")
    with pytest.raises(UsageError, match=r"replay needs 34\d\d\.\d\d GB and .* GB are available"):
        require_replay_fits(built.replay, env, [IMAGE], 1, "none")


def test_episodes_too_short_for_the_replay_are_refused_before_the_run(tmp_path):
    with pytest.raises(UsageError, match=r"task\.horizon=9 must be at least 10"):
        train(tmp_path / "run", "task.horizon=9")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algo.encoder.cameras=[corner]", "corner is not rendered; add it to task.cameras"),
        ("algo.encoder.settings.patch=50", "encoder vit: image size 32 is too small"),
        ("algo.encoder.settings.heads=3", "heads=3 must divide dim=32"),
        ("+algo.encoder.settings.width=3", "encoder vit: .*unexpected keyword argument 'width'"),
        ("algo.encoder.network=cnn", "encoder.network=cnn must be one of vit, resnet18"),
        ("algo.encoder.precision=half", "encoder.precision=half must be one of float32, bfloat16"),
        ("compile=fast", "compile=fast must be one of default, reduce-overhead"),
        ("task.render_quality=best", "unknown render quality 'best'; known are fast"),
        ("task.frame_stack=0", "task.frame_stack=0 must be at least 1"),
        ("bc.keep_best=0", "bc.keep_best=0 must be at least 1"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(UsageError, match=message):
        built, env, scales, network = networks_of(override)
        bc = bc_policy(network, built.bc.encoder)
        build_agent(built.algo, bc, scales, env, CPU)


def test_statistics_come_from_the_demonstrations(run_dir):
    demos = load_demos(run_dir / "demos.hdf5", keys=["proprio", "state"])
    built = config()
    scales = observation_scales(built.task, build_env(built.task), demos.episodes)
    proprio = torch.cat([episode["proprio"] for episode in demos.episodes])
    assert torch.equal(scales["proprio"].mean, proprio.mean(0))
    assert scales["state"].mean.shape == (39,)
