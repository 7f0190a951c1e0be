"""Exploration noise scaled by the value of the action before."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.data import Bounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.modules import ChunkExecutor, CorrelatedNoise, ValueScaledNoise

SPEC = Bounded(-1.0, 1.0, (2,))


def white(std=0.3):
    return AdditiveGaussianModule(SPEC, sigma_init=std, sigma_end=std, action_key="action")


def noise_added(module, **entries):
    """What a module adds to actions of 0, 5000 rows."""
    torch.manual_seed(0)
    batch = TensorDict(action=torch.zeros(5000, 2), batch_size=[5000])
    for key, value in entries.items():
        batch[key] = torch.full((5000, 1), value)
    return module(batch)["action"]


@pytest.mark.parametrize(
    ("value", "power", "factor"), [(0.0, 2, 1.0), (0.5, 2, 0.25), (0.5, 1, 0.5), (0.9, 2, 0.01)]
)
def test_noise_is_multiplied_by_a_power_of_one_minus_the_value(value, power, factor):
    full = noise_added(white())
    scaled = noise_added(ValueScaledNoise(white(), power), chosen_value=value)
    torch.testing.assert_close(scaled, factor * full)


@pytest.mark.parametrize(("value", "factor"), [(-0.2, 1.0), (1.3, 0.0)])
def test_values_outside_of_the_unit_interval_are_clipped(value, factor):
    scaled = noise_added(ValueScaledNoise(white()), chosen_value=value)
    torch.testing.assert_close(scaled, factor * noise_added(white()))


def test_each_row_has_the_factor_of_its_value():
    batch = TensorDict(
        action=torch.zeros(2, 3, 2), chosen_value=torch.tensor([[1.0], [0.0]]), batch_size=[2]
    )
    actions = ValueScaledNoise(white())(batch)["action"]  # three candidates a row
    assert not actions[0].any() and actions[1].all()


def test_first_frame_has_no_noise_but_starts_the_process():
    module = ValueScaledNoise(CorrelatedNoise(SPEC, 0.3, 0.95))
    first = module(TensorDict(action=torch.zeros(2)))
    assert not first["action"].any()
    assert first["_ou_steps"] == 1
    first["chosen_value"], first["action"] = torch.zeros(1), torch.zeros(2)
    second = module(first)
    torch.testing.assert_close(second["action"], second["_ou_prev_noise"])


def test_first_frame_of_an_episode_has_no_noise_in_collectors_that_keep_the_value():
    td = TensorDict(action=torch.zeros(4, 2), chosen_value=torch.zeros(4, 1), batch_size=[4])
    td["is_init"] = torch.tensor([[True], [False], [True], [False]])
    noisy = ValueScaledNoise(white())(td)["action"]
    assert (noisy != 0).all(-1).tolist() == [False, True, False, True]


def test_actions_stay_in_their_space_and_deterministic_ones_as_they_are():
    module = ValueScaledNoise(white(std=10.0))
    batch = TensorDict(
        action=torch.full((500, 2), 0.9), chosen_value=torch.full((500, 1), 0.3), batch_size=[500]
    )
    assert module(batch.clone())["action"].abs().max() <= 1
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert torch.equal(module(batch.clone())["action"], batch["action"])


def test_power_must_be_positive():
    with pytest.raises(ValueError, match="power must be above 0, got 0"):
        ValueScaledNoise(white(), 0)


def test_noise_of_a_chunk_s_decisions_keeps_its_state():
    torch.manual_seed(0)
    plan = TensorDictModule(lambda state: state, ["state"], ["action"])
    value = TensorDictModule(lambda state: state[..., :1], ["state"], ["chosen_value"])
    noise = ValueScaledNoise(CorrelatedNoise(SPEC, 0.3, 0.95))
    assert noise.out_keys == ["action", "_ou_prev_noise", "_ou_steps"]
    policy = ChunkExecutor(TensorDictSequential(plan, noise, value), 2, replan=1)
    td = policy(TensorDict(state=torch.zeros(2)))
    assert not td["action"].any()  # no value of a frame before
    assert policy(td)["action"].all() and td["_ou_steps"] == 2


@pytest.mark.parametrize(
    ("std", "correlation", "message"),
    [
        (-0.1, 0.5, "std must be at least 0"),
        (0.1, 1.0, r"correlation must be in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_processes_are_refused(std, correlation, message):
    with pytest.raises(ValueError, match=message):
        CorrelatedNoise(SPEC, std, correlation)
