"""Trackers: TensorBoard, Weights & Biases."""

import pytest

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.runs import trackers
from ibrl_torchrl.runs.trackers import make_trackers, require_trackers


def test_tensorboard_writes_scalars(tmp_path):
    pytest.importorskip("tensorboard")
    (logger,) = make_trackers(tmp_path, {}, tensorboard=True, wandb="disabled", project="p")
    logger.log_scalar("train/q", 1.0, step=1)
    logger.close()
    assert [*tmp_path.rglob("events.out.tfevents.*")]


def test_weights_and_biases_writes_scalars_offline(tmp_path):
    pytest.importorskip("wandb")
    run_dir = tmp_path / "ibrl-seed1"
    (logger,) = make_trackers(run_dir, {"seed": 1}, tensorboard=False, wandb="offline", project="p")
    logger.log_scalar("train/q", 1.0, step=1)
    assert logger.experiment.config["seed"] == 1 and logger.experiment.name == "ibrl-seed1"
    logger.close()
    assert [*run_dir.rglob("*.wandb")]


def test_no_tracker_is_made_by_default(tmp_path):
    require_trackers(tensorboard=False, wandb="disabled")
    assert make_trackers(tmp_path, {}, tensorboard=False, wandb="disabled", project="p") == []
    assert [*tmp_path.iterdir()] == []


def test_require_trackers_refuses_a_package_that_is_not_installed(monkeypatch):
    def require(module, extra):
        raise UsageError(f"{module} [{extra}]")

    monkeypatch.setattr(trackers, "require_extra", require)
    with pytest.raises(UsageError, match=r"^tensorboard \[tensorboard\]$"):
        require_trackers(tensorboard=True, wandb="disabled")
    with pytest.raises(UsageError, match=r"^wandb \[wandb\]$"):
        require_trackers(tensorboard=False, wandb="offline")
