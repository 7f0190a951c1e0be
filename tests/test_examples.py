"""Examples and docstring examples run as they stand."""

import doctest
import math
import pkgutil
import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest
import torch

import ibrl_torchrl

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(ibrl_torchrl.__path__, "ibrl_torchrl.")
)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


REQUIRES = {"03_sac_robotics.py": "gymnasium_robotics", "04_torchrl_sac.py": "gymnasium"}


@pytest.mark.simulator
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(path, capsys, monkeypatch):
    pytest.importorskip(REQUIRES.get(path.name, "metaworld"))
    # The smallest size at which the fourth example evaluates.
    monkeypatch.setenv("FRAMES", "1000" if path.name == "04_torchrl_sac.py" else "100")
    torch.manual_seed(0)
    runpy.run_path(str(path), run_name="__main__")
    output = capsys.readouterr().out
    numbers = [float(value) for value in re.findall(r"'loss_qvalue': ([-\w.]+)", output)]
    assert numbers and all(math.isfinite(number) for number in numbers)
    if path.name == "03_sac_robotics.py":
        assert re.findall(r"(\w+) +success", output) == ["bc", "rl", "hybrid"]
    if path.name == "04_torchrl_sac.py":
        (target,) = re.findall(r"'imitation_target': ([\d.]+)", output)
        assert 0 <= float(target) <= 1


def test_the_readme_shows_the_first_example():
    code = (ROOT / "examples/01_compose.py").read_text().split('"""\n', 2)[-1].strip()
    assert code in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    assert doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS).failed == 0
