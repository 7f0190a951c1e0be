"""Evaluations as text and as CSV."""

from ibrl_torchrl.evaluation.evaluate import EpisodeOutcome, Evaluation
from ibrl_torchrl.evaluation.table import format_table, write_evaluation
from ibrl_torchrl.runs.tables import read_rows


def evaluation(*successes, frames):
    return Evaluation(
        tuple(EpisodeOutcome(seed, success, 10, frames) for seed, success in enumerate(successes))
    )


RESULTS = {
    "hybrid": evaluation(True, False, frames={"rl": 6, "bc": 3, "diffusion": 1}),
    "diffusion": evaluation(False, False, frames={"rl": 0, "bc": 0, "diffusion": 10}),
}


def test_format_table_aligns_one_line_a_policy_and_a_share_each_imitation_policy():
    assert format_table(RESULTS).splitlines() == [
        "policy     success  95 % interval  length  bc share  diffusion share",
        "hybrid        0.50   0.09 to 0.91    10.0      0.30             0.10",
        "diffusion     0.00   0.00 to 0.66       -      0.00             1.00",
    ]


def test_format_table_without_proposals_has_no_share():
    header, row = format_table({"expert": evaluation(True, frames={})}).splitlines()
    assert header.split()[-1] == "length" and row.split()[-1] == "10.0"


def test_write_evaluation_lists_every_episode(tmp_path):
    write_evaluation(tmp_path / "e.csv", {7: RESULTS}, ("rl", "bc", "diffusion"))
    rows = read_rows(tmp_path / "e.csv")
    assert [(row["policy"], row["seed"], row["success"]) for row in rows] == [
        ("hybrid", "0", "1"),
        ("hybrid", "1", "0"),
        ("diffusion", "0", "0"),
        ("diffusion", "1", "0"),
    ]
    assert {(row["frames"], row["length"]) for row in rows} == {("7", "10")}
    assert [rows[0][f"proposal_frames/{name}"] for name in ("rl", "bc", "diffusion")] == [
        "6",
        "3",
        "1",
    ]
