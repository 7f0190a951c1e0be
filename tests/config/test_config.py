"""Configurations: composed from the shipped YAML files, typed, and refused by name."""

import pytest

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.config import compose
from ibrl_torchrl.config.commands import BCRunConfig, DemosRunConfig, EvalRunConfig
from ibrl_torchrl.config.compose import config_directory
from ibrl_torchrl.config.networks import NetworkConfig
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError


def composed(*overrides):
    return parse(TrainConfig, compose.composed("train", ["run_dir=x", *overrides]))


def test_every_meta_world_task_has_a_file():
    metaworld = pytest.importorskip("metaworld")
    files = {path.stem for path in (config_directory() / "task/metaworld").glob("*.yaml")}
    tasks = {name.removesuffix("-v3") for name in metaworld.ALL_V3_ENVIRONMENTS}
    assert files - {"base"} == tasks


def test_task_overrides_keep_the_base():
    task = composed("task=metaworld/assembly", "task.horizon=50").task
    assert (task.suite, task.name, task.action_repeat, task.horizon) == (
        "metaworld",
        "assembly",
        2,
        50,
    )


def test_soft_sets_both_modes_and_each_can_be_set_alone():
    assert (composed().algo.acting, composed().algo.bootstrap) == ("greedy", "greedy")
    soft = composed("algo.soft=true").algo
    assert (soft.acting, soft.bootstrap) == ("soft", "soft")
    split = composed("algo.acting=rl", "algo.bootstrap=soft").algo
    assert (split.acting, split.bootstrap) == ("rl", "soft")


def test_paper_experiment_is_a_delta():
    config = composed("experiment=paper_states")
    assert config.algo.critic.number == 5
    assert config.algo.critic.hidden == [1024, 1024, 1024]
    assert config.algo.num_min == composed().algo.num_min


def test_a_number_of_workers_left_open_is_chosen_by_the_cores_and_kept(monkeypatch):
    for cores, beside_a_learner, alone in ((1, 1, 1), (2, 1, 2), (4, 3, 4), (64, 8, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: range(cores))
        assert composed("collector.workers=null").collector.workers == beside_a_learner
        asked = parse(EvalRunConfig, compose.composed("eval_run", ["run=x", "workers=null"]))
        assert asked.workers == alone
    assert composed().collector.workers == 1


EXPERIMENTS = sorted(path.stem for path in (config_directory() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_composed_and_sized_as_its_name_says(experiment):
    config = composed(f"experiment={experiment}")
    assert (config.algo.critic.number == 5) == (
        experiment.startswith("paper") and "pixels" not in experiment
    )
    assert (config.algo.encoder is not None) == ("pixels" in experiment)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_serves_the_smaller_commands(experiment):
    overrides = [f"experiment={experiment}", "run_dir=x"]
    bc = parse(BCRunConfig, compose.composed("bc_run", overrides))
    assert bc.task == composed(f"experiment={experiment}").task
    demos = parse(DemosRunConfig, compose.composed("demos_run", [overrides[0], "out=x"]))
    assert demos.demos == composed(f"experiment={experiment}").demos


def test_what_no_command_knows_is_refused():
    for setting, named in (("evall.every=3", "evall"), ("eval.evry=3", "eval.evry")):
        with pytest.raises(UsageError, match=f"{named}: Key"):
            parse(BCRunConfig, compose.composed("bc_run", [f"+{setting}", "run_dir=x"]))


@pytest.mark.parametrize("experiment", ["small_lift", "small_can", "small_square"])
def test_parts_of_states_that_experiments_name_exist(experiment):
    pytest.importorskip("robosuite")
    build_env(composed(f"experiment={experiment}").task).close()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algo.acting=best", r"algo.acting=best must be one of rl, greedy, soft, epsilon"),
        ("algo.num_min=9", r"algo.num_min=9 must be between 1 and algo.critic.number=3"),
        ("seed=-1", r"seed=-1 must be 0 or more"),
        ("frames=many", r"frames: Value 'many'"),
        ("replay.demo_share=1.5", r"replay.demo_share=1.5 must be null or in \(0, 1\)"),
        ("replay.keep_successes=true", r"keep_successes=True must be false unless"),
        ("task.state_parts=[]", r"task.state_parts=\[\] must be one part or more"),
        ("task.min_std=0", r"task.min_std=0.0 must be above 0"),
        ("task.start_states=-1", r"task.start_states=-1 must be 0 or more"),
        ("algo.actor.hidden=[]", r"hidden=\[\] must be a list of widths"),
    ],
)
def test_values_out_of_range_are_named(override, message):
    with pytest.raises(UsageError, match=message):
        composed(override)


def test_unknown_and_missing_keys_are_named():
    with pytest.raises(UsageError, match="width"):
        parse(NetworkConfig, {"hidden": [8], "dropout": 0.1, "width": 3})
    with pytest.raises(UsageError, match=r"dropout=\.\.\. is needed"):
        parse(NetworkConfig, {"hidden": [8]})
