"""The lean control against robosuite's own loop: the same bits, everywhere."""

import numpy as np
import pytest
import torch
from torchrl.envs.utils import step_mdp

from ibrl_torchrl.envs import RobosuiteEnv
from ibrl_torchrl.keys import ACTION, NEXT, REWARD, STATE

robosuite = pytest.importorskip("robosuite")
BASIC = robosuite.load_composite_controller_config(controller="BASIC")


def make_pair(task, settings=None):
    """One environment with the lean control, one with robosuite's own."""
    pair = [RobosuiteEnv(task, seed=0, horizon=10**6, settings=settings) for _ in range(2)]
    del pair[1]._simulator._pre_action  # of the instance; the class still has robosuite's
    return pair


def controlled_by(arm):
    return {"controller_configs": {**BASIC, "body_parts": {"right": arm}}}


def is_lean(env):
    return bool(env._simulator._pre_action._arms)


def assert_alike(pair, observations, steps):
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
        ("TwoArmTransport", 2, 10),  # slower to make and to step than the others together
    ],
)
def test_every_bit_is_robosuites(task, arms, steps):
    pair = make_pair(task)
    assert_alike(pair, [env.reset() for env in pair], steps)
    assert_alike(pair, [env.reset() for env in pair], steps)
    state = pair[1].simulator_state()
    assert_alike(pair, [env.set_simulator_state(state) for env in pair], steps // 4)
    assert len(pair[0]._simulator._pre_action._arms) == arms


@pytest.mark.parametrize("task", ["Lift", "PickPlaceCan"])
def test_every_bit_is_robosuites_in_another_seeds_model(task, monkeypatch):
    pair = make_pair(task)
    monkeypatch.setattr("ibrl_torchrl.envs.robosuite._MODEL_SEED", 7)
    xml = RobosuiteEnv(task, seed=0).model_xml + "\n"  # another simulation even of the same model
    assert_alike(pair, [env.reset() for env in pair], steps=2)
    before = pair[0]._simulation
    for env in pair:
        env.load_model(xml)
    assert_alike(pair, [env.reset() for env in pair], steps=20)
    assert pair[0]._simulation[0] is not before[0] and is_lean(pair[0])
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
def test_other_settings_of_operational_space_control_are_followed(change):
    pair = make_pair("Lift", controlled_by(BASIC["body_parts"]["right"] | change))
    assert_alike(pair, [env.reset() for env in pair], steps=20)
    assert is_lean(pair[0])


OTHERS = {
    "joint positions": controlled_by(
        robosuite.load_part_controller_config(default_controller="JOINT_POSITION")
        | {"gripper": {"type": "GRIP"}}
    ),
    "interpolated": controlled_by(BASIC["body_parts"]["right"] | {"interpolation": "linear"}),
    "coupled": controlled_by(BASIC["body_parts"]["right"] | {"uncouple_pos_ori": False}),
    "a robot on wheels": {"robots": ["PandaOmron"], "controller_configs": None},
}


@pytest.mark.parametrize("settings", OTHERS.values(), ids=OTHERS)
def test_what_is_not_known_is_left_to_robosuite(settings):
    pair = make_pair("Lift", settings)
    assert_alike(pair, [env.reset() for env in pair], steps=10)
    assert not is_lean(pair[0])
