"""Every kind of imitation policy in ``ibrl bc`` and ``ibrl train``, saved, loaded, refused."""

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.parts import Countdown
from tensordict import TensorDict
from torchrl.data import Composite, Unbounded

from ibrl_torchrl.builders.agent import build_agent
from ibrl_torchrl.builders.imitation import load_policies, policy_module, policy_path
from ibrl_torchrl.builders.policies import (
    POLICY_KINDS,
    build_imitation_policy,
    imitation_loss,
    shape_meta,
)
from ibrl_torchrl.config.commands import DaggerRunConfig
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.imitation import POLICIES, ACTConfig, GMMRNNConfig, ImitationConfig
from ibrl_torchrl.config.networks import EncoderConfig, NetworkConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import FrozenPolicy, Normalize, SampledProposals
from ibrl_torchrl.runs.checkpoint import load_checkpoint

KINDS = [kind for kind in POLICIES if kind != "mlp"]
RECURRENT = ["imitation.bc.policy=gmm_rnn", "replay.cache_proposals=true"]
TASK = ["task=metaworld/handle-press", "task.horizon=30", "demos.episodes=1"]
POLICY = "network: {hidden: [16]}, steps: 20"
NAMED = [
    "imitation.bc.network.hidden=[16]",
    "imitation.bc.steps=20",
    *(f"+imitation.{kind}={{policy: {kind}, {POLICY}}}" for kind in KINDS),
]

TINY_RUN = [
    *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.warmup.episodes=1"),
    *("algo.update.frames_per_round=10", "replay.batch_size=16", "total_frames=80"),
    *("log.every=1", "eval.every=60", "eval.episodes=1", "eval.final_episodes=1"),
    "collector.workers=0",
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


def test_registry_has_the_kinds_of_the_settings():
    assert (*POLICY_KINDS,) == POLICIES
    assert shape_meta(ImitationConfig()) == {}
    flow = ImitationConfig(policy="flow")
    assert shape_meta(flow) == {"policy": "flow", "network.hidden": [256, 256, 256]}
    assert flow.stochastic and not ImitationConfig().stochastic


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["imitation.bc.policy=flow", "replay.cache_proposals=true"],
            r"^replay\.cache_proposals=True must be false with imitation\.bc\.policy=flow, ",
        ),
        (
            ["imitation.bc.policy=gmm", "algo=rft"],
            r"^imitation\.bc\.policy=gmm must be mlp or cvae, for algo\.actor_init=bc initialises",
        ),
        (
            ["imitation.bc.policy=vae"],
            r"^imitation\.bc\.policy=vae must be one of mlp, gmm, cvae, flow, diffusion, "
            r"gmm_rnn, act$",
        ),
        (
            ["imitation.bc.act.width=30"],
            r"^imitation\.bc\.act\.width=30 must be even and a multiple of "
            r"imitation\.bc\.act\.heads=4$",
        ),
        (
            ["imitation.bc.policy=gmm_rnn"],
            r"^replay\.cache_proposals=False must be true with imitation\.bc\.policy=gmm_rnn, "
            r"whose actions depend on the episode, not on s' alone$",
        ),
        (
            [*RECURRENT, "algo.proposals.samples=4"],
            r"^algo\.proposals\.samples=4 must be 1 with imitation\.bc\.policy=gmm_rnn, which ",
        ),
        (
            [*RECURRENT, "algo=residual"],
            r"^algo\.residual\.base=bc must be another policy; imitation\.bc\.policy=gmm_rnn has ",
        ),
        (
            [
                *("imitation.bc.policy=gmm_rnn", "algo.proposals.bootstrap.policies=[rl]"),
                "imitation.bc.self_imitation.every=500",
            ],
            r"^imitation\.bc\.self_imitation\.every=500 must be null with "
            r"imitation\.bc\.policy=gmm_rnn, which learns from windows$",
        ),
        (
            [*RECURRENT, "imitation.bc.chunk.size=4"],
            r"^imitation\.bc\.chunk\.size=4 must be 1 with imitation\.bc\.policy=gmm_rnn$",
        ),
        (
            [*RECURRENT, "experiment=small_pixels"],
            r"^imitation\.bc\.encoder=vit must be null with imitation\.bc\.policy=gmm_rnn$",
        ),
        (
            [*RECURRENT, "+imitation.other={policy: flow}"],
            r"^replay\.cache_proposals=True must be false with imitation\.other\.policy=flow, ",
        ),
        (
            ["imitation.bc.diffusion.steps=5"],
            r"^imitation\.bc\.diffusion\.steps=5 must be at least 10 and at most 1000$",
        ),
    ],
)
def test_unsupported_combinations_are_refused_with_the_remedy(settings, message):
    with pytest.raises(UsageError, match=message):
        parse(TrainConfig, composed("train", ["algo=ibrl", *settings]))


def test_dagger_refuses_a_policy_with_a_state():
    message = r"^imitation\.bc\.policy=gmm_rnn must be a policy without a state, "
    with pytest.raises(UsageError, match=message):
        parse(DaggerRunConfig, composed("dagger", ["imitation.bc.policy=gmm_rnn"]))


def test_candidates_are_samples_of_stochastic_policies_and_noisy_copies_of_others():
    normalizers = {"state": Normalize.identity(2)}
    env = Countdown(3)
    policies = {}
    for name, kind in (("bc", "mlp"), ("other", "flow")):
        policy = ImitationConfig(policy=kind, network=NetworkConfig(hidden=[8], dropout=0.0))
        network = build_imitation_policy(policy, normalizers, env.observation_spec, 1).eval()
        policies[name] = FrozenPolicy(policy_module(network, None, name))
    names = "[rl,bc,other]"
    proposals = [f"algo.proposals.{use}.policies={names}" for use in ("acting", "bootstrap")]
    other = "+imitation.other={policy: flow}"
    several = ["algo=ibrl", other, "algo.proposals.samples=4", *proposals]
    config = parse(TrainConfig, composed("train", several))
    agent = build_agent(config.algo, policies, normalizers, env, torch.device("cpu"))
    found = [module for module in agent.explore.modules() if isinstance(module, SampledProposals)]
    assert [(module.out_keys, module.noise_std) for module in found] == [
        (["bc_action"], 0.1),
        (["other_action"], None),
    ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gmm_rnn"])
def test_policies_of_images_learn_in_every_parameter(kind):
    torch.manual_seed(0)
    encoder = EncoderConfig(network="drq", cameras=["corner"], proprio=True)
    policy = ImitationConfig(policy=kind, encoder=encoder, network=NetworkConfig(hidden=[8]))
    spec = Composite(corner_image=Unbounded((3, 36, 36), dtype=torch.uint8))
    network = build_imitation_policy(policy, {"proprio": Normalize.identity(4)}, spec, 2)
    batch = TensorDict(
        corner_image=torch.randint(255, (5, 3, 36, 36), dtype=torch.uint8),
        proprio=torch.randn(5, 4),
        action=torch.zeros(5, 2),
        batch_size=[5],
    )
    terms = imitation_loss(network, policy)(batch.copy())
    sum(term for name, term in terms.items() if name.startswith("loss_")).backward()
    missing = [name for name, value in network.named_parameters() if value.grad is None]
    assert not missing
    # Candidates are drawn from one encoding of the image.
    frozen = FrozenPolicy(policy_module(network, encoder, "bc"))
    sizes = []
    network.features.register_forward_hook(lambda _, inputs, out: sizes.append(out.shape[:-1]))
    assert SampledProposals(frozen, 7)(batch)["bc_action"].shape == (5, 7, 2)
    assert sizes == [(5,)]


@pytest.fixture(scope="module")
def bc_dir(tmp_path_factory):
    """Finished run of ``ibrl bc`` with a policy of each kind."""
    pytest.importorskip("metaworld")
    from ibrl_torchrl.cli import main as cli

    folder = tmp_path_factory.mktemp("kinds") / "bc"
    command = ["ibrl", "bc", f"run_dir={folder}", "eval.final_episodes=2", *TASK, *NAMED]
    argv, sys.argv = sys.argv, command
    try:
        cli.main()
    finally:
        sys.argv = argv
    return folder


@pytest.mark.slow
@pytest.mark.simulator
def test_bc_trains_and_evaluates_every_kind(bc_dir):
    names = ["bc", *KINDS]
    assert {path.name for path in (bc_dir / "imitation").iterdir()} == {f"{n}.pt" for n in names}
    assert [row["policy"] for row in rows(bc_dir / "evaluation.csv")[::2]] == names
    assert load_checkpoint(policy_path(bc_dir, "bc"), "imitation", {})[0] == {
        "task": "metaworld/handle-press",
        "relative_positions": "hand_pos, object1_pos, object2_pos, goal_pos",
    }
    meta = load_checkpoint(policy_path(bc_dir, "gmm"), "imitation", {})[0]
    assert (meta["policy"], meta["network.hidden"], meta["gmm.components"]) == ("gmm", [16], 5)


@pytest.mark.slow
@pytest.mark.simulator
def test_policies_are_loaded_exactly_by_name_and_refused_by_kind_and_shape(bc_dir):
    from ibrl_torchrl.builders.env import build_env
    from ibrl_torchrl.config.commands import BCRunConfig
    from ibrl_torchrl.runs.folder import read_config

    config = parse(BCRunConfig, read_config(bc_dir))
    env = build_env(config.task, torch.device("cpu"))
    loaded = load_policies(bc_dir, config.imitation, config.task, env)
    for name, network in loaded.items():
        stored = load_checkpoint(policy_path(bc_dir, name), "imitation", {})[1]["policy"]
        state = network.state_dict()
        assert state.keys() == stored.keys() and not network.training
        assert all(torch.equal(state[key], stored[key]) for key in stored)

    def refused(name, message, **changes):
        settings = {name: ImitationConfig(policy=name, **changes)}
        with pytest.raises(UsageError, match=message):
            load_policies(bc_dir, settings, config.task, env)

    before, hand = replace(config.task, relative_positions=[]), ["hand_pos", "gripper_opening"]
    for task, message in (
        (
            before,
            r"bc\.pt: was trained with task\.relative_positions=\[hand_pos, .*, not \[\]; set",
        ),
        (
            replace(before, state_parts=hand),
            r"task\.state_parts=null, not \[hand_pos, gripper_open",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            load_policies(bc_dir, {"bc": config.imitation["bc"]}, task, env)
    act = ACTConfig(heads=2)
    rnn = GMMRNNConfig(horizon=5)
    refused("gmm_rnn", r"NAME\.gmm_rnn\.horizon=10, not 5; set it so", gmm_rnn=rnn)
    refused("act", r"act\.pt: was trained with imitation\.NAME\.act\.heads=4, not 2", act=act)
    refused("gmm", r"gmm\.pt: was trained with imitation\.NAME\.network\.hidden=\[16\], not \[256")
    network = config.imitation["bc"].network
    different = ImitationConfig(policy="gmm", network=network)
    different.gmm.components = 3
    with pytest.raises(UsageError, match=r"imitation\.NAME\.gmm\.components=5, not 3; set it so"):
        load_policies(bc_dir, {"gmm": different}, config.task, env)
    for stored, kind in (("flow", "mlp"), ("bc", "flow"), ("cvae", "diffusion")):
        path = bc_dir / "imitation" / f"{stored}.pt"
        other = {stored: ImitationConfig(policy=kind, network=network)}
        held = "mlp" if stored == "bc" else stored
        with pytest.raises(UsageError, match=rf"{path}: .*NAME\.policy={held}, not {kind};"):
            load_policies(bc_dir, other, config.task, env)


@pytest.mark.slow
@pytest.mark.simulator
def test_samples_of_every_kind_propose_in_a_run(ibrl, bc_dir, tmp_path):
    kinds = [kind for kind in KINDS if kind != "gmm_rnn"]
    named = [setting for setting in NAMED if "gmm_rnn" not in setting]
    policies = ",".join(["rl", "bc", *kinds])
    run, copied = tmp_path / "run", tmp_path / "flow.pt"
    shutil.copy(policy_path(bc_dir, "flow"), copied)
    settings = [
        *(*TASK, *named, f"+imitation.flow.path={copied}", "algo.proposals.samples=3"),
        *(f"algo.proposals.{use}.policies=[{policies}]" for use in ("acting", "bootstrap")),
        *("algo.warmup.policy=flow", *TINY_RUN),
    ]
    code, _, error = ibrl("train", f"run_dir={run}", *settings)
    assert code == 0, error
    assert int(rows(run / "train.csv")[-1]["rounds"]) > 0
    final = rows(run / "evaluation.csv")
    assert [row["policy"] for row in final] == ["hybrid", "rl", "bc", *kinds]
    # The policy of a path is the one of that file.
    before, after = (
        load_checkpoint(path, "imitation", {})[1]["policy"]
        for path in (copied, policy_path(run, "flow"))
    )
    assert all(torch.equal(before[key], after[key]) for key in before)
    code, _, error = ibrl("eval", run, "episodes=1", "workers=0", f"out={tmp_path}/again.csv")
    assert code == 0, error
    assert rows(tmp_path / "again.csv") == final


@pytest.mark.slow
@pytest.mark.simulator
def test_a_recurrent_policy_proposes_by_stored_actions(ibrl, bc_dir, tmp_path):
    run, path = tmp_path / "run", policy_path(bc_dir, "gmm_rnn")
    settings = ["algo=ibrl", *TASK, *RECURRENT, f"imitation.bc.path={path}", *TINY_RUN]
    code, _, error = ibrl("train", f"run_dir={run}", *settings)
    assert code == 0, error
    trained = rows(run / "train.csv")[-1]
    assert int(trained["rounds"]) > 0 and float(trained["proposal_share/target/bc"]) >= 0
    final = rows(run / "evaluation.csv")
    code, _, error = ibrl("eval", run, "episodes=1", "workers=1", f"out={tmp_path}/again.csv")
    assert code == 0, error
    assert rows(tmp_path / "again.csv") == final
    code, _, error = ibrl("diagnose", run, "episodes=1", "num_states=2")
    assert code == 0, error
    # Alone it is evaluated with the same numbers as after its training.
    alone = next(row for row in rows(bc_dir / "evaluation.csv") if row["policy"] == "gmm_rnn")
    (bc,) = (row for row in final if row["policy"] == "bc")
    columns = ("seed", "success", "length")
    assert [alone[name] for name in columns] == [bc[name] for name in columns]
