"""Bootstrap proposal in TorchRL's losses: hand-computed targets with linear critics, and laws.

The actor's action is 0.5 with log-probability -0.3 and temperature 0.1, so its entropy term adds
0.03. Critic i values an action a at w_i a + b_i.
"""

import copy

import pytest
import torch
from support.parts import Constant, transitions
from support.torchrl_losses import (
    ALPHA,
    ENTROPY,
    GAMMA,
    LOG_PROB,
    MAKERS,
    critic,
    redq,
    sac,
    td3,
    tqc,
)
from tensordict.nn import TensorDictModule, TensorDictModuleBase
from torch import nn
from torchrl.modules import ProbabilisticActor, TanhNormal
from torchrl.objectives import CrossQLoss, DQNLoss, SACLoss, SoftUpdate, ValueEstimators

from ibrl_torchrl import (
    AgreementGate,
    CachedProposal,
    FrozenPolicy,
    SampledProposals,
    bootstrap_from,
    hybrid_policy,
)

BONUS = -ALPHA * LOG_PROB  # entropy term of the actor's action: 0.03
NAMES = [*MAKERS]


def proposal(value, key="bc_action"):
    return FrozenPolicy(TensorDictModule(Constant(value), ["state"], [key]))


def proposal_set(values, key="bc_set"):
    """Policy that proposes several constant candidates."""

    class Candidates(nn.Module):
        def forward(self, state):
            candidates = torch.tensor(values)[:, None]
            return candidates.expand(*state.shape[:-1], len(values), 1)

    return FrozenPolicy(TensorDictModule(Candidates(), ["state"], [key]))


def make(name, weights=(1.0, 2.0), **settings):
    """Loss by its name; quantile critics have the atoms w a + (0, 0.2, 0.4)."""
    weights = weights[:1] if name == "ddpg" else weights
    atoms = (0.0, 0.2, 0.4) if name == "tqc" else (0.0,)
    return MAKERS[name]([critic(weight, atoms) for weight in weights], **settings)


def next_value(loss, batch=None):
    """Bootstrapped value of the first row and the chosen proposals."""
    loss(transitions(4, action=0.5) if batch is None else batch)
    estimator = loss.value_estimator
    return estimator.next_value[0].tolist(), estimator.next_proposal.tolist()


def targets(loss, batch):
    """Target of each row, as the loss hands it to its estimator's result."""
    seen = []
    original = loss.value_estimator.estimator.value_estimate

    def recorded(*args, **kwargs):
        seen.append(original(*args, **kwargs))
        return seen[-1]

    loss.value_estimator.estimator.value_estimate = recorded
    loss(batch)
    return seen[-1]


# Targets by hand


def test_sac_takes_the_larger_of_proposal_and_soft_value():
    # Q = min(a, 2 a). Actor: 0.5 + 0.03. Proposal 0.52: below; 0.54: above.
    for value, chosen in ((0.52, 0), (0.54, 1)):
        expected = 0.5 + BONUS if chosen == 0 else value
        found, index = next_value(bootstrap_from(make("sac"), [proposal(value)], gamma=GAMMA))
        assert found == pytest.approx([expected]) and index == [chosen] * 4


def test_sac_chosen_by_value_bootstraps_with_entropy():
    # By Q, 0.52 beats 0.5, although the soft value 0.53 is larger.
    loss = bootstrap_from(make("sac"), [proposal(0.52)], gamma=GAMMA, choose_by="value")
    assert next_value(loss) == (pytest.approx([0.52]), [1] * 4)
    # By Q, the actor's 0.5 beats 0.49, and its entropy term enters the target.
    loss = bootstrap_from(make("sac"), [proposal(0.49)], gamma=GAMMA, choose_by="value")
    assert next_value(loss) == (pytest.approx([0.5 + BONUS]), [0] * 4)


def test_negative_actions_reverse_the_minimum():
    # Proposal -0.2: min(-0.2, -0.4) = -0.4, below the actor's.
    found, index = next_value(bootstrap_from(make("sac"), [proposal(-0.2)], gamma=GAMMA))
    assert found == pytest.approx([0.5 + BONUS]) and index == [0] * 4


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_targets_of_all_losses_with_gamma_to_the_k(name, steps):
    # Proposal 0.9: Q = 0.9 (REDQ with two critics draws one of them: 0.9 or 1.8).
    loss = bootstrap_from(make(name), [proposal(0.9)], gamma=GAMMA)
    batch = transitions(4, reward=1.0, action=0.5)
    batch["steps_to_next_obs"] = torch.full((4, 1), steps)
    torch.manual_seed(0)
    target = targets(loss, batch)
    values = {"tqc": [0.9, 1.1, 1.3, 1.8]}.get(name, [0.9])
    if name == "redq":
        torch.manual_seed(0)
        values = [[0.9, 1.8][torch.randperm(2)[0]]]
    expected = [1 + GAMMA**steps * value for value in values]
    assert target[0].tolist() == pytest.approx(expected)


def test_tqc_pools_atoms_and_keeps_the_lowest():
    # Critics a + (0, .2, .4) and 2 a + (0, .2, .4); two of six atoms are dropped.
    # a = 0.4: .4 .6 .8 | .8 1.0 1.2 -> .4 .6 .8 .8, mean .65; the actor's 0.5:
    # .5 .7 .9 | 1.0 1.2 1.4 -> .5 .7 .9 1.0 + .03 each, mean .805.
    loss = bootstrap_from(make("tqc"), [proposal(0.4)], gamma=GAMMA)
    found, index = next_value(loss)
    assert found == pytest.approx([value + BONUS for value in (0.5, 0.7, 0.9, 1.0)])
    assert index == [0] * 4
    # a = 0.6: .6 .8 1.0 | 1.2 1.4 1.6 -> .6 .8 1.0 1.2, mean .9.
    found, index = next_value(bootstrap_from(make("tqc"), [proposal(0.6)], gamma=GAMMA))
    assert found == pytest.approx([0.6, 0.8, 1.0, 1.2]) and index == [1] * 4


def test_tqc_chosen_by_value_keeps_as_many_atoms():
    loss = bootstrap_from(make("tqc"), [proposal(0.6)], gamma=GAMMA, choose_by="value")
    assert next_value(loss)[0] == pytest.approx([0.6, 0.8, 1.0, 1.2])


def test_redq_values_proposals_by_the_subset_that_it_drew():
    # Critics a, 3 - 4 a, 2 a: each pair has another minimum at a = 0.9 and a = 0.5.
    weights, biases = [1.0, -4.0, 2.0], [0.0, 3.0, 0.0]
    critics = [critic(w, (b,)) for w, b in zip(weights, biases, strict=True)]
    loss = bootstrap_from(redq(critics), [proposal(0.9)], gamma=GAMMA)
    pairs, batch = set(), transitions(4, action=0.5)
    for seed in range(12):
        torch.manual_seed(seed)
        subset = torch.randperm(3)[:2].sort()[0].tolist()
        torch.manual_seed(seed)
        found, index = next_value(loss, batch)
        values = [min(weights[i] * a + biases[i] for i in subset) for a in (0.5, 0.9)]
        values[0] += BONUS
        assert found == pytest.approx([max(values)]), subset
        assert index == [values.index(max(values))] * 4
        pairs.add(tuple(subset))
    assert pairs == {(0, 1), (0, 2), (1, 2)}


def test_td3_and_ddpg_have_no_entropy_term():
    for name in ("td3", "ddpg"):
        found, index = next_value(bootstrap_from(make(name), [proposal(0.49)], gamma=GAMMA))
        assert found == pytest.approx([0.5]) and index == [0] * 4


def test_the_best_of_several_proposals_and_sets_is_chosen():
    policies = [proposal(0.6), proposal_set([0.1, 0.8, 0.7]), proposal(0.75, "other_action")]
    for name in NAMES:
        torch.manual_seed(0)
        loss = bootstrap_from(make(name, (1.0, 1.0)), policies, gamma=GAMMA)
        found, index = next_value(loss)
        assert found[0] == pytest.approx(0.8) and index == [2] * 4


def test_terminated_transitions_do_not_bootstrap():
    for name in NAMES:
        loss = bootstrap_from(make(name), [proposal(0.9)], gamma=GAMMA)
        target = targets(loss, transitions(4, reward=1.0, terminated=True, action=0.5))
        assert torch.allclose(target, torch.ones(()))


@pytest.mark.parametrize("mode", ["soft", "epsilon"])
def test_choice_in_the_target_is_random_by_mode(mode):
    torch.manual_seed(0)
    size = 20_000
    loss = bootstrap_from(
        make("td3", (1.0, 1.0)), [proposal(0.4)], gamma=GAMMA, mode=mode, beta=10.0, epsilon=0.5
    )
    loss(transitions(size))
    share = loss.value_estimator.next_proposal.float().mean().item()
    # soft: softmax(10 * (0.5, 0.4)); epsilon: half of the random half.
    expected = torch.softmax(torch.tensor([5.0, 4.0]), 0)[1].item() if mode == "soft" else 0.25
    assert share == pytest.approx(expected, abs=0.02)


def test_gate_keeps_the_imitation_action_where_critics_disagree():
    # Critic 0 prefers the actor's 0.5, critic 1 the proposal's 0.4; the minimum prefers 0.5.
    critics = [critic(1.0), critic(-1.0, (2.0,))]
    loss = bootstrap_from(td3(critics), [proposal(0.4)], gamma=GAMMA, choose_by="value")
    assert next_value(loss)[1] == [0] * 4
    loss = bootstrap_from(
        td3(critics), [proposal(0.4)], gamma=GAMMA, choose_by="value", gate=AgreementGate(1.0)
    )
    assert next_value(loss) == (pytest.approx([0.4]), [1] * 4)


# Laws


@pytest.mark.parametrize("choose_by", ["soft_value", "value"])
@pytest.mark.parametrize("name", NAMES)
def test_batch_changes_only_by_what_the_loss_writes_itself(name, choose_by):
    plain, batch = make(name), transitions(4, action=0.5)
    plain.make_value_estimator(gamma=GAMMA)
    expected = batch.clone()
    plain(expected)
    loss = bootstrap_from(make(name), [proposal(0.9)], gamma=GAMMA, choose_by=choose_by)
    before = batch.clone()
    loss(batch)
    assert set(batch.keys(True, True)) == set(expected.keys(True, True))
    kept = [*before.keys(True, True)]
    assert (batch.select(*kept) == before.select(*kept)).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_proposals_numbers_are_those_of_the_loss(name):
    batch = transitions(4, reward=1.0, action=0.5)
    plain, loss = make(name), bootstrap_from(make(name), [], gamma=GAMMA)
    plain.make_value_estimator(gamma=GAMMA)
    torch.manual_seed(1)
    expected = plain(batch.clone())
    torch.manual_seed(1)
    found = loss(batch.clone())
    for key in [*expected.keys()]:
        assert torch.allclose(found[key], expected[key]), key


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_loss_and_never_of_proposals(name):
    loss = bootstrap_from(make(name), [proposal(0.9)], gamma=GAMMA)
    out = loss(transitions(4, action=0.5))
    sum(value for key, value in out.items() if key.startswith("loss_")).backward()
    frozen = [*loss.value_estimator.proposals.parameters()]
    assert frozen and not any(p.requires_grad or p.grad is not None for p in frozen)
    network = "value_network" if name == "ddpg" else "qvalue_network"
    grads = [p.grad for p in getattr(loss, f"{network}_params").parameters()]
    assert all(grad is not None for grad in grads)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_deepcopy_and_dtype(name):
    loss = bootstrap_from(make(name), [proposal(0.9)], gamma=GAMMA)
    batch = transitions(4, action=0.5)
    torch.manual_seed(0)
    expected = next_value(loss, batch.clone())
    assert any("proposals.0" in key for key in loss.state_dict())
    other = bootstrap_from(make(name), [proposal(-0.9)], gamma=GAMMA)
    other(batch.clone())  # TorchRL's REDQ registers its target entropy at its first use
    other.load_state_dict(loss.state_dict())
    torch.manual_seed(0)
    assert next_value(other, batch.clone()) == expected
    copied = copy.deepcopy(loss)
    copied.value_estimator.proposals[0].policy.module.value.fill_(-0.9)
    assert copied.value_estimator.adapter.loss is copied
    torch.manual_seed(0)
    assert next_value(loss, batch.clone()) == expected
    torch.manual_seed(0)
    assert next_value(copied, batch.clone())[1] == [0] * 4
    if name != "ddpg":  # TorchRL's keeps a meta copy of the networks, which does not convert
        double = batch.apply(lambda x: x.double() if x.is_floating_point() else x)
        loss.double()(double)
        assert loss.value_estimator.next_value.dtype == torch.float64


@pytest.mark.parametrize("name", ["sac", "tqc", "td3"])
def test_loss_compiles(name):
    loss = bootstrap_from(make(name), [proposal(0.9)], gamma=GAMMA)
    batch = transitions(4, action=0.5)
    expected = loss(batch.clone())
    found = torch.compile(loss, backend="eager")(batch.clone())
    for key in [*expected.keys()]:
        assert torch.allclose(found[key], expected[key]), key


@pytest.mark.parametrize("kind", [ValueEstimators.TD1, ValueEstimators.TDLambda])
def test_other_estimators_bootstrap_from_the_chosen_value(kind):
    # One trajectory of three steps without rewards, every chosen value 0.9; TD(1) is lambda = 1.
    loss = bootstrap_from(make("sac"), [proposal(0.9)], value_type=kind, gamma=GAMMA)
    batch = transitions(3, action=0.5)
    batch["next", "done"][-1] = True
    batch["next", "truncated"][-1] = True
    target = targets(loss, batch[None])
    lmbda = 1.0 if kind is ValueEstimators.TD1 else 0.95
    expected = [GAMMA * 0.9]
    for _ in range(2):
        expected.insert(0, GAMMA * ((1 - lmbda) * 0.9 + lmbda * expected[0]))
    assert target.flatten().tolist() == pytest.approx(expected)


def test_keys_of_the_loss_reach_the_estimator():
    loss = bootstrap_from(make("sac"), [proposal(0.9)], gamma=GAMMA)
    loss.set_keys(reward="r")
    batch = transitions(4, reward=1.0, action=0.5)
    batch.rename_key_(("next", "reward"), ("next", "r"))
    assert torch.allclose(targets(loss, batch), torch.tensor(1 + GAMMA * 0.9))


@pytest.mark.parametrize("name", NAMES)
def test_in_keys_name_what_proposals_read(name):
    bc = FrozenPolicy(TensorDictModule(Constant(0.9), ["goal"], ["bc_action"]))
    loss = bootstrap_from(make(name), [bc], gamma=GAMMA)
    assert ("next", "goal") in loss.in_keys
    loss.set_keys(reward="r")
    assert {("next", "goal"), ("next", "r")} <= {*loss.in_keys}


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_another_estimator_keeps_the_proposals(name, copied):
    # TorchRL's scripts make the value estimator after the loss.
    loss = bootstrap_from(make(name), [proposal(0.9)])
    loss.set_keys(reward="r")
    loss = copy.deepcopy(loss) if copied else loss
    loss.make_value_estimator(gamma=0.5)
    batch = transitions(4, reward=1.0, action=0.5)
    batch.rename_key_(("next", "reward"), ("next", "r"))
    torch.manual_seed(0)
    target = targets(loss, batch)
    values = {"tqc": 0.9, "redq": loss.value_estimator.next_value[0, 0].item()}.get(name, 0.9)
    assert target[0, 0].item() == pytest.approx(1 + 0.5 * values)
    assert (loss.value_estimator.next_proposal == 1).all()


def test_a_second_call_replaces_the_proposals():
    loss = bootstrap_from(make("sac"), [proposal(0.9)], gamma=GAMMA)
    bootstrap_from(loss, [proposal(0.7)])
    assert next_value(loss)[0] == pytest.approx([0.7])
    bootstrap_from(loss, [CachedProposal("bc_action")])
    assert ("next", "bc_action") in loss.in_keys
    bootstrap_from(loss, [proposal(0.7)])
    assert ("next", "bc_action") not in loss.in_keys
    assert loss.value_estimator.estimator.gamma.item() == pytest.approx(GAMMA)


def test_stochastic_proposals_are_sampled_in_the_target():
    # TorchRL runs losses under DETERMINISTIC, in which all samples would be one mode.
    class Parameters(nn.Module):
        def forward(self, state):
            return torch.zeros(*state.shape[:-1], 1), torch.ones(*state.shape[:-1], 1)

    network = TensorDictModule(Parameters(), ["state"], ["loc", "scale"])
    stochastic = ProbabilisticActor(network, ["loc", "scale"], distribution_class=TanhNormal)
    policy = SampledProposals(FrozenPolicy(stochastic, out_key="bc_action"), 16)
    loss = bootstrap_from(make("td3", (1.0, 1.0)), [policy], gamma=GAMMA)
    torch.manual_seed(0)
    loss(transitions(200))
    values = loss.value_estimator.next_value
    assert values.unique().numel() > 100 and values.mean() > 0.8  # maximum of 16 samples


def test_crossq_proposals_leave_batch_statistics_unchanged():
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))

        def forward(self, state, action):
            flat = torch.cat([state[..., :1], action], -1)
            return self.network(flat.reshape(-1, 2)).reshape(*flat.shape[:-1], 1)

    def statistics(proposals):
        torch.manual_seed(0)
        nets = [
            TensorDictModule(Critic(), ["state", "action"], ["state_action_value"])
            for _ in range(2)
        ]
        loss = bootstrap_from(MAKERS["crossq"](nets), proposals, gamma=GAMMA)
        torch.manual_seed(1)
        loss(transitions(16))
        return {key: value for key, value in loss.state_dict().items() if "running" in key}

    with_proposal, without = statistics([proposal(0.9)]), statistics([])
    assert with_proposal.keys() == without.keys() and without
    assert all(torch.equal(with_proposal[key], without[key]) for key in without)


# Acting side


@pytest.mark.parametrize("name", NAMES)
def test_hybrid_policy_acts_by_the_critics_that_are_trained(name):
    loss = bootstrap_from(make(name, (1.0, 1.0)), [proposal(0.9)], gamma=GAMMA)
    policy = hybrid_policy(loss)
    states = transitions(3).select("state")
    out = policy(states.clone())
    assert out["proposal"].tolist() == [1] * 3 and torch.allclose(out["action"], torch.tensor(0.9))
    network = "value_network" if name == "ddpg" else "qvalue_network"
    for key, value in getattr(loss, f"{network}_params").items(True, True):
        if "weight" in key:
            value.data.neg_()
    assert policy(states.clone())["proposal"].tolist() == [0] * 3


def test_hybrid_policy_of_tqc_chooses_by_the_kept_atoms():
    # Critic 1's highest atom of the proposal would win in a plain mean.
    critics = [critic(1.0, (0.0, 0.0, 0.0)), critic(1.0, (0.0, 0.0, 0.0))]
    loss = bootstrap_from(tqc(critics), [proposal(0.3)], gamma=GAMMA)
    out = hybrid_policy(loss)(transitions(2).select("state"))
    assert out["proposal_values"][0].tolist() == pytest.approx([0.5, 0.3])


def test_targets_follow_by_torchrls_updater():
    loss = bootstrap_from(make("sac"), [proposal(0.9)], gamma=GAMMA)
    updater = SoftUpdate(loss, tau=0.5)
    loss.qvalue_network_params["module", "weight"].data.zero_()
    updater.step()
    assert next_value(loss)[0] == pytest.approx([0.45])  # min(0.5 a, 1.0 a)


# Bad input


def test_unsupported_loss_is_refused_by_name():
    network = TensorDictModule(nn.Linear(2, 3), ["state"], ["action_value"])
    with pytest.raises(TypeError, match=r"DQNLoss is not supported; supported are CrossQLoss, DD"):
        bootstrap_from(DQNLoss(network, action_space="one-hot"), [proposal(0.9)])


def test_sac_with_a_value_network_is_refused():
    from support.torchrl_losses import SPEC, stochastic_actor

    value = TensorDictModule(nn.Linear(2, 1), ["state"], ["state_value"])
    loss = SACLoss(stochastic_actor(), critic(1.0), value, action_spec=SPEC)
    with pytest.raises(ValueError, match="construct it without value_network"):
        bootstrap_from(loss, [proposal(0.9)])


def test_actor_without_log_probabilities_is_refused():
    from support.torchrl_losses import SPEC, deterministic_actor

    critics = [critic(1.0), critic(2.0)]
    loss = CrossQLoss(deterministic_actor(), critics, num_qvalue_nets=2, action_spec=SPEC)
    with pytest.raises(TypeError, match="CrossQLoss needs log-probabilities, which TensorDictMod"):
        bootstrap_from(loss, [proposal(0.9)])


def test_proposal_that_is_not_written_is_named():
    class Silent(TensorDictModuleBase):
        in_keys = ["state"]
        out_keys = ["bc_action"]

        def forward(self, tensordict):
            return tensordict

    loss = bootstrap_from(make("sac"), [Silent()], gamma=GAMMA)
    with pytest.raises(ValueError, match="'bc_action' is not in the TensorDict, which has"):
        loss(transitions(4))


@pytest.mark.parametrize(
    ("policies", "error", "message"),
    [
        ([nn.Linear(2, 1)], TypeError, "must be a TensorDict module, got Linear; wrap"),
        ([proposal(0.1), proposal(0.2)], ValueError, "distinct keys"),
        (
            [TensorDictModule(Constant(0.1), ["state"], ["bc_action"])],
            ValueError,
            "'bc_action' has trainable parameters, which this loss does not train; wrap",
        ),
    ],
)
def test_wrong_proposals_are_refused(policies, error, message):
    with pytest.raises(error, match=message):
        bootstrap_from(make("sac"), policies, gamma=GAMMA)


def test_proposals_out_of_bounds_and_of_other_shapes_are_named():
    loss = bootstrap_from(make("sac"), [proposal(1.5)], gamma=GAMMA)
    with pytest.raises(
        ValueError, match=r"'bc_action' has an action of .* in dimension 0, outside"
    ):
        loss(transitions(4))
    wide = FrozenPolicy(TensorDictModule(nn.Linear(2, 3), ["state"], ["bc_action"]))
    loss = bootstrap_from(make("td3"), [wide, proposal(0.1, "other")], gamma=GAMMA)
    with pytest.raises(ValueError, match=r"actions of one size, got \{'bc_action': \[4, 1, 3\]"):
        loss(transitions(4))


def test_gate_without_values_of_the_actor_is_refused():
    with pytest.raises(ValueError, match="needs choose_by='value'"):
        bootstrap_from(make("sac"), [proposal(0.9)], gate=AgreementGate())


def test_all_losses_are_covered():
    assert {*NAMES} == {"sac", "tqc", "redq", "crossq", "td3", "ddpg"}
    assert {*NAMES} >= ENTROPY and callable(sac)
