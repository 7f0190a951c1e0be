"""Bit identity of FastOSC with robosuite's controllers."""

import numpy as np
import pytest
import torch
from torchrl.envs.utils import step_mdp

from ibrl_torchrl.envs import RobosuiteEnv
from ibrl_torchrl.keys import ACTION, NEXT, REWARD, STATE

robosuite = pytest.importorskip("robosuite")
pytestmark = pytest.mark.simulator
BASIC = robosuite.load_composite_controller_config(controller="BASIC")


def make_pair(task, settings=None):
    """Create one environment with FastOSC and one with robosuite's control."""
    pair = [RobosuiteEnv(task, seed=0, horizon=10**6, settings=settings) for _ in range(2)]
    del pair[1]._simulator._pre_action  # of the instance, which uncovers the class's method
    return pair


def controller_settings(arm):
    return {"controller_configs": {**BASIC, "body_parts": {"right": arm}}}


def uses_fast_osc(env):
    return bool(env._simulator._pre_action._arms)


def assert_bit_identical(pair, observations, steps):
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(*(td[STATE] for td in observations))
    for _ in range(steps):
        action = torch.rand(pair[0].action_spec.shape, generator=generator) * 2 - 1
        tds = [env.step(td.set(ACTION, action)) for env, td in zip(pair, observations, strict=True)]
        assert torch.equal(*(td[NEXT, STATE] for td in tds))
        assert torch.equal(*(td[NEXT, REWARD] for td in tds))
        assert np.array_equal(*(env.simulator_state() for env in pair))
        observations = [step_mdp(td) for td in tds]


@pytest.mark.parametrize(
    "task, arms, steps",
    [
        ("Lift", 1, 40),
        ("PickPlaceCan", 1, 40),
        ("NutAssemblySquare", 1, 40),
        ("TwoArmTransport", 2, 10),
    ],
)
def test_states_equal_those_of_robosuite(task, arms, steps):
    pair = make_pair(task)
    assert_bit_identical(pair, [env.reset() for env in pair], steps)
    assert_bit_identical(pair, [env.reset() for env in pair], steps)
    state = pair[1].simulator_state()
    assert_bit_identical(pair, [env.set_simulator_state(state) for env in pair], steps // 4)
    assert len(pair[0]._simulator._pre_action._arms) == arms


@pytest.mark.parametrize("task", ["Lift", "PickPlaceCan"])
def test_states_equal_those_of_robosuite_after_load_model(task, monkeypatch):
    pair = make_pair(task)
    monkeypatch.setattr("ibrl_torchrl.envs.robosuite._MODEL_SEED", 7)
    # With a different string, even the same model is recompiled.
    xml = RobosuiteEnv(task, seed=0).model_xml + "\n"
    assert_bit_identical(pair, [env.reset() for env in pair], steps=2)
    previous_model, _ = pair[0]._simulation
    for env in pair:
        env.load_model(xml)
    assert_bit_identical(pair, [env.reset() for env in pair], steps=20)
    assert pair[0]._simulation[0] is not previous_model and uses_fast_osc(pair[0])
    (arm,) = pair[0]._simulator._pre_action._arms
    assert arm._data is pair[0]._simulation[1]


@pytest.mark.parametrize(
    "change",
    [
        {"input_ref_frame": "base"},
        {"input_ref_frame": "world", "input_type": "absolute"},
        {"impedance_mode": "variable_kp"},
        {"type": "OSC_POSITION", "output_max": [0.05] * 3, "output_min": [-0.05] * 3},
    ],
    ids=["base", "absolute", "variable_kp", "position"],
)
def test_other_osc_settings_equal_those_of_robosuite(change):
    pair = make_pair("Lift", controller_settings(BASIC["body_parts"]["right"] | change))
    assert_bit_identical(pair, [env.reset() for env in pair], steps=20)
    assert uses_fast_osc(pair[0])


UNSUPPORTED = {
    "joint positions": controller_settings(
        robosuite.load_part_controller_config(default_controller="JOINT_POSITION")
        | {"gripper": {"type": "GRIP"}}
    ),
    "interpolated": controller_settings(BASIC["body_parts"]["right"] | {"interpolation": "linear"}),
    "coupled": controller_settings(BASIC["body_parts"]["right"] | {"uncouple_pos_ori": False}),
    "mobile base": {"robots": ["PandaOmron"], "controller_configs": None},
}


@pytest.mark.parametrize("settings", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_unsupported_controllers_are_left_to_robosuite(settings):
    pair = make_pair("Lift", settings)
    assert_bit_identical(pair, [env.reset() for env in pair], steps=10)
    assert not uses_fast_osc(pair[0])
