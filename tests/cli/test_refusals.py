"""Settings and names that no run can have cost one line and leave nothing."""

import errno
import os
import re
from pathlib import Path

import pytest

from ibrl_torchrl.cli import failure
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.setting import Setting
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.errors import UsageError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("inf"), "a finite number"),
        (float("nan"), "a finite number"),
        ([1.0, float("-inf")], "a finite number"),
        ({"depth": float("nan")}, "a finite number"),
        (10**30, "a number of at most 64 bits"),
        ("x" * 5000, "printable text of at most 4096 characters"),
        ("two\nlines", "printable text of at most 4096 characters"),
        ("nul\0", "printable text of at most 4096 characters"),
        ([1] * 20_000, "at most 10000 values"),
        (None, None),
        (1.5, None),
        ("Größe/läuft", None),
    ],
)
def test_no_setting_takes_what_nothing_can_use(value, expected):
    assert Setting("any").violation(value) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=4294967296", "seed=4294967296 must be at least 0 and at most 4294967295"),
        ("eval.seed=-1", "eval.seed=-1 must be at least 0"),
        ("demos.seed=-5", "demos.seed=-5 must be at least 0"),
        ("imitation.bc.eval_seed=-1", "imitation.bc.eval_seed=-1 must be at least 0"),
        ("threads=100000", "threads=100000 must be at least 1 and at most 1024"),
        ("collector.workers=100000", "workers=100000 must be at least 0 and at most 256"),
        ("collector.episode_timeout=nan", "episode_timeout=nan must be a finite number"),
        ("algo.update.lr=inf", "algo.update.lr=inf must be a finite number"),
        ("algo.exploration_noise=inf", "exploration_noise=inf must be a finite number"),
        ("replay.offline_fraction=0.001", "offline_fraction=0.001 must be a fraction of which"),
        ("replay.capacity=999999999999", "at most 1000000000"),
        ("replay.batch_size=100000000000", "at most 1048576"),
        ("imitation.bc.network.hidden=[99999999]", "must be at least 1 and at most 65536"),
        (
            "imitation.bc.network.hidden=[60000,60000]",
            "layers of at most 268435456 weights",
        ),
        ("task.image_size=100000", "task.image_size=100000 must be at least 1 and at most 4096"),
        ("task.action_repeat=1000000000", "must be at least 1 and at most 1000"),
        ("total_frames=1000000000000000000000000", "must be a number of at most 64 bits"),
        ("task=null", "task=null: .*; name one of its options"),
        ("algo=null", "algo=null: .*; name one of its options"),
    ],
)
def test_settings_out_of_range_are_refused(override, message):
    with pytest.raises(UsageError, match=message) as error:
        parse(TrainConfig, composed("train", [override]))
    assert str(error.value).isprintable()


def test_errors_of_files_and_memory_explain_themselves():
    too_long = OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "a" * 300)
    assert re.fullmatch(r"a{200}\.\.\.: File name too long; .*", failure.explanation(too_long))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "f")
    assert failure.explanation(full) == "f: No space left on device; free some space"
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9")):
        assert "there is not enough memory" in failure.explanation(error)
    assert failure.explanation(UsageError("seed=x")) == "seed=x"
    assert failure.explanation(ValueError("a defect")) is None


def test_a_defect_costs_one_line_and_its_traceback_is_saved(ibrl, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken(path):
        raise LookupError("two\nlines")

    monkeypatch.setattr("ibrl_torchrl.cli.demos.info.describe_demos", broken)
    code, _, error = ibrl("demos", "info", "file.hdf5")
    assert code == 1 and error.count("\n") == 1
    assert "LookupError: two lines; please report it with" in error
    (saved,) = tmp_path.iterdir()
    assert str(saved) in error
    text = saved.read_text()
    assert text.startswith("command: ibrl demos info") and "in broken" in text


def test_hydra_full_error_prints_the_traceback(ibrl, monkeypatch, tmp_path):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("ibrl_torchrl.cli.demos.info.describe_demos", lambda path: 1 / 0)
    code, _, error = ibrl("demos", "info", "file.hdf5")
    assert code == 1 and "Traceback" in error and not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "x" * 300],
        ["demos", "info", "x" * 300],
        ["train", f"run_dir={'x' * 300}"],
        ["train", f"demos.path={'x' * 300}"],
        ["train", f"imitation.bc.path={'x' * 300}"],
        ["demos", f"out={'x' * 300}"],
        ["report", "x" * 300],
        ["train", "device=meta"],
        ["eval", "missing", "threads=0"],
        ["eval", "missing", "seed=-1"],
        ["diagnose", "missing", "seed=4294967296"],
        ["bench", "seeds=[-1]"],
        ["eval", "missing", "out=."],
        ["train", "imitation=null"],
        ["train", "replay=null"],
        ["train", "task.cameras=null"],
    ],
)
def test_names_and_values_that_cannot_be_cost_one_line(ibrl, tmp_path, monkeypatch, arguments):
    pytest.importorskip("metaworld")
    monkeypatch.chdir(tmp_path)
    code, _, error = ibrl(*arguments)
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert len(error) < 900 and not [*Path.cwd().iterdir()]
