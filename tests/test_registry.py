"""Suites and experts of other packages: entry points, Python paths, refusals."""

import sys

import pytest
import torch

from ibrl_torchrl.envs import make_env
from ibrl_torchrl.envs.factory import SUITES
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import EXPERTS, scripted_expert

PACKAGE = """
import torch
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase
from tensordict import TensorDict
from tensordict.nn import TensorDictModule


class Line(EnvBase):
    def __init__(self, task, *, high=10.0, device=None):
        super().__init__(device=device, batch_size=[])
        flag = Categorical(2, shape=(1,), dtype=torch.bool)
        self.observation_spec = Composite(state=Unbounded(1), success=flag)
        self.action_spec = Bounded(0.0, high, shape=(1,))
        self.reward_spec = Unbounded(1)
        self._seed = 0

    def _set_seed(self, seed):
        self._seed = seed

    def _reset(self, tensordict=None, **kwargs):
        self.x = torch.full((1,), float(self._seed))
        return TensorDict(state=self.x, success=torch.zeros(1, dtype=torch.bool))

    def _step(self, tensordict):
        self.x = self.x + tensordict["action"]
        done = self.x > 12
        return TensorDict(state=self.x, success=done, reward=done.float(), done=done)


def right(task, noise=0.0, *, seed=0):
    return TensorDictModule(lambda state: torch.ones_like(state), ["state"], ["action"])
"""
ENTRY_POINTS = """
[ibrl_torchrl.suites]
line = line_suite:Line
broken = line_suite:Gone

[ibrl_torchrl.experts]
line = line_suite:right
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a suite and an expert."""
    (tmp_path / "line_suite.py").write_text(PACKAGE)
    info = tmp_path / "line_suite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: line-suite\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("line_suite", None)


def test_an_entry_point_is_a_suite_like_those_of_this_package(package):
    assert {"line", "metaworld", "robosuite", "gym"} <= {*SUITES.names()}
    assert "line" in EXPERTS.names()
    env = make_env("line", "any", seed=2, high=8.0, action_repeat=1)
    # [-1, 1] is mapped to [0, 8]: from the seed's 2 on, an action of 0 moves by 4.
    episode = env.rollout(10, lambda td: td.set("action", torch.zeros(1)))
    assert episode["state"].squeeze(-1).tolist() == [2, 6, 10]
    expert = scripted_expert("line", "any")
    assert env.rollout(10, expert)["next", "success"].squeeze(-1).tolist() == [False, True]


def test_a_python_path_is_one_too(package):
    env = make_env("line_suite:Line", "any", seed=5)
    assert env.reset()["state"].item() == 5


@pytest.mark.parametrize(
    ("suite", "settings", "message"),
    [
        ("lino", {}, r"unknown suite 'lino'; did you mean line\?"),
        ("broken", {}, r"suite 'broken': its entry point line_suite:Gone cannot be loaded .*again"),
        ("nowhere:make", {}, "suite 'nowhere:make': there is no module nowhere; .* PYTHONPATH"),
        ("line_suite:Gone", {}, "suite 'line_suite:Gone': .* write MODULE:NAME of a class or"),
        (":make", {}, "suite ':make': '' is no name of a module; write MODULE:NAME of a class"),
        ("os:system", {}, "'os:system': must be a subclass of EnvBase or a function annotated"),
        ("support.point_env:unannotated", {}, r"write def unannotated\(\.\.\.\) -> EnvBase"),
        ("line", {"action_repeat": 2}, r"task\.suite=line takes no action_repeat=2; leave it out"),
        ("line", {"high": float("inf")}, r"actions are .*must be action, float32 \[A\], with fini"),
    ],
)
def test_bad_names_and_settings_cost_one_line(package, suite, settings, message):
    with pytest.raises(UsageError, match=message) as error:
        make_env(suite, "any", **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("from os import gone", "ImportError: cannot import name 'gone' from 'os' .*"),
        ("import nowhere_else", "ModuleNotFoundError: No module named 'nowhere_else'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("len(1)", r"TypeError: object of type 'int' has no len\(\)"),
        ("def", "SyntaxError: invalid syntax .*"),
    ],
)
def test_a_module_that_cannot_be_imported_costs_one_line(tmp_path, monkeypatch, code, message):
    (tmp_path / "faulty_suite.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    expected = f"^suite 'faulty_suite:Line': faulty_suite raised {message} while it was imported; "
    with pytest.raises(UsageError, match=expected) as error:
        make_env("faulty_suite:Line", "any")
    assert "\n" not in str(error.value)


def test_environments_of_another_kind_are_refused():
    with pytest.raises(UsageError, match=r"has no observation success, bool \[1\], it has observa"):
        make_env("support.point_env:make_plain", "Pendulum-v1")
    with pytest.raises(UsageError, match="'os:getcwd': must be a subclass of TensorDictModuleBase"):
        scripted_expert("os:getcwd", "any")
