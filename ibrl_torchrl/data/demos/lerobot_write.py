"""Save episodes as a dataset of LeRobot, version 3.0, see ``lerobot.py``."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tensordict import TensorDictBase

from ibrl_torchrl.data.demos.frames import VideoWriter, encode_png
from ibrl_torchrl.data.demos.lerobot import (
    ENV_ARGS,
    EPISODES,
    EXECUTED_ACTION,
    POLICY,
    SIMULATOR_STATE_COLUMN,
    column_of,
)
from ibrl_torchrl.data.formats import LEROBOT_INFO
from ibrl_torchrl.episodes import imitation_episode, observation_keys
from ibrl_torchrl.errors import UsageError, require_extra
from ibrl_torchrl.files import full_disk_reported
from ibrl_torchrl.keys import (
    ACTION,
    DONE,
    EXPERT_ACTION,
    INTERVENTION,
    MODEL_XML,
    NEXT,
    PROPOSAL,
    REWARD,
    SIMULATOR_STATE,
    SUCCESS,
)

_FILE = "chunk-{:03d}/file-{:03d}"
_FILES_A_CHUNK = 1000
_BYTES_A_FILE = 100 << 20  # of arrays, uncompressed
_FRAMES_A_VIDEO = 20_000
DEMONSTRATOR, MIXTURE = "demonstrator", "mixture"  # who acted in demonstrations, and in DAgger's
_INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")


def save_lerobot(
    path: str | Path,
    episodes: Iterable[TensorDictBase],
    env_args: Mapping[str, Any],
    *,
    task: str = "",
    fps: int = 20,
    images: str = "video",
    proposals: Sequence[str] = (),
) -> None:
    """Save episodes as a dataset of LeRobot, version 3.0; the folder appears when it is complete.

    Args:
        path: folder to write.
        episodes: TensorDicts [T], written one at a time. With ``expert_action``, the labels of an
            expert, these are the column ``action`` and ``action`` is ``executed_action``.
        env_args: robomimic's description of the environment, such as ``env.env_args``.
        task: description of the task; default its name in ``env_args``.
        fps: steps per second, default 20.
        images: ``"video"`` (default, H.264: lossy) or ``"png"`` (in the tables: exact).
        proposals: names of the policies whose indices ``proposal`` has, for the column ``policy``.

    Raises:
        ValueError: there are no episodes.
        UsageError: pyarrow is not installed, the folder exists or cannot be written to, the disk is
            full, or images of odd height or width do not fit a video.
    """
    path = Path(path)
    require_extra("pyarrow.parquet", "lerobot")
    if path.exists():
        raise UsageError(f"{path}: exists already; choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with full_disk_reported(path):
            with _Writer(unfinished, fps, images, env_args, proposals) as writer:
                for episode in episodes:
                    writer.add(episode.cpu())
                if not writer.rows:
                    raise ValueError(f"no episodes to save to {path}; record at least one")
                writer.finish(task or str(env_args.get("env_name", "task")))
            unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


class _Writer:
    """Files of a dataset, open until all episodes are written.

    Args:
        root: folder to create.
        fps, images, env_args, proposals: see :func:`save_lerobot`.
    """

    def __init__(
        self,
        root: Path,
        fps: int,
        images: str,
        env_args: Mapping[str, Any],
        proposals: Sequence[str],
    ) -> None:
        self._root = root
        self._fps = fps
        self._as_video = images == "video"
        self._env_args = env_args
        self._proposals = proposals
        self._features: dict[str, dict[str, Any]] = {}
        self._statistics: dict[str, _Statistics] = {}
        self._videos: dict[str, VideoWriter] = {}
        self._video_numbers: dict[str, int] = {}
        self._table: Any = None
        self._table_number = -1
        self._table_bytes = 0
        self._num_frames = 0
        self.rows: list[dict[str, Any]] = []
        root.mkdir()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._table, *self._videos.values()):
            if file is not None:
                file.close()

    def add(self, episode: TensorDictBase) -> None:
        """Write an episode, TensorDict [T]."""
        columns, images = self._columns(episode), _images(episode)
        self._describe(columns, images)
        for column, values in {**columns, **images}.items():
            if values.dtype.kind != "U":
                self._statistics.setdefault(column, _Statistics()).add(values)
        length, number = len(episode), len(self.rows)
        row: dict[str, Any] = {
            "episode_index": number,
            "length": length,
            "dataset_from_index": self._num_frames,
            "dataset_to_index": self._num_frames + length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        if (model_xml := episode.get_non_tensor(MODEL_XML, default=None)) is not None:
            row["model_file"] = model_xml
        steps = np.arange(length)
        columns |= {
            "timestamp": (steps / self._fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, number),
            "index": steps + self._num_frames,
            "task_index": np.zeros(length, np.int64),
        }
        if self._as_video:
            for column, values in images.items():
                row |= self._write_video(column, values)
            images = {}
        row |= self._write_table(columns, images)
        self.rows.append(row)
        self._num_frames += length

    def finish(self, task: str) -> None:
        """Write the description of the dataset."""
        from pyarrow import Table, list_, parquet, string

        rows = [{**row, "tasks": [task]} for row in self.rows]
        folder = self._root / EPISODES / _FILE.format(0, 0)
        folder.parent.mkdir(parents=True)
        table = Table.from_pylist(rows)
        index = table.schema.get_field_index("tasks")
        table = table.set_column(index, "tasks", table["tasks"].cast(list_(string())))
        parquet.write_table(table, folder.with_suffix(".parquet"))
        _write_tasks(self._root / "meta/tasks.parquet", [task])
        statistics = {column: each.summary() for column, each in self._statistics.items()}
        self._write_json("meta/stats.json", statistics)
        self._write_json(ENV_ARGS, self._env_args)
        self._write_json(LEROBOT_INFO, self._info())

    def _info(self) -> dict[str, Any]:
        kinds = {"timestamp": "float32"}
        indices = {
            name: {"dtype": kinds.get(name, "int64"), "shape": [1], "names": None}
            for name in _INDICES
        }
        has_videos = bool(self._videos)
        return {
            "codebase_version": "v3.0",
            "robot_type": _robot(self._env_args),
            "total_episodes": len(self.rows),
            "total_frames": self._num_frames,
            "total_tasks": 1,
            "chunks_size": _FILES_A_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._fps,
            "splits": {"train": f"0:{len(self.rows)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
            if has_videos
            else None,
            "features": {**self._features, **indices},
        }

    def _columns(self, episode: TensorDictBase) -> dict[str, np.ndarray]:
        """Columns of numbers and text."""
        columns: dict[str, np.ndarray] = {}
        keys = [key for key in observation_keys(episode) if not _is_image(episode[key])]
        for key in keys:
            columns[column_of(key)] = episode[key].flatten(1).numpy()
            columns[f"next.{column_of(key)}"] = episode[NEXT, key].flatten(1).numpy()
        columns["action"] = imitation_episode(episode)[ACTION].numpy()
        if EXPERT_ACTION in episode:
            columns[EXECUTED_ACTION] = episode[ACTION].numpy()
        reward = episode[NEXT, REWARD].squeeze(-1).numpy()
        success = episode[NEXT].get(SUCCESS, episode[NEXT, REWARD] == 1)
        columns["next.reward"] = reward
        columns["next.done"] = episode[NEXT, DONE].squeeze(-1).numpy()
        columns["next.success"] = success.squeeze(-1).numpy()
        columns[POLICY] = self._policies(episode)
        if SIMULATOR_STATE in episode:
            columns[SIMULATOR_STATE_COLUMN] = episode[SIMULATOR_STATE].numpy()
        return columns

    def _policies(self, episode: TensorDictBase) -> np.ndarray:
        """Name of the policy that acted at each step, or ``intervention``."""
        indices = episode.get(PROPOSAL, None)
        if indices is None:
            name = MIXTURE if EXPERT_ACTION in episode else DEMONSTRATOR
            policies = np.full(len(episode), name)
        else:
            known = dict(enumerate(self._proposals))
            names = [known.get(int(index), str(int(index))) for index in indices.flatten()]
            policies = np.array(names)
        if (intervention := episode.get(INTERVENTION, None)) is None:
            return policies
        return np.where(intervention.reshape(-1).numpy(), INTERVENTION, policies)

    def _describe(
        self, columns: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray]
    ) -> None:
        """Take the features of the first episode; refuse another one's that differ."""
        features = {column: _feature(values) for column, values in columns.items()}
        for column, values in images.items():
            height, width = values.shape[1:3]
            if self._as_video and (height % 2 or width % 2):
                raise UsageError(
                    f"{column}: images of {height} x {width} pixels do not fit a video, whose "
                    "height and width are even; choose images=png"
                )
            features[column] = _image_feature(height, width, self._fps, self._as_video)
        self._features = self._features or features
        if features != self._features:
            names = {**features, **self._features}
            name = next(n for n in names if features.get(n) != self._features.get(n))
            raise UsageError(
                f"{name}: differs from the first episode's in episode {len(self.rows)}; "
                "convert episodes of one environment"
            )

    def _write_video(self, column: str, images: np.ndarray) -> dict[str, Any]:
        """Append images to the column's video; returns their place."""
        if column in self._videos and self._videos[column].frames >= _FRAMES_A_VIDEO:
            self._videos.pop(column).close()
        if column not in self._videos:
            number = self._video_numbers[column] = self._video_numbers.get(column, -1) + 1
            name = _FILE.format(*divmod(number, _FILES_A_CHUNK))
            path = self._root / "videos" / column / f"{name}.mp4"
            self._videos[column] = VideoWriter(path, self._fps, *images.shape[1:3])
        video = self._videos[column]
        start = video.frames / self._fps
        video.write(images)
        chunk, file = divmod(self._video_numbers[column], _FILES_A_CHUNK)
        return {
            f"videos/{column}/chunk_index": chunk,
            f"videos/{column}/file_index": file,
            f"videos/{column}/from_timestamp": start,
            f"videos/{column}/to_timestamp": video.frames / self._fps,
        }

    def _write_table(
        self, columns: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray]
    ) -> dict[str, Any]:
        """Append steps to the table; returns their place."""
        import pyarrow
        from pyarrow import parquet

        arrays = {column: _arrow(values) for column, values in columns.items()}
        for column, values in images.items():
            files = [{"bytes": encode_png(image), "path": None} for image in values]
            kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
            arrays[column] = pyarrow.array(files, type=kind)
        table = pyarrow.table(arrays)
        if self._table is not None and self._table_bytes >= _BYTES_A_FILE:
            self._table.close()
            self._table = None
        if self._table is None:
            self._table_number += 1
            self._table_bytes = 0
            name = _FILE.format(*divmod(self._table_number, _FILES_A_CHUNK))
            path = self._root / "data" / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table = parquet.ParquetWriter(path, table.schema)
        self._table.write_table(table)
        self._table_bytes += table.nbytes
        chunk, file = divmod(self._table_number, _FILES_A_CHUNK)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        (self._root / name).parent.mkdir(exist_ok=True)
        (self._root / name).write_text(json.dumps(content, indent=4) + "\n")


class _Statistics:
    """Minimum, maximum, mean and standard deviation of a column; of images by channel."""

    def __init__(self) -> None:
        self._count = 0
        self._rows = 0
        self._sum = self._squares = np.zeros(1)
        self._low, self._high = np.full(1, math.inf), np.full(1, -math.inf)

    def add(self, values: np.ndarray) -> None:
        """Add values [T, ...]."""
        self._rows += len(values)
        is_image = values.ndim == 4
        flat = values.astype(np.float64)
        flat = flat.reshape(-1, values.shape[-1]) / 255 if is_image else flat.reshape(len(flat), -1)
        self._shape = (-1, 1, 1) if is_image else (-1,)
        self._count += len(flat)
        self._sum = self._sum + flat.sum(0)
        self._squares = self._squares + (flat**2).sum(0)
        self._low, self._high = (
            np.minimum(self._low, flat.min(0)),
            np.maximum(self._high, flat.max(0)),
        )

    def summary(self) -> dict[str, Any]:
        """Lists by name."""
        mean = self._sum / self._count
        variance = np.maximum(self._squares / self._count - mean**2, 0)
        values = {"min": self._low, "max": self._high, "mean": mean, "std": np.sqrt(variance)}
        lists = {name: value.reshape(self._shape).tolist() for name, value in values.items()}
        return {**lists, "count": [self._rows]}


def _is_image(values: Any) -> bool:
    return values.ndim == 4


def _images(episode: TensorDictBase) -> dict[str, np.ndarray]:
    """Columns of images, uint8 [T, H, W, 3]."""
    return {
        column_of(key): episode[key].permute(0, 2, 3, 1).numpy()
        for key in observation_keys(episode)
        if _is_image(episode[key])
    }


def _arrow(values: np.ndarray) -> Any:
    """Column of numbers or text; LeRobot stores a vector of one as a number."""
    import pyarrow

    if values.ndim == 1 or values.shape[1] == 1:
        return pyarrow.array(values.reshape(-1))
    flat = pyarrow.array(values.reshape(-1))
    return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _feature(values: np.ndarray) -> dict[str, Any]:
    dtype = "string" if values.dtype.kind == "U" else str(values.dtype)
    return {"dtype": dtype, "shape": [*values.shape[1:]] or [1], "names": None}


def _image_feature(height: int, width: int, fps: int, as_video: bool) -> dict[str, Any]:
    feature: dict[str, Any] = {
        "dtype": "video" if as_video else "image",
        "shape": [height, width, 3],
        "names": ["height", "width", "channels"],
    }
    if as_video:
        feature["info"] = {
            "video.height": height,
            "video.width": width,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        }
    return feature


def _write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Table of tasks, as pandas writes a DataFrame with the tasks as its index."""
    import pyarrow
    from pyarrow import parquet

    index = "__index_level_0__"
    text = {"pandas_type": "unicode", "numpy_type": "object"}
    number = {"pandas_type": "int64", "numpy_type": "int64"}
    pandas = {
        "index_columns": [index],
        "column_indexes": [
            {"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **number, "metadata": None},
            {"name": None, "field_name": index, **text, "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pyarrow.__version__},
        "pandas_version": "2.2.0",
    }
    table = pyarrow.table({"task_index": [*range(len(tasks))], index: [*tasks]})
    parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)


def _robot(env_args: Mapping[str, Any]) -> str | None:
    robots = env_args.get("env_kwargs", {}).get("robots")
    return robots if robots is None or isinstance(robots, str) else ", ".join(robots)
