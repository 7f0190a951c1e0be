"""Spaces of a run's environment in its folder, ``spaces.json``."""

from __future__ import annotations

from pathlib import Path

from torchrl.envs import EnvBase

from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import write_json
from ibrl_torchrl.runs.names import SPACES
from ibrl_torchrl.runs.plain import read_json


def write_spaces(run_dir: Path, env: EnvBase) -> None:
    """Write the spaces of a run's environment to its folder.

    Raises:
        UsageError: the folder cannot be written to.
    """
    write_json(run_dir / SPACES, Spaces.of(env).as_dict())


def read_spaces(run_dir: Path) -> Spaces | None:
    """Read the spaces of a run's environment; None for a run of a version that stored none.

    Raises:
        UsageError: the file cannot be read, or is damaged.
    """
    path = run_dir / SPACES
    if not path.exists():
        return None
    try:
        return Spaces.from_dict(read_json(path))
    except (
        *(UsageError, ArithmeticError, AttributeError),
        *(KeyError, RuntimeError, TypeError, ValueError),
    ) as error:
        raise UsageError(
            f"{path}: is damaged; restore it, or remove it to build the simulator for its shapes"
        ) from error
