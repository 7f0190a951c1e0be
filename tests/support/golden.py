"""Golden traces: what two tiny runs compute, stored so that a refactoring can show no change.

A trace holds every number of ``train.csv`` and ``eval.csv`` and, for each tensor of the final
networks and targets, its shape, sum and absolute sum. Three short episodes of one warm-up, a few
rounds of updates, from states and from pixels, on the real simulator.

Renew the stored traces only when numbers are meant to change, and say why in the commit::

    python tests/support/golden.py
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

STORED = Path(__file__).parent.parent / "golden"
SHORT = [
    *(
        "task=metaworld/handle-press",
        "task.horizon=30",
        "demos.episodes=1",
        "imitation.bc.steps=20",
    ),
    *(
        "total_frames=80",
        "algo.warmup.episodes=1",
        "algo.update.frames_per_round=10",
        "collector.workers=0",
    ),
    *("log.every=1", "eval.every=60", "eval.episodes=1", "eval.final_episodes=2"),
]
SETTINGS = {
    "states": [
        *("algo=ibrl", *SHORT),
        *(
            "algo.actor.hidden=[16,16]",
            "algo.critic.hidden=[16,16]",
            "imitation.bc.network.hidden=[16]",
        ),
        *("replay.batch_size=16", "replay.prioritized=true", "task.relative_positions=[]"),
    ],
    "pixels": [
        *("experiment=small_pixels", "algo=ibrl", *SHORT),
        *("task.image_size=32", "task.frame_stack=2", "algo.update.lr=3e-4"),
        *("algo.actor.hidden=[16]", "algo.critic.hidden=[16]", "algo.critic.head_size=16"),
        *("imitation.bc.network.hidden=[16]", "replay.capacity=400", "replay.batch_size=8"),
    ],
}
# Name in a trace -> column.
TRAIN = {
    "frames": "frames",
    "episodes": "episodes",
    "rounds": "rounds",
    "success": "episode_success",
    "acting_share": "proposal_share/acting/bc",
    "loss_qvalue": "loss_qvalue",
    "loss_actor": "loss_actor",
    "value": "pred_value",
    "target": "target_value",
    "target_share": "proposal_share/target/bc",
}
EVAL = {
    "frames": "frames",
    "policy": "policy",
    "success": "success",
    "share": "proposal_share/acting/bc",
}


def trace(name: str, folder: Path) -> dict[str, Any]:
    """Run one of ``SETTINGS`` in a folder and collect its numbers."""
    from ibrl_torchrl.cli import main as cli

    argv, sys.argv = sys.argv, ["ibrl", "train", f"run_dir={folder}", *SETTINGS[name]]
    try:
        cli.main()
    finally:
        sys.argv = argv
    networks = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["loss"]
    return {
        "train": _columns(folder / "train.csv", TRAIN),
        "eval": _columns(folder / "eval.csv", EVAL),
        "networks": [
            [[*value.shape], value.double().sum().item(), value.double().abs().sum().item()]
            for value in networks.values()
            if isinstance(value, torch.Tensor)
        ],
    }


def _columns(path: Path, names: dict[str, str]) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [
            {name: _value(row[column]) for name, column in names.items()}
            for row in csv.DictReader(file)
        ]


def _value(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def stored(name: str) -> dict[str, Any]:
    """The trace that is committed."""
    return json.loads((STORED / f"{name}.json").read_text())


def renew() -> None:
    """Compute and store every trace."""
    STORED.mkdir(exist_ok=True)
    for name in SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            found = trace(name, Path(folder) / "run")
        (STORED / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    renew()
