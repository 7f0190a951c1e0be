"""Sizes and parts of the benchmarks; run with one thread, so that figures can be compared.

pytest tests/benchmarks -o python_files='bench_*.py' --benchmark-columns=median,iqr
"""

import pytest
import torch
from sizes import ACTION, SIZES, STATE, make_batch
from tensordict.nn import TensorDictSequential
from torchrl.data import Bounded
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.modules import (
    CriticEnsemble,
    FrozenPolicy,
    IBRLSelector,
    LeanTensorDictModule,
    Standardize,
    StateActor,
    StateCriticEnsemble,
    shared_twin,
)
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.learner import IBRLLearner


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
    """Actor, critic ensemble and frozen policy of a size."""
    scale = Standardize.identity(STATE)
    hidden = size["hidden"]

    def policy(key, dropout):
        network = StateActor(scale, ACTION, hidden=hidden, dropout=dropout)
        return LeanTensorDictModule(network, ["state"], [key])

    critic = CriticEnsemble(
        StateCriticEnsemble(scale, ACTION, num_critics=size["number"], hidden=hidden),
        ["state", "action"],
    )
    return policy("rl_action", 0.5), critic, FrozenPolicy(policy("bc_action", 0.0))


@pytest.fixture
def learner(parts, size):
    actor, critic, bc = parts
    loss = IBRLTD3Loss(actor, critic, [bc]).make_value_estimator(gamma=0.99)
    return IBRLLearner(loss, lr=3e-4, tau=0.01, critic_updates=size["critic_updates"])


@pytest.fixture
def explore(parts):
    actor, critic, bc = parts
    noise = AdditiveGaussianModule(
        Bounded(-1, 1, shape=(ACTION,)), sigma_init=0.1, action_key="rl_action"
    )
    return TensorDictSequential(shared_twin(actor).eval(), noise, bc, IBRLSelector(critic))


@pytest.fixture
def batch(size):
    return make_batch(size["batch"])
