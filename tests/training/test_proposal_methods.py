"""Methods with TorchRL's losses, proposal sets, residuals and gates: whole runs, small."""

import csv
import math
from pathlib import Path

import pytest
import torch
from support.known_networks import constant_policy
from support.parts import transitions
from support.tables import timeless
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.objectives import REDQLoss, SACLoss, TQCLoss

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import AgreementGate, IBRLSelector, Normalize
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.runs.checkpoint import load_checkpoint
from ibrl_torchrl.training.learner import Learner

METHODS = {
    "ibrl_sac": SACLoss,
    "ibrl_tqc": TQCLoss,
    "ibrl_redq_sac": REDQLoss,
    "residual": IBRLTD3Loss,
    "expo": IBRLTD3Loss,
    "ibrl_residual": IBRLTD3Loss,
    "ibrl_cautious": IBRLTD3Loss,
}
CPU = torch.device("cpu")
SMALL = [
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "imitation.bc.network.hidden=[1]"),
    "replay.batch_size=16",
]


class Specs:
    """Specs of an environment, without its dynamics."""

    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(state=Unbounded(2))


def config(*overrides):
    return parse(TrainConfig, composed("train", [*SMALL, *overrides]))


def build(settings):
    policies = {"bc": constant_policy("bc", 0.5, 4)}
    return build_agent(settings.algo, policies, {"state": Normalize.identity(2)}, Specs(), CPU)


def learner_of(agent, settings):
    update = settings.algo.update
    return Learner(
        agent.loss,
        agent.terms,
        lr=1e-2,
        tau=update.tau,
        critic_updates=1,
        target_proposals=agent.target_proposals,
    )


@pytest.mark.parametrize("method", METHODS)
def test_agent_has_the_loss_and_acts_with_the_updated_networks(method):
    torch.manual_seed(0)
    settings = config(f"algo={method}", "algo.fallback.policy=null")
    agent = build(settings)
    assert isinstance(agent.loss, METHODS[method])
    states = transitions(64).select("state")
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        before = agent.policies["hybrid"](states.clone())["proposal_values"]
        learner = learner_of(agent, settings)
        batch = transitions(32, action_size=4, reward=1.0, terminated=True)
    for _ in range(3):
        metrics = {}
        for term in agent.terms:
            metrics |= learner.update(term, batch.clone())
    assert {*agent.metrics} <= {*metrics}
    assert sum(metrics[f"proposal_share/target/{name}"] for name in ("rl", "bc")) == pytest.approx(
        1
    )
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        after = agent.policies["hybrid"](states.clone())["proposal_values"]
    assert after.shape == (64, 2) and (after != before).float().mean() > 0.9


@pytest.mark.parametrize("method", ["ibrl_sac", "ibrl_tqc", "ibrl_redq_sac"])
def test_target_critics_choose_while_acting_by_setting(method):
    settings = config(f"algo={method}", "algo.proposals.acting_critic=target")
    agent = build(settings)
    states = transitions(8).select("state")
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        before = agent.policies["hybrid"](states.clone())["proposal_values"]
        for key, value in agent.loss.qvalue_network_params.items(True, True):
            if "mlp" in key:
                value.data.add_(1.0)
        assert torch.equal(agent.policies["hybrid"](states.clone())["proposal_values"], before)
        for key, value in agent.loss.target_qvalue_network_params.items(True, True):
            if "mlp" in key:
                value.data.add_(1.0)
        after = agent.policies["hybrid"](states.clone())["proposal_values"]
    assert not torch.allclose(after, before)


def test_statistics_of_normalisation_are_not_trained():
    settings = config("algo=ibrl_sac")
    agent = build(settings)
    before = {
        k: v.clone() for k, v in agent.loss.state_dict().items() if k.endswith(("mean", "std"))
    }
    learner = learner_of(agent, settings)
    for term in agent.terms:
        learner.update(term, transitions(32, action_size=4))
    assert len(before) >= 6
    assert all(torch.equal(agent.loss.state_dict()[key], value) for key, value in before.items())


def test_expo_proposes_samples_and_an_edit_of_each():
    agent = build(config("algo=expo"))
    states = transitions(5).select("state")
    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        td = agent.explore(states.clone())
    assert td["bc_action"].shape == td["rl_action"].shape == (5, 8, 4)
    assert torch.allclose(td["bc_action"][:, 0], torch.tensor(0.5))
    with set_exploration_type(ExplorationType.DETERMINISTIC), torch.no_grad():
        td = agent.policies["rl"](states.clone())
    # Initialised to change nothing.
    assert td["bc_action"].shape == (5, 1, 4)
    assert torch.allclose(td["action"], torch.tensor(0.5))


def test_cautious_gate_is_of_the_acting_choice_alone():
    agent = build(config("algo=ibrl_cautious"))
    (selector,) = [m for m in agent.explore.modules() if isinstance(m, IBRLSelector)]
    assert isinstance(selector.gate, AgreementGate) and selector.gate.share == 1.0
    assert agent.loss.value_estimator.gate is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["algo=ibrl_sac", "algo.actor_init=bc", "imitation.bc.network.hidden=[8]"],
            r"imitation.bc.network.hidden=\[8\] must be algo.actor.hidden=",
        ),
        (["algo=ibrl_sac", "algo.residual={base: bc}"], "algo.residual=a base must be null with"),
        (["algo=ibrl_sac", "algo.loss.bc_weight=0.1"], "bc_weight=0.1 must be 0 with algo.loss"),
        (["algo=ibrl_sac", "experiment=small_pixels"], "algo.encoder=an encoder must be null with"),
        (
            ["algo=ibrl_sac", "algo.proposals.bootstrap.gate=agreement"],
            "bootstrap.gate=agreement must be none .* or set algo.loss.choose_by=value",
        ),
        (["algo=ibrl_tqc", "algo.loss.quantiles=2"], "quantiles_dropped=2 must be below"),
        (["algo=ibrl_redq_sac", "algo.critic.num_critics=2"], "num_min=2 must be below algo.crit"),
        (
            ["algo=ibrl_sac", "algo.proposals.reduction=mean"],
            "bootstrap.reduction=mean must be min with algo.loss.algorithm=sac, which has its own",
        ),
        (
            ["algo=ibrl_tqc", "algo.proposals.acting.reduction=mean"],
            "acting.reduction=mean must be min with algo.loss.algorithm=tqc",
        ),
        (
            ["algo=ibrl_redq_sac", "algo.loss.actor_reduction=mean"],
            "actor_reduction=mean must be min with algo.loss.algorithm=redq_sac",
        ),
        (
            ["algo=ibrl_tqc", "algo.critic.output=hl_gauss"],
            "critic.output=hl_gauss must be scalar with algo.loss.algorithm=tqc",
        ),
        (["algo.critic.v_min=2"], "critic.v_min=2.0 must be below algo.critic.v_max=1.1"),
        (
            ["algo=sqil", "algo.critic.output=hl_gauss"],
            "v_max=1.1 must be at least 100 with replay.offline_reward=1 and algo.loss.gamma=0.99",
        ),
        (
            ["algo=residual", "algo.actor_init=bc"],
            "algo.actor_init=bc must be null with a residual, or set algo.residual.own_action",
        ),
        (
            [
                "algo=rft_dynamic",
                "algo.residual={own_action: true}",
                "algo.proposals.acting.policies=[rl,bc]",
            ],
            "algo.loss.q_filter=True must be false with a residual",
        ),
        (
            ["algo.exploration_correlation=0.5", "algo.chunk.size=2", "replay.n_steps=1"],
            "algo.exploration_correlation=0.5 must be 0 with algo.chunk.size=2",
        ),
        (
            [
                *("algo.exploration_correlation=0", "algo.exploration_value_power=2"),
                *("algo.chunk.size=2", "replay.n_steps=1"),
            ],
            "algo.exploration_value_power=2.0 must be 0 with algo.chunk.size=2",
        ),
        (
            ["algo=ibrl", "algo.proposals.acting.trusted=[rl,demo]"],
            r"trusted=\['rl', 'demo'\] must be some of algo.proposals.acting.policies=",
        ),
        (
            ["algo=ibrl", "algo.episode_limit=0.9"],
            "algo.episode_limit=0.9 must be at least 1",
        ),
        (
            ["algo=residual", "algo.residual.base=nobody"],
            "must be names that include algo.residual.base=nobody",
        ),
        (
            ["algo=residual", "algo.proposals.acting.policies=[rl]"],
            "acting.policies=.* must be names that include algo.residual.base=bc",
        ),
        (
            ["algo=ibrl_cautious", "algo.proposals.gate_level=2"],
            "gate_level=2.0 must be above 0 and at most 1",
        ),
        (
            ["algo=td3", "algo.proposals.acting.gate=agreement"],
            "acting.gate=agreement must be none, as algo.proposals.acting.policies names no",
        ),
        (
            ["algo=ibrl", "algo.loss.algorithm=ppo"],
            "algorithm=ppo must be td3, sac, tqc, redq_sac|one of",
        ),
    ],
)
def test_combinations_without_support_are_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        config(*overrides)


# Whole runs

TINY = [
    *("task=metaworld/handle-press", "task.horizon=30", "total_frames=150", "demos.episodes=1"),
    *("imitation.bc.steps=20", "imitation.bc.network.hidden=[16]"),
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.warmup.episodes=1"),
    *("algo.update.frames_per_round=10", "replay.batch_size=16", "log.every=1", "eval.every=60"),
    *("eval.episodes=1", "eval.final_episodes=2", "checkpoint_every=60", "collector.workers=0"),
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


@pytest.mark.simulator
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_run_trains_resumes_evaluates_and_is_diagnosed(ibrl, ibrl_until, tmp_path, method):
    pytest.importorskip("metaworld")
    run, stopped = tmp_path / "run", tmp_path / "stopped"
    arguments = [f"algo={method}", *TINY]
    code, _, error = ibrl("train", f"run_dir={run}", *arguments)
    assert code == 0, error
    learning = [row for row in rows(run / "train.csv") if row["rounds"] != "0"]
    losses = [name for name in learning[0] if name.startswith("loss")]
    assert losses and all(math.isfinite(float(row[name])) for row in learning for name in losses)
    for use in ("acting", "target"):
        for row in learning:
            shares = [float(row[f"proposal_share/{use}/{name}"]) for name in ("rl", "bc")]
            assert sum(shares) == pytest.approx(1, abs=1e-5)

    assert ibrl_until("checkpoint.pt", f"run_dir={stopped}", *arguments)[0] != 0
    assert not (stopped / "evaluation.csv").exists()
    code, output, error = ibrl("train", f"resume={stopped}")
    assert code == 0 and "resuming from frame" in output, error
    for name in ("train.csv", "eval.csv", "evaluation.csv"):
        assert timeless(stopped / name) == timeless(run / name)
    expected = load_checkpoint(run / "checkpoint.pt", "ibrl", {})[1]["loss"]
    for key, value in load_checkpoint(stopped / "checkpoint.pt", "ibrl", {})[1]["loss"].items():
        assert torch.equal(value, expected[key]), key

    out = tmp_path / "episodes.csv"
    code, output, error = ibrl(
        "eval", run, "episodes=2", "workers=0", f"out={out}", "--video", "video_episodes=1"
    )
    assert code == 0, error
    assert [line.split()[0] for line in output.splitlines()[1:4]] == ["hybrid", "rl", "bc"]
    assert rows(out) == rows(run / "evaluation.csv") and (run / "video.mp4").exists()
    code, output, error = ibrl("diagnose", run, "episodes=1", "num_states=1")
    assert code == 0, error
