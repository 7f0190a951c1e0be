"""Run folders as ``ibrl train`` leaves them, with numbers made up for a test."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def write_run(
    path: Path,
    method: str = "ibrl",
    seed: int = 1,
    *,
    curve: Sequence[float] = (0.0, 0.5, 1.0),
    final: float | None = 1.0,
    task: str = "box-close",
    frames: int = 3000,
    algo: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Path:
    """Write a run that was evaluated every 1000 frames, 7 frames late.

    ``final`` is the share of ten final episodes solved, None for a run that did not finish. The RL
    actor alone scores half of the hybrid; the BC policy solves one start state in ten.
    """
    path.mkdir(parents=True)
    proposing = method.startswith("ibrl")
    config = {
        "seed": seed,
        "frames": frames,
        "run_dir": str(path),
        "task": {"suite": "metaworld", "name": task},
        "demos": {"path": None, "episodes": 3},
        "bc": {"path": None, "steps": 100},
        "replay": {"n_steps": 3},
        "eval": {"every": 1000, "seed": 100, "final_episodes": 10},
        "algo": {
            "name": method,
            "acting": "greedy" if proposing else "rl",
            "bootstrap": "greedy" if proposing else "rl",
            "soft": False,
            "lr": 3e-4,
            **(algo or {}),
        },
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    origin = {"command": f"ibrl train seed={seed}", "commit": "abc", "versions": {"torch": "2"}}
    (path / "run.json").write_text(json.dumps(origin | ({"inputs": inputs} if inputs else {})))
    header = "frames wall_s policy episodes success success_low success_high success_length"
    rows = [[0, 1.0, "bc", 10, 0.1, 0, 1, 60, 1]]
    for number, score in enumerate(curve, 1):
        at, seconds = number * 1000 + 7, number * 60.0
        rows.append([at, seconds, "hybrid", 20, score, 0, 1, 30 if score else "nan", 0.2])
        rows.append([at, seconds, "rl", 20, score / 2, 0, 1, "nan", 0])
    _write(path / "eval.csv", [*header.split(), "il_share"], rows)
    if final is not None:
        shares = {"hybrid": final, "rl": final / 2, "bc": 0.1}
        rows = [
            [frames + 7, policy, 100 + i, int(i < round(10 * share)), 20 + i, 2]
            for policy, share in shares.items()
            for i in range(10)
        ]
        header = "frames policy seed success length il_frames"
        _write(path / "evaluation.csv", header.split(), rows)
    return path


def write_diagnosis(run: Path) -> Path:
    """Add to a run what ``ibrl diagnose`` leaves: two episodes of two frames, four restarts."""
    header = "seed step length success proposal value return rl_value il_value il_distance"
    moments = [
        [1, 0, 2, 1, 1, 0.8, 0.9, 0.7, 0.8, 0.0],
        [1, 1, 2, 1, 0, 1.1, 1.0, 1.1, 0.6, 0.4],
        [2, 0, 2, 0, 0, 0.3, 0.0, 0.3, 0.2, 0.4],
        [2, 1, 2, 0, 0, 0.1, 0.0, 0.1, 0.0, 0.4],
    ]
    _write(run / "diagnosis_moments.csv", header.split(), moments)
    restarts = [
        ["visited", "seed 1", 0, True, 0.5],
        ["visited", "seed 2", 1, False, 0.3],
        ["demonstrated", "demo_0", 0, True, ""],
        ["demonstrated", "demo_0", 1, True, ""],
    ]
    _write(
        run / "diagnosis_restarts.csv", ["source", "episode", "step", "success", "error"], restarts
    )
    return run


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
