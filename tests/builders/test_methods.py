"""Methods of ``configs/algo``: what each sets, and the numbers of one update that follow.

Networks are replaced by functions with known values: the RL actor's action is -0.5 everywhere, the
imitation policy's 0.5, and every critic values an action at its first number.
"""

import csv
import json
import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from support.known_networks import (
    constant_policy,
    dropout_probabilities,
    layer_tensors,
    set_constant_actor,
    set_known_networks,
)
from support.parts import episode, transitions
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.networks import build_feature_critics
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.config.compose import composed, config_directory
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.data.replay import ReplayWithDemos
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import HLGauss, Normalize
from ibrl_torchrl.training.loop import Counters
from ibrl_torchrl.training.reinforcement import schedule_learning

ALGOS = sorted(path.stem for path in (config_directory() / "algo").glob("*.yaml"))
# Methods of other losses and of edited actions: test_proposal_methods.py.
OTHERS = {"expo", "residual", "ibrl_residual", "ibrl_sac", "ibrl_tqc", "ibrl_redq_sac"}
STATE_ALGOS = [name for name in ALGOS if not name.endswith("_pixels") and name not in OTHERS]
RL, BC, GAMMA = -0.5, 0.5, 0.99


class Terms(NamedTuple):
    """Numbers of an update that a method may change; the defaults are IBRL's."""

    executed: float = BC  # first number of the executed action
    warm_up: float | None = BC  # first number of the warm-up's action; None: random
    target: float = GAMMA * BC  # of a step without reward
    actor_loss: float = -RL  # demonstrations hold the action 0
    dropout: float = 0.5
    actor_init: bool = False  # the actor starts as the imitation policy
    num_critics: int = 3
    critic_updates: int = 2
    offline_fraction: float | None = None
    rewards: tuple[float, float] = (1.0, 1.0)  # of a demonstration and of an online episode
    keep_successes: bool = False
    imitate_successes: bool = False


WITHOUT_PROPOSALS = {"executed": RL, "target": GAMMA * RL}
EXPLORATION_ACTOR = ["algo.exploration_actor=true", "algo.exploration_bootstrap=true"]
HALF = {"warm_up": None, "offline_fraction": 0.5}
BC_TERM = 0.1 * 4 * RL**2  # alpha ||a - pi(s)||^2 over four numbers
TERMS = {
    "ibrl": Terms(),
    "ibrl_self_imitation": Terms(),
    "ibrl_soft": Terms(),
    "ibrl_cautious": Terms(),
    "ibrl_no_dropout": Terms(dropout=0.0),
    "ibrl_redq": Terms(num_critics=5, critic_updates=5),
    "actor_proposal": Terms(target=GAMMA * RL),
    "bootstrap_proposal": Terms(executed=RL),
    "td3": Terms(**WITHOUT_PROPOSALS),
    "rlpd": Terms(**WITHOUT_PROPOSALS, **HALF, dropout=0.0),
    "rlpd_plus": Terms(**WITHOUT_PROPOSALS, **HALF, keep_successes=True),
    "rft": Terms(**WITHOUT_PROPOSALS, actor_loss=-RL + BC_TERM, actor_init=True),
    "rft_dynamic": Terms(**WITHOUT_PROPOSALS, actor_loss=-RL + BC_TERM, actor_init=True),
    "sqil": Terms(**WITHOUT_PROPOSALS, **HALF, rewards=(3.0, 0.0)),
    "ibrl_plus": Terms(
        actor_loss=-RL + 5 * BC_TERM,
        dropout=0.2,
        actor_init=True,
        offline_fraction=0.5,
        keep_successes=True,
        imitate_successes=True,
    ),
}


class Specs:
    """Specs of an environment, without its dynamics."""

    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(state=Unbounded(2))


def config(algo, *overrides):
    sizes = ["algo.actor.hidden=[1]", "algo.critic.hidden=[1]", "imitation.bc.network.hidden=[1]"]
    sizes += ["algo.critic.layer_norm=false", "replay.batch_size=8", "replay.n_steps=1"]
    without_noise = ["algo.loss.policy_noise=0", "algo.exploration_noise=0"]
    return parse(
        TrainConfig, composed("train", [f"algo={algo}", *sizes, *without_noise, *overrides])
    )


def build(settings):
    """Agent with a random actor and random critics."""
    dropout = settings.imitation["bc"].network.dropout
    policies = {"bc": constant_policy("bc", BC, 4, dropout)}
    normalizers = {"state": Normalize.identity(2)}
    return build_agent(settings.algo, policies, normalizers, Specs(), torch.device("cpu"))


def build_known(settings):
    """Agent with an actor and critics of known values."""
    return set_known_networks(build(settings), RL)


def replay(settings, agent, tmp_path):
    """Replay of one demonstration, states 0 to 3, and one online episode, states 10 to 13."""
    demo = episode(3, success=True)
    demo["action"] = torch.zeros(3, 4)
    filled = build_replay(settings.replay, agent.loss.in_keys, GAMMA, [demo], tmp_path)
    online = demo.clone()
    online["state"] = online["state"] + 10
    filled.extend(online)
    return filled


def one_batch():
    td = transitions(8, action_size=4)
    return td.set("demo", transitions(8, action_size=4, action=0.0))


@pytest.mark.parametrize("algo", STATE_ALGOS)
def test_terms_of_an_update(algo, tmp_path):
    expected, settings = TERMS[algo], config(algo)
    agent = build(settings)
    initial = agent.loss.actor_network(one_batch())["rl_action"].detach()
    assert torch.allclose(initial, torch.tensor(BC)) == expected.actor_init
    assert dropout_probabilities(agent.loss.actor_network) == (
        [expected.dropout] if expected.dropout else []
    )
    set_known_networks(agent, RL)

    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        torch.manual_seed(0)
        executed = agent.explore(one_batch())["action"]
        warm_up = torch.stack([agent.warmup(one_batch()[0])["action"] for _ in range(8)])
    assert executed[:, 0].tolist() == pytest.approx([expected.executed] * 8)
    if expected.warm_up is None:
        assert warm_up.unique().numel() > 1 and warm_up.abs().max() <= 1
    else:
        assert warm_up.unique().tolist() == pytest.approx([expected.warm_up])

    _, info = agent.loss.qvalue_loss(one_batch())
    assert info["pred_value"].shape == (8, expected.num_critics)
    assert info["target_value"].flatten().tolist() == pytest.approx([expected.target] * 8)
    loss, _ = agent.loss.actor_loss(one_batch())
    assert loss.item() == pytest.approx(expected.actor_loss)
    assert settings.algo.update.critic_updates == expected.critic_updates

    filled = replay(settings, agent, tmp_path)
    batch = filled.sample()
    assert isinstance(filled, ReplayWithDemos) == (settings.algo.loss.bc_weight > 0)
    if isinstance(filled, ReplayWithDemos):
        imitates_online = bool((batch["demo", "state"] >= 10).any())
        assert imitates_online == expected.imitate_successes and (batch["state"] >= 10).any()
        filled = filled.replay
    if expected.offline_fraction is None:
        assert sum_of_rewards(filled) == sum(expected.rewards) and len(filled) == 6
    else:
        assert batch["is_demo"].float().mean() == expected.offline_fraction
        assert sum_of_rewards(filled.online) == expected.rewards[1]
        episodes = 2 if expected.keep_successes else 1
        assert len(filled.demos) == 3 * episodes
        assert sum_of_rewards(filled.demos) == expected.rewards[0] * episodes


@pytest.mark.parametrize("settings", [["ibrl_plus", *EXPLORATION_ACTOR], ["rft_dynamic"], ["expo"]])
def test_terms_compile_without_a_graph_break(settings):
    agent = build(config(*settings))
    if "loss_exploration" in agent.terms:
        agent.loss.set_exploration_bootstrap(True)
    for term in agent.terms.values():
        compiled = torch.compile(term.loss, backend="eager", fullgraph=True)
        losses = []
        for function in (term.loss, compiled):
            torch.manual_seed(0)
            losses.append(function(one_batch())[0])
        assert torch.allclose(*losses)


def sum_of_rewards(buffer):
    return buffer[:]["next", "reward"].sum().item()


def test_terms_are_stated_for_every_method_of_states():
    assert {*TERMS} == {*STATE_ALGOS}


def test_ibrl_soft_samples_the_executed_proposal():
    agent = build_known(config("ibrl_soft", "algo.proposals.beta=1"))
    torch.manual_seed(0)
    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        executed = agent.explore(transitions(4000, action_size=4))
    share = (executed["proposal"] == 1).float().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(RL - BC)), abs=0.03)


@pytest.mark.parametrize("algo", ["ibrl", "expo", "rft"])
def test_histograms_of_values_serve_td3s_methods(algo):
    settings = ["algo.critic.output=hl_gauss", "algo.critic.bins=51", "algo.critic.v_min=-0.2"]
    settings += ["algo.critic.v_max=2", "algo.critic.sigma_ratio=0.5"]
    loss = build(config(algo, *settings)).loss
    output = loss.qvalue_network.module.output
    assert (output.v_min, output.v_max, output.size) == (-0.2, 2.0, 51)
    assert output.sigma == pytest.approx(0.5 * 2.2 / 51)
    value, info = loss.qvalue_loss(one_batch())
    value.backward()
    assert info["pred_value"].shape == (8, 3) and math.log(51) > value.item() / 3 > 0


def test_histograms_of_values_from_pixels():
    overrides = ["experiment=small_pixels", "algo.critic.output=hl_gauss"]
    critic = parse(TrainConfig, composed("train", overrides)).algo.critic
    normalizers = {"proprio": Normalize.identity(3)}
    encoder = parse(TrainConfig, composed("train", overrides)).algo.encoder
    network = build_feature_critics(critic, encoder, (4, 3), normalizers, 2)
    assert isinstance(network.output, HLGauss)


def test_rft_dynamic_drops_the_bc_term_where_the_actor_scores_higher():
    agent = build_known(config("rft_dynamic"))
    set_constant_actor(layer_tensors(agent.loss.actor_network_params), 0.75)
    loss, info = agent.loss.actor_loss(one_batch())
    assert info["q_filter_rate"].item() == 0.0 and loss.item() == pytest.approx(-0.75)
    fixed = build_known(config("rft"))
    set_constant_actor(layer_tensors(fixed.loss.actor_network_params), 0.75)
    loss, info = fixed.loss.actor_loss(one_batch())
    assert info["q_filter_rate"].item() == 1.0
    assert loss.item() == pytest.approx(-0.75 + 0.1 * 4 * 0.75**2)


def test_q_filter_begins_after_its_frames_while_no_fallback_acts():
    settings = config(
        "ibrl_plus", "algo.loss.q_filter_after=100", "algo.loss.q_filter_episodes=null"
    )
    agent = build_known(settings)
    set_constant_actor(layer_tensors(agent.loss.actor_network_params), 0.75)
    rates = {}
    for is_passed in (False, True):
        for frames in (99, 100):
            agent.fallback.test.is_passed.fill_(is_passed)
            schedule_learning(agent, settings.algo, Counters(frames=frames, successes=[True]))
            info = agent.loss.actor_loss(one_batch())[1]
            rates[is_passed, frames] = info["q_filter_rate"].item()
    assert rates == {(False, 99): 1.0, (False, 100): 1.0, (True, 99): 1.0, (True, 100): 0.0}


@pytest.mark.parametrize(
    ("episodes", "successes", "rate"),
    [
        ("null", [True, True], 0.0),
        ("4", [], 0.0),
        ("4", [False, True, True, True, False], 0.5),
        ("4", [True] * 4, 1.0),
    ],
)
def test_q_filter_without_a_fallback_begins_at_once_by_recent_failures(episodes, successes, rate):
    settings = config(
        "rft_dynamic", f"algo.loss.q_filter_episodes={episodes}", "algo.warmup.episodes=0"
    )
    agent = build_known(settings)
    set_constant_actor(layer_tensors(agent.loss.actor_network_params), 0.75)
    schedule_learning(agent, settings.algo, Counters(successes=successes))
    assert agent.loss.actor_loss(one_batch())[1]["q_filter_rate"].item() == rate


def test_rft_dropout_of_imitation_policy_and_actor_may_differ():
    settings = config("rft", "imitation.bc.network.dropout=0.3", "algo.actor.dropout=0.0")
    agent = build(settings)
    initial = agent.loss.actor_network(one_batch())["rl_action"]
    assert torch.allclose(initial, torch.tensor(BC))


def test_sqil_differs_from_rlpd_plus_in_rewards_alone():
    plus, sqil = config("rlpd_plus"), config("sqil")
    changed = {"keep_successes": False, "offline_reward": 1.0, "online_reward": 0.0}
    assert sqil.replay == replace(plus.replay, **changed)
    assert sqil.algo == replace(plus.algo, name="sqil")


def test_method_keeps_other_settings_of_the_experiment():
    settings = config("rlpd", "experiment=paper_square")
    assert settings.algo.critic.num_critics == 5 and settings.replay.capacity == 500_000
    assert settings.replay.offline_fraction == 0.5 and not settings.replay.keep_successes


@pytest.mark.parametrize(
    ("experiment", "algo"),
    [("paper_pixels", "rlpd_pixels"), ("paper_can_pixels", "rft_pixels")],
)
def test_methods_from_pixels(experiment, algo):
    settings = parse(TrainConfig, composed("train", [f"experiment={experiment}", f"algo={algo}"]))
    bc = settings.imitation["bc"]
    if algo == "rlpd_pixels":
        assert settings.algo.encoder.network == "drq" and settings.algo.actor.dropout == 0.0
        assert settings.algo.critic.head == "drq"
        assert bc.encoder.network == "resnet18"
    else:
        assert bc.encoder == settings.algo.encoder
        assert bc.network == settings.algo.actor


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["algo=rft", "imitation.bc.network.hidden=[8]"],
            r"imitation.bc.network.hidden=\[8\] must be algo.actor",
        ),
        (
            ["algo=rft", "experiment=paper_pixels"],
            "imitation.bc.network.head=flatten must be algo.actor",
        ),
        (["algo=ibrl", "algo.loss.q_filter=true"], "q_filter=True must be false unless"),
        (["algo=ibrl", "algo.warmup.policy=none"], "algo.warmup.policy 'none'; known are bc"),
        (["algo=ibrl", "replay.offline_reward=1"], "offline_reward=1.0 must be replay.online_rew"),
        (["algo=ibrl", "algo.loss.bc_weight=-1"], "algo.loss.bc_weight=-1.0 must be at least 0"),
    ],
)
def test_inconsistent_settings_are_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        parse(TrainConfig, composed("train", overrides))


def test_hybrid_and_rl_are_one_policy_without_acting_proposals():
    agent = build(config("td3"))
    assert agent.policies["hybrid"] is agent.policies["rl"]


TINY = [
    *("collector.workers=0", "demos.episodes=3", "imitation.bc.steps=20", "total_frames=120"),
    *("algo.warmup.episodes=1", "algo.update.frames_per_round=10", "task.horizon=40"),
    *("log.every=1", "eval.every=1000", "eval.final_episodes=1"),
]


@pytest.mark.simulator
@pytest.mark.parametrize("algo", ["rlpd_plus", "rft_dynamic", "sqil"])
def test_run_of_a_method(ibrl, box_close_demos, tmp_path, algo):
    run = tmp_path / algo
    code, _, errors = ibrl(
        "train", f"algo={algo}", f"demos.path={box_close_demos}", f"run_dir={run}", *TINY
    )
    assert code == 0, errors
    rows = [*csv.DictReader((run / "train.csv").open())]
    assert math.isfinite(float(rows[-1]["loss_actor"]))
    assert {row["proposal_share/acting/bc"] for row in rows[1:]} == {"0"}
    learning = [row for row in rows if row["rounds"] != "0"]
    assert learning
    if algo == "rft_dynamic":
        assert all(0 <= float(row["q_filter_rate"]) <= 1 for row in learning)
        assert all(float(row["bc_loss"]) > 0 for row in learning)
    else:
        assert "q_filter_rate" not in rows[0] and "bc_loss" not in rows[0]
    code, output, _ = ibrl("eval", run, "episodes=1")
    assert code == 0 and "hybrid" in output


@pytest.mark.simulator
def test_methods_of_one_seed_share_demonstrations_and_imitation_policy(ibrl, tmp_path):
    pytest.importorskip("metaworld")
    inputs = {}
    for algo, seed in (("td3", 1), ("sqil", 1), ("sqil", 2)):
        run = tmp_path / f"{algo}-{seed}"
        arguments = [f"algo={algo}", f"seed={seed}", f"run_dir={run}", *TINY, "task.horizon=80"]
        code, _, errors = ibrl("train", *arguments)
        assert code == 0, errors
        inputs[algo, seed] = json.loads((run / "run.json").read_text())["inputs"]
    assert inputs["td3", 1].keys() == {"demos", "bc"}
    assert inputs["td3", 1] == inputs["sqil", 1]
    assert inputs["sqil", 1]["bc"] != inputs["sqil", 2]["bc"]
    assert inputs["sqil", 1]["demos"] == inputs["sqil", 2]["demos"]  # of demos.seed
