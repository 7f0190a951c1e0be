"""The selector against numbers worked out by hand."""

import pytest
import torch
from support.parts import LinearCritics, candidates, critics, networks
from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.modules import CriticEnsemble, ExecuteProposal, IBRLSelector

DETERMINISTIC = set_exploration_type(ExplorationType.DETERMINISTIC)


def test_greedy_takes_the_best_minimum_over_the_drawn_critics():
    # a0 = 0.5: Q = 0.5, 1.0, -0.5; a1 = -0.5: Q = -0.5, -1.0, 0.5.
    # Critics {0, 1}: minima 0.5 and -1.0, a0 wins. Any subset with critic 2: -0.5 against
    # -0.5 (with critic 0) or -1.0 (with critic 1).
    selector = IBRLSelector(critics([1.0, 2.0, -1.0]), ["a0", "a1"], num_min=2)
    network = selector.critic.module
    for _ in range(20):
        td = selector(candidates(0.5, -0.5))
        drawn = set(network.asked[-1])
        minima = [min([0.5, 1.0, -0.5][i] for i in drawn), min([-0.5, -1.0, 0.5][i] for i in drawn)]
        assert td["chosen_value"].item() == max(minima)
        assert td["proposal"].item() == minima.index(max(minima))
    assert {tuple(sorted(drawn)) for drawn in network.asked} == {(0, 1), (0, 2), (1, 2)}


def test_the_subset_decides_the_winner_and_is_drawn_once_a_batch():
    # Critic 0 prefers large actions, critic 1 small ones; one critic is drawn for the batch.
    selector = IBRLSelector(critics([1.0, -1.0]), ["a0", "a1"], num_min=1)
    winners = []
    for _ in range(20):
        td = selector(candidates(0.5, -0.5, batch=(64,)))
        winners.append(td["proposal"].unique().tolist())
    assert sorted(map(tuple, {tuple(winner) for winner in winners})) == [(0,), (1,)]


def test_evaluation_is_greedy_over_all_critics_and_draws_nothing():
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
def test_soft_choice_follows_the_softmax(beta):
    torch.manual_seed(0)
    size = 40_000
    selector = IBRLSelector(critics([1.0]), ["a0", "a1", "a2"], mode="soft", beta=beta, num_min=1)
    td = selector(candidates(0.1, 0.2, -0.1, batch=(size,)))
    expected = torch.softmax(beta * torch.tensor([0.1, 0.2, -0.1]), 0)
    found = torch.bincount(td["proposal"], minlength=3) / size
    # Five standard deviations of a binomial share are at most 5 * 0.5 / sqrt(size) = 0.0125.
    assert torch.allclose(found, expected, atol=0.0125)


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 0.0), (0.5, 0.25), (1.0, 0.5)])
def test_epsilon_is_the_share_of_random_choices(epsilon, share):
    torch.manual_seed(0)
    selector = IBRLSelector(
        critics([1.0]), ["a0", "a1"], mode="epsilon", epsilon=epsilon, num_min=1
    )
    td = selector(candidates(0.3, 0.1, batch=(40_000,)))
    # A random choice is the worse of two candidates half of the time.
    assert td["proposal"].float().mean().item() == pytest.approx(share, abs=0.0125)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_any_batch_shape_and_any_number_of_proposals(batch):
    td = candidates(0.1, 0.3, 0.2, batch=batch)
    IBRLSelector(critics([1.0, 2.0]), ["a0", "a1", "a2"])(td)
    assert td["action"].shape == (*batch, 1)
    assert td["proposal"].shape == batch and (td["proposal"] == 1).all()
    assert torch.allclose(td["chosen_value"], torch.tensor(0.3))
    alone = IBRLSelector(critics([1.0, 2.0]), ["a2"])(td)
    assert (alone["proposal"] == 0).all() and torch.equal(alone["action"], td["a2"])


def test_the_input_is_left_as_it_was():
    td = candidates(0.1, 0.3, batch=(5,))
    before = td.clone()
    selector = IBRLSelector(critics([1.0]), ["a0", "a1"], num_min=1)
    selector(td)
    assert set(td.keys()) - set(before.keys()) == {*selector.out_keys}
    assert (td.select(*before.keys()) == before).all()


def test_it_uses_the_critics_parameters_where_they_are():
    critic = critics([1.0])
    selector = IBRLSelector(critic, ["a0", "a1"], num_min=1)
    assert selector(candidates(0.1, 0.3))["proposal"].item() == 1
    critic.module.weight.data.neg_()
    assert selector(candidates(0.1, 0.3))["proposal"].item() == 0


def test_it_compiles_without_a_graph_break():
    _, critic, _ = networks()
    selector = IBRLSelector(critic)
    td = candidates(0.0, batch=(7,)).empty()
    td["state"] = torch.randn(7, 6)
    td["rl_action"], td["bc_action"] = torch.rand(7, 2), torch.rand(7, 2)
    with DETERMINISTIC, torch.no_grad():
        expected = selector(td.clone())
        found = torch.compile(selector, backend="eager", fullgraph=True)(td.clone())
    assert torch.equal(found["proposal"], expected["proposal"])
    assert torch.allclose(found["chosen_value"], expected["chosen_value"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proposals": []}, "at least one key"),
        ({"mode": "best"}, "mode must be one of"),
        ({"beta": -1.0}, "beta must not be negative, got -1.0"),
        ({"epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
        ({"num_min": 3}, "between 1 and the 2 critics, got 3"),
    ],
)
def test_arguments_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IBRLSelector(critics([1.0, 1.0]), **{"proposals": ["a0"], **settings})


def test_a_critic_must_read_an_action():
    with pytest.raises(ValueError, match="'action'"):
        CriticEnsemble(LinearCritics([1.0]), ["state"])


def test_a_critic_gets_its_inputs_in_the_order_of_its_keys():
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


def test_execute_proposal_copies_one():
    td = ExecuteProposal("a1", 1)(candidates(0.1, 0.3, batch=(2,)))
    assert torch.equal(td["action"], td["a1"]) and td["proposal"].tolist() == [1, 1]


def test_the_values_of_all_proposals_are_told():
    """Minimum of a and -a for each candidate a, whatever the choice among them."""
    td = candidates(0.1, -0.3, 0.2, batch=(2,))
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        IBRLSelector(critics([1.0, -1.0]), ["a0", "a1", "a2"])(td)
    assert torch.allclose(td["proposal_values"], torch.tensor([[-0.1, -0.3, -0.2]] * 2))
    assert torch.equal(td["chosen_value"], td["proposal_values"].amax(-1, keepdim=True))
