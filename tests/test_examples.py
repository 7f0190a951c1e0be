"""Examples and docstring examples run as they stand."""

import doctest
import pkgutil
import runpy
from importlib import import_module
from pathlib import Path

import pytest

import ibrl_torchrl

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(ibrl_torchrl.__path__, "ibrl_torchrl.")
)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.simulator
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path, capsys):
    pytest.importorskip("metaworld")
    runpy.run_path(str(path), run_name="__main__")
    assert "loss_qvalue" in capsys.readouterr().out


def test_the_readme_shows_the_first_example():
    code = (ROOT / "examples/01_compose.py").read_text().split('"""\n', 2)[-1].strip()
    assert code in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0
