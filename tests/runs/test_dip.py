"""Dip of the hybrid below its imitation policy."""

from support.synthetic_runs import write_run

from ibrl_torchrl.runs.dip import dip_below_imitation
from ibrl_torchrl.runs.reader import read_run


def test_the_dip_is_the_lowest_evaluation_below_the_best_imitation_policy(tmp_path):
    run = read_run(write_run(tmp_path / "a", curve=(0.05, 0.0, 1.0), imitation=("bc", "act")))
    assert dip_below_imitation(run) == {
        "policy": "bc",  # both solve one in ten; the first is named
        "success": 0.1,
        "frames": 2007,
        "hybrid": 0.0,
        "depth": 0.1,
    }


def test_a_hybrid_that_is_never_below_has_no_depth(tmp_path):
    dip = dip_below_imitation(read_run(write_run(tmp_path / "a", curve=(0.5, 0.4, 1.0))))
    assert dip is not None and dip["depth"] == 0 and dip["hybrid"] == 0.4


def test_runs_without_imitation_or_evaluations_have_no_dip(tmp_path):
    assert dip_below_imitation(read_run(write_run(tmp_path / "a", imitation=()))) is None
    begun = write_run(tmp_path / "b", curve=())
    (begun / "evaluation.csv").unlink()
    assert dip_below_imitation(read_run(begun)) is None
