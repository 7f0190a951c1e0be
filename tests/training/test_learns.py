"""IBRL exceeds its imitation policy, at the smallest size that shows it."""

import csv
import sys

import pytest

from ibrl_torchrl.cli import main as cli

pytest.importorskip("metaworld")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]


def test_ibrl_exceeds_its_imitation_policy(tmp_path, monkeypatch):
    """4 500 frames of the default on assembly, evaluated from 30 initial states; takes minutes."""
    run_dir = tmp_path / "run"
    settings = ["task=metaworld/assembly", "seed=2", "total_frames=4500"]
    settings += ["eval.every=100000", "eval.final_episodes=30"]
    monkeypatch.setattr(sys, "argv", ["ibrl", "train", f"run_dir={run_dir}", *settings])
    cli.main()
    rows = [*csv.DictReader((run_dir / "eval.csv").open())][-3:]
    success = {row["policy"]: float(row["success"]) for row in rows}
    # BC 0.37, hybrid 0.93; in 20 episodes 1.00 on two models of processor.
    assert success["hybrid"] >= success["bc"] + 0.2
    assert success["hybrid"] >= 0.6
