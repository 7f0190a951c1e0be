"""Each method of the comparison: what it sets, and which numbers of an update that changes.

All numbers are of agents as ``configs/algo`` composes them, with networks replaced by ones that
can be worked out: the RL actor always answers -0.5, the BC policy 0.5, and every critic values an
action at its first number.
"""

import csv
import json
import math
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from support.parts import episode, transitions
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.agent import bc_policy, build_agent
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.config.compose import composed, config_directory
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import Normalize, StateActor

ALGOS = sorted(path.stem for path in (config_directory() / "algo").glob("*.yaml"))
STATE_ALGOS = [name for name in ALGOS if not name.endswith("_pixels")]
RL, BC, GAMMA = -0.5, 0.5, 0.99


class Terms(NamedTuple):
    """What of an update a method may change; the defaults are IBRL's."""

    acts: float = BC  # the first number of the action that is executed
    warm_up: float | None = BC  # of the warm-up's action; None: it is random
    target: float = GAMMA * BC  # of a step without reward
    actor_loss: float = -RL  # demonstrations hold the action 0
    dropout: float = 0.5
    starts_as_bc: bool = False
    critics: int = 3
    critic_updates: int = 2
    demos: float | None = None  # share of the batch
    rewards: tuple[float, float] = (1.0, 1.0)  # of an episode, demonstrated and own
    own_successes_are_demos: bool = False


WITHOUT_PROPOSALS = {"acts": RL, "target": GAMMA * RL}
HALF = {"warm_up": None, "demos": 0.5}
BC_TERM = 0.1 * 4 * RL**2  # alpha ||a - pi(s)||^2 over four numbers
TERMS = {
    "ibrl": Terms(),
    "ibrl_soft": Terms(),
    "ibrl_no_dropout": Terms(dropout=0.0),
    "ibrl_redq": Terms(critics=5, critic_updates=5),
    "actor_proposal": Terms(target=GAMMA * RL),
    "bootstrap_proposal": Terms(acts=RL),
    "td3": Terms(**WITHOUT_PROPOSALS),
    "rlpd": Terms(**WITHOUT_PROPOSALS, **HALF, dropout=0.0),
    "rlpd_plus": Terms(**WITHOUT_PROPOSALS, **HALF, own_successes_are_demos=True),
    "rft": Terms(**WITHOUT_PROPOSALS, actor_loss=-RL + BC_TERM, starts_as_bc=True),
    "rft_dynamic": Terms(**WITHOUT_PROPOSALS, actor_loss=-RL + BC_TERM, starts_as_bc=True),
    "sqil": Terms(**WITHOUT_PROPOSALS, **HALF, rewards=(3.0, 0.0)),
}


class Specs:
    """What an agent needs to know of an environment."""

    action_spec = Bounded(-1.0, 1.0, shape=(4,))
    observation_spec = Composite(state=Unbounded(2))


def config(algo, *overrides):
    sizes = ["algo.actor.hidden=[1]", "algo.critic.hidden=[1]", "bc.network.hidden=[1]"]
    known = ["algo.critic.layer_norm=false", "algo.policy_noise=0", "algo.exploration_noise=0"]
    short = ["replay.batch_size=8", "replay.n_steps=1"]
    return parse(
        TrainConfig, composed("train", [f"algo={algo}", *sizes, *known, *short, *overrides])
    )


@torch.no_grad()
def answer(actor, value):
    """Make an actor propose ``value`` everywhere."""
    *_, weight, bias = actor.parameters()
    weight.zero_()
    bias.fill_(math.atanh(value))


@torch.no_grad()
def value_first_number(critics):
    """Make critics value an action at its first number: relu(a_0 + 1) - 1."""
    first, first_bias, last, last_bias = critics.parameters()
    first.zero_()
    first[:, 2] = 1.0  # after the state's two numbers
    first_bias.fill_(1.0)
    last.fill_(1.0)
    last_bias.fill_(-1.0)


def build(settings):
    scale = Normalize.identity(2)
    bc = StateActor(scale, 4, hidden=[1], dropout=settings.bc.network.dropout)
    answer(bc, BC)
    agent = build_agent(
        settings.algo, bc_policy(bc), {"state": scale}, Specs(), torch.device("cpu")
    )
    return agent


def known(agent):
    """Give an agent the networks that can be worked out."""
    loss = agent.loss
    for actor in (loss.actor_network_params, loss.target_actor_network_params):
        answer(Parameters(actor), RL)
    for critics in (loss.qvalue_network_params, loss.target_qvalue_network_params):
        value_first_number(Parameters(critics))
    return agent


class Parameters:
    """The tensors of a loss's network in the order of its layers, buffers left out."""

    def __init__(self, params):
        self._tensors = [
            value
            for key, value in params.items(include_nested=True, leaves_only=True)
            if "standardize" not in key
        ]

    def parameters(self):
        return self._tensors


def replay(settings, tmp_path):
    demo = episode(3, success=True)
    demo["action"] = torch.zeros(3, 4)
    filled = build_replay(
        settings.replay,
        GAMMA,
        [demo],
        tmp_path,
        keys=["state"],
        bring_demos=settings.algo.bc_weight > 0,
    )
    own = demo.clone()
    own["state"] = own["state"] + 10
    filled.extend(own)
    return filled


def one_batch():
    td = transitions(8, action_size=4)
    return td.set("demo", transitions(8, action_size=4, action=0.0))


@pytest.mark.parametrize("algo", STATE_ALGOS)
def test_the_terms_of_the_update(algo, tmp_path):
    expected, settings = TERMS[algo], config(algo)
    agent = build(settings)
    starts = agent.loss.actor_network(one_batch())["rl_action"].detach()
    assert torch.allclose(starts, torch.tensor(BC)) == expected.starts_as_bc
    assert [m.p for m in agent.loss.actor_network.modules() if isinstance(m, torch.nn.Dropout)] == (
        [expected.dropout] if expected.dropout else []
    )
    known(agent)

    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        torch.manual_seed(0)
        acted = agent.explore(one_batch())["action"]
        warmed = torch.stack([agent.warmup(one_batch()[0])["action"] for _ in range(8)])
    assert acted[:, 0].tolist() == pytest.approx([expected.acts] * 8)
    if expected.warm_up is None:
        assert warmed.unique().numel() > 1 and warmed.abs().max() <= 1
    else:
        assert warmed.unique().tolist() == pytest.approx([expected.warm_up])

    _, info = agent.loss.qvalue_loss(one_batch())
    assert info["pred_value"].shape == (8, expected.critics)
    assert info["target_value"].flatten().tolist() == pytest.approx([expected.target] * 8)
    loss, _ = agent.loss.actor_loss(one_batch())
    assert loss.item() == pytest.approx(expected.actor_loss)
    assert agent.learner.critic_updates == expected.critic_updates

    held = replay(settings, tmp_path)
    batch = held.sample()
    if settings.algo.bc_weight > 0:
        assert (batch["demo", "state"] < 10).all() and (batch["state"] >= 10).any()
        held = held.replay
    if expected.demos is None:
        assert earned(held) == sum(expected.rewards) and len(held) == 6
    else:
        assert batch["is_demo"].float().mean() == expected.demos
        assert earned(held.online) == expected.rewards[1]
        episodes = 2 if expected.own_successes_are_demos else 1
        assert len(held.demos) == 3 * episodes
        assert earned(held.demos) == expected.rewards[0] * episodes


def earned(buffer):
    return buffer[:]["next", "reward"].sum().item()


def test_every_method_is_described():
    assert {*TERMS} == {*STATE_ALGOS}


def test_the_soft_choice_is_a_draw():
    agent = known(build(config("ibrl_soft", "algo.beta=1")))
    torch.manual_seed(0)
    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        acted = agent.explore(transitions(4000, action_size=4))
    share = (acted["proposal"] == 1).float().mean().item()
    assert share == pytest.approx(1 / (1 + math.exp(RL - BC)), abs=0.03)


def test_the_dynamic_weight_is_gone_when_the_actor_scores_higher():
    agent = known(build(config("rft_dynamic")))
    answer(Parameters(agent.loss.actor_network_params), 0.75)
    loss, info = agent.loss.actor_loss(one_batch())
    assert info["bc_share"].item() == 0.0 and loss.item() == pytest.approx(-0.75)
    fixed = known(build(config("rft")))
    answer(Parameters(fixed.loss.actor_network_params), 0.75)
    loss, info = fixed.loss.actor_loss(one_batch())
    assert loss.item() == pytest.approx(-0.75 + 0.1 * 4 * 0.75**2)


def test_dropout_of_the_pretrained_policy_and_of_the_actor_may_differ():
    settings = config("rft", "bc.network.dropout=0.3", "algo.actor.dropout=0.0")
    agent = build(settings)
    started = agent.loss.actor_network(one_batch())["rl_action"]
    assert torch.allclose(started, torch.tensor(BC))


def test_sqil_and_rlpd_differ_in_their_rewards_alone():
    plus, sqil = config("rlpd_plus"), config("sqil")
    changed = {"keep_successes": False, "demo_reward": 1.0, "online_reward": 0.0}
    assert sqil.replay == replace(plus.replay, **changed)
    assert sqil.algo == replace(plus.algo, name="sqil")


def test_the_experiment_keeps_its_own_where_a_method_says_nothing():
    settings = config("rlpd", "experiment=paper_square")
    assert settings.algo.critic.number == 5 and settings.replay.capacity == 500_000
    assert settings.replay.demo_share == 0.5 and not settings.replay.keep_successes


@pytest.mark.parametrize(
    ("experiment", "algo"),
    [("paper_pixels", "rlpd_pixels"), ("paper_can_pixels", "rft_pixels")],
)
def test_methods_from_pixels(experiment, algo):
    settings = parse(TrainConfig, composed("train", [f"experiment={experiment}", f"algo={algo}"]))
    if algo == "rlpd_pixels":
        assert settings.algo.encoder.network == "drq" and settings.algo.actor.dropout == 0.0
        assert settings.algo.critic.embedding == "compressed"
        assert settings.bc.encoder.network == "resnet18"
    else:
        assert settings.bc.encoder == settings.algo.encoder
        assert settings.bc.network == settings.algo.actor


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algo=rft", "bc.network.hidden=[8]"], r"bc.network.hidden=\[8\] must be algo.actor"),
        (["algo=rft", "experiment=paper_pixels"], "bc.network.embedding=flat must be algo.actor"),
        (["algo=ibrl", "algo.bc_filter=true"], "bc_filter=True must be false unless"),
        (["algo=ibrl", "algo.warmup=none"], "algo.warmup=none must be one of bc, uniform"),
        (["algo=ibrl", "replay.demo_reward=1"], "demo_reward=1.0 must be replay.online_reward"),
        (["algo=ibrl", "algo.bc_weight=-1"], "algo.bc_weight=-1.0 must be 0 or more"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        parse(TrainConfig, composed("train", overrides))


TINY = [
    "collector.workers=0",
    *("demos.episodes=3", "bc.steps=20", "frames=120", "algo.warmup_episodes=1"),
    *("task.horizon=40", "algo.update_every=10", "log.every=1"),
    *("eval.every=1000", "eval.final_episodes=1"),
]


@pytest.mark.parametrize("algo", ["rlpd_plus", "rft_dynamic", "sqil"])
def test_a_run_of_a_method(ibrl, box_close_demos, tmp_path, algo):
    run = tmp_path / algo
    code, _, errors = ibrl(
        "train", f"algo={algo}", f"demos.path={box_close_demos}", f"run_dir={run}", *TINY
    )
    assert code == 0, errors
    rows = [*csv.DictReader((run / "train.csv").open())]
    assert math.isfinite(float(rows[-1]["loss_actor"]))
    assert {row["il_share"] for row in rows[1:]} == {"0"}
    shares = [row["bc_share"] for row in rows if row["rounds"] != "0"]
    assert shares and all((0 <= float(x) <= 1) if algo == "rft_dynamic" else not x for x in shares)
    code, output, _ = ibrl("eval", run, "episodes=1")
    assert code == 0 and "hybrid" in output


def test_methods_of_one_seed_begin_alike(ibrl, tmp_path):
    inputs = {}
    for algo, seed in (("td3", 1), ("sqil", 1), ("sqil", 2)):
        run = tmp_path / f"{algo}-{seed}"
        arguments = [f"algo={algo}", f"seed={seed}", f"run_dir={run}", *TINY, "task.horizon=80"]
        code, _, errors = ibrl("train", *arguments)
        assert code == 0, errors
        inputs[algo, seed] = json.loads((run / "run.json").read_text())["inputs"]
    assert inputs["td3", 1] == inputs["sqil", 1]
    assert inputs["sqil", 1]["bc"] != inputs["sqil", 2]["bc"]
    assert inputs["sqil", 1]["demos"] == inputs["sqil", 2]["demos"]  # of demos.seed


def test_without_acting_proposals_hybrid_and_rl_are_one_policy_evaluated_once():
    agent = build(config("td3"))
    assert agent.policies["hybrid"] is agent.policies["rl"]
