"""IBRLTD3Loss: bounds, proposal sets, residual and stochastic actors, critics of TorchRL."""

import copy

import pytest
import torch
from support.parts import actor, critics, networks, proposal, transitions
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.data import Bounded, Composite, Unbounded
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import (
    MLP,
    LSTMModule,
    MultiStepActorWrapper,
    ProbabilisticActor,
    TanhNormal,
    ValueOperator,
)
from torchrl.objectives import ValueEstimators

from ibrl_torchrl import (
    AgreementGate,
    CachedProposal,
    CriticEnsemble,
    FrozenPolicy,
    IBRLSelector,
    IBRLTD3Loss,
    Normalize,
    ResidualActor,
    SampledProposals,
    StateActor,
    StateCriticEnsemble,
    hybrid_policy,
    tied_copy,
)

GAMMA = 0.9


def make(*args, **settings):
    settings = {"policy_noise": 0.0, "num_min": 1, **settings}
    return IBRLTD3Loss(*args, **settings).make_value_estimator(gamma=GAMMA)


def proposal_set(values, key="bc_set"):
    class Candidates(nn.Module):
        def forward(self, state):
            return torch.tensor(values)[:, None].expand(*state.shape[:-1], len(values), 1)

    return FrozenPolicy(TensorDictModule(Candidates(), ["state"], [key]))


# Bounds (S1)


@pytest.mark.parametrize(
    "bounds",
    [
        {"bounds": (-2.0, 2.0)},
        {"action_spec": Bounded(-2.0, 2.0, shape=(1,))},
        {"action_spec": Composite(action=Bounded(-2.0, 2.0, shape=(1,)))},
    ],
)
def test_target_and_actor_loss_use_the_bounds_of_the_actions(bounds):
    torch.manual_seed(0)
    loss = make(
        actor(1.9),
        critics([1.0]),
        policy_noise=10.0,
        noise_clip=0.3,
        noisy_actor_loss=True,
        **bounds,
    )
    _, info = loss.qvalue_loss(transitions(200))
    assert info["next_state_value"].max().item() == pytest.approx(2.0)
    assert info["next_state_value"].min().item() == pytest.approx(1.6)
    _, info = loss.actor_loss(transitions(200))
    assert info["actor_value"].max().item() == pytest.approx(2.0)


def test_bounds_of_each_dimension_follow_a_change_of_dtype_and_stay_out_of_the_state():
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.5])
    actor_network, critic, frozen = networks()
    loss = IBRLTD3Loss(actor_network, critic, [frozen], bounds=(low, high)).double()
    assert loss.low.dtype == torch.float64
    assert not any("low" in key or "high" in key for key in loss.state_dict())
    noisy = loss.add_noise(torch.full((5, 2), 3.0, dtype=torch.float64))
    assert torch.equal(noisy, high.double().expand(5, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bounds": (1.0, -1.0)}, r"must be low < high, got low=1.0, high=-1.0"),
        ({"action_spec": Unbounded(1)}, "must be Bounded, got Unbounded.*; pass bounds"),
        (
            {"action_spec": Bounded(-1, 1, shape=(1,)), "bounds": (-1, 1)},
            "either action_spec or bounds",
        ),
        (
            {"action_spec": Bounded(-1.0, 1.0, (4, 1))},
            r"of one action, got the shape \[4, 1\]; pass env\.action_spec_unbatched",
        ),
    ],
)
def test_wrong_bounds_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(actor(0.0), critics([1.0]), **settings)


def test_imitation_actions_out_of_bounds_are_named():
    loss = make(actor(0.0), critics([1.0]), [proposal(1.5)])
    for _ in range(2):  # also where the call is repeated
        with pytest.raises(
            ValueError, match=r"'bc_action' has an action of 1.5 in dimension 0, outside"
        ):
            loss.qvalue_loss(transitions())
    loss = make(actor(0.0), critics([1.0]), [proposal(1.5)], bounds=(-2.0, 2.0))
    loss.qvalue_loss(transitions())


# Actors (S2)


def stochastic_actor(out_key="action"):
    network = nn.Sequential(nn.Linear(2, 2), NormalParamExtractor())
    return ProbabilisticActor(
        TensorDictModule(network, ["state"], ["loc", "scale"]),
        ["loc", "scale"],
        [out_key],
        distribution_class=TanhNormal,
        return_log_prob=True,
    )


def test_stochastic_actor_proposes_its_sample():
    torch.manual_seed(0)
    loss = make(stochastic_actor(), critics([1.0]), [proposal(-0.9)])
    assert loss.action_keys == ["action", "bc_action"]
    batch = transitions(300)
    values = loss.qvalue_loss(batch)[1]["next_state_value"]
    again = loss.qvalue_loss(batch)[1]["next_state_value"]
    assert values.abs().max() <= 1 and (values != again).float().mean() > 0.9
    value, info = loss.actor_loss(batch)
    value.backward()
    assert info["actor_value"].unique().numel() > 250
    assert all(p.grad is not None for p in loss.actor_network_params.parameters())


def test_actor_of_several_keys_needs_them_named():
    module = TensorDictModule(lambda s: (s[..., :1], s[..., 1:]), ["state"], ["a", "b"])
    with pytest.raises(ValueError, match=r"got \['a', 'b'\]"):
        make(module, critics([1.0]))
    with pytest.raises(ValueError, match=r"actor_keys must be keys that the actor writes"):
        make(module, critics([1.0]), actor_keys=["c"])
    assert make(module, critics([1.0]), actor_keys=["a", "b"]).action_keys == ["a", "b"]


# Proposers (S3, S4, S5)


def test_recurrent_proposals_are_refused_with_the_remedy():
    lstm = LSTMModule(input_size=2, hidden_size=1, in_key="state", out_key="bc_action")
    policy = FrozenPolicy(lstm, action_key="bc_action")
    with pytest.raises(ValueError, match=r"'bc_action' contains LSTMModule.*CachedProposal\('bc_a"):
        make(actor(0.0), critics([1.0]), [policy])


def test_queues_of_actions_are_refused_with_the_remedy():
    def chunk(state):
        return state[..., None, :1].expand(*state.shape[:-1], 3, 1)

    wrapped = MultiStepActorWrapper(
        TensorDictModule(chunk, ["state"], ["bc_chunk"]),
        n_steps=3,
        action_keys=["bc_action"],
        chunk_keys=["bc_chunk"],
        init_key="is_init",
    )
    with pytest.raises(ValueError, match="contains MultiStepActorWrapper: its action depends on"):
        make(actor(0.0), critics([1.0]), [wrapped])


def test_proposal_of_several_keys_is_refused():
    with pytest.raises(ValueError, match=r"write its action alone.*FrozenPolicy\(policy, out_key"):
        make(actor(0.0), critics([1.0]), [stochastic_actor("bc_action").requires_grad_(False)])


def test_samples_of_a_stochastic_policy_differ_in_the_target():
    torch.manual_seed(0)
    samples = SampledProposals(FrozenPolicy(stochastic_actor(), out_key="bc_action"), 16)
    loss = make(actor(-1.0), critics([1.0]), [samples])
    _, info = loss.qvalue_loss(transitions(100))
    assert info["next_state_value"].mean() > 0.5 and (info["next_proposal"] == 1).all()
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert loss(transitions(100))["next_state_value"] > 0.5


# Sets


def test_best_candidate_of_a_set_is_bootstrapped_from():
    loss = make(actor(0.2), critics([1.0, 2.0]), [proposal_set([0.1, 0.7, 0.3]), proposal(0.5)])
    _, info = loss.qvalue_loss(transitions(4, reward=1.0))
    assert torch.allclose(info["next_state_value"], torch.tensor(0.7)) or torch.allclose(
        info["next_state_value"], torch.tensor(1.4)
    )
    assert info["next_proposal"].tolist() == [1] * 4


@pytest.mark.parametrize("bootstrap", ["greedy", "soft", "epsilon"])
def test_a_set_of_one_equals_ibrl_bit_for_bit(bootstrap):
    def trained(wrap):
        torch.manual_seed(0)
        actor_network, critic, frozen = networks()
        policy = SampledProposals(frozen, 1, noise_std=0.1) if wrap else frozen
        loss = make(
            actor_network, critic, [policy], num_min=2, bootstrap=bootstrap, policy_noise=0.1
        )
        optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], 1e-2)
        for seed in range(5):
            torch.manual_seed(seed)
            out = loss(transitions(32, state_size=6, action_size=2))
            optimizer.zero_grad()
            (out["loss_qvalue"] + out["loss_actor"]).backward()
            optimizer.step()
        return [p.clone() for p in loss.parameters()]

    pairs = zip(trained(False), trained(True), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_gate_in_the_target_keeps_the_imitation_value():
    # Critics a and 2 - a: the actor's 0.9 has the higher minimum, but not by both critics.
    critic = critics([1.0, -1.0], [0.0, 2.0])
    for gate, chosen, value in ((None, 0, 0.9), (AgreementGate(), 1, 0.5)):
        loss = make(actor(0.9), critic, [proposal(0.5)], num_min=2, gate=gate)
        _, info = loss.qvalue_loss(transitions())
        assert info["next_proposal"].tolist() == [chosen] * 4
        assert torch.allclose(info["next_state_value"], torch.tensor(value))


# Residual actors


def residual_loss(proposals, **settings):
    """Actor that edits ``bc_action``, initialised to change nothing."""
    network = StateActor(Normalize.identity(3), 1, hidden=[8], dropout=0.0)
    edit = TensorDictModule(
        ResidualActor(network, scale=0.5), ["state", "bc_action"], ["rl_action"]
    )
    return make(edit, critics([1.0]), proposals, **settings)


def test_residual_reads_the_proposal_and_starts_as_it():
    loss = residual_loss([proposal(0.3)])
    assert loss.in_keys.count("state") == 1 and "bc_action" not in loss.in_keys
    _, info = loss.qvalue_loss(transitions())
    assert torch.allclose(info["next_state_value"], torch.tensor(0.3))
    value, _ = loss.actor_loss(transitions())
    assert value.item() == pytest.approx(-0.3)


def test_residual_learns_to_edit():
    torch.manual_seed(0)
    loss = residual_loss([proposal(0.3)])
    optimizer = torch.optim.Adam(loss.terms()["loss_actor"].parameters, lr=1e-2)
    for _ in range(100):
        value, _ = loss.actor_loss(transitions(32))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() == pytest.approx(-0.8, abs=0.05)  # 0.3 + scale


def test_residual_edits_every_candidate_in_the_target_and_one_in_the_actor_loss():
    torch.manual_seed(0)
    loss = residual_loss([proposal_set([0.1, 0.6, -0.2], "bc_action")])
    _, info = loss.qvalue_loss(transitions())
    assert torch.allclose(info["next_state_value"], torch.tensor(0.6))
    _, info = loss.actor_loss(transitions(600))
    share = torch.stack([(info["actor_value"] - v).abs() < 1e-6 for v in (0.1, 0.6, -0.2)], -1)
    assert share.sum(-1).min() == 1
    assert share.float().mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.07)


def test_residual_edits_noisy_copies_in_the_actor_loss():
    """TorchRL runs losses under DETERMINISTIC, where there would be the action itself alone."""
    torch.manual_seed(0)
    loss = residual_loss([SampledProposals(proposal(0.3), 4, noise_std=0.1)])
    _, info = loss.actor_loss(transitions(4000))
    itself = (info["actor_value"] - 0.3).abs() < 1e-6
    assert itself.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert info["actor_value"].std().item() == pytest.approx(0.1 * 0.75**0.5, abs=0.01)


def test_residual_of_cached_actions_reads_them_of_both_states():
    loss = residual_loss([CachedProposal("bc_action")])
    assert {"bc_action", ("next", "bc_action")} <= {*loss.in_keys}
    batch = transitions()
    batch["bc_action"] = torch.full((4, 1), 0.2)
    batch["next", "bc_action"] = torch.full((4, 1), 0.4)
    assert loss.actor_loss(batch)[0].item() == pytest.approx(-0.2)
    assert torch.allclose(loss.qvalue_loss(batch)[1]["next_state_value"], torch.tensor(0.4))


def test_actor_and_edit_in_one_set_are_both_trained():
    network = StateActor(Normalize.identity(3), 1, hidden=[8], dropout=0.0)
    edit = TensorDictModule(ResidualActor(network), ["state", "bc_action"], ["edit_action"])
    both = TensorDictSequential(actor(0.1), edit)
    loss = make(
        both,
        critics([1.0]),
        [proposal_set([0.3, 0.5], "bc_action")],
        actor_keys=["rl_action", "edit_action"],
    )
    assert loss.action_keys == ["rl_action", "edit_action", "bc_action"]
    torch.manual_seed(0)
    value, _ = loss.actor_loss(transitions(2000))
    assert value.item() == pytest.approx(-0.1 - 0.4, abs=0.02)
    value.backward()
    grads = [p.grad for p in loss.terms()["loss_actor"].parameters]
    assert all(grad is not None for grad in grads) and sum(g.abs().sum() for g in grads) > 0
    _, info = loss.qvalue_loss(transitions())
    assert info["next_proposal"].tolist() == [1] * 4  # the first of equals: an edit
    policy = TensorDictSequential(
        *loss.proposals,
        tied_copy(both).eval(),
        IBRLSelector(loss.qvalue_network, loss.action_keys, num_min=1),
    )
    assert policy(transitions(3).select("state"))["action"].tolist() == [[0.5]] * 3


# Critics of TorchRL, keys


def test_critics_of_torchrl_train():
    torch.manual_seed(0)
    operator = ValueOperator(MLP(3, 1, num_cells=[16]), ["state", "action"])
    loss = make(actor(0.1), operator, [proposal(0.2)], num_qvalue_nets=3, num_min=2)
    batch = transitions(64, reward=1.0, terminated=True)
    optimizer = torch.optim.Adam(loss.terms()["loss_qvalue"].parameters, lr=1e-2)
    first = None
    for _ in range(200):
        value, info = loss.qvalue_loss(batch)
        first = value.item() if first is None else first
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert info["pred_value"].shape == (64, 3) and value.item() < 0.05 * first
    members = info["pred_value"].unbind(-1)
    assert not torch.equal(members[0], members[1])
    assert hybrid_policy(loss)(batch.select("state"))["action"].shape == (64, 1)


def test_layers_of_actor_and_critic_are_not_trained_by_both_losses():
    common = TensorDictModule(nn.Linear(2, 4), ["state"], ["hidden"])
    head = TensorDictModule(nn.Linear(4, 1), ["hidden"], ["action"])
    network = TensorDictSequential(common, head, selected_out_keys=["action"])
    value = TensorDictModule(MLP(5, 1, num_cells=[8]), ["hidden", "action"], ["state_action_value"])
    operator = TensorDictSequential(common, value)
    loss = make(network, operator)  # copies, as TorchRL makes them
    trained = [{*map(id, term.parameters)} for term in loss.terms().values()]
    assert not trained[0] & trained[1]
    loss(transitions())
    with pytest.raises(ValueError, match=r"share trainable parameters.*pass the shared layers as"):
        make(network, [operator, copy.deepcopy(operator)])


def test_critic_that_cannot_be_initialised_anew_is_refused():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, state, action):
            return self.weight * action

    operator = TensorDictModule(Bare(), ["state", "action"], ["state_action_value"])
    with pytest.raises(ValueError, match="all copies would be equal; pass a list of 2 critics"):
        make(actor(0.1), operator)


def test_critic_of_torchrl_with_the_actors_nested_action_key():
    key = ("agent", "action")
    rl = TensorDictModule(StateActor(Normalize.identity(2), 1, hidden=[4]), ["state"], [key])
    loss = make(rl, ValueOperator(MLP(3, 1, num_cells=[4]), ["state", key]))
    assert loss.tensor_keys.action == key
    batch = transitions()
    batch[key] = batch.pop("action")
    assert loss(batch)["loss_qvalue"].isfinite()


def test_reduction_none_is_torchrls_default():
    loss = make(actor(0.1), critics([1.0]), reduction=None)
    assert loss(transitions())["loss_qvalue"].shape == ()


def test_list_of_critics_of_torchrl():
    operators = [ValueOperator(MLP(3, 1, num_cells=[4]), ["state", "action"]) for _ in range(2)]
    loss = make(actor(0.1), operators, [proposal(0.2)])
    assert loss.qvalue_network.num_critics == 2
    with pytest.raises(ValueError, match="between 1 and the 2 critics, got 3"):
        make(actor(0.1), operators, num_min=3)


def test_nested_keys_of_observations_and_action():
    scale = Normalize.identity(4)
    state, goal, action = ("agent", "state"), ("agent", "goal"), ("agent", "action")
    keys = [state, goal]
    rl = TensorDictModule(StateActor(scale, 2, hidden=[8]), keys, [("agent", "rl")])
    bc = TensorDictModule(StateActor(scale, 2, hidden=[8]), keys, [("agent", "bc")])
    ensemble = StateCriticEnsemble(scale, 2, num_critics=3, hidden=[8])
    critic = CriticEnsemble(ensemble, [*keys, action], action_key=action)
    loss = make(rl, critic, [FrozenPolicy(bc)])

    def observation():
        return {"agent": {"state": torch.randn(5, 3), "goal": torch.randn(5, 1)}}

    flag = torch.zeros(5, 1, dtype=torch.bool)
    batch = TensorDict(
        {
            **observation(),
            "next": {**observation(), "reward": torch.ones(5, 1), "done": flag, "terminated": flag},
        },
        batch_size=[5],
    )
    batch["agent", "action"] = torch.rand(5, 2)
    assert loss.tensor_keys.action == action and ("next", "agent", "goal") in loss.in_keys
    assert all(batch.get(key, None) is not None for key in loss.in_keys)
    before = {*batch.keys(True, True)}
    out = loss(batch)
    assert out["loss_qvalue"].isfinite() and {*batch.keys(True, True)} - before == {"td_error"}
    acted = hybrid_policy(loss, actor_key=("agent", "rl"))(batch.select("agent"))
    assert acted["agent", "action"].shape == (5, 2)


# Estimators, devices


@pytest.mark.parametrize(
    ("kind", "lmbda"), [(ValueEstimators.TD1, 1.0), (ValueEstimators.TDLambda, 0.8)]
)
def test_other_estimators_bootstrap_from_the_chosen_values(kind, lmbda):
    settings = {} if kind is ValueEstimators.TD1 else {"lmbda": lmbda}
    loss = IBRLTD3Loss(actor(0.2), critics([1.0]), [proposal(0.6)], policy_noise=0.0, num_min=1)
    loss.make_value_estimator(kind, gamma=GAMMA, **settings)
    batch = transitions(3, reward=1.0)
    batch["next", "done"][-1] = True
    _, info = loss.qvalue_loss(batch[None])
    expected = [1 + GAMMA * 0.6]
    for _ in range(2):
        expected.insert(0, 1 + GAMMA * ((1 - lmbda) * 0.6 + lmbda * expected[0]))
    assert info["target_value"].flatten().tolist() == pytest.approx(expected)


def test_acting_copies_follow_a_change_of_dtype_after_construction():
    # S7: statistics of normalisation are part of actor, critics and their weight-sharing copies.
    actor_network, critic, frozen = networks()
    loss = make(actor_network, critic, [frozen], num_min=2)
    policy = TensorDictSequential(
        tied_copy(actor_network).eval(), frozen, IBRLSelector(tied_copy(critic).eval())
    )
    loss.double()
    td = TensorDict(state=torch.randn(5, 6, dtype=torch.float64), batch_size=[5])
    assert policy(td)["action"].dtype == torch.float64
    assert hybrid_policy(loss)(td)["action"].dtype == torch.float64
    batch = transitions(8, state_size=6, action_size=2)
    loss(batch.apply(lambda x: x.double() if x.is_floating_point() else x))


def test_copied_loss_bootstraps_by_its_own_critics():
    loss = make(actor(0.2), critics([1.0]), [proposal(0.6)])
    copied = copy.deepcopy(loss)
    copied.target_qvalue_network_params["module", "weight"].mul_(2.0)
    values = [each.qvalue_loss(transitions())[1]["next_state_value"][0] for each in (loss, copied)]
    assert [value.item() for value in values] == pytest.approx([0.6, 1.2])


def test_loss_with_sets_compiles():
    loss = residual_loss([proposal_set([0.1, 0.6], "bc_action")])
    torch.manual_seed(0)
    batch = transitions()
    expected = loss.qvalue_loss(batch.clone())[0]
    compiled = torch.compile(loss.qvalue_loss, backend="eager")(batch.clone())[0]
    assert torch.allclose(expected, compiled)
