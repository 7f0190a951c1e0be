"""The house rules that imports can show."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ibrl_torchrl"
BASE = {"keys", "errors", "files", "env_args"}
MAY_IMPORT = {
    "modules": BASE | {"modules"},
    "objectives": BASE | {"modules", "objectives"},
    "envs": BASE | {"envs"},
    "data": BASE | {"data"},
    "reports": BASE | {"reports"},
    "training": BASE | {"modules", "objectives", "envs", "data", "reports", "training"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they lead"
            if node.module == "ibrl_torchrl":
                yield from (f"ibrl_torchrl.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    own = {name.split(".")[1] for name in _imports(path) if name.startswith("ibrl_torchrl.")}
    assert own <= MAY_IMPORT.get(part, BASE | {*MAY_IMPORT} if part == "cli" else BASE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_configurations_stay_in_training(path):
    part = path.relative_to(PACKAGE).parts[0]
    roots = {name.split(".")[0] for name in _imports(path)}
    assert part in ("training", "cli.py") or not roots & {"omegaconf", "hydra"}


def test_there_is_no_utils():
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "common")]


def test_reports_need_neither_pytorch_nor_a_simulator():
    code = (
        "import sys, ibrl_torchrl.reports.page; print(*({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'torchrl', 'tensordict', 'metaworld', 'robosuite', 'hydra'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_importing_the_parts_loads_no_simulator_and_no_tracker():
    code = (
        "import sys, ibrl_torchrl as i; [getattr(i, name) for name in i.__all__]; "
        "print(*({m.split('.')[0] for m in sys.modules} & "
        "{'metaworld', 'robosuite', 'wandb', 'hydra', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
