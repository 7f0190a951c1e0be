"""GPU kit: each step in its smallest size on the CPU; limits, failures and skips; wheels."""

import csv
import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

KIT = Path(__file__).parent.parent / "examples" / "gpu"


def load(name):
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", KIT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kit():
    return load("run")


@pytest.fixture
def start(kit, monkeypatch, tmp_path):
    """Run the kit with arguments; returns its exit code and the rows of steps.csv."""

    def run(*arguments):
        out = ["--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["run.py", *out, *map(str, arguments)])
        code = kit.main()
        with (tmp_path / "steps.csv").open(newline="") as file:
            return code, [*csv.DictReader(file)]

    return run


def rows(path):
    with path.open(newline="") as file:
        return [*csv.DictReader(file)]


def script(text):
    return lambda options: ["-c", text]


def test_a_failure_a_time_limit_and_a_skip_cost_one_step_each(kit, start, monkeypatch, tmp_path):
    late = tmp_path / "late"
    child = f"import time; time.sleep(4); open({str(late)!r}, 'w')"
    steps = {
        "fails": kit.Step(script("raise SystemExit(3)"), 20),
        "hangs": kit.Step(
            script(
                "import subprocess, sys, time;"
                f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
            ),
            2,
        ),
        "skipped": kit.Step(script("raise SystemExit(3)"), 20),
        "works": kit.Step(script("print('hello')"), 20),
        "not by default": kit.Step(script(""), 20, default=False),
    }
    monkeypatch.setattr(kit, "STEPS", steps)
    code, table = start("--skip", "skipped")
    assert [row["step"] for row in table] == ["fails", "hangs", "skipped", "works"]
    assert [row["status"] for row in table] == ["failed (3)", "timeout", "skipped", "ok"]
    assert code == 2
    assert 2 <= float(table[1]["seconds"]) < 20
    assert "=== works\nhello" in (tmp_path / "log.txt").read_text()
    time.sleep(3)
    assert not late.exists(), "a child process outlived its step"


def test_the_steps_fit_into_ten_minutes(kit):
    default = {name: step.limit for name, step in kit.STEPS.items() if step.default}
    assert sum(default.values()) <= 570
    assert kit.STEPS["pixels"].limit <= 600


def test_environment_and_updates_from_states(start, tmp_path):
    code, table = start("--device=cpu", "--smallest", "--steps", "environment", "states-cpu")
    assert code == 0, (tmp_path / "log.txt").read_text()
    assert [row["status"] for row in table] == ["ok", "ok"]
    line = (tmp_path / "log.txt").read_text().split("=== environment\n")[1].splitlines()
    assert any("torchrl" in json.loads(each) for each in line if each.startswith("{"))
    plain, eager, graph = rows(tmp_path / "learner.csv")
    assert (plain["variant"], eager["variant"]) == ("plain", "eager")
    assert eager["status"] == "ok" and float(eager["deviation"]) == 0
    assert float(eager["critic_updates_per_s"]) > 0
    assert graph["status"] == "skipped: CUDA graphs need a CUDA device"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["tests", "states-paper", "drq", "vit"])
def test_the_other_steps(step, start, tmp_path):
    code, _ = start("--device=cpu", "--smallest", "--steps", step, "--limit", 300)
    assert code == 0, (tmp_path / "log.txt").read_text()
    if step != "tests":
        plain, eager, _ = rows(tmp_path / "learner.csv")
        assert (plain["status"], eager["status"]) == ("ok", "ok")


@pytest.mark.slow
@pytest.mark.simulator
def test_the_pixel_step(start, tmp_path):
    pytest.importorskip("metaworld")
    code, _ = start("--device=cpu", "--smallest", "--steps", "pixels", "--limit", 300)
    assert code == 0, (tmp_path / "log.txt").read_text()
    assert rows(tmp_path / "pixels" / "eval.csv")


def test_wheels_are_pinned_and_of_another_python(tmp_path):
    prepare = load("prepare")
    download, build = prepare.commands(tmp_path, prepare.LEARNER)
    assert download[download.index("--python-version") + 1] == "3.12"
    constraints = (KIT.parents[1] / "constraints.txt").read_text().lower()
    pinned = [each for each in (*download, *build) if "==" in each]
    assert len(pinned) == len(prepare.LEARNER)
    for each in pinned:
        assert each.lower().replace("_", "-") in constraints.replace("_", "-")
    assert prepare.requirement("unknown", "other==1\n") == "unknown"
