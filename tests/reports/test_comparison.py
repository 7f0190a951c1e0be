"""Comparisons: grouping, notes and tables."""

import pytest
from support.synthetic_runs import write_run

from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.curves import method_curve, share_of
from ibrl_torchrl.reports.tables import (
    final_table,
    improvement_table,
    length_table,
    run_table,
    settings_table,
    speed_table,
)
from ibrl_torchrl.runs.reader import find_runs


def compare_folder(folder):
    return compare(find_runs([folder]))


def test_runs_are_grouped_by_method_and_seed(tmp_path):
    for method in ("rlpd", "ibrl"):
        for seed in (2, 1):
            write_run(tmp_path / f"{method}-{seed}", method, seed)
    (comparison,) = compare_folder(tmp_path)
    seeds = {method: [run.seed for run in runs] for method, runs in comparison.methods.items()}
    assert seeds == {"ibrl": [1, 2], "rlpd": [1, 2]} and [*seeds] == ["ibrl", "rlpd"]
    assert comparison.notes == ()


def test_other_tasks_and_budgets_are_separate_comparisons(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", total_frames=5000)
    write_run(tmp_path / "c", task="assembly")
    comparisons = compare_folder(tmp_path)
    assert [(c.task, c.frames, len(c.runs)) for c in comparisons] == [
        ("metaworld/assembly", 3000, 1),
        ("metaworld/box-close", 3000, 1),
        ("metaworld/box-close", 5000, 1),
    ]
    assert comparisons[0].notes == () and "a different budget" in comparisons[1].notes[0]


def test_unfinished_runs_are_noted_and_excluded(tmp_path):
    write_run(tmp_path / "a", seed=1)
    write_run(tmp_path / "b", seed=2, curve=(0.0,), final=None)
    (comparison,) = compare_folder(tmp_path)
    assert [run.seed for run in comparison.runs] == [1]
    (note,) = comparison.notes
    assert "ibrl, seed 2, is unfinished" in note and "frame 1007 of 3000" in note


def test_missing_and_duplicate_seeds_are_noted(tmp_path):
    for name, method, seed in [("a", "ibrl", 1), ("b", "ibrl", 2), ("c", "rlpd", 1)]:
        write_run(tmp_path / name, method, seed)
    write_run(tmp_path / "z", "ibrl", 2, final=0.0)
    (comparison,) = compare_folder(tmp_path)
    assert [run.path.name for run in comparison.methods["ibrl"]] == ["a", "b"]
    duplicate, missing = comparison.notes
    assert "ibrl has two runs of seed 2" in duplicate and "/b is included" in duplicate
    assert missing == "rlpd has no run of seed 2."


def test_runs_with_other_settings_are_a_separate_method(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"a{seed}", seed=seed)
    write_run(tmp_path / "b", seed=1, update={"lr": 1e-4}, final=0.0)
    (comparison,) = compare_folder(tmp_path)
    assert [*comparison.methods] == ["ibrl", "ibrl, algo.update.lr=0.0001"]
    assert final_table(comparison)[0]["success"] == 1.0
    assert settings_table(comparison) == [
        {"setting": "algo.update.lr", "ibrl": 3e-4, "ibrl, algo.update.lr=0.0001": 1e-4}
    ]


def test_settings_table_writes_lists_as_on_the_command_line(tmp_path):
    write_run(tmp_path / "a", "ibrl")
    write_run(tmp_path / "b", "rlpd")
    (comparison,) = compare_folder(tmp_path)
    assert settings_table(comparison) == [
        {"setting": f"algo.proposals.{use}.policies", "ibrl": "[rl,bc]", "rlpd": "[rl]"}
        for use in ("acting", "bootstrap")
    ]


def test_different_inputs_are_noted(tmp_path):
    same, other = {"demos": "d", "bc": "b"}, {"demos": "d", "bc": "c"}
    write_run(tmp_path / "a", "ibrl", 1, inputs=same)
    write_run(tmp_path / "b", "rlpd", 1, inputs=same)
    write_run(tmp_path / "c", "ibrl", 2, inputs=same)
    write_run(tmp_path / "d", "rlpd", 2, inputs=other)
    (comparison,) = compare_folder(tmp_path)
    assert comparison.notes == ("Methods do not share the imitation policy bc (seed 2).",)


def test_input_paths_and_imitation_policies_that_a_method_lacks_are_not_noted(tmp_path):
    write_run(tmp_path / "a", "ibrl", imitation=("bc", "act"), inputs={"bc": "b", "act": "a"})
    config = write_run(tmp_path / "b", "rlpd", inputs={"bc": "b"}) / "config.yaml"
    config.write_text(config.read_text().replace("path: null", "path: other"))
    (comparison,) = compare_folder(tmp_path)
    assert comparison.notes == ()


def test_tables_match_hand_computation(tmp_path):
    for seed, final in ((1, 1.0), (2, 0.6), (3, 0.8)):
        write_run(tmp_path / f"i{seed}", "ibrl", seed, final=final)
    for seed, final in ((1, 0.6), (2, 0.0), (3, 0.2)):
        write_run(tmp_path / f"r{seed}", "rlpd", seed, final=final, curve=(0.0, 0.0, 0.5))
    (comparison,) = compare_folder(tmp_path)
    ibrl, rlpd = final_table(comparison)
    assert ibrl["success"] == pytest.approx(0.8) and ibrl["success_low"] == pytest.approx(0.6)
    assert (ibrl["success/rl"], ibrl["success/bc"]) == pytest.approx((0.4, 0.1))
    assert ibrl["proposal_share/acting/bc"] == pytest.approx(20 / 245)
    assert rlpd["success"] == pytest.approx(0.8 / 3) and rlpd["episodes"] == 30
    # Evaluations of 0, 0.5 and 1 against 0, 0 and 0.5, in every run.
    assert (ibrl["while_learning"], rlpd["while_learning"]) == pytest.approx((0.5, 0.5 / 3))
    better = {(row["method"], row["than"]): row for row in improvement_table(comparison)}
    assert better["ibrl", "rlpd"]["probability"] == pytest.approx(8.5 / 9)  # a tie in nine pairs
    assert better["rlpd", "ibrl"]["probability"] == pytest.approx(0.5 / 9)
    assert better["ibrl", "rlpd"]["while_learning"] == 1.0
    assert better["rlpd", "ibrl"]["while_learning"] == 0.0
    speed = {(row["method"], row["seed"]): row for row in speed_table(comparison)}
    assert speed["ibrl", 1]["frames_to_50"] == 2007 and speed["ibrl", 1]["minutes_to_90"] == 3.0
    assert speed["rlpd", 1]["frames_to_50"] == 3007 and speed["rlpd", 1]["frames_to_90"] is None
    lengths = length_table(comparison)
    assert lengths[0]["length/hybrid"] == 24.5 and lengths[0]["length/bc"] == 20.0
    assert lengths[4]["length/hybrid"] is None  # rlpd, seed 2: no success


def test_tables_have_a_column_for_each_imitation_policy(tmp_path):
    write_run(tmp_path / "a", "ibrl", imitation=("bc", "act"))
    write_run(tmp_path / "b", "rlpd", imitation=())
    (comparison,) = compare_folder(tmp_path)
    assert comparison.imitation == ["bc", "act"]
    for table in (final_table, run_table):
        ibrl, rlpd = table(comparison)
        assert (ibrl["success/bc"], ibrl["success/act"]) == pytest.approx((0.1, 0.1))
        assert rlpd["success/bc"] is None and rlpd["success/rl"] == 0.5
    ibrl, rlpd = final_table(comparison)
    assert ibrl["proposal_share/acting/act"] == pytest.approx(20 / 245)
    assert rlpd["proposal_share/acting/act"] is None
    ibrl, rlpd = length_table(comparison)
    assert ibrl["length/act"] == 20.0 and rlpd["length/act"] is None


def test_curves_are_aligned_on_multiples_of_the_interval(tmp_path):
    write_run(tmp_path / "a", seed=1, curve=(0.0, 0.4, 1.0))
    write_run(tmp_path / "b", seed=2, curve=(0.2, 0.8, 1.0))
    (comparison,) = compare_folder(tmp_path)
    curve = method_curve(comparison, comparison.runs, "hybrid")
    assert curve.frames == (1000, 2000, 3000)
    assert [e.value for e in curve.estimates] == pytest.approx([0.1, 0.6, 1.0])
    assert curve.estimates[1].low == pytest.approx(0.4)
    share = method_curve(comparison, comparison.runs, "hybrid", share_of("bc"))
    assert [e.value for e in share.estimates] == pytest.approx([0.2, 0.2, 0.2])
    assert method_curve(comparison, comparison.runs, "act") is None


def test_curves_keep_every_evaluation_of_a_short_interval(tmp_path):
    scores = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    write_run(tmp_path / "a", curve=scores, eval_every=500)
    (comparison,) = compare_folder(tmp_path)
    curve = method_curve(comparison, comparison.runs, "hybrid")
    assert curve.frames == (500, 1000, 1500, 2000, 2500, 3000)
    assert [e.value for e in curve.estimates] == pytest.approx(scores)
