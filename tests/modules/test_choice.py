"""Candidates, gates and the selector over sets, by hand."""

import pytest
import torch
from support.parts import candidates, critics
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.modules import (
    AgreementGate,
    ConfidenceGate,
    CriticEnsemble,
    ExecuteProposal,
    IBRLSelector,
    ProposalChoice,
)
from ibrl_torchrl.modules.choice import eligible_candidates, gather_candidates

DETERMINISTIC = set_exploration_type(ExplorationType.DETERMINISTIC)


def sets(batch=()):
    """Proposals: one action 0.1; the set 0.4, 0.9, 0.2; the set 0.3, 0.5."""
    td = candidates(0.1, batch=batch)
    td["a1"] = torch.tensor([0.4, 0.9, 0.2])[:, None].expand(*batch, 3, 1)
    td["a2"] = torch.tensor([0.3, 0.5])[:, None].expand(*batch, 2, 1)
    return td


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_gather_concatenates_actions_and_sets(batch):
    found = gather_candidates(sets(batch), ["a0", "a1", "a2"])
    assert found.actions.shape == (*batch, 6, 1) and found.counts == (1, 3, 2)
    assert found.proposal(torch.arange(6)).tolist() == [0, 1, 1, 1, 2, 2]
    best = found.best(found.actions.squeeze(-1))
    assert torch.equal(best, torch.tensor([0.1, 0.9, 0.5]).expand(*batch, 3))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_selector_chooses_from_sets_and_reports_proposals(batch):
    td = IBRLSelector(critics([1.0, 2.0]), ["a0", "a1", "a2"])(sets(batch))
    assert td["action"].shape == (*batch, 1) and torch.allclose(td["action"], torch.tensor(0.9))
    assert td["proposal"].shape == batch and (td["proposal"] == 1).all()
    assert torch.allclose(td["proposal_values"], torch.tensor([0.1, 0.9, 0.5]))
    assert torch.allclose(td["chosen_value"], torch.tensor(0.9))


def test_soft_choice_over_sets_counts_every_candidate():
    torch.manual_seed(0)
    td = sets((40_000,))
    selector = IBRLSelector(critics([1.0]), ["a0", "a1", "a2"], mode="soft", beta=2.0, num_min=1)
    values = torch.tensor([0.1, 0.4, 0.9, 0.2, 0.3, 0.5])
    share = torch.softmax(2 * values, 0)
    expected = torch.stack([share[:1].sum(), share[1:4].sum(), share[4:].sum()])
    frequency = torch.bincount(selector(td)["proposal"], minlength=3) / 40_000
    assert torch.allclose(frequency, expected, atol=0.0125)


def test_execute_proposal_takes_the_first_of_a_set():
    td = ExecuteProposal("a1", 1)(sets((2,)))
    assert td["action"].flatten().tolist() == pytest.approx([0.4, 0.4])


def test_agreement_gate_counts_critics_above_the_baseline():
    values = torch.tensor([[[0.5, 0.5, 0.1], [0.5, 0.1, 0.1], [0.2, 0.2, 0.2]]])
    baseline = torch.tensor([[[0.2, 0.2, 0.2]]])
    assert AgreementGate(2 / 3)(values, baseline).tolist() == [[True, False, False]]
    assert AgreementGate(0.3)(values, baseline).tolist() == [[True, True, False]]
    assert AgreementGate()(values, baseline).tolist() == [[False, False, False]]


def test_confidence_gate_is_a_lower_bound_of_the_difference():
    # Differences 0.1 and 0.3: mean 0.2, standard deviation 0.1414.
    values, baseline = torch.tensor([[[0.3, 0.5]]]), torch.tensor([[[0.2, 0.2]]])
    assert ConfidenceGate(1.4)(values, baseline).item()
    assert not ConfidenceGate(1.42)(values, baseline).item()
    assert ConfidenceGate(0.0)(values[..., :1], baseline[..., :1]).item()  # one critic


def test_the_baseline_is_the_best_trusted_candidate():
    # Proposal 1 is trusted and has two candidates, of which 0.4 has the higher minimum.
    per_critic = torch.tensor([[[0.5, 0.5], [0.4, 0.6], [0.9, 0.1]]])
    eligible = eligible_candidates(
        AgreementGate(), per_critic, per_critic.amin(-1), [False, True], [1, 2]
    )
    assert eligible.tolist() == [[False, True, True]]  # 0.5 > 0.4, but not 0.5 > 0.6
    eligible = eligible_candidates(
        AgreementGate(0.5), per_critic, per_critic.amin(-1), [False, True], [1, 2]
    )
    assert eligible.tolist() == [[True, True, True]]


@pytest.mark.parametrize("deterministic", [True, False])
def test_gated_selector_keeps_the_imitation_action_unless_all_critics_agree(deterministic):
    # Critics a and 2 - a: values of 0.9 are (0.9, 1.1), of 0.5 (0.5, 1.5).
    # The minimum prefers 0.9, critic 1 does not.
    critic = critics([1.0, -1.0], [0.0, 2.0])
    td = candidates(0.9, 0.5, batch=(3,))
    kind = ExplorationType.DETERMINISTIC if deterministic else ExplorationType.RANDOM
    with set_exploration_type(kind):
        plain = IBRLSelector(critic, ["a0", "a1"])(td.clone())
        gated = IBRLSelector(critic, ["a0", "a1"], gate=AgreementGate())(td.clone())
    assert plain["proposal"].tolist() == [0] * 3 and gated["proposal"].tolist() == [1] * 3
    assert torch.allclose(gated["proposal_values"], torch.tensor([0.9, 0.5]))
    assert torch.allclose(gated["chosen_value"], torch.tensor(0.5))


def test_gate_asks_all_critics_also_where_a_subset_is_drawn():
    critic = critics([1.0, -1.0], [0.0, 2.0])
    selector = IBRLSelector(critic, ["a0", "a1"], num_min=1, gate=AgreementGate())
    for _ in range(10):
        assert selector(candidates(0.9, 0.5))["proposal"].item() == 1


@pytest.mark.parametrize("mode", ["soft", "epsilon"])
def test_random_choice_is_among_eligible_candidates_alone(mode):
    torch.manual_seed(0)
    choice = ProposalChoice(mode, beta=1.0, epsilon=1.0)
    values = torch.zeros(1000, 3)
    eligible = torch.tensor([True, False, True]).expand(1000, 3)
    chosen = torch.bincount(choice(values, eligible), minlength=3) / 1000
    assert chosen[1] == 0 and chosen[0] == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AgreementGate(0.0), r"share must be in \(0, 1\], got 0.0"),
        (lambda: ConfidenceGate(-1.0), "kappa must not be negative, got -1.0"),
        (
            lambda: IBRLSelector(critics([1.0, 1.0]), ["a0"], gate=AgreementGate()),
            "a gate needs at least one trusted proposal",
        ),
        (
            lambda: IBRLSelector(critics([1.0, 1.0]), ["a0", "a1"], trusted=["b"]),
            r"trusted must name proposals of \['a0', 'a1'\], got \['b'\]",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_and_misshapen_proposals_are_named():
    selector = IBRLSelector(critics([1.0, 1.0]), ["a0", "a1"])
    with pytest.raises(ValueError, match=r"proposal 'a1' is not in the TensorDict, which has \['s"):
        selector(candidates(0.1))
    td = candidates(0.1, batch=(2,)).set("a1", torch.zeros(2))
    with pytest.raises(ValueError, match=r"'a1' has shape \[2\]; for batch shape \[2\] it must be"):
        selector(td)


def test_nested_keys_of_observation_and_action():
    class Sum(torch.nn.Module):
        num_critics = 2

        def forward(self, state, action, members=None):
            value = action.sum(-1, keepdim=True) + 0 * state.sum(-1, keepdim=True)
            return value.expand(*action.shape[:-1], 2)

    critic = CriticEnsemble(
        Sum(), [("agent", "state"), ("agent", "action")], action_key=("agent", "action")
    )
    selector = IBRLSelector(critic, [("agent", "rl"), ("agent", "bc")])
    td = TensorDict({"agent": {"state": torch.zeros(3), "rl": torch.zeros(2), "bc": torch.ones(2)}})
    assert selector(td)["agent", "action"].tolist() == [1.0, 1.0]
    assert ("agent", "action") in selector.out_keys


def test_sets_compile_without_graph_breaks():
    selector = IBRLSelector(critics([1.0, 2.0]), ["a0", "a1", "a2"], gate=AgreementGate(0.5))
    selector.critic.module.forward = lambda state, action, members=None: action * torch.ones(2)
    with DETERMINISTIC, torch.no_grad():
        expected = selector(sets((5,)))
        found = torch.compile(selector, backend="eager", fullgraph=True)(sets((5,)))
    assert torch.equal(found["proposal"], expected["proposal"])
