"""IBRLTD3Loss with an encoder: gradients, reuse of features, cached proposals."""

import pytest
import torch
from benchmarks import plain_pixels
from benchmarks.plain_pixels import OriginalPixels, PlainPixels
from support.parts import actor, critics, transitions
from tensordict.nn import TensorDictModule

from ibrl_torchrl.modules import (
    CachedProposal,
    CameraEncoder,
    CriticEnsemble,
    DrQConvolutions,
    DrQCriticEnsemble,
    FeatureActor,
    FlattenHead,
    FrozenPolicy,
    LinearHead,
    PixelPolicy,
    ResNet96,
    SpatialCriticEnsemble,
    ViT,
)
from ibrl_torchrl.objectives import IBRLTD3Loss, hybrid_policy
from ibrl_torchrl.training.learner import Learner

CPU = torch.device("cpu")
IMAGE = "camera_image"
SHAPE = (3, 16, 16)


def camera(network, shift=4):
    return TensorDictModule(CameraEncoder([network], [SHAPE], shift=shift), [IMAGE], ["features"])


def vit():
    return ViT(16, patch=8, depth=1, heads=2, dim=8)  # 4 patches of 8


def drq():
    return DrQConvolutions(16)  # 1 patch of 32


def imitation_policy():
    encoder = CameraEncoder([ResNet96(16)], [SHAPE])
    policy = PixelPolicy(encoder, FeatureActor(FlattenHead(encoder.feature_shape), 2, hidden=[8]))
    return FrozenPolicy(TensorDictModule(policy, [IMAGE], ["bc_action"]))


def make_loss(network=vit, ensemble=SpatialCriticEnsemble, proposals=None, seed=0, **settings):
    """A loss of small networks; equal seeds give equal weights."""
    torch.manual_seed(seed)
    encoder = camera(network())
    shape = encoder.module.feature_shape
    policy = FeatureActor(LinearHead(shape, 8), 2, hidden=[8])
    critic = ensemble(shape, 2, embedding=8, hidden=[8], head_gain=1.0)
    bc = imitation_policy()
    loss = IBRLTD3Loss(
        TensorDictModule(policy, ["features"], ["rl_action"]),
        CriticEnsemble(critic, ["features", "action"]),
        [bc] if proposals is None else proposals,
        encoder=encoder,
        **settings,
    )
    return loss.make_value_estimator(gamma=0.9)


def make_batch(size=8, seed=1, **settings):
    torch.manual_seed(seed)
    batch = transitions(size, action_size=2, **settings).exclude("state", ("next", "state"))
    for key in (IMAGE, ("next", IMAGE)):
        batch[key] = torch.randint(256, (size, *SHAPE), dtype=torch.uint8)
    return batch


def eval_mode(loss):
    """Disable random shifts and dropout."""
    loss.encoder.eval()
    loss.actor_network.eval()
    return loss


def has_gradient(parameters):
    return [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in parameters]


BOTH = pytest.mark.parametrize(
    ("network", "ensemble"), [(vit, SpatialCriticEnsemble), (drq, DrQCriticEnsemble)]
)


# Gradients


@BOTH
def test_qvalue_loss_has_gradients_for_encoder_and_critics(network, ensemble):
    loss = make_loss(network, ensemble)
    loss.qvalue_loss(make_batch())[0].backward()
    weights = [p for p in loss.encoder.parameters() if p.ndim > 1]
    assert all(has_gradient(weights))
    assert any(has_gradient(loss.qvalue_network_params.parameters()))
    assert not any(has_gradient(loss.actor_network_params.parameters()))


@pytest.mark.parametrize("encoded", [True, False])
@BOTH
def test_actor_loss_has_gradients_for_the_actor_only(network, ensemble, encoded):
    loss, batch = make_loss(network, ensemble), make_batch()
    if encoded:
        loss.qvalue_loss(batch)
    assert ("features" in batch) == encoded
    loss.actor_loss(batch)[0].backward()
    assert any(has_gradient(loss.actor_network_params.parameters()))
    assert all(p.grad is None for p in loss.encoder.parameters())
    assert all(p.grad is None for p in loss.qvalue_network_params.parameters())


@BOTH
def test_td_target_has_no_gradient(network, ensemble):
    loss, batch = eval_mode(make_loss(network, ensemble)), make_batch(reward=0.5)
    value, info = loss.qvalue_loss(batch)
    value.backward()
    # The same loss with a constant target.
    features = loss.encoder.module(batch[IMAGE])
    with loss.qvalue_network_params.to_module(loss.qvalue_network, preserve_module_state=False):
        predicted = loss.qvalue_network.module(features, batch["action"])
    expected = (predicted - info["target_value"]).square().sum(-1).mean()
    parameters = [*loss.encoder.parameters()]
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = torch.autograd.grad(expected, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)
    assert not any(entry.requires_grad for entry in info.values())


def test_imitation_policy_has_no_gradient():
    loss = make_loss()
    loss(make_batch())["loss_qvalue"].backward()
    assert [*loss.proposals.parameters()]
    assert not any(p.requires_grad or p.grad is not None for p in loss.proposals.parameters())


def test_encoder_has_no_target_parameters():
    loss = make_loss()
    names = loss.state_dict()
    assert [name for name in names if name.startswith("encoder.")]
    targets = [name for name in names if name.startswith("target_")]
    assert targets and not any("encoder" in name for name in targets)
    shared = {parameter.data_ptr() for parameter in loss.encoder.parameters()}
    for name in ("target_actor_network_params", "target_qvalue_network_params"):
        assert not shared & {t.data_ptr() for t in getattr(loss, name).values(True, True)}


@pytest.mark.parametrize(("key", "metric"), [(IMAGE, "pred_value"), ("next", "target_value")])
def test_predictions_depend_on_s_and_targets_on_next_s(key, metric):
    loss, batch = eval_mode(make_loss()), make_batch()
    changed = batch["next"] if key == "next" else batch
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(loss.qvalue_loss(batch.clone())[1])
        changed[IMAGE] = 255 - changed[IMAGE]
    for name in ("pred_value", "target_value"):
        assert torch.equal(results[0][name], results[1][name]) == (name != metric)


# Features


def test_features_in_the_batch_are_detached():
    loss, batch = eval_mode(make_loss()), make_batch()
    loss.qvalue_loss(batch)
    assert not batch["features"].requires_grad
    assert torch.equal(batch["features"], loss.encoder.module(batch[IMAGE]))
    assert ("next", "features") not in batch.keys(True)


def test_actor_loss_reuses_features_in_the_batch():
    loss, batch = eval_mode(make_loss()), make_batch()
    loss.qvalue_loss(batch)
    before = loss.actor_loss(batch)[0]
    batch[IMAGE] = 255 - batch[IMAGE]  # not read again
    assert loss.actor_loss(batch)[0] == before
    batch["features"] = batch["features"] + 1
    assert loss.actor_loss(batch)[0] != before


def test_actor_loss_encodes_images_without_features_in_the_batch():
    loss, batch = eval_mode(make_loss()), make_batch()
    alone = loss.actor_loss(batch)[0]
    assert "features" not in batch
    loss.qvalue_loss(batch)
    assert loss.actor_loss(batch)[0].item() == pytest.approx(alone.item(), rel=1e-5)


def test_hybrid_policy_does_not_hand_features_to_the_replay():
    """Those of a changed encoder, which the actor loss would take for today's."""
    loss = make_loss()
    acted = hybrid_policy(loss)(make_batch().select(IMAGE))
    assert "features" not in acted and {"action", "rl_action", "proposal"} <= {*acted.keys()}


def test_features_in_the_batch_are_the_inputs_of_the_critics():
    loss, batch = make_loss(), make_batch()
    outputs = []
    loss.encoder.register_forward_hook(lambda module, args, out: outputs.append(out["features"]))
    loss.qvalue_loss(batch)
    assert torch.equal(batch["features"], outputs[1])
    assert not torch.equal(batch["features"], loss.encoder.eval().module(batch[IMAGE]))


def test_encoder_runs_once_each_for_s_and_next_s():
    loss, batch = make_loss(), make_batch()
    calls = []
    loss.encoder.module.networks[0].register_forward_hook(lambda *_: calls.append(1))
    loss.qvalue_loss(batch)
    assert len(calls) == 2  # s and s'
    loss.actor_loss(batch)
    assert len(calls) == 2
    loss(make_batch())
    assert len(calls) == 4


def test_batch_changes_only_by_features_and_priority():
    loss, batch = make_loss(), make_batch()
    before = batch.clone()
    loss(batch)
    added = set(batch.keys(True, True)) - set(before.keys(True, True))
    assert added == {"features", "td_error"}
    assert (batch.exclude(*added) == before).all()
    assert batch[IMAGE].dtype == batch["next", IMAGE].dtype == torch.uint8


def test_in_keys_name_images_and_not_features():
    step = {("next", key) for key in ("reward", "done", "terminated")}
    expected = {"action", IMAGE, ("next", IMAGE), *step}
    assert set(make_loss().in_keys) == expected
    assert len(make_loss().in_keys) == len(expected)
    with_cache = make_loss(proposals=[CachedProposal("bc_action")]).in_keys
    assert set(with_cache) == expected | {("next", "bc_action")}


@pytest.mark.parametrize("training", [True, False])
def test_s_and_next_s_are_augmented_independently(training):
    loss, batch = make_loss(), make_batch(20)
    batch["next", IMAGE] = batch[IMAGE].clone()
    loss.encoder.train(training)
    inputs = []
    loss.encoder.module.networks[0].register_forward_pre_hook(
        lambda _, args: inputs.append(args[0])
    )
    loss.qvalue_loss(batch)
    scaled = batch[IMAGE] / 255 - 0.5
    for other in (inputs[1], scaled):
        differ = (inputs[0] - other).abs().flatten(1).amax(1) > 1e-6
        assert differ.sum() > 15 if training else not differ.any()


# The learner


class Batches:
    """Replay buffer of random batches."""

    def __init__(self):
        self.num_samples, self.updated = 0, []

    def sample(self):
        self.num_samples += 1
        return make_batch(seed=self.num_samples - 1, reward=1.0)

    def update_tensordict_priority(self, batch):
        self.updated.append(batch)


def tensors(loss):
    """Copies of all tensors by network."""
    return {
        "encoder": [p.detach().clone() for p in loss.encoder.parameters()],
        "critics": [p.detach().clone() for p in loss.qvalue_network_params.parameters()],
        "actor": [p.detach().clone() for p in loss.actor_network_params.parameters()],
        "target_critics": [t.clone() for t in loss.target_qvalue_network_params.values(True, True)],
        "target_actor": [t.clone() for t in loss.target_actor_network_params.values(True, True)],
        "bc": [t.clone() for t in loss.proposals.state_dict().values()],
    }


def make_learner(loss, **settings):
    settings = {"lr": 1e-2, "tau": 0.25, "critic_updates": 1, **settings}
    return Learner(loss, loss.terms(), **settings)


def test_encoder_parameters_precede_the_critics_in_the_qvalue_term():
    loss = make_loss()
    terms = loss.terms()
    critics = [*loss.encoder.parameters(), *loss.qvalue_network_params.parameters()]
    assert [*map(id, terms["loss_qvalue"].parameters)] == [*map(id, critics)]
    actor = [*loss.actor_network_params.parameters()]
    assert [*map(id, terms["loss_actor"].parameters)] == [*map(id, actor)]


@BOTH
def test_round_updates_all_networks_but_the_imitation_policy(network, ensemble):
    loss = make_loss(network, ensemble)
    learner = make_learner(loss, critic_updates=2)
    before, replay = tensors(loss), Batches()
    torch.manual_seed(2)
    metrics = learner.round(replay, CPU)
    after = tensors(loss)
    for network_name in ("encoder", "critics", "actor", "target_critics", "target_actor"):
        for old, new in zip(before[network_name], after[network_name], strict=True):
            if old.numel() > 16:  # some biases have no effect
                assert not torch.equal(old, new), network_name
    assert all(map(torch.equal, before["bc"], after["bc"]))
    # The actor's target was updated once, from its initial online parameters.
    for target, old, new in zip(
        after["target_actor"], before["actor"], after["actor"], strict=True
    ):
        assert torch.allclose(target, old + 0.25 * (new - old), atol=1e-6)
    assert len(replay.updated) == 2 and all("td_error" in batch for batch in replay.updated)
    assert all(value.isfinite() for update in metrics for value in update.values())


def test_actor_update_changes_neither_encoder_nor_critics():
    loss = make_loss()
    learner = make_learner(loss)
    batch = make_batch()
    learner.update("loss_qvalue", batch)
    before = tensors(loss)
    learner.update("loss_actor", batch)
    after = tensors(loss)
    for name in ("encoder", "critics", "target_critics"):
        assert all(map(torch.equal, before[name], after[name]))


def test_critics_converge_to_a_constant_target():
    # Every transition is terminal with reward 1, so that all values converge to 1.
    loss = make_loss()
    loss.encoder.eval()
    learner = make_learner(loss)
    batch = make_batch(reward=1.0, terminated=True)
    first = learner.update("loss_qvalue", batch)["loss_qvalue"]
    for _ in range(60):
        last = learner.update("loss_qvalue", batch)["loss_qvalue"]
    assert last < 0.05 and last < first / 10


# Cached proposals


@pytest.mark.parametrize("settings", [{}, {"num_min": 1}, {"bootstrap": "soft"}], ids=str)
def test_cached_proposal_equals_the_frozen_policy(settings):
    with_policy = make_loss(**settings)
    with_cache = make_loss(proposals=[CachedProposal("bc_action")], **settings)
    batch = make_batch(32)
    policy = with_policy.proposals[0]
    with_actions = batch.clone()
    policy(with_actions), policy(with_actions["next"])
    results = []
    for loss, td in ((with_policy, batch), (with_cache, with_actions)):
        loss.train()  # all but the imitation policy
        torch.manual_seed(5)
        value, info = loss.qvalue_loss(td)
        actor_value, _ = loss.actor_loss(td)
        results.append([value, actor_value, td["td_error"], *info.values()])
    for expected, result in zip(*results, strict=True):
        assert torch.equal(expected, result)
    chosen = results[1][-1]
    assert chosen.unique().tolist() == [0, 1]  # each proposal is chosen in some rows


@pytest.mark.parametrize(("proposed", "target"), [(0.5, 0.45), (-0.5, 0.18)])
def test_target_reads_the_cached_proposal_of_next_s(proposed, target):
    # Q = a and pi = 0.2: y = 0.9 * max(0.2, proposal at s'), independent of the proposal at s.
    loss = IBRLTD3Loss(
        actor(0.2), critics([1.0]), [CachedProposal("bc_action")], num_min=1, policy_noise=0.0
    )
    batch = transitions(4)
    batch["bc_action"] = torch.full((4, 1), 0.8)
    batch["next", "bc_action"] = torch.full((4, 1), proposed)
    _, info = loss.make_value_estimator(gamma=0.9).qvalue_loss(batch)
    assert torch.allclose(info["target_value"], torch.tensor(target))
    assert (info["next_proposal"] == int(proposed > 0)).all()


def test_cached_proposal_has_no_state():
    loss = make_loss(proposals=[CachedProposal("bc_action")])
    assert not [*loss.proposals.parameters()]
    assert not any(name.startswith("proposals") for name in loss.state_dict())


def test_cached_proposal_needs_a_distinct_key_in_the_batch():
    with pytest.raises(ValueError, match="distinct keys"):
        make_loss(proposals=[CachedProposal("rl_action")])
    with pytest.raises(KeyError, match="bc_action"):
        make_loss(proposals=[CachedProposal("bc_action")]).qvalue_loss(make_batch())


# Saving


def test_state_dict_restores_losses_and_encoder():
    loss, other = eval_mode(make_loss(seed=0)), eval_mode(make_loss(seed=7))
    batch = make_batch()

    def values(module):
        torch.manual_seed(3)
        out = module(batch.clone())
        return [out["loss_qvalue"], out["loss_actor"], module.encoder.module(batch[IMAGE])]

    assert not any(map(torch.equal, values(loss), values(other)))
    other.load_state_dict(loss.state_dict())
    assert all(map(torch.equal, values(loss), values(other)))
    encoder = {f"encoder.{name}" for name in loss.encoder.state_dict()}
    assert encoder and encoder <= set(loss.state_dict())


def test_resumed_learner_equals_an_uninterrupted_one(tmp_path):
    results = []
    for resumed in (False, True):
        learner = make_learner(make_loss())
        replay = Batches()
        torch.manual_seed(2)
        learner.round(replay, CPU)
        if resumed:
            state_dict, rng_state = learner.state_dict(), torch.get_rng_state()
            learner = make_learner(make_loss(seed=9))
            learner.load_state_dict(state_dict, tmp_path)
            torch.set_rng_state(rng_state)
        learner.round(replay, CPU)
        results.append(tensors(learner.loss))
    for name in results[0]:
        assert all(map(torch.equal, results[0][name], results[1][name])), name


@pytest.mark.parametrize("kind", [PlainPixels, OriginalPixels])
def test_losses_equal_those_in_plain_pytorch(kind, monkeypatch):
    monkeypatch.setattr(plain_pixels, "IMAGE", IMAGE)
    bc = imitation_policy()
    loss = eval_mode(make_loss(proposals=[bc]))
    batch = make_batch()
    batch["next", "reward"].uniform_()
    batch["steps_to_next_obs"] = torch.randint(1, 4, (len(batch), 1))
    settings = {"imitation": bc} if kind is OriginalPixels else {}
    plain = kind(loss, **settings, proprio=False, gamma=0.9)
    with_action = batch.copy().set("next", bc(batch["next"].copy()))
    torch.manual_seed(3)
    value, _ = loss.qvalue_loss(batch)
    torch.manual_seed(3)
    assert value.item() == pytest.approx(plain.critic_update(with_action).item(), rel=1e-5)
    plain = kind(loss, proprio=False)
    plain._features = batch["features"]
    expected = plain.actor_update(with_action).item()
    assert loss.actor_loss(batch)[0].item() == pytest.approx(expected, rel=1e-5)
