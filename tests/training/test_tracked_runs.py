"""A run's numbers in trackers: those of its tables, by the names of their columns."""

import math

import pytest

from ibrl_torchrl.runs.tables import read_rows

pytestmark = [pytest.mark.simulator, pytest.mark.filterwarnings("ignore")]
RUN = [
    *("task=gym", "id=support.point_env:PlanePoint-v0", "task.horizon=8"),
    *("demos.expert=support.point_env:expert", "imitation.bc.steps=30"),
    *("imitation.bc.network.hidden=[8]", "algo.actor.hidden=[8]", "algo.critic.hidden=[8]"),
    *("algo.warmup.episodes=2", "algo.update.frames_per_round=10", "total_frames=40"),
    *("eval.every=20", "eval.episodes=2", "eval.final_episodes=4", "task.num_init_states=5"),
    *("collector.workers=0", "log.every=10"),
]


def tracked(folder):
    """Scalars of TensorBoard's event files as {name: [(step, value), ...]}."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    scalars = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        events = reader.EventAccumulator(str(file)).Reload()
        for name in events.Tags()["scalars"]:
            points = [(event.step, event.value) for event in events.Scalars(name)]
            scalars.setdefault(name, []).extend(points)
    return scalars


def tabled(run):
    """Numbers of the tables of a run by the same names."""
    scalars = {}
    tables = (("train.csv", lambda row: "train"), ("eval.csv", lambda row: f"eval/{row['policy']}"))
    for table, prefix in tables:
        for row in read_rows(run / table):
            for column, value in row.items():
                if column not in ("frames", "policy") and value != "":
                    point = (int(row["frames"]), float(value))
                    scalars.setdefault(f"{prefix(row)}/{column}", []).append(point)
    return scalars


def test_tensorboard_has_every_number_of_the_tables_by_its_column(ibrl, tmp_path):
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    code, _, error = ibrl("train", *RUN, f"run_dir={run}", "log.tensorboard=true")
    assert code == 0, error
    events, tables = tracked(run / "tensorboard"), tabled(run)
    assert {*events} == {*tables}
    assert {"train/loss_qvalue", "train/proposal_share/acting/bc", "eval/hybrid/success"} <= {
        *events
    }
    for name, points in tables.items():
        assert [step for step, _ in events[name]] == [step for step, _ in points], name
        for (_, value), (_, expected) in zip(events[name], points, strict=True):
            both_nan = math.isnan(value) and math.isnan(expected)
            assert both_nan or value == pytest.approx(expected, rel=1e-4, abs=1e-6), name
