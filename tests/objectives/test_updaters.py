"""PartialSoftUpdate."""

import pytest
from support.parts import actor, critics

from ibrl_torchrl.objectives import IBRLTD3Loss, PartialSoftUpdate


def test_step_updates_only_the_named_targets_by_tau():
    loss = IBRLTD3Loss(actor(0.0), critics([1.0, 3.0]))
    update = PartialSoftUpdate(loss, "qvalue_network", tau=0.25)
    loss.qvalue_network_params["module", "weight"].data.add_(1.0)
    loss.actor_network_params["module", "value"].data.add_(1.0)
    update.step()
    targets = loss.target_qvalue_network_params["module", "weight"]
    assert targets.tolist() == [1.25, 3.25]
    assert loss.target_actor_network_params["module", "value"].item() == 0.0


def test_step_follows_a_change_of_dtype():
    loss = IBRLTD3Loss(actor(0.0), critics([1.0, 3.0]))
    update = PartialSoftUpdate(loss, "actor_network", tau=0.25)
    loss.double()
    loss.actor_network_params["module", "value"].data.add_(1.0)
    update.step()
    assert loss.target_actor_network_params["module", "value"].item() == 0.25


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "must name at least one network"), (("encoder",), "no targets.*target_encoder_params")],
)
def test_missing_targets_raise(names, message):
    loss = IBRLTD3Loss(actor(0.0), critics([1.0, 3.0]))
    with pytest.raises(ValueError, match=message):
        PartialSoftUpdate(loss, *names, tau=0.1)
