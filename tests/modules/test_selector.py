"""IBRLSelector and ExecuteProposal against analytic values."""

import pytest
import torch
from support.parts import LinearCritics, candidates, critics, networks
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.modules import CriticEnsemble, ExecuteProposal, IBRLSelector, ScoreProposals

DETERMINISTIC = set_exploration_type(ExplorationType.DETERMINISTIC)


def test_selector_greedy_takes_argmax_of_minimum_over_subset():
    # a0 = 0.5: Q = 0.5, 1.0, -0.5; a1 = -0.5: Q = -0.5, -1.0, 0.5.
    # Critics {0, 1}: minima 0.5 and -1.0, so a0. Any subset with critic 2: -0.5 against -0.5
    # (with critic 0) or -1.0 (with critic 1).
    selector = IBRLSelector(critics([1.0, 2.0, -1.0]), ["a0", "a1"], num_min=2)
    network = selector.critic.module
    for _ in range(20):
        td = selector(candidates(0.5, -0.5))
        subset = set(network.calls[-1])
        values = [0.5, 1.0, -0.5], [-0.5, -1.0, 0.5]
        minima = [min(of_action[i] for i in subset) for of_action in values]
        assert td["chosen_value"].item() == max(minima)
        assert td["proposal"].item() == minima.index(max(minima))
    assert {tuple(sorted(subset)) for subset in network.calls} == {(0, 1), (0, 2), (1, 2)}


def test_selector_draws_one_subset_per_batch():
    # Critic 0 prefers large actions, critic 1 small ones; one critic is drawn for the batch.
    selector = IBRLSelector(critics([1.0, -1.0]), ["a0", "a1"], num_min=1)
    choices = []
    for _ in range(20):
        td = selector(candidates(0.5, -0.5, batch=(64,)))
        choices.append(td["proposal"].unique().tolist())
    assert sorted(map(tuple, {tuple(choice) for choice in choices})) == [(0,), (1,)]


def test_selector_deterministic_is_greedy_over_all_critics_without_draws():
    # Minima over both critics: a0: min(0.5, -0.5) = -0.5, a1: min(-0.2, 0.2) = -0.2.
    selector = IBRLSelector(critics([1.0, -1.0]), ["a0", "a1"], mode="soft", num_min=1)
    state = torch.random.get_rng_state()
    with DETERMINISTIC:
        td = selector(candidates(0.5, -0.2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert td["proposal"].item() == 1
    assert td["chosen_value"].item() == pytest.approx(-0.2)
    assert td["action"].item() == pytest.approx(-0.2)


@pytest.mark.parametrize("beta", [0.0, 1.0, 10.0])
def test_selector_soft_samples_from_softmax(beta):
    torch.manual_seed(0)
    size = 40_000
    selector = IBRLSelector(critics([1.0]), ["a0", "a1", "a2"], mode="soft", beta=beta, num_min=1)
    td = selector(candidates(0.1, 0.2, -0.1, batch=(size,)))
    expected = torch.softmax(beta * torch.tensor([0.1, 0.2, -0.1]), 0)
    frequency = torch.bincount(td["proposal"], minlength=3) / size
    # Five standard deviations of a binomial proportion are at most 5 * 0.5 / sqrt(size) = 0.0125.
    assert torch.allclose(frequency, expected, atol=0.0125)


@pytest.mark.parametrize(("epsilon", "rate"), [(0.0, 0.0), (0.5, 0.25), (1.0, 0.5)])
def test_selector_epsilon_is_the_probability_of_a_random_choice(epsilon, rate):
    torch.manual_seed(0)
    selector = IBRLSelector(
        critics([1.0]), ["a0", "a1"], mode="epsilon", epsilon=epsilon, num_min=1
    )
    td = selector(candidates(0.3, 0.1, batch=(40_000,)))
    # A random choice is the worse of two candidates with probability 1/2.
    assert td["proposal"].float().mean().item() == pytest.approx(rate, abs=0.0125)


@pytest.mark.parametrize(("reduction", "index", "value"), [("min", 0, -0.2), ("mean", 1, 0.05)])
def test_selector_reduces_by_minimum_or_mean(reduction, index, value):
    # Q(0.2) = 0.2, -0.2 and Q(0.5) = 0.5, -0.4: minima -0.2 and -0.4, means 0 and 0.05.
    critic = critics([1.0, -2 / 3], [0.0, -1 / 15])
    selector = IBRLSelector(critic, ["a0", "a1"], num_min=2, reduction=reduction)
    score = ScoreProposals(critic, ["a0", "a1"], reduction=reduction)
    td = selector(candidates(0.2, 0.5, batch=(3,)))
    assert td["proposal"].tolist() == [index] * 3
    assert torch.allclose(td["chosen_value"], torch.tensor(value))
    expected = torch.tensor({"min": [-0.2, -0.4], "mean": [0.0, 0.05]}[reduction])
    for scored in (td, score(candidates(0.2, 0.5, batch=(3,)))):
        assert torch.allclose(scored["proposal_values"], expected, atol=1e-6)


def test_selector_takes_the_mean_of_the_drawn_critics_alone():
    # Q(0.5) = 0.5, 1 and -1: pairs have the means 0.75, -0.25 and 0.
    critic = critics([1.0, 2.0, -2.0])
    selector = IBRLSelector(critic, ["a0"], num_min=2, reduction="mean")
    values = {selector(candidates(0.5))["chosen_value"].item() for _ in range(40)}
    assert values == {0.75, -0.25, 0.0}


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_selector_supports_any_batch_shape_and_number_of_proposals(batch):
    td = candidates(0.1, 0.3, 0.2, batch=batch)
    IBRLSelector(critics([1.0, 2.0]), ["a0", "a1", "a2"])(td)
    assert td["action"].shape == (*batch, 1)
    assert td["proposal"].shape == batch and (td["proposal"] == 1).all()
    assert torch.allclose(td["chosen_value"], torch.tensor(0.3))
    single = IBRLSelector(critics([1.0, 2.0]), ["a2"])(td)
    assert (single["proposal"] == 0).all() and torch.equal(single["action"], td["a2"])


def test_selector_changes_only_its_out_keys():
    td = candidates(0.1, 0.3, batch=(5,))
    before = td.clone()
    selector = IBRLSelector(critics([1.0]), ["a0", "a1"], num_min=1)
    selector(td)
    assert set(td.keys()) - set(before.keys()) == {*selector.out_keys}
    assert (td.select(*before.keys()) == before).all()


def test_selector_follows_updates_of_the_critics():
    critic = critics([1.0])
    selector = IBRLSelector(critic, ["a0", "a1"], num_min=1)
    assert selector(candidates(0.1, 0.3))["proposal"].item() == 1
    critic.module.weight.data.neg_()
    assert selector(candidates(0.1, 0.3))["proposal"].item() == 0


def test_selector_compiles_without_graph_breaks():
    _, critic, _ = networks()
    selector = IBRLSelector(critic)
    td = candidates(0.0, batch=(7,)).empty()
    td["state"] = torch.randn(7, 6)
    td["rl_action"], td["bc_action"] = torch.rand(7, 2), torch.rand(7, 2)
    with DETERMINISTIC, torch.no_grad():
        expected = selector(td.clone())
        compiled = torch.compile(selector, backend="eager", fullgraph=True)(td.clone())
    assert torch.equal(compiled["proposal"], expected["proposal"])
    assert torch.allclose(compiled["chosen_value"], expected["chosen_value"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proposals": []}, "at least one key"),
        ({"mode": "best"}, "mode must be one of"),
        ({"beta": -1.0}, "beta must not be negative, got -1.0"),
        ({"epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
        ({"num_min": 3}, "between 1 and the 2 critics, got 3"),
        ({"reduction": "sum"}, "reduction must be one of .*, got 'sum'"),
    ],
)
def test_arguments_out_of_range_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        IBRLSelector(critics([1.0, 1.0]), **{"proposals": ["a0"], **settings})


def test_proposals_of_one_key_are_refused():
    with pytest.raises(ValueError, match=r"distinct keys, got \['rl_action', 'rl_action'\]"):
        IBRLSelector(critics([1.0, 2.0]), ["rl_action", "rl_action"])


def test_critic_without_action_key_raises():
    with pytest.raises(ValueError, match="'action'"):
        CriticEnsemble(LinearCritics([1.0]), ["state"])


def test_critic_inputs_follow_the_order_of_in_keys():
    class ActionFirst(torch.nn.Module):
        num_critics = 2

        def forward(self, action, state, members=None):
            return (state.sum(-1, keepdim=True) - action.abs().sum(-1, keepdim=True)).expand(
                *action.shape[:-1], 2
            )

    selector = IBRLSelector(CriticEnsemble(ActionFirst(), ["action", "state"]))
    td = TensorDict(
        state=torch.full((3,), 1.0), rl_action=torch.ones(2), bc_action=torch.full((2,), 0.25)
    )
    assert selector(td)["proposal_values"].tolist() == [1.0, 2.5]
    assert td["proposal"].item() == 1


def test_execute_proposal_copies_action_and_index():
    td = ExecuteProposal("a1", 1)(candidates(0.1, 0.3, batch=(2,)))
    assert torch.equal(td["action"], td["a1"]) and td["proposal"].tolist() == [1, 1]


def test_selector_writes_the_values_of_all_proposals():
    # Minimum of a and -a for each candidate a.
    td = candidates(0.1, -0.3, 0.2, batch=(2,))
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        IBRLSelector(critics([1.0, -1.0]), ["a0", "a1", "a2"])(td)
    assert torch.allclose(td["proposal_values"], torch.tensor([[-0.1, -0.3, -0.2]] * 2))
    assert torch.equal(td["chosen_value"], td["proposal_values"].amax(-1, keepdim=True))
