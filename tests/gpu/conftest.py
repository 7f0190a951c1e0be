"""Device of the tests marked ``gpu``: IBRL_TEST_DEVICE, or cuda where there is one, or a skip."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device():
    name = os.environ.get("IBRL_TEST_DEVICE")
    if name == "sim":
        from support.simulated_device import register

        return register()
    if name is None and not torch.cuda.is_available():
        pytest.skip("no CUDA device; test_simulated_device.py runs this on a simulated one")
    return torch.empty(0, device=name or "cuda").device


@pytest.fixture(autouse=True)
def exact_products():
    """Float32 matrix products and convolutions, not TF32, and equal draws in each test."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(before)
