"""Plan of a run: budget, warnings, and that nothing slow is imported for it."""

import subprocess
import sys

import pytest

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.plan import (
    Budget,
    budget,
    discount_warning,
    plan,
    warmup_warning,
)
from ibrl_torchrl.config.train import TrainConfig


def settings(*overrides):
    paper = ["run_dir=runs/x", "algo=ibrl", "total_frames=30000"]
    return parse(TrainConfig, composed("train", [*paper, *overrides]))


def test_the_budget_is_divided_as_the_training_loop_divides_it():
    config = settings("total_frames=10001", "algo.update.frames_per_round=4")
    # 40 episodes of 87.5 frames; (10001 - 3500) // 4 rounds of 2 critic updates.
    assert budget(config, 87.5) == Budget(3500, 1625, 3250)
    assert budget(settings("total_frames=2000"), 87.5) == Budget(2000, 0, 0)
    assert budget(settings("algo.warmup.episodes=0"), 87.5) == Budget(0, 15000, 30000)
    assert budget(settings("algo.warmup.updates=true"), 87.5) == Budget(3500, 15000, 30000)


def test_a_budget_within_the_warmup_is_warned_of_with_numbers():
    config = settings("total_frames=2000")
    assert warmup_warning(config) == (
        "warning: total_frames=2000 may end within the warm-up, up to 4000 frames (40 episodes of "
        "up to 100), with 0 rounds of updates; set total_frames above 4000 or algo.warmup.episodes "
        "below 20"
    )
    assert warmup_warning(config, 87.5) == (
        "warning: total_frames=2000 ends within the warm-up, about 3500 frames (40 episodes of "
        "about 88), with 0 rounds of updates; set total_frames above 3500 or algo.warmup.episodes "
        "below 22"
    )
    assert warmup_warning(config, 49.0) is None  # 1960 frames: a short one, but it learns
    assert warmup_warning(settings("total_frames=4002")) is None


@pytest.mark.parametrize("frames", [1, 50, 1999, 3999])
def test_the_remedy_of_the_warning_is_sufficient(frames):
    warning = warmup_warning(settings(f"total_frames={frames}"))
    assert warning is not None and "above 4000" in warning
    assert warmup_warning(settings("total_frames=4002")) is None
    below = int(warning.rsplit(" ", 1)[1])
    fewer = settings(f"total_frames={frames}", f"algo.warmup.episodes={below - 1}")
    assert frames < 3 or warmup_warning(fewer) is None


def test_a_discount_that_hides_success_is_warned_of_with_a_sufficient_one():
    assert discount_warning(0.97, 151) is None and discount_warning(1.0, 10**6) is None
    warning = discount_warning(0.97, 200)
    assert warning == (
        "warning: with algo.loss.gamma=0.97 success is worth 0.002 at the start of the longest "
        "demonstration, 200 frames before; set it to 0.9886 or more"
    )
    assert 0.9886**200 > 0.1 > 0.9885**200
    assert discount_warning(0.9886, 200) is None


def test_the_plan_names_what_a_run_will_do():
    text = "\n".join(plan(settings("demos.path=my.hdf5", "imitation.bc.path=bc.pt", "seed=7")))
    for part in (
        *("metaworld/box-close", "3 episodes of my.hdf5", "bc (mlp, bc.pt)", "ibrl", "seed 7"),
        *("30000 frames", "4000 frames at most", "13000 rounds", "each 3000 frames", "runs/x"),
    ):
        assert part in text
    assert "warning" not in text
    assert "warning: total_frames=2000" in plan(settings("total_frames=2000"))[-1]


def test_the_plan_is_printed_before_pytorch_is_imported():
    program = (
        "import sys; import ibrl_torchrl.cli.train, ibrl_torchrl.config.plan; "
        "print([n for n in ('torch', 'torchrl', 'tensordict', 'metaworld') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr
