"""``ibrl eval`` and ``ibrl diagnose`` on the run folder of an untrained agent."""

import pytest

from ibrl_torchrl.runs.names import DIAGNOSIS_ROLLOUTS, DIAGNOSIS_STEPS
from ibrl_torchrl.runs.tables import (
    DIAGNOSIS_ROLLOUT_COLUMNS,
    diagnosis_step_columns,
    evaluation_columns,
    read_rows,
)

pytestmark = pytest.mark.simulator
SECOND = "+imitation.second={}"
ALL_ACT = "algo.proposals.acting.policies=[rl,bc,second]"


@pytest.mark.parametrize("settings", [[SECOND, ALL_ACT], [SECOND], [SECOND, "algo=td3"]])
def test_diagnose_scores_every_proposal(ibrl, untrained_run, settings):
    run = untrained_run(*settings)
    code, output, errors = ibrl("diagnose", run, "episodes=2", "num_states=2")
    assert code == 0, errors
    assert "value - return in 2 failed episodes" in output
    rows = read_rows(run / DIAGNOSIS_STEPS)
    assert [*rows[0]] == diagnosis_step_columns(("rl", "bc", "second"))
    assert len(rows) == 20 and {row["return"] for row in rows} == {"0"}
    acting = {"rl", "bc"} if settings == [SECOND] else {"rl"}
    acting = {"rl", "bc", "second"} if ALL_ACT in settings else acting
    for row in rows:
        values = {name: float(row[f"value/{name}"]) for name in ("rl", "bc", "second")}
        assert float(row["value"]) == values[row["proposal"]] == max(map(values.get, acting))
        for name in ("bc", "second"):
            assert (float(row[f"distance/{name}"]) == 0) == (row["proposal"] == name)
    rows = read_rows(run / DIAGNOSIS_ROLLOUTS)
    assert tuple(rows[0]) == DIAGNOSIS_ROLLOUT_COLUMNS
    assert [row["policy"] for row in rows] == ["bc", "second"] * 4
    assert [row["source"] for row in rows] == ["visited"] * 4 + ["demonstrated"] * 4
    assert all(float(row["error"]) > 0 for row in rows)


def test_diagnose_leaves_returns_empty_for_other_rewards(ibrl, untrained_run):
    run = untrained_run("algo=sqil")
    code, output, errors = ibrl("diagnose", run, "episodes=1", "num_states=1")
    assert code == 0 and "value - return" not in output, errors
    assert {row["return"] for row in read_rows(run / DIAGNOSIS_STEPS)} == {""}


def test_diagnose_refuses_other_folders(ibrl, tmp_path):
    code, _, errors = ibrl("diagnose", tmp_path, "episodes=2")
    assert code == 2 and "not a run folder" in errors


def test_eval_lists_every_policy_and_proposal(ibrl, untrained_run, tmp_path):
    run, out = untrained_run(SECOND, ALL_ACT), tmp_path / "episodes.csv"
    settings = [f"out={out}", f"video={tmp_path / 'video.gif'}", "video_episodes=1"]
    code, output, errors = ibrl("eval", run, "episodes=2", *settings)
    assert code == 0, errors
    assert "bc share  second share" in output and f"video: {tmp_path / 'video.gif'}" in output
    assert (tmp_path / "video.gif").is_file()
    rows = read_rows(out)
    assert [*rows[0]] == evaluation_columns(("rl", "bc", "second"))
    assert [row["policy"] for row in rows[::2]] == ["hybrid", "rl", "bc", "second"]
    for row in rows:
        assert row["frames"] == "120" and row["length"] == "10"
        counts = {name: int(row[f"proposal_frames/{name}"]) for name in ("rl", "bc", "second")}
        assert sum(counts.values()) == 10
        assert row["policy"] == "hybrid" or counts[row["policy"]] == 10
