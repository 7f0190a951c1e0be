"""Critic and actor updates, compared with plain PyTorch and the same networks."""

import pytest
import torch
from plain_ibrl import PlainIBRL
from sizes import ACTION, STATE, OneBatch, as_tensors

CPU = torch.device("cpu")


@pytest.fixture
def plain(size):
    return PlainIBRL(STATE, ACTION, hidden=size["hidden"], number=size["num_critics"])


@pytest.fixture
def tensors(batch):
    return as_tensors(batch)


@pytest.mark.benchmark(group="critic update")
def bench_critic_update(benchmark, learner, batch):
    benchmark(learner.update, "loss_qvalue", batch)


@pytest.mark.benchmark(group="critic update")
def bench_critic_update_plain(benchmark, plain, tensors):
    benchmark(plain.critic_update, tensors)


@pytest.mark.benchmark(group="actor update")
def bench_actor_update(benchmark, learner, batch):
    benchmark(learner.update, "loss_actor", batch)


@pytest.mark.benchmark(group="actor update")
def bench_actor_update_plain(benchmark, plain, tensors):
    benchmark(plain.actor_update, tensors)


@pytest.mark.benchmark(group="round")
def bench_round(benchmark, learner, batch):
    benchmark(learner.round, OneBatch(batch), CPU)
