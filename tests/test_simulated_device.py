"""The tests marked ``gpu`` on a simulated device, in a process of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.utils.backend_registration

TESTS = Path(__file__).parent
CROSSING = """
import os, pytest, torch
from support.simulated_device import register
device = register()
here, there = torch.ones(2), torch.ones(2, device=device)
assert there.device == device and (there + there).cpu().tolist() == [2.0, 2.0]
assert there[torch.arange(1)].device == device  # CUDA takes indices of the CPU, too
assert (there * torch.tensor(3.0)).sum().item() == 6.0  # and numbers
for crossing in (torch.add, torch.minimum, lambda one, two: torch.cat([one, two])):
    with pytest.raises(RuntimeError, match="same device"):
        crossing(here, there)
layer = torch.nn.Linear(2, 1)
with pytest.raises(RuntimeError, match="same device"):
    layer(there)
weight = layer.weight
layer.to(device)(there).backward()
assert weight is layer.weight and weight.grad.device == device
os._exit(0)  # a thread of autograd may outlive the interpreter, which aborts
"""


pytestmark = pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch has no device backends in Python",
)


def run(*arguments, **environment):
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
    )


def test_the_simulated_device_refuses_what_cuda_refuses():
    done = run("-c", CROSSING)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_tests_marked_gpu_pass_on_a_simulated_device():
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    done = run("-m", "pytest", *options, str(TESTS / "gpu"), IBRL_TEST_DEVICE="sim")
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 30
