"""House rules: layers, sizes of folders, what an import loads, language."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ibrl_torchrl"
FILES = sorted(PACKAGE.rglob("*.py"))
LARGEST_FOLDER = 0.16  # of the package's lines
# Names of version 0.1, see the table in CHANGELOG.md.
OLD_NAMES = re.compile(
    r"\b(shared_twin|_still_actor|_least_value|_AsTheyAre|_bell|_rope|_clerk|_hand_out|_take_in"
    r"|_give_up|RecordProposals|RecordedProposal|StoreFramesOnce|DemoShareReplay|WithDemos"
    r"|SpatiallyEmbedded|CompressedCriticEnsemble|Standardize|LeanTensorDictModule|LeanControl"
    r"|open_source|demo_share|critic\.number|score_acting_with|bc_filter|go_on|start_states"
    r"|keep_best|bc_share|il_share|bootstrap_il_share|film\w*|mend\w*|heed\w*|whoever)\b"
)


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they lead"
            yield node.module


def test_imports_follow_the_layers():
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_configuration_reads_configuration_files(path):
    part = path.relative_to(PACKAGE).parts[0]
    roots = {name.split(".")[0] for name in _imports(path)}
    assert part in ("config", "training", "runs", "cli") or not roots & {"omegaconf", "hydra"}


def test_no_folder_is_a_drawer():
    lines = Counter()
    for path in FILES:
        lines[path.parent] += len(path.read_text().splitlines())
    total = sum(lines.values())
    folder, largest = lines.most_common(1)[0]
    assert largest <= LARGEST_FOLDER * total, f"{folder}: {largest} of {total} lines"


def test_there_is_no_utils():
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "common")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_old_names_are_gone(path):
    if path.name == "renamed.py":  # answers settings of version 0.1
        return
    assert not OLD_NAMES.findall(path.read_text())


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
