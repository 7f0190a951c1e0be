"""Fixtures that more than one folder uses."""

import os
import sys
from pathlib import Path

import pytest

# One thread a process, before anything imports PyTorch: the tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def box_close_demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three scripted box-close episodes, recorded once per session."""
    pytest.importorskip("metaworld")
    from ibrl_torchrl.data.demos import record_demos, save_demos
    from ibrl_torchrl.envs import make_env
    from ibrl_torchrl.experts import scripted_expert

    env = make_env("metaworld", "box-close")
    path = tmp_path_factory.mktemp("demos") / "box-close.hdf5"
    save_demos(path, record_demos(env, scripted_expert("metaworld", "box-close"), 3), env.env_args)
    return path


@pytest.fixture(scope="session")
def lift_demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three scripted Lift episodes, recorded once per session."""
    pytest.importorskip("robosuite")
    from ibrl_torchrl.data.demos import record_demos, save_demos
    from ibrl_torchrl.envs import make_env
    from ibrl_torchrl.experts import scripted_expert

    env = make_env("robosuite", "Lift")
    path = tmp_path_factory.mktemp("demos") / "lift.hdf5"
    save_demos(path, record_demos(env, scripted_expert("robosuite", "Lift"), 3), env.env_args)
    return path


@pytest.fixture
def ibrl(monkeypatch, capsys):
    """Run a command in this process; returns its exit code, output and error output."""
    from ibrl_torchrl.cli import main as cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ibrl", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def ibrl_until(ibrl, monkeypatch):
    """Run ``ibrl train`` and interrupt it after the episode by which a file of its run folder is
    there; returns what ``ibrl`` does.
    """

    def run(file, *arguments):
        from ibrl_torchrl.training.logger import RunLogger

        original = RunLogger.after_episode

        def stop(self, metrics):
            original(self, metrics)
            if (self._run_dir / file).exists():
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunLogger, "after_episode", stop)
            return ibrl("train", *arguments)

    return run
