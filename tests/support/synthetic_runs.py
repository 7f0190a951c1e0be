"""Synthetic run folders as ``ibrl train`` and ``ibrl diagnose`` write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ibrl_torchrl.files import write_table
from ibrl_torchrl.runs.names import DIAGNOSIS_ROLLOUTS, DIAGNOSIS_STEPS, EVAL, EVALUATION
from ibrl_torchrl.runs.tables import (
    DIAGNOSIS_ROLLOUT_COLUMNS,
    diagnosis_step_columns,
    eval_columns,
    evaluation_columns,
)


def write_run(
    path: Path,
    method: str = "ibrl",
    seed: int = 1,
    *,
    curve: Sequence[float] = (0.0, 0.5, 1.0),
    final: float | None = 1.0,
    task: str = "box-close",
    total_frames: int = 3000,
    eval_every: int = 1000,
    imitation: Sequence[str] = ("bc",),
    update: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write a run that was evaluated every ``eval_every`` frames, 7 frames late.

    The RL actor scores half of the hybrid; each imitation policy solves one initial state in ten
    and provides 20 % of the hybrid's actions in evaluations during training.

    Args:
        path: run folder to create.
        method: methods whose names begin with ``"ibrl"`` act with all imitation policies.
        seed: seed of the run.
        curve: success rate of the hybrid in each evaluation.
        final: success rate of the hybrid in ten final episodes; None for an unfinished run.
        task: Meta-World task.
        total_frames: budget.
        eval_every: interval of evaluations in frames.
        imitation: names of the imitation policies.
        update: settings of ``algo.update`` to change.
        inputs: hashes of the demonstrations and of imitation policies.
    """
    path.mkdir(parents=True)
    proposals = ["rl", *imitation]
    acting = proposals if method.startswith("ibrl") else ["rl"]
    # Lists of their own, as in a run's file: YAML would write one list twice as an alias.
    choice, bootstrap = ({"policies": [*acting], "select": "greedy"} for _ in range(2))
    config = {
        "seed": seed,
        "total_frames": total_frames,
        "run_dir": str(path),
        "task": {"suite": "metaworld", "name": task},
        "demos": {"path": None, "episodes": 3},
        "imitation": {name: {"path": None, "steps": 100} for name in imitation},
        "replay": {"n_steps": 3},
        "eval": {"every": eval_every, "seed": 100, "final_episodes": 10},
        "algo": {
            "name": method,
            "proposals": {
                "select": "greedy",
                "acting": choice,
                "bootstrap": bootstrap,
            },
            "update": {"lr": 3e-4, **(update or {})},
        },
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    provenance = {"command": f"ibrl train seed={seed}", "commit": "abc", "versions": {"torch": "2"}}
    if inputs:
        provenance["inputs"] = {**inputs}
    (path / "run.json").write_text(json.dumps(provenance))
    rows: list[list[Any]] = [
        [0, 1.0, name, 10, 0.1, 0, 1, 60, *(int(name == n) for n in proposals)]
        for name in imitation
    ]
    shares = [1 - 0.2 * len(imitation), *(0.2 for _ in imitation)]
    for number, score in enumerate(curve, 1):
        at, seconds = number * eval_every + 7, number * 60.0
        length = 30 if score else "nan"
        rows.append([at, seconds, "hybrid", 20, score, 0, 1, length, *shares])
        rl_only = [1, *(0 for _ in imitation)]
        rows.append([at, seconds, "rl", 20, score / 2, 0, 1, "nan", *rl_only])
    write_table(path / EVAL, eval_columns(proposals), rows)
    if final is not None:
        scores = {"hybrid": final, "rl": final / 2, **dict.fromkeys(imitation, 0.1)}
        rows = []
        for policy, score in scores.items():
            for i in range(10):
                frames = [20 + i - 2 * len(imitation), *(2 for _ in imitation)]
                solved = int(i < round(10 * score))
                rows.append([total_frames + 7, policy, 100 + i, solved, 20 + i, *frames])
        write_table(path / EVALUATION, evaluation_columns(proposals), rows)
    return path


def write_diagnosis(run: Path) -> Path:
    """Add a diagnosis to a run: two episodes of two frames and four rollouts from states."""
    steps = [
        [1, 0, 2, 1, "bc", 0.8, 0.9, 0.7, 0.8, 0.0],
        [1, 1, 2, 1, "rl", 1.1, 1.0, 1.1, 0.6, 0.4],
        [2, 0, 2, 0, "rl", 0.3, 0.0, 0.3, 0.2, 0.4],
        [2, 1, 2, 0, "rl", 0.1, 0.0, 0.1, 0.0, 0.4],
    ]
    write_table(run / DIAGNOSIS_STEPS, diagnosis_step_columns(["rl", "bc"]), steps)
    rollouts = [
        ["bc", "visited", "seed 1", 0, True, 0.5],
        ["bc", "visited", "seed 2", 1, False, 0.3],
        ["bc", "demonstrated", "demo_0", 0, True, ""],
        ["bc", "demonstrated", "demo_0", 1, True, ""],
    ]
    write_table(run / DIAGNOSIS_ROLLOUTS, DIAGNOSIS_ROLLOUT_COLUMNS, rollouts)
    return run
