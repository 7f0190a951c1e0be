"""Proposal sets, residual actors, frozen stochastic policies, and critics of TorchRL."""

import pytest
import torch
from support.parts import Constant
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MLP, LSTMModule, ProbabilisticActor, TanhNormal, ValueOperator

from ibrl_torchrl.modules import (
    ActorProposal,
    AgreementGate,
    ChunkExecutor,
    CVAEPolicy,
    FrozenPolicy,
    IBRLSelector,
    Normalize,
    ResidualActor,
    ResidualAndActor,
    SampledProposals,
    SeparateCritics,
    StackedCritics,
    StateActor,
    StateCriticEnsemble,
    StateFeatures,
)
from ibrl_torchrl.modules.bounds import clip_straight_through


def stochastic(scale=1.0):
    """Actor of a squashed normal distribution with mean tanh(0) = 0."""

    class Parameters(nn.Module):
        def forward(self, state):
            zeros = torch.zeros(*state.shape[:-1], 2)
            return zeros, zeros + scale

    network = TensorDictModule(Parameters(), ["state"], ["loc", "scale"])
    return ProbabilisticActor(network, ["loc", "scale"], distribution_class=TanhNormal)


def states(*batch):
    return TensorDict(state=torch.zeros(*batch, 3), batch_size=batch)


RANDOM = set_exploration_type(ExplorationType.RANDOM)
DETERMINISTIC = set_exploration_type(ExplorationType.DETERMINISTIC)


# Frozen policies


def test_frozen_stochastic_policy_writes_its_sample_alone():
    policy = FrozenPolicy(stochastic(), out_key="bc_action")
    with RANDOM:
        td = policy(states(500))
    assert {*td.keys()} == {"state", "bc_action"} and policy.out_keys == ["bc_action"]
    assert td["bc_action"].std() > 0.3
    with DETERMINISTIC:
        assert policy(states(5))["bc_action"].abs().max() < 1e-3


def test_frozen_policy_of_several_keys_needs_the_action_named():
    module = TensorDictModule(lambda state: (state, state), ["state"], ["a", "b"])
    with pytest.raises(ValueError, match=r"must write one key, its action; got \['a', 'b'\]; name"):
        FrozenPolicy(module)
    td = FrozenPolicy(module, action_key="b", out_key="bc_action")(states(2))
    assert {*td.keys()} == {"state", "bc_action"}
    with pytest.raises(ValueError, match=r"action_key 'c' is not among the keys \['a', 'b'\]"):
        FrozenPolicy(module, action_key="c")


def test_frozen_policy_of_a_network_names_the_remedy():
    with pytest.raises(TypeError, match="must be a TensorDict module, got Linear; wrap a network"):
        FrozenPolicy(nn.Linear(3, 2))


def test_frozen_recurrent_policy_acts_with_its_states():
    lstm = LSTMModule(input_size=3, hidden_size=2, in_key="state", out_key="bc_action")
    policy = FrozenPolicy(lstm, action_key="bc_action")
    assert policy.out_keys[0] == "bc_action"
    td = states().set("is_init", torch.ones(1, dtype=torch.bool))
    written = {*policy(td)["next"].keys()}
    assert written == {"recurrent_state_h", "recurrent_state_c"}


def test_renamed_action_of_a_policy_with_a_state_keeps_the_state():
    plan = TensorDictModule(lambda state: state + torch.arange(3.0), ["state"], ["action"])
    policy = FrozenPolicy(ChunkExecutor(plan, 3), action_key="action", out_key="bc_action")
    td = TensorDict(state=torch.zeros(1))
    assert [policy(td)["bc_action"].item() for _ in range(4)] == [0.0, 1.0, 2.0, 0.0]
    assert "action" not in td
    td["is_init"] = torch.ones(1, dtype=torch.bool)  # not among the executor's in_keys
    assert policy(td)["bc_action"].item() == 0.0


def test_frozen_policy_keeps_the_observations_of_one_that_returns_its_output_alone():
    module = TensorDictModule(nn.Linear(3, 2), ["state"], ["bc_action"], inplace=False)
    assert {*FrozenPolicy(module)(states(2)).keys()} == {"state", "bc_action"}


# Sets


@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_samples_of_a_stochastic_policy_differ(batch):
    torch.manual_seed(0)
    proposals = SampledProposals(FrozenPolicy(stochastic(), out_key="bc_action"), 16)
    for context in (RANDOM, set_exploration_type(None)):
        with context:
            actions = proposals(states(*batch))["bc_action"]
        assert actions.shape == (*batch, 16, 2)
        assert actions.reshape(-1, 16, 2)[0].unique(dim=0).shape[0] == 16
    with DETERMINISTIC:
        assert proposals(states(*batch))["bc_action"].shape == (*batch, 1, 2)


def test_one_sample_of_a_stochastic_policy_is_a_sample():
    torch.manual_seed(0)
    one = SampledProposals(FrozenPolicy(stochastic(), out_key="bc_action"), 1)
    first, second = (one(states(64))["bc_action"] for _ in range(2))
    assert first.shape[-2] == 1 and not torch.equal(first, second)


def test_training_mode_does_not_reach_the_sampled_policy():
    network = CVAEPolicy(StateFeatures(Normalize.identity(3)), 2, hidden=[32], dropout=0.5)
    bc = FrozenPolicy(TensorDictModule(network, ["state"], ["bc_action"]))
    proposals = nn.ModuleList([SampledProposals(bc, 4)]).train()[0]
    assert not network.training
    assert len(proposals.state_dict()) == len(bc.state_dict())
    assert proposals(states())["bc_action"].shape == (4, 2)


@pytest.mark.parametrize("batch", [(), (7,)])
def test_noisy_copies_follow_the_action_itself(batch):
    torch.manual_seed(0)
    bc = FrozenPolicy(TensorDictModule(Constant(0.95), ["state"], ["bc_action"]))
    actions = SampledProposals(bc, 2000, noise_std=0.1)(states(*batch))["bc_action"]
    assert actions.shape == (*batch, 2000, 1) and actions.max() == 1.0
    assert torch.allclose(actions[..., 0, :], torch.tensor(0.95))
    below = actions[actions < 0.95]
    assert (0.95 - below).mean().item() == pytest.approx(0.0798, abs=0.004)  # half-normal mean
    with DETERMINISTIC:
        alone = SampledProposals(bc, 9, noise_std=0.1)(states(*batch))["bc_action"]
    assert torch.allclose(alone, torch.full((*batch, 1, 1), 0.95))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_samples": 2, "noise_std": -1.0}, "noise_std must not be negative"),
    ],
)
def test_wrong_numbers_of_samples_are_refused(settings, message):
    policy = FrozenPolicy(stochastic(), out_key="bc_action")
    with pytest.raises(ValueError, match=message):
        SampledProposals(policy, **settings)
    with pytest.raises(ValueError, match=r"write its action alone, .*wrap it in FrozenPolicy"):
        SampledProposals(stochastic(), 2)


# Residual actors


def residual(**settings):
    network = StateActor(Normalize.identity(5), 2, hidden=[16], dropout=0.0)
    return ResidualActor(network, **settings)


def test_residual_starts_as_its_base():
    base = torch.rand(7, 2) * 2 - 1
    assert torch.equal(residual()(torch.randn(7, 3), base), base)


def test_change_is_bounded_and_clipped():
    actor = residual(scale=0.1, zero_init=False)
    with torch.no_grad():
        for parameter in actor.network.mlp.parameters():
            parameter.mul_(100)
    state, base = torch.randn(200, 3), torch.rand(200, 2) * 2 - 1
    change = actor(state, base) - base
    assert change.abs().max() <= 0.1 + 1e-6 and change.abs().max() > 0.09
    assert actor(state, torch.ones(200, 2)).max() == 1.0


def test_each_candidate_is_edited_by_itself():
    actor = residual(zero_init=False)
    state, base = torch.randn(4, 3), torch.rand(4, 6, 2)
    edited = actor(state, base)
    for i in range(6):
        assert torch.allclose(edited[:, i], actor(state, base[:, i]), atol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (6, 2)])
def test_an_action_of_its_own_follows_the_edits(shape):
    own = StateActor(Normalize.identity(3), 2, hidden=[16], dropout=0.0)
    edit = residual(zero_init=False)
    state, base = torch.randn(4, 3), torch.rand(4, *shape)
    candidates = ResidualAndActor(edit, own)(state, base)
    edits = edit(state, base)
    assert torch.equal(candidates[:, :-1], edits if base.ndim == 3 else edits.unsqueeze(1))
    assert torch.equal(candidates[:, -1], own(state))


def test_gradient_passes_the_action_bounds():
    action = torch.tensor([1.3, 0.2], requires_grad=True)
    clipped = clip_straight_through(action, (-1.0, 1.0))
    clipped.sum().backward()
    assert clipped.tolist() == pytest.approx([1.0, 0.2]) and action.grad.tolist() == [1.0, 1.0]


def test_scale_must_be_positive():
    with pytest.raises(ValueError, match=r"scale must be above 0, got 0.0"):
        residual(scale=0.0)


# Critics of TorchRL


def value_operator():
    return ValueOperator(MLP(5, 1, num_cells=[8]), ["state", "action"])


def test_copies_of_a_critic_are_initialised_independently():
    critic = SeparateCritics.copies(value_operator(), 3)
    td = states(4).set("action", torch.rand(4, 2))
    values = critic(td)["state_action_value"]
    assert values.shape == (4, 3) and critic.num_critics == 3
    assert (values[:, 0] != values[:, 1]).all() and (values[:, 1] != values[:, 2]).all()


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_separate_critics_value_candidates_as_each_critic_does(batch):
    critic = SeparateCritics.copies(value_operator(), 3)
    td = states(*batch)
    candidates = torch.rand(*batch, 5, 2)
    values = critic.evaluate(td, candidates, torch.tensor([2, 0]))
    assert values.shape == (*batch, 5, 2)
    for i, member in enumerate((2, 0)):
        one = td.clone().set("action", candidates[..., 1, :])
        expected = critic.critics[member](one)["state_action_value"].squeeze(-1)
        assert torch.allclose(values[..., 1, i], expected, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_stacked_critics_equal_separate_ones(batch):
    from tensordict import TensorDictParams

    separate = SeparateCritics.copies(value_operator(), 3)
    params = TensorDictParams(TensorDict.from_modules(*separate.critics, as_module=False))
    stacked = StackedCritics(value_operator(), params)
    td, candidates = states(*batch), torch.rand(*batch, 5, 2)
    for members in (None, torch.tensor([2, 0])):
        assert torch.allclose(
            stacked.evaluate(td, candidates, members),
            separate.evaluate(td, candidates, members),
            atol=1e-6,
        )
    td["action"] = candidates[..., 0, :]
    expected = separate(td.clone())["state_action_value"]
    assert torch.allclose(stacked(td)["state_action_value"], expected, atol=1e-6)


def test_stacked_critics_of_one_quantile_have_a_value_each():
    from tensordict import TensorDictParams

    separate = SeparateCritics.copies(value_operator(), 3)
    params = TensorDictParams(TensorDict.from_modules(*separate.critics, as_module=False))
    lowest = StackedCritics(
        value_operator(), params, reduction=lambda values: values.amin((-2, -1))
    )
    td = states(4).set("rl_action", torch.rand(4, 2)).set("bc_action", torch.rand(4, 2))
    expected = separate(td.clone().set("action", td["rl_action"]))["state_action_value"]
    values = lowest(td.clone().set("action", td["rl_action"]))["state_action_value"]
    torch.testing.assert_close(values, expected)
    with DETERMINISTIC:
        chosen = IBRLSelector(lowest, gate=AgreementGate())(td)["proposal_values"]
    torch.testing.assert_close(chosen[:, 0], expected.amin(-1))


def test_selector_takes_separate_critics():
    critic = SeparateCritics.copies(value_operator(), 3)
    td = states(4).set("rl_action", torch.rand(4, 2)).set("bc_action", torch.rand(4, 2))
    with DETERMINISTIC:
        out = IBRLSelector(critic)(td)
    values = [
        critic(states(4).set("action", td[key]))["state_action_value"].amin(-1)
        for key in ("rl_action", "bc_action")
    ]
    assert torch.allclose(out["proposal_values"], torch.stack(values, -1), atol=1e-6)


def test_critic_without_the_action_is_refused():
    critic = ValueOperator(MLP(3, 1, num_cells=[8]), ["state"])
    with pytest.raises(ValueError, match="must name the action key 'action'"):
        SeparateCritics([critic])
    with pytest.raises(ValueError, match="critics must not be empty"):
        SeparateCritics([])


def test_state_critics_read_several_observations():
    ensemble = StateCriticEnsemble(Normalize.identity(5), 2, num_critics=3, hidden=[8])
    first, second, action = torch.randn(4, 3), torch.randn(4, 2), torch.rand(4, 2)
    expected = ensemble(torch.cat([first, second], -1), action)
    assert torch.equal(ensemble(first, second, action), expected)
    assert ensemble(first[:0], second[:0], action[:0]).shape == (0, 3)


def test_actor_proposal_renames_and_keeps_gradients():
    network = nn.Sequential(nn.Linear(3, 4), NormalParamExtractor())
    actor = ProbabilisticActor(
        TensorDictModule(network, ["state"], ["loc", "scale"]),
        ["loc", "scale"],
        distribution_class=TanhNormal,
    )
    td = ActorProposal(actor, "rl_action")(states(4))
    assert {*td.keys()} == {"state", "rl_action"}
    td["rl_action"].sum().backward()
    assert network[0].weight.grad is not None
