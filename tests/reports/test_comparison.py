"""What may be averaged, and what the reader is told."""

import pytest
from support.synthetic_runs import write_run

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.curves import curve
from ibrl_torchrl.reports.tables import (
    final_table,
    improvement_table,
    length_table,
    settings_table,
    speed_table,
)
from ibrl_torchrl.runs.reader import find_runs


def compared(folder):
    return compare(find_runs([folder]))


def test_runs_are_grouped_by_method_and_seed(tmp_path):
    for method in ("rlpd", "ibrl"):
        for seed in (2, 1):
            write_run(tmp_path / f"{method}-{seed}", method, seed)
    (comparison,) = compared(tmp_path)
    seeds = {method: [run.seed for run in runs] for method, runs in comparison.methods.items()}
    assert seeds == {"ibrl": [1, 2], "rlpd": [1, 2]} and [*seeds] == ["ibrl", "rlpd"]
    assert comparison.notes == ()


def test_other_tasks_and_budgets_stay_apart(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", frames=5000)
    write_run(tmp_path / "c", task="assembly")
    comparisons = compared(tmp_path)
    assert [(c.task, c.frames, len(c.runs)) for c in comparisons] == [
        ("metaworld/assembly", 3000, 1),
        ("metaworld/box-close", 3000, 1),
        ("metaworld/box-close", 5000, 1),
    ]
    assert comparisons[0].notes == () and "another budget" in comparisons[1].notes[0]


def test_what_did_not_finish_is_named_and_left_out(tmp_path):
    write_run(tmp_path / "a", seed=1)
    write_run(tmp_path / "b", seed=2, curve=(0.0,), final=None)
    (comparison,) = compared(tmp_path)
    assert [run.seed for run in comparison.runs] == [1]
    (note,) = comparison.notes
    assert "ibrl, seed 2, did not finish" in note and "frame 1007 of 3000" in note


def test_missing_and_double_seeds_are_named(tmp_path):
    for name, method, seed in [("a", "ibrl", 1), ("b", "ibrl", 2), ("c", "rlpd", 1)]:
        write_run(tmp_path / name, method, seed)
    write_run(tmp_path / "z", "ibrl", 2, final=0.0)
    (comparison,) = compared(tmp_path)
    assert [run.path.name for run in comparison.methods["ibrl"]] == ["a", "b"]
    double, missing = comparison.notes
    assert "ibrl has two runs of seed 2" in double and double.index("/b counts") > 0
    assert missing == "rlpd has no run of seed 2."


def test_runs_with_other_settings_are_a_method_of_their_own(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"a{seed}", seed=seed)
    write_run(tmp_path / "b", seed=1, algo={"lr": 1e-4}, final=0.0)
    (comparison,) = compared(tmp_path)
    assert [*comparison.methods] == ["ibrl", "ibrl, algo.lr=0.0001"]
    assert final_table(comparison)[0]["success"] == 1.0
    assert settings_table(comparison) == [
        {"setting": "algo.lr", "ibrl": 3e-4, "ibrl, algo.lr=0.0001": 1e-4}
    ]


def test_methods_that_began_differently_are_named(tmp_path):
    same, other = {"demos": "d", "bc": "b"}, {"demos": "d", "bc": "c"}
    write_run(tmp_path / "a", "ibrl", 1, inputs=same)
    write_run(tmp_path / "b", "rlpd", 1, inputs=same)
    write_run(tmp_path / "c", "ibrl", 2, inputs=same)
    write_run(tmp_path / "d", "rlpd", 2, inputs=other)
    (comparison,) = compared(tmp_path)
    assert comparison.notes == ("Methods do not share the BC policy (seed 2).",)


def test_runs_from_before_methods_had_names(tmp_path):
    write_run(tmp_path / "a", "", algo={"acting": "rl", "bootstrap": "rl"})
    write_run(tmp_path / "b", "", algo={"acting": "rl", "bootstrap": "greedy"})
    write_run(tmp_path / "c", "", algo={"acting": "soft", "bootstrap": "soft", "soft": True})
    (comparison,) = compared(tmp_path)
    assert {*comparison.methods} == {"td3", "bootstrap_proposal", "ibrl_soft"}


def test_tables_by_hand(tmp_path):
    for seed, final in ((1, 1.0), (2, 0.6), (3, 0.8)):
        write_run(tmp_path / f"i{seed}", "ibrl", seed, final=final)
    for seed, final in ((1, 0.6), (2, 0.0), (3, 0.2)):
        write_run(tmp_path / f"r{seed}", "rlpd", seed, final=final, curve=(0.0, 0.0, 0.5))
    (comparison,) = compared(tmp_path)
    ours, theirs = final_table(comparison)
    assert ours["success"] == pytest.approx(0.8) and ours["success_low"] == pytest.approx(0.6)
    assert (ours["rl_alone"], ours["bc_policy"]) == pytest.approx((0.4, 0.1))
    assert ours["il_share"] == pytest.approx(20 / 245)
    assert theirs["success"] == pytest.approx(0.8 / 3) and theirs["episodes"] == 30
    # Evaluations of 0, 0.5 and 1 against 0, 0 and 0.5, in every run.
    assert (ours["while_learning"], theirs["while_learning"]) == pytest.approx((0.5, 0.5 / 3))
    better = {(row["method"], row["than"]): row for row in improvement_table(comparison)}
    assert better["ibrl", "rlpd"]["probability"] == pytest.approx(8.5 / 9)  # a tie in nine pairs
    assert better["rlpd", "ibrl"]["probability"] == pytest.approx(0.5 / 9)
    assert better["ibrl", "rlpd"]["while_learning"] == 1.0
    assert better["rlpd", "ibrl"]["while_learning"] == 0.0
    speed = {(row["method"], row["seed"]): row for row in speed_table(comparison)}
    assert speed["ibrl", 1]["frames_to_50"] == 2007 and speed["ibrl", 1]["minutes_to_90"] == 3.0
    assert speed["rlpd", 1]["frames_to_50"] == 3007 and speed["rlpd", 1]["frames_to_90"] is None
    lengths = length_table(comparison)
    assert lengths[0]["method_itself"] == 24.5 and lengths[0]["bc_policy"] == 20.0
    assert lengths[4]["method_itself"] is None  # rlpd, seed 2: nothing was solved


def test_curves_meet_on_the_grid_of_evaluations(tmp_path):
    write_run(tmp_path / "a", seed=1, curve=(0.0, 0.4, 1.0))
    write_run(tmp_path / "b", seed=2, curve=(0.2, 0.8, 1.0))
    (comparison,) = compared(tmp_path)
    drawn = curve(comparison, comparison.runs, "hybrid")
    assert drawn.frames == (1000, 2000, 3000)
    assert [e.value for e in drawn.estimates] == pytest.approx([0.1, 0.6, 1.0])
    assert drawn.estimates[1].low == pytest.approx(0.4)
    assert curve(comparison, comparison.runs, "nobody") is None


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        find_runs([tmp_path])
    with pytest.raises(UsageError, match="holds no run"):
        find_runs([tmp_path / "missing"])


def test_a_run_is_read_once(tmp_path):
    write_run(tmp_path / "a")
    assert len(find_runs([tmp_path, tmp_path / "a", tmp_path])) == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", "a: ["),
        ("config.yaml", "seed: 1"),
        ("config.yaml", "- 1"),
        ("config.yaml", "!!python/object/apply:os.getcwd []"),
        ("eval.csv", "frames,policy\n1,hybrid\n"),
        ("eval.csv", "frames,wall_s,policy,success,success_length,il_share\n1,2,bc,x,1,1\n"),
        ("evaluation.csv", "frames,policy,seed,success\n1,hybrid,3,1\n"),
        ("run.json", "{"),
    ],
)
def test_damaged_runs_are_refused_by_name(tmp_path, file, content):
    run = write_run(tmp_path / "a")
    (run / file).write_text(content)
    with pytest.raises(UsageError, match=r"a: not a readable run folder \("):
        find_runs([tmp_path])
