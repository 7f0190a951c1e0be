"""Fixtures of the benchmarks, which run with one thread.

pytest tests/benchmarks -o python_files='bench_*.py' --benchmark-columns=median,iqr
"""

import pytest
import torch
from sizes import ACTION, SIZES, make_batch, make_learner, make_parts
from tensordict.nn import TensorDictSequential
from torchrl.data import Bounded
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.modules import IBRLSelector, tied_copy


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=SIZES)
def size(request):
    return SIZES[request.param]


@pytest.fixture
def parts(size):
    return make_parts(size)


@pytest.fixture
def learner(parts, size):
    return make_learner(parts, size)


@pytest.fixture
def explore(parts):
    actor, critic, bc = parts
    noise = AdditiveGaussianModule(
        Bounded(-1, 1, shape=(ACTION,)), sigma_init=0.1, action_key="rl_action"
    )
    return TensorDictSequential(tied_copy(actor).eval(), noise, bc, IBRLSelector(critic))


@pytest.fixture
def batch(size):
    return make_batch(size["batch"])
