"""Settings: composition, defaults, validation, old names."""

from dataclasses import replace

import pytest

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config import compose
from ibrl_torchrl.config.commands import COMMANDS, BCRunConfig, DemosRunConfig, EvalRunConfig
from ibrl_torchrl.config.compose import options
from ibrl_torchrl.config.networks import EncoderConfig, NetworkConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.renamed import RENAMED, new_name
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError

EXPERIMENTS = options("experiment")


def composed(*overrides):
    return parse(TrainConfig, compose.composed("train", ["run_dir=x", *overrides]))


@pytest.mark.slow
def test_every_task_composes():
    for name in options("task"):
        if "/" not in name:  # of any environment: its name or suite is needed
            with pytest.raises(UsageError, match=r"task\.\w+=\.\.\. is needed"):
                composed(f"task={name}")
            continue
        task = composed(f"task={name}").task
        assert name.startswith(task.suite) and task.name and task.horizon >= 1


def test_a_task_keeps_the_defaults_of_its_suite():
    task = composed("task=metaworld/assembly", "task.horizon=50").task
    assert (task.suite, task.name, task.action_repeat, task.horizon) == (
        *("metaworld", "assembly"),
        *(2, 50),
    )


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        ([], "ibrl_plus"),
        (["task=metaworld/assembly"], "ibrl_plus"),
        (["experiment=small_lift"], "ibrl_plus"),
        (["experiment=paper_can"], "ibrl"),
        (["experiment=small_pixels"], "ibrl_plus"),
        (["experiment=paper_pixels"], "ibrl"),
        (["experiment=chunk_cvae_lift"], "ibrl"),
        (["experiment=small_lift", "algo=ibrl"], "ibrl"),
        (["algo=td3", "experiment=small_lift"], "td3"),
    ],
)
def test_small_experiments_take_the_default_method_and_others_the_papers(overrides, method):
    assert composed(*overrides).algo.name == method


def test_defaults_of_the_papers_method_are_those_of_the_dataclasses():
    config = composed("algo=ibrl")
    default = TrainConfig(run_dir="x", task=config.task)
    inherited = {"select": "greedy", "reduction": "min"}
    proposals = default.algo.proposals
    proposals = replace(
        proposals,
        acting=replace(proposals.acting, **inherited),
        bootstrap=replace(proposals.bootstrap, **inherited),
    )
    assert config == replace(default, algo=replace(default.algo, proposals=proposals))


def test_select_is_the_default_of_both_choices_and_each_can_be_set_alone():
    choices = composed().algo.proposals
    assert (choices.acting.select, choices.bootstrap.select) == ("greedy", "greedy")
    soft = composed("algo.proposals.select=soft").algo.proposals
    assert (soft.acting.select, soft.bootstrap.select) == ("soft", "soft")
    mixed = composed(
        "algo=ibrl", "algo.proposals.acting.policies=[rl]", "algo.proposals.bootstrap.select=soft"
    ).algo.proposals
    assert mixed.acting.policies == ["rl"] and mixed.bootstrap.policies == ["rl", "bc"]
    assert (mixed.acting.select, mixed.bootstrap.select) == ("greedy", "soft")


def test_reduction_is_the_default_of_both_choices_and_each_can_be_set_alone():
    mean = composed("algo.proposals.reduction=mean").algo.proposals
    assert (mean.acting.reduction, mean.bootstrap.reduction) == ("mean", "mean")
    mixed = composed("algo.proposals.bootstrap.reduction=mean").algo.proposals
    assert (mixed.acting.reduction, mixed.bootstrap.reduction) == ("min", "mean")


def test_an_imitation_policy_is_added_by_name():
    config = composed(
        "+imitation.wide={network: {hidden: [64]}}",
        "algo.proposals.acting.policies=[rl,bc,wide]",
        "algo.warmup.policy=wide",
    )
    assert [*config.imitation] == ["bc", "wide"]
    assert config.imitation["wide"].network.hidden == [64]
    assert config.imitation["wide"].steps == config.imitation["bc"].steps


def test_an_experiment_is_a_delta():
    config = composed("experiment=paper_states")
    assert config.algo.critic.num_critics == 5
    assert config.algo.critic.hidden == [1024, 1024, 1024]
    assert config.algo.proposals.num_min == composed().algo.proposals.num_min


def test_a_number_of_workers_that_is_null_is_chosen_by_the_cores(monkeypatch):
    for cores, beside_a_learner, alone in ((1, 1, 1), (2, 1, 2), (4, 3, 4), (64, 8, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: range(cores))
        assert composed("collector.workers=null").collector.workers == beside_a_learner
        evaluation = parse(EvalRunConfig, compose.composed("eval", ["run=x", "workers=null"]))
        assert evaluation.workers == alone
    assert composed().collector.workers == 1


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_in_the_size_of_its_name(experiment):
    config = composed(f"experiment={experiment}")
    assert (config.algo.critic.num_critics == 5) == (
        experiment.startswith("paper") and "pixels" not in experiment
    )
    assert (config.algo.encoder is not None) == ("pixels" in experiment)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_serves_the_smaller_commands(experiment):
    overrides = [f"experiment={experiment}", "run_dir=x"]
    bc = parse(BCRunConfig, compose.composed("bc", overrides))
    train = composed(f"experiment={experiment}")
    assert (bc.task, bc.imitation) == (train.task, train.imitation)
    demos = parse(DemosRunConfig, compose.composed("demos", [overrides[0], "out=x"]))
    assert vars(demos.demos).items() <= vars(train.demos).items()


def test_a_setting_that_no_command_has_is_refused():
    for setting, name in (("evall.every=3", "evall"), ("eval.evry=3", "eval.evry")):
        with pytest.raises(UsageError, match=f"{name}: there is no such setting"):
            parse(BCRunConfig, compose.composed("bc", [f"+{setting}", "run_dir=x"]))


@pytest.mark.simulator
@pytest.mark.parametrize("experiment", ["small_lift", "small_can", "small_square"])
def test_parts_of_states_that_experiments_name_exist(experiment):
    pytest.importorskip("robosuite")
    build_env(composed(f"experiment={experiment}").task).close()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "algo.proposals.select=best",
            r"algo.proposals.select=best must be one of greedy, soft, epsilon",
        ),
        ("algo.proposals.num_min=9", r"num_min=9 must be at most algo.critic.num_critics=3"),
        ("algo.proposals.num_min=0", r"algo.proposals.num_min=0 must be at least 1"),
        ("algo.proposals.acting.policies=[bc]", r"policies=\['bc'\] must be distinct names, rl"),
        ("algo.proposals.bootstrap.policies=[rl,x]", r"unknown imitation policy in .* 'x'"),
        ("algo.warmup.policy=x", r"unknown imitation policy in algo.warmup.policy 'x'"),
        ("+imitation.hybrid={}", r"imitation=hybrid must be an identifier other than"),
        ("seed=-1", r"seed=-1 must be at least 0"),
        ("total_frames=many", r"total_frames: Value 'many'"),
        ("algo.update.tau=0.6", r"algo.update.tau=0.6 must be above 0 and at most 0.5"),
        ("imitation.bc.grad_clip=0", r"imitation.bc.grad_clip=0.0 must be above 0"),
        ("replay.offline_fraction=1.5", r"offline_fraction=1.5 must be above 0 and below 1"),
        ("replay.offline_fraction_final=0", r"fraction_final=0.0 must be null unless replay.off"),
        ("replay.offline_fraction_frames=9", r"fraction_frames=9 must be null without replay.off"),
        ("replay.keep_successes=true", r"keep_successes=True must be false unless"),
        ("replay.imitate_successes=true", r"imitate_successes=True must be false unless algo.loss"),
        ("task.state_parts=[]", r"task.state_parts=\[\] must be a list of one or more"),
        ("task.min_std=0", r"task.min_std=0.0 must be above 0"),
        ("task.num_init_states=-1", r"task.num_init_states=-1 must be at least 0"),
        ("algo.actor.hidden=[]", r"algo.actor.hidden=\[\] must be a list of one or more"),
        ("algo.actor.hidden=[8,0]", r"algo.actor.hidden=\[8, 0\] must be at least 1"),
    ],
)
def test_values_out_of_range_are_named(override, message):
    with pytest.raises(UsageError, match=message):
        composed("algo=ibrl", override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("imitation.bc.self_imitation.every=0", "every=0 must be at least 1"),
        ("imitation.bc.act.heads=0", "heads=0 must be at least 1"),
        ("+imitation.other.act.heads=0", "heads=0 must be at least 1"),
        ("algo.chunk.size=0", "size=0 must be at least 1 and at most 1000"),
        ("algo.critic.num_critics=0", "num_critics=0 must be at least 1 and at most 1000"),
        ("algo.actor.hidden=0", "hidden=[0] must be at least 1 and at most 65536"),
    ],
)
def test_limits_of_a_setting_come_before_checks_of_several(override, message):
    group = override.lstrip("+").rpartition(".")[0]
    with pytest.raises(UsageError) as error:
        composed(override)
    assert str(error.value) == f"{group}.{message}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["final=0"], r"fraction_frames=None must be a number of frames with replay\.\S+=0"),
        (["final=0.001", "frames=9"], r"fraction_final=0.001 must be a fraction of which replay.b"),
        (["final=1", "frames=9"], r"fraction_final=1.0 must be at least 0 and below 1"),
        (["final=0", "frames=0"], r"fraction_frames=0 must be at least 1"),
    ],
)
def test_incomplete_annealing_is_named(overrides, message):
    with pytest.raises(UsageError, match=message):
        composed("algo=rlpd", *(f"replay.offline_fraction_{each}" for each in overrides))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("replay.offline_fraction=0.5", r"replay\.offline_fraction=0\.5 must be null while"),
        ("algo=rft", r"algo\.loss\.bc_weight=\S+ must be 0 while demos\.in_replay=false"),
    ],
)
def test_an_empty_replay_is_refused_where_demonstrations_are_read(override, message):
    with pytest.raises(UsageError, match=message):
        composed("demos.in_replay=false", override)


def test_unknown_and_missing_settings_are_named():
    with pytest.raises(UsageError, match="width: there is no such setting"):
        parse(NetworkConfig, {"hidden": [8], "width": 3})
    with pytest.raises(UsageError, match=r"network=\.\.\. is needed"):
        parse(EncoderConfig, {"cameras": ["corner2"]})


@pytest.mark.parametrize("setting", RENAMED)
def test_a_setting_of_version_0_1_is_answered_with_its_new_name(setting):
    with pytest.raises(UsageError, match=f"{setting}: is called ") as answer:
        compose.composed("diagnose" if setting == "starts" else "train", [f"{setting}=1"])
    assert str(answer.value).endswith(f"{RENAMED[setting]} since version 0.2")


def test_new_names_exist():
    known = {*compose.setting_names(compose.composed("train"))}
    known |= {*compose.setting_names(compose.composed("diagnose"))}
    for name in RENAMED.values():
        for part in name.split(" and "):
            assert any(known_name.startswith(part) for known_name in known), part
    assert new_name("bc.network.hidden") == "imitation.bc.network.hidden"
    assert new_name("seed") is None


def test_a_run_folder_of_version_0_1_is_answered_with_new_names():
    config = {"seed": 1, "frames": 30000, "run_dir": "x"}
    with pytest.raises(UsageError, match=r"frames: is called total_frames since version 0\.2"):
        parse(TrainConfig, config)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_has_a_configuration_and_a_module(command):
    required = {"run": "x", "runs": "[x]", "file": "x", "out": "x", "dataset": "x", "to": "lerobot"}
    names = {*compose.setting_names(compose.composed(command.config_name))}
    overrides = [f"{name}={value}" for name, value in required.items() if name in names]
    config = parse(command.schema, compose.composed(command.config_name, overrides))
    assert isinstance(config, command.schema)
    assert command.argument is None or command.argument in names
