"""Layout of LeRobot's datasets, versions 2.1 and 3.0.

::

    meta/info.json                              version, fps, features (dtype and shape of columns)
    meta/tasks.parquet                          descriptions of tasks; 2.1: meta/tasks.jsonl
    meta/episodes/chunk-000/file-000.parquet    one row an episode; 2.1: meta/episodes.jsonl
    meta/stats.json                             minimum, maximum, mean, standard deviation
    meta/env_args.json                          of this package: description of the environment
    data/chunk-000/file-000.parquet             one row a step; 2.1: .../episode_000000.parquet
    videos/KEY/chunk-000/file-000.mp4           2.1: videos/chunk-000/KEY/episode_000000.mp4

Columns of this package's datasets:

    observation.KEY            vector before the action
    observation.images.CAMERA  image before the action
    action                     what imitation learns
    executed_action            optional: executed instead of action, which is the expert's label
    next.observation.KEY       vector after the action
    next.reward                1 at success
    next.done, next.success    bool
    policy                     name of the policy that acted
    simulator_state            optional: state of the simulator before the action, float64
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ibrl_torchrl.data.demos.folder import read_json_inside

ENV_ARGS = "meta/env_args.json"
EPISODES = "meta/episodes"
POLICY = "policy"
EXECUTED_ACTION = "executed_action"
SIMULATOR_STATE_COLUMN = "simulator_state"

_IMAGES = "observation.images."
_OBSERVATION = "observation."
_IMAGE_SUFFIX = "_image"


def column_of(key: str) -> str:
    """Column of an observation.

    Example:
        >>> column_of("state"), column_of("corner2_image")
        ('observation.state', 'observation.images.corner2')
    """
    if key.endswith(_IMAGE_SUFFIX):
        return f"{_IMAGES}{key.removesuffix(_IMAGE_SUFFIX)}"
    return f"{_OBSERVATION}{key}"


def key_of(column: str) -> str | None:
    """Observation of a column, the inverse of :func:`column_of`; None for other columns."""
    if column.startswith(_IMAGES):
        return f"{column.removeprefix(_IMAGES)}{_IMAGE_SUFFIX}"
    return column.removeprefix(_OBSERVATION) if column.startswith(_OBSERVATION) else None


def stored_env_args(root: Path) -> Mapping[str, Any]:
    """Description of the environment, of a dataset of this package; else empty."""
    return read_json_inside(root, ENV_ARGS) if (root / ENV_ARGS).is_file() else {}
