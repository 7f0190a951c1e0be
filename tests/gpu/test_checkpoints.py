"""Checkpoints across devices: saved on one, read on another, resumed on the same."""

import pytest
import torch
from support.device_parts import EXACT, SMALL, build_parts, collect_and_learn, tensors

from ibrl_torchrl.runs.checkpoint import KIND, load_checkpoint, save_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]
SETTINGS = [*SMALL, *EXACT]


def saved(parts, path):
    save_checkpoint(path, KIND, {"task": "none"}, parts.learner.state_dict())
    return load_checkpoint(path, KIND, {"task": "none"})[1]


def test_a_run_resumes_on_the_device_with_the_same_numbers(device, tmp_path):
    parts = build_parts(SETTINGS, device, tmp_path)
    collect_and_learn(parts, device)
    state = saved(parts, tmp_path / "run.pt")
    assert {tensor.device for tensor in tensors(state)} == {torch.device("cpu")}
    torch.manual_seed(1)
    expected = parts.learner.round(parts.replay, device)

    again = build_parts(SETTINGS, device, tmp_path)
    again.learner.load_state_dict(state, tmp_path / "run.pt")
    for optimizer in again.learner.optimizers.values():
        held = {t.device for each in optimizer.state.values() for t in each.values()}
        assert held == {device}
    torch.manual_seed(1)
    for one, two in zip(expected, again.learner.round(parts.replay, device), strict=True):
        for name, value in one.items():
            torch.testing.assert_close(two[name], value)


def test_a_checkpoint_of_a_device_acts_alike_on_the_cpu(device, tmp_path):
    parts = build_parts(SETTINGS, device, tmp_path)
    collect_and_learn(parts, device)
    state = saved(parts, tmp_path / "run.pt")
    here = build_parts(SETTINGS, torch.device("cpu"), tmp_path)
    here.learner.load_state_dict(state, tmp_path / "run.pt")
    for first, second in zip(tensors(parts.learner.state_dict()), tensors(state), strict=True):
        assert torch.equal(first, second)
    here.env.set_seed(5)
    observation = here.env.reset()
    for name, policy in here.agent.policies.items():
        action = policy(observation.copy())["action"]
        there = parts.agent.policies[name](observation.to(device))["action"]
        torch.testing.assert_close(there.cpu(), action, rtol=1e-4, atol=1e-5)
