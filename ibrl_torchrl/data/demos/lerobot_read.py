"""Read datasets of LeRobot, versions 2 and 3, see ``lerobot.py``; without LeRobot itself.

A dataset is read by itself: no path in it leads out of its folder, and a table is refused whose
declared size is beyond what its bytes can hold.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ibrl_torchrl.data.demos.arrays import (
    EpisodeActions,
    EpisodeArrays,
    Selection,
    labelled_actions,
)
from ibrl_torchrl.data.demos.checks import require_actions, require_finite, require_sparse
from ibrl_torchrl.data.demos.folder import (
    json_object,
    path_inside,
    read_json_inside,
    read_text_inside,
)
from ibrl_torchrl.data.demos.frames import decode_image, read_video
from ibrl_torchrl.data.demos.key_map import join_observations, unknown_key
from ibrl_torchrl.data.demos.lerobot import (
    EPISODES,
    EXECUTED_ACTION,
    SIMULATOR_STATE_COLUMN,
    column_of,
    key_of,
    stored_env_args,
)
from ibrl_torchrl.data.formats import LEROBOT_INFO
from ibrl_torchrl.envs.env_args import action_bounds, parse_env_args
from ibrl_torchrl.errors import UsageError, brief, require_extra
from ibrl_torchrl.keys import MODEL_XML, SIMULATOR_STATE

_MAX_ROWS = 10**7
_MAX_EXPANSION = 1100  # bytes of values a byte of a table
_ALWAYS_READ = 64 << 20  # bytes of values: constant columns take next to none
_MODEL_FILE = "model_file"


def read_lerobot_description(path: Path) -> dict[str, Any]:
    """Description of the environment; empty but for datasets of this package.

    Raises:
        UsageError: the file is damaged, or a value in it is out of range.
    """
    try:
        return parse_env_args(json.dumps(dict(stored_env_args(path))))
    except ValueError as error:
        raise UsageError(f"{path}: env_args {brief(error)}; fix it") from error


def read_lerobot(path: Path, selection: Selection) -> Iterator[tuple[str, EpisodeArrays]]:
    """Read the episodes of a dataset, one at a time.

    A step succeeds where ``next.success`` says so, or where ``next.reward`` is 1; without both, as
    in recordings of people, every episode succeeds at its last step.

    Args:
        path: folder of the dataset.
        selection: what to read; ``filter_key`` names a split of ``meta/info.json``.

    Yields:
        Dataset and episode, for messages, and the arrays.

    Raises:
        UsageError: pyarrow is not installed, or the dataset is of another version, lacks a column
            or a file, or is damaged.
    """
    require_extra("pyarrow.parquet", "lerobot")
    dataset = _Dataset(path)
    for row in dataset.rows(selection.filter_key)[: selection.max_episodes]:
        where = f"{path}: episode {row['episode_index']}"
        yield where, dataset.episode(row, selection, where)


class _Dataset:
    """Tables and videos of a dataset.

    Args:
        root: folder of the dataset.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._info = read_json_inside(root, LEROBOT_INFO)
        version = str(self._info.get("codebase_version", ""))
        match = re.fullmatch(r"v?([23])\.\d+(\.\d+)?", version)
        if match is None:
            raise UsageError(
                f"{root}: codebase_version is {brief(version) or 'missing'}, 2.0, 2.1 and 3.0 are "
                "read; convert the dataset with LeRobot's scripts"
            )
        self._is_v3 = match[1] == "3"
        features = self._info.get("features")
        if not isinstance(features, dict) or not all(
            isinstance(f, dict) and isinstance(f.get("dtype"), str) for f in features.values()
        ):
            raise UsageError(f"{root}: {LEROBOT_INFO} has no features with a dtype; copy it again")
        self._features: Mapping[str, Mapping[str, Any]] = features
        self._fps = self._number("fps", 1e-3, 1e5)
        self._chunk_size = int(self._number("chunks_size", 1, 10**7, default=1000))
        self._action_bounds = action_bounds(read_lerobot_description(root))
        self._table: tuple[Path, Any] | None = None

    def _number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self._info.get(name, default)
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or not low <= value <= high
        ):
            raise UsageError(
                f"{self._root}: {LEROBOT_INFO} has {name}={brief(value)}, must be from {low:g} to "
                f"{high:g}"
            )
        return value

    def rows(self, split: str | None) -> list[dict[str, Any]]:
        """Rows of the episodes, in order, all of them or those of a split."""
        rows = self._v3_rows() if self._is_v3 else self._v2_rows()
        for row in rows:
            for name in ("episode_index", "length"):
                if type(row.get(name)) is not int or not 0 <= row[name] <= _MAX_ROWS:
                    raise UsageError(
                        f"{self._root}: an episode has {name}={brief(row.get(name))}; copy the "
                        "dataset again"
                    )
        rows.sort(key=lambda row: row["episode_index"])
        if split is not None:
            splits = self._info.get("splits")
            known = splits if isinstance(splits, dict) else {}
            match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", str(known.get(split)))
            if match is None:
                names = brief(", ".join(known)) or "none"
                raise UsageError(f"{self._root}: no split {split!r}; the dataset has {names}")
            rows = [row for row in rows if int(match[1]) <= row["episode_index"] < int(match[2])]
        if not rows:
            raise UsageError(f"{self._root}: holds no episodes; copy the dataset again")
        return rows

    def _v3_rows(self) -> list[dict[str, Any]]:
        folder = path_inside(self._root, EPISODES)
        paths = sorted(folder.glob("chunk-*/file-*.parquet"))
        rows: list[dict[str, Any]] = []
        for path in paths:
            with _tables_of(path_inside(self._root, str(path.relative_to(self._root)))) as file:
                names = [name for name in file.schema_arrow.names if not name.startswith("stats/")]
                rows += file.read(columns=names).to_pylist()
        return rows

    def _v2_rows(self) -> list[dict[str, Any]]:
        lines = read_text_inside(self._root, "meta/episodes.jsonl").splitlines()
        where = f"{self._root}/meta/episodes.jsonl"
        return [json_object(line, where) for line in lines if line.strip()]

    def episode(self, row: Mapping[str, Any], selection: Selection, where: str) -> EpisodeArrays:
        """Arrays of an episode."""
        names = self._observations(selection, where)
        columns = {column for parts in names.values() for column in parts}
        videos = {name for name in columns if self._features[name]["dtype"] == "video"}
        following = {
            key: [f"next.{name}" for name in parts]
            for key, parts in names.items()
            if all(f"next.{name}" in self._features for name in parts)
        }
        optional = ["next.success", "next.reward", EXECUTED_ACTION]
        if selection.with_states:
            optional.append(SIMULATOR_STATE_COLUMN)
        wanted = {
            "action",
            *optional,
            *columns,
            *(n for parts in following.values() for n in parts),
        }
        table = self._read(
            row, [name for name in self._features if name in wanted and name not in videos], where
        )
        table |= {name: self._video(row, name) for name in videos}
        model_xml = row.get(_MODEL_FILE) if selection.with_states else None
        return EpisodeArrays(
            {key: _joined(table, parts, key, where) for key, parts in names.items()},
            _actions(table, selection.action_bounds or self._action_bounds, where),
            _rewards(table, where),
            {key: _joined(table, parts, key, where) for key, parts in following.items()},
            {SIMULATOR_STATE: table[SIMULATOR_STATE_COLUMN]}
            if SIMULATOR_STATE_COLUMN in table
            else {},
            {MODEL_XML: model_xml} if isinstance(model_xml, str) else {},
        )

    def _observations(self, selection: Selection, where: str) -> dict[str, Sequence[str]]:
        """Columns of each observation to read."""
        own = {key: [name] for name in self._features if (key := key_of(name)) is not None}
        keys = selection.keys
        if keys is None:
            mapped = {name for parts in selection.key_map.values() for name in parts}
            rest = [key for key, (name,) in own.items() if name not in mapped]
            keys = sorted({*selection.key_map, *rest})
        names = {key: selection.key_map.get(key, [column_of(key)]) for key in keys}
        for key, parts in {**names, "action": ["action"]}.items():
            for name in parts:
                if name not in self._features:
                    raise unknown_key(where, name, self._features, key)
        return names

    def _read(self, row: Mapping[str, Any], names: list[str], where: str) -> dict[str, np.ndarray]:
        """Columns [T, ...] of an episode."""
        if self._is_v3:
            name = _place(row, "data/chunk_index", "data/file_index", where)
            path = path_inside(self._root, f"data/{name}.parquet")
        else:
            path = path_inside(self._root, f"data/{self._v2_place(row)}.parquet")
        if self._table is None or self._table[0] != path:
            with _tables_of(path) as file:
                missing = [n for n in (*names, "episode_index") if n not in file.schema_arrow.names]
                if missing:
                    raise unknown_key(str(path), missing[0], file.schema_arrow.names, "state")
                self._table = path, file.read(columns=[*names, "episode_index"])
        table = self._table[1]
        with _damage_reported(path):
            steps = np.flatnonzero(table["episode_index"].to_numpy() == row["episode_index"])
            length = len(steps)
            if length == 0 or length != row["length"] or steps[-1] - steps[0] + 1 != length:
                raise UsageError(
                    f"{where}: has {length} steps in {path.name}, {row['length']} are declared; "
                    "copy the dataset again"
                )
            part = table.slice(steps[0], length)
            return {name: _values(part[name], f"{where}: {name}") for name in names}

    def _video(self, row: Mapping[str, Any], name: str) -> np.ndarray:
        """Images of an episode, uint8 [T, H, W, 3]."""
        where = f"{self._root}: {name}"
        start: Any = 0.0
        if self._is_v3:
            prefix = f"videos/{name}"
            place = _place(row, f"{prefix}/chunk_index", f"{prefix}/file_index", where)
            path = path_inside(self._root, f"videos/{name}/{place}.mp4")
            start = row.get(f"{prefix}/from_timestamp")
            if not isinstance(start, (int, float)) or not 0 <= start < math.inf:
                raise UsageError(f"{where}: from_timestamp is {brief(start)}; copy it again")
        else:
            chunk, file = self._v2_place(row).split("/")
            path = path_inside(self._root, f"videos/{chunk}/{name}/{file}.mp4")
        return read_video(path, start, row["length"], self._fps)

    def _v2_place(self, row: Mapping[str, Any]) -> str:
        index = row["episode_index"]
        return f"chunk-{index // self._chunk_size:03d}/episode_{index:06d}"


def _place(row: Mapping[str, Any], chunk: str, file: str, where: str) -> str:
    """Path of a file of version 3, without folder and suffix."""
    for name in (chunk, file):
        if type(row.get(name)) is not int or not 0 <= row[name] < _MAX_ROWS:
            raise UsageError(f"{where}: {name} is {brief(row.get(name))}; copy the dataset again")
    return f"chunk-{row[chunk]:03d}/file-{row[file]:03d}"


@contextmanager
def _damage_reported(path: Path) -> Iterator[None]:
    """Errors of pyarrow in one line; they derive from those of Python."""
    try:
        yield
    except (
        *(ArithmeticError, LookupError, MemoryError, OSError),
        *(RuntimeError, TypeError, ValueError),
    ) as error:
        raise UsageError(
            f"{path}: not a readable table ({brief(error, 200)}); copy it again"
        ) from error


@contextmanager
def _tables_of(path: Path) -> Iterator[Any]:
    """Open a Parquet file of credible size."""
    from pyarrow import parquet

    if not path.is_file():
        raise UsageError(f"{path}: no such file, which the dataset names; copy it again")
    with _damage_reported(path), parquet.ParquetFile(path) as file:
        metadata = file.metadata
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        columns = [group.column(i) for group in groups for i in range(group.num_columns)]
        declared = sum(max(c.num_values * 8, c.total_uncompressed_size) for c in columns)
        allowed = max(_ALWAYS_READ, _MAX_EXPANSION * path.stat().st_size)
        if metadata.num_rows > _MAX_ROWS or declared > allowed:
            raise ValueError(
                f"{metadata.num_rows} rows of {declared} bytes declared, "
                f"{path.stat().st_size} are stored"
            )
        yield file


def _values(column: Any, where: str) -> np.ndarray:
    """Values [T, ...] of a column: numbers, vectors of equal length, or images."""
    import pyarrow
    from pyarrow import compute, types

    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    length, shape = len(array), []
    if types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        files = [item["bytes"] for item in array.to_pylist()]
        if not all(isinstance(each, bytes) for each in files):
            raise UsageError(f"{where}: an image is not stored in the table; copy it again")
        return np.stack([decode_image(each, where) for each in files])
    while types.is_list(array.type) or types.is_fixed_size_list(array.type):
        sizes = compute.unique(compute.list_value_length(array)).to_pylist()
        if len(sizes) != 1 or not sizes[0]:
            raise UsageError(f"{where}: has vectors of {brief(sizes)} numbers; copy it again")
        shape.append(sizes[0])
        array = array.flatten()
    is_number = types.is_integer(array.type) or types.is_floating(array.type)
    if not (is_number or types.is_boolean(array.type)) or array.null_count:
        raise UsageError(f"{where}: must hold a number at each step, found {brief(array.type)}")
    values = np.array(array.to_numpy(zero_copy_only=False))  # Arrow's memory is read-only
    return require_finite(values.reshape(length, *shape), where)


def _actions(
    table: Mapping[str, np.ndarray], bounds: tuple[np.ndarray, np.ndarray], where: str
) -> EpisodeActions:
    """Actions of an episode; LeRobot stores a vector of one as a number."""
    values = {
        name: require_actions(table[name].reshape(len(table[name]), -1), where, name, bounds=bounds)
        for name in ("action", EXECUTED_ACTION)
        if name in table
    }
    actions, executed = values["action"], values.get(EXECUTED_ACTION)
    if executed is None:
        return EpisodeActions(actions, None)
    return labelled_actions(executed, actions, where, EXECUTED_ACTION)


def _joined(
    table: Mapping[str, np.ndarray], names: Sequence[str], key: str, where: str
) -> np.ndarray:
    return join_observations({name: table[name] for name in names}, key, where)


def _rewards(table: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Sparse rewards, float32 [T], 0 or 1."""
    length = len(table["action"])
    values = table.get("next.success", table.get("next.reward"))
    if values is None:
        return np.eye(length, dtype=np.float32)[-1]
    if values.size == length:  # a vector of one is a number
        values = values.reshape(length)
    values = values.astype(np.float32)
    return require_sparse(values, where, "next.reward", "add a column next.success")
