"""Comparisons: grouping, notes and tables."""

import json

import pytest
from support.synthetic_runs import write_run

from ibrl_torchrl.reports.commands import command_table
from ibrl_torchrl.reports.comparison import compare
from ibrl_torchrl.reports.curves import method_curve, share_of
from ibrl_torchrl.reports.run_tables import length_table, run_table, speed_table
from ibrl_torchrl.reports.tables import final_table, improvement_table, settings_table
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
    assert curve.x == (1000, 2000, 3000)
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
    assert curve.x == (500, 1000, 1500, 2000, 2500, 3000)
    assert [e.value for e in curve.estimates] == pytest.approx(scores)


def test_final_table_has_dip_and_median_frames(tmp_path):
    # Evaluations at 1007, 2007 and 3007 frames; the imitation policy solves 0.1.
    for seed, curve in enumerate([(0.0, 0.5, 1.0), (0.5, 0.9, 1.0), (0.05, 0.3, 0.6)], 1):
        write_run(tmp_path / str(seed), seed=seed, curve=curve)
    (comparison,) = compare_folder(tmp_path)
    (row,) = final_table(comparison)
    assert row["dip"] == pytest.approx((0.1 + 0.0 + 0.05) / 3)
    assert (row["dip_low"], row["dip_high"]) == pytest.approx((0.0, 0.1))
    assert (row["frames_to_50"], row["runs_to_50"]) == (2007, 3)  # 2007, 1007 and 3007
    assert (row["frames_to_90"], row["runs_to_90"]) == (3007, 2)  # 3007, 2007 and never
    assert [run["dip"] for run in run_table(comparison)] == pytest.approx([0.1, 0.0, 0.05])
    assert [run["while_learning"] for run in run_table(comparison)] == pytest.approx(
        [0.5, 0.8, 0.95 / 3]
    )


def test_a_level_that_most_runs_never_reach_has_no_median(tmp_path):
    write_run(tmp_path / "a", seed=1)
    for seed in (2, 3):
        write_run(tmp_path / str(seed), seed=seed, curve=(0.0, 0.1, 0.2), imitation=())
    row = next(row for c in compare_folder(tmp_path) for row in final_table(c) if row["runs"] == 2)
    assert (row["frames_to_50"], row["runs_to_50"], row["dip"]) == (None, 0, None)


def test_different_commits_are_noted_with_their_runs(tmp_path):
    for seed in range(1, 6):
        run = write_run(tmp_path / f"i{seed}", "ibrl", seed)
        write_run(tmp_path / f"r{seed}", "rlpd", seed)
        if seed == 5:
            (run / "run.json").write_text('{"commit": "def"}')
    (comparison,) = compare_folder(tmp_path)
    assert comparison.notes == (
        "Runs are of different commits: abc (ibrl, seed 1 to 4; rlpd, seed 1 to 5), "
        "def (ibrl, seed 5).",
    )


def test_many_unfinished_runs_of_a_method_are_one_note(tmp_path):
    write_run(tmp_path / "a", seed=1)
    for seed in range(2, 9):
        write_run(tmp_path / str(seed), seed=seed, final=None)
    (comparison,) = compare_folder(tmp_path)
    assert comparison.notes == ("ibrl, seeds 2 to 8: 7 runs are unfinished and excluded.",)


def test_commands_have_each_seed_and_no_needless_quotes(tmp_path):
    command = "ibrl train seed={0} 'run_dir='\"'\"'runs/a-seed{0}'\"'\"'' 'title=a b' lr={0}"
    for seed in (1, 2, 3, 12):
        run = write_run(tmp_path / str(seed), seed=seed)
        text = command.format(seed) if seed != 12 else "ibrl 'unclosed"
        (run / "run.json").write_text(json.dumps({"command": text}))
    (comparison,) = compare_folder(tmp_path)
    assert [(row["seeds"], row["command"]) for row in command_table(comparison)] == [
        ("1", "ibrl train seed=N run_dir=runs/a-seedN 'title=a b' lr=1"),
        ("2", "ibrl train seed=N run_dir=runs/a-seedN 'title=a b' lr=2"),
        ("3", "ibrl train seed=N run_dir=runs/a-seedN 'title=a b' lr=3"),
        ("12", "ibrl 'unclosed"),
    ]
