"""Lists of the command line, with and without brackets."""

import pytest

from ibrl_torchrl.config.commands import BenchConfig, ReportConfig
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.lists import list_override
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ("3", [3]),
        ("1,2", [1, 2]),
        ("[4,2]", [4, 2]),
        ("1-4", [1, 2, 3, 4]),
        ("range(1,5)", [1, 2, 3, 4]),
        ("range(1, 9, 3)", [1, 4, 7]),
        ("[1-3,7]", [1, 2, 3, 7]),
        ("2,range(5,7)", [2, 5, 6]),
        ("1-200", [*range(1, 201)]),
    ],
)
def test_seeds_are_given_as_a_hydra_user_or_a_newcomer_writes_them(given, seeds):
    override = list_override(BenchConfig, f"seeds={given}")
    assert parse(BenchConfig, composed("bench", [override])).seeds == seeds


@pytest.mark.parametrize("given", ["3-1", "range(3,3)", "range(1,5,0)", "1-10002"])
def test_empty_and_endless_ranges_are_refused(given):
    with pytest.raises(
        UsageError, match=r"must be FIRST-LAST or range\(FIRST,END\), of 1 to 10000"
    ):
        list_override(BenchConfig, f"seeds={given}")


@pytest.mark.parametrize("given", ["a", "-1", "1.5"])
def test_what_is_no_number_is_refused_by_name(given):
    override = list_override(BenchConfig, f"seeds={given}")
    with pytest.raises(UsageError, match=r"^seeds"):
        parse(BenchConfig, composed("bench", [override]))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("algos=ibrl", "algos=[ibrl]"),
        ("algos=ibrl,td3", "algos=[ibrl,td3]"),
        ("tasks=[]", "tasks=[]"),
        ("algos='a,b'", "algos='a,b'"),
        ("jobs=1,2", "jobs=1,2"),
        ("hydra.verbose=a,b", "hydra.verbose=a,b"),
        ("~algos", "~algos"),
    ],
)
def test_other_settings_stay_as_they_are(override, expected):
    assert list_override(BenchConfig, override) == expected


def test_a_single_item_stands_for_a_list_of_one_in_every_group():
    bench = parse(BenchConfig, composed("bench", ["algos=ibrl", "seeds=3"]))
    assert (bench.algos, bench.seeds) == (["ibrl"], [3])
    assert parse(ReportConfig, composed("report", ["runs=a"])).runs == ["a"]
    train = parse(
        TrainConfig,
        composed(
            "train",
            [
                *("run_dir=x", "algo.actor.hidden=64", "imitation.bc.network.hidden=32"),
                *("task.cameras=corner2", "task.state_parts=hand", "algo.actor_init=null"),
                *("algo.loss.q_filter=false", "algo.proposals.acting.policies=rl"),
            ],
        ),
    )
    assert (train.algo.actor.hidden, train.imitation["bc"].network.hidden) == ([64], [32])
    assert (train.task.cameras, train.task.state_parts) == (["corner2"], ["hand"])
    assert train.algo.proposals.acting.policies == ["rl"]
    with pytest.raises(UsageError, match="hidden"):
        parse(TrainConfig, composed("train", ["run_dir=x", "algo.actor.hidden=wide"]))
