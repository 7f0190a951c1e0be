"""Runs from pixels: settings to run folder, on the real simulator, in the smallest sizes."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("metaworld")

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import (
    frozen_policies,
    load_policy,
    policy_path,
    save_policy,
)
from ibrl_torchrl.builders.networks import build_policy, policy_keys
from ibrl_torchrl.builders.normalization import identity_normalizers, observation_normalizers
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

pytestmark = pytest.mark.simulator
CPU = torch.device("cpu")
IMAGE = "corner2_image"
TINY = [
    *("experiment=small_pixels", "algo=ibrl"),
    *("task=metaworld/reach", "task.image_size=32", "task.horizon=40"),
    *("algo.warmup.episodes=2", "algo.actor.hidden=[16]", "algo.critic.hidden=[16]"),
    *("algo.critic.head_size=16", "imitation.bc.network.hidden=[16]", "imitation.bc.steps=20"),
    *("replay.capacity=400", "replay.batch_size=8", "total_frames=130", "log.every=1"),
    *("eval.every=1000", "eval.episodes=1", "eval.final_episodes=2"),
]


def config(*overrides):
    return parse(
        TrainConfig, composed("train", ["run_dir=none", "collector.workers=0", *TINY, *overrides])
    )


def untrained(built):
    """Environment, normalisation and untrained imitation networks of a configuration."""
    env = build_env(built.task)
    normalizers = identity_normalizers(built.task, env)
    networks = {
        name: build_policy(policy.network, policy.encoder, normalizers, env.observation_spec, 4)
        for name, policy in built.imitation.items()
    }
    return env, normalizers, networks


def agent_of(built, **settings):
    env, normalizers, networks = untrained(built)
    policies = frozen_policies(networks, built.imitation)
    return env, build_agent(built.algo, policies, normalizers, env, CPU, **settings)


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


@pytest.mark.slow
def test_a_run_from_pixels_is_reproducible(run_dir, tmp_path):
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
    eval_job.run(parse(EvalRunConfig, composed("eval", overrides)))
    assert rows(out) == rows(run_dir / "evaluation.csv")


def test_an_imitation_policy_is_reloaded_exactly(run_dir, tmp_path):
    built = config()
    env, _, networks = untrained(built)
    policy, network = built.imitation["bc"], networks["bc"]
    save_policy(tmp_path / "bc.pt", network, policy, built.task)
    loaded = load_policy(tmp_path / "bc.pt", policy, built.task, env)
    inputs = [env.reset()[key] for key in policy_keys(policy.encoder)]
    assert torch.equal(loaded(*inputs), network.eval()(*inputs))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.render_quality=full", "quality fast.*quality full"),
        ("task.image_size=40", "32 px.*40 px"),
        ("task.frame_stack=3", "1 x 32 px.*3 x 32 px"),
        ("task=metaworld/push", "metaworld/reach.*metaworld/push"),
        ("imitation.bc.network.hidden=[8]", "has shape"),
    ],
)
def test_an_imitation_policy_of_other_images_is_refused(run_dir, override, message):
    built = config(override)
    env = build_env(built.task)
    with pytest.raises(UsageError, match=message):
        load_policy(policy_path(run_dir, "bc"), built.imitation["bc"], built.task, env)


def test_demonstrations_without_images_are_refused(run_dir, tmp_path):
    with pytest.raises(UsageError, match="no 'obs/gripperPOV_image', found corner2_image"):
        train(
            tmp_path / "run",
            f"demos.path={run_dir / 'demos.hdf5'}",
            "task.cameras=[corner2,gripperPOV]",
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_rl_from_states_with_an_imitation_policy_from_pixels(tmp_path):
    """As in the paper's state runs; the replay stores no images then."""
    run = train(tmp_path / "run", "algo.encoder=null")
    assert any(row["loss_qvalue"] for row in rows(run / "train.csv"))


@pytest.mark.slow
def test_proprioception_several_cameras_and_stacks_compose(tmp_path):
    more = ["task.cameras=[corner2,gripperPOV]", "task.frame_stack=2", "replay.storage=memmap"]
    more += ["algo.encoder.proprio=true", "algo.actor.head=spatial"]
    more += [f"imitation.bc.encoder.{s}" for s in ("proprio=true", "fusion=add")]
    more += ["imitation.bc.encoder.proprio_noise=0.1", "imitation.bc.grad_clip=1.0"]
    run = train(tmp_path / "run", *more, "replay.cache_proposals=false")
    assert any(row["loss_qvalue"] for row in rows(run / "train.csv"))
    image = load_demos(run / "demos.hdf5", frame_stack=2).episodes[0]["gripperPOV_image"]
    assert image.shape[1:] == (6, 32, 32)


@pytest.mark.slow
def test_imitation_selects_its_best_weights(tmp_path, capsys):
    overrides = [o for o in TINY if not o.startswith(("algo", "replay", "total", "log"))]
    overrides = [o for o in overrides if not o.startswith(("eval.every", "eval.episodes"))]
    overrides += ["imitation.bc.eval_every=100", "imitation.bc.steps=200"]
    overrides += ["imitation.bc.eval_episodes=2", "imitation.bc.top_k=1"]
    run = tmp_path / "run"
    bc_job.run(parse(BCRunConfig, composed("bc", [f"run_dir={run}", *overrides])))
    output = capsys.readouterr().out
    scores = [line.split() for line in output.splitlines() if line.startswith("bc step")]
    evaluated, selected = scores[:-1], scores[-1]
    assert [line[2] for line in evaluated] == ["100", "200"] and selected[3] == "selected,"
    best = max(evaluated, key=lambda line: (float(line[4]), int(line[2])))
    assert (selected[2], selected[-1]) == (best[2], best[4])


@pytest.mark.parametrize(
    ("experiment", "encoder", "critics", "bc_encoder"),
    [
        ("paper_pixels", ViT, SpatialCriticEnsemble, ResNet18),
        ("paper_pixels_basic", DrQConvolutions, DrQCriticEnsemble, ResNet18),
        ("small_pixels", ViT, SpatialCriticEnsemble, ViT),
    ],
)
def test_experiments_build_the_parts_they_name(experiment, encoder, critics, bc_encoder):
    built = parse(TrainConfig, composed("train", ["run_dir=none", f"experiment={experiment}"]))
    env, _, networks = untrained(built)
    env, agent = agent_of(built, cached_proposals=built.replay.cache_proposals)
    assert isinstance(networks["bc"], PixelPolicy)
    assert isinstance(networks["bc"].encoder.networks[0], bc_encoder)
    assert isinstance(agent.loss.encoder.module.networks[0], encoder)
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


def test_the_size_of_a_full_replay_is_predicted(tmp_path):
    built = config("task.horizon=20", "replay.capacity=200", "algo.encoder.proprio=false")
    env, _, networks = untrained(built)
    policies = frozen_policies(networks, built.imitation)
    demos = [env.rollout(20) for _ in range(11)]
    batch_keys = ["action", IMAGE, ("next", IMAGE), ("next", "bc_action")]
    replay = build_replay(
        built.replay, batch_keys, 0.99, demos, tmp_path, policies=policies.values()
    )
    assert len(replay) == 200
    pool = replay.transform[0].nbytes
    rows_stored = replay.storage._storage
    stored = pool + sum(v.numel() * v.element_size() for v in rows_stored.values(True, True))
    predicted = replay_bytes(built.replay, env, [IMAGE], num_actions=3)
    assert stored <= predicted <= 1.01 * stored
    assert pool / 200 <= 1.1 * 3 * 32 * 32


def test_a_replay_that_does_not_fit_is_refused_with_the_number():
    built = config("replay.capacity=1000000000")
    env = build_env(built.task)
    with pytest.raises(UsageError, match=r"replay needs 34\d\d\.\d\d GB and .* GB are available"):
        require_replay_fits(built.replay, env, [IMAGE], "none", num_actions=3)


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
        ("task.render_quality=best", "task.render_quality=best must be one of fast, shadows, full"),
        ("task.frame_stack=0", "task.frame_stack=0 must be at least 1"),
        ("imitation.bc.top_k=0", "imitation.bc.top_k=0 must be at least 1"),
    ],
)
def test_mistakes_are_named(override, message):
    with pytest.raises(UsageError, match=message):
        agent_of(config(override))


def test_normalisation_uses_the_demonstrations(run_dir):
    demos = load_demos(run_dir / "demos.hdf5", keys=["proprio", "state"])
    built = config()
    normalizers = observation_normalizers(built.task, build_env(built.task), demos.episodes)
    proprio = torch.cat([episode["proprio"] for episode in demos.episodes])
    assert torch.equal(normalizers["proprio"].mean, proprio.mean(0))
    pairs = 6  # of the positions of hand, two objects and goal
    assert normalizers["state"].mean.shape == (39 + 3 * pairs,)
