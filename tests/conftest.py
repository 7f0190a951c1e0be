"""Fixtures that more than one folder uses."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def box_close_demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three scripted box-close episodes, recorded once per session."""
    pytest.importorskip("metaworld")
    from ibrl_torchrl.data import record_demos, save_demos, scripted_expert
    from ibrl_torchrl.envs import make_env

    env = make_env("metaworld", "box-close")
    path = tmp_path_factory.mktemp("demos") / "box-close.hdf5"
    save_demos(path, record_demos(env, scripted_expert("metaworld", "box-close"), 3), env.env_args)
    return path
