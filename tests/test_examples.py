"""Examples and docstring examples run as they stand."""

import csv
import doctest
import pkgutil
import re
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ibrl_torchrl

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(ibrl_torchrl.__path__, "ibrl_torchrl.")
)


GPU_EXAMPLE = ROOT / "examples/03_metaworld_gpu.py"
EXAMPLES = sorted(set((ROOT / "examples").glob("*.py")) - {GPU_EXAMPLE})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path, capsys):
    pytest.importorskip("metaworld")
    runpy.run_path(str(path), run_name="__main__")
    assert "loss_qvalue" in capsys.readouterr().out


def test_the_gpu_example_goes_on_where_it_was_stopped(tmp_path):
    """Out of time after the first episode, then called again; the table has both calls."""
    pytest.importorskip("metaworld")
    smallest = [
        *("--workers", "2", "--report-frames", "60", "frames=120", "demos.episodes=1"),
        *("device=cpu", "compile=null", "bc.steps=2", "bc.batch_size=4", "replay.batch_size=2"),
        *("task=metaworld/reach", "task.image_size=40", "task.horizon=40", "eval.episodes=1"),
        *("algo.actor.hidden=[8]", "algo.critic.hidden=[8]", "algo.critic.embedding_size=8"),
        "algo.warmup_episodes=2",
    ]
    command = [sys.executable, str(GPU_EXAMPLE), "--folder", str(tmp_path / "run"), *smallest]

    def call(*options):
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
        return done.stdout

    assert "minutes are over" in call("--minutes", "0")
    resumed = call()
    assert re.search(r"going on after [1-9]\d* frames, [1-9]\d* transitions", resumed)
    rows = [*csv.DictReader((tmp_path / "run/speed.csv").open())]
    assert rows and int(rows[-1]["frames"]) >= 60


def test_the_readme_shows_the_first_example():
    code = (ROOT / "examples/01_compose.py").read_text().split('"""\n', 2)[-1].strip()
    assert code in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_public_names_exist():
    for name in ibrl_torchrl.__all__:
        assert getattr(ibrl_torchrl, name).__doc__
