"""The loss from pixels: who trains the encoder, what is encoded when, recorded proposals."""

import pytest
import torch
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
from ibrl_torchrl.objectives import IBRLTD3Loss
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


def imitation():
    encoder = CameraEncoder([ResNet96(16)], [SHAPE])
    policy = PixelPolicy(encoder, FeatureActor(FlattenHead(encoder.feature_shape), 2, hidden=[8]))
    return FrozenPolicy(TensorDictModule(policy, [IMAGE], ["bc_action"]))


def make_loss(network=vit, ensemble=SpatialCriticEnsemble, proposals=None, seed=0, **settings):
    """A loss of small real parts; the same for the same seed."""
    torch.manual_seed(seed)
    encoder = camera(network())
    shape = encoder.module.feature_shape
    policy = FeatureActor(LinearHead(shape, 8), 2, hidden=[8])
    critic = ensemble(shape, 2, embedding=8, hidden=[8], head_gain=1.0)
    bc = imitation()
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


def still(loss):
    """Without random shifts and dropout."""
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
def test_the_critic_loss_trains_encoder_and_critics(network, ensemble):
    loss = make_loss(network, ensemble)
    loss.qvalue_loss(make_batch())[0].backward()
    weights = [p for p in loss.encoder.parameters() if p.ndim > 1]
    assert all(has_gradient(weights))
    assert any(has_gradient(loss.qvalue_network_params.parameters()))
    assert not any(has_gradient(loss.actor_network_params.parameters()))


@pytest.mark.parametrize("encoded", [True, False])
@BOTH
def test_the_actor_loss_trains_the_actor_alone(network, ensemble, encoded):
    loss, batch = make_loss(network, ensemble), make_batch()
    if encoded:
        loss.qvalue_loss(batch)
    assert ("features" in batch) == encoded
    loss.actor_loss(batch)[0].backward()
    assert any(has_gradient(loss.actor_network_params.parameters()))
    assert all(p.grad is None for p in loss.encoder.parameters())
    assert all(p.grad is None for p in loss.qvalue_network_params.parameters())


@BOTH
def test_the_td_target_passes_no_gradient_to_the_encoder(network, ensemble):
    loss, batch = still(make_loss(network, ensemble)), make_batch(reward=0.5)
    value, info = loss.qvalue_loss(batch)
    value.backward()
    # The same with the target as a number.
    features = loss.encoder.module(batch[IMAGE])
    with loss.qvalue_network_params.to_module(loss.qvalue_network, preserve_module_state=False):
        predicted = loss.qvalue_network.module(features, batch["action"])
    by_hand = (predicted - info["target_value"]).square().sum(-1).mean()
    parameters = [*loss.encoder.parameters()]
    assert value.item() == pytest.approx(by_hand.item(), rel=1e-5)
    for own, expected in zip(parameters, torch.autograd.grad(by_hand, parameters), strict=True):
        assert torch.allclose(own.grad, expected, atol=1e-5)
    assert not any(entry.requires_grad for entry in info.values())


def test_the_imitation_policy_gets_no_gradient():
    loss = make_loss()
    loss(make_batch())["loss_qvalue"].backward()
    assert [*loss.proposals.parameters()]
    assert not any(p.requires_grad or p.grad is not None for p in loss.proposals.parameters())


def test_the_encoder_has_no_target():
    loss = make_loss()
    names = loss.state_dict()
    assert [name for name in names if name.startswith("encoder.")]
    targets = [name for name in names if name.startswith("target_")]
    assert targets and not any("encoder" in name for name in targets)
    shared = {parameter.data_ptr() for parameter in loss.encoder.parameters()}
    for name in ("target_actor_network_params", "target_qvalue_network_params"):
        assert not shared & {t.data_ptr() for t in getattr(loss, name).values(True, True)}


@pytest.mark.parametrize(("key", "reacts"), [(IMAGE, "pred_value"), ("next", "target_value")])
def test_values_are_of_s_and_targets_of_s_prime(key, reacts):
    loss, batch = still(make_loss()), make_batch()
    place = batch["next"] if key == "next" else batch
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(loss.qvalue_loss(batch.clone())[1])
        place[IMAGE] = 255 - place[IMAGE]
    for name in ("pred_value", "target_value"):
        assert torch.equal(results[0][name], results[1][name]) == (name != reacts)


# Features


def test_features_left_in_the_batch_are_detached():
    loss, batch = still(make_loss()), make_batch()
    loss.qvalue_loss(batch)
    assert not batch["features"].requires_grad
    assert torch.equal(batch["features"], loss.encoder.module(batch[IMAGE]))
    assert ("next", "features") not in batch.keys(True)


def test_the_actor_loss_uses_the_features_in_the_batch():
    loss, batch = still(make_loss()), make_batch()
    loss.qvalue_loss(batch)
    before = loss.actor_loss(batch)[0]
    batch[IMAGE] = 255 - batch[IMAGE]  # no longer looked at
    assert loss.actor_loss(batch)[0] == before
    batch["features"] = batch["features"] + 1
    assert loss.actor_loss(batch)[0] != before


def test_without_features_the_actor_loss_encodes_itself():
    loss, batch = still(make_loss()), make_batch()
    alone = loss.actor_loss(batch)[0]
    assert "features" not in batch
    loss.qvalue_loss(batch)
    assert loss.actor_loss(batch)[0].item() == pytest.approx(alone.item(), rel=1e-5)


def test_features_are_those_of_the_shifted_images_that_the_critics_saw():
    loss, batch = make_loss(), make_batch()
    outputs = []
    loss.encoder.register_forward_hook(lambda module, args, out: outputs.append(out["features"]))
    loss.qvalue_loss(batch)
    assert torch.equal(batch["features"], outputs[1])
    assert not torch.equal(batch["features"], loss.encoder.eval().module(batch[IMAGE]))


def test_images_are_encoded_twice_an_update_and_not_again_for_the_actor():
    loss, batch = make_loss(), make_batch()
    calls = []
    loss.encoder.module.networks[0].register_forward_hook(lambda *_: calls.append(1))
    loss.qvalue_loss(batch)
    assert len(calls) == 2  # s and s'
    loss.actor_loss(batch)
    assert len(calls) == 2
    loss(make_batch())
    assert len(calls) == 4


def test_images_stay_untouched_and_uint8():
    loss, batch = make_loss(), make_batch()
    before = batch.clone()
    loss(batch)
    added = set(batch.keys(True, True)) - set(before.keys(True, True))
    assert added == {"features", "td_error"}
    assert (batch.exclude(*added) == before).all()
    assert batch[IMAGE].dtype == batch["next", IMAGE].dtype == torch.uint8


def test_a_batch_is_asked_for_images_and_not_for_features():
    step = {("next", key) for key in ("reward", "done", "terminated")}
    expected = {"action", IMAGE, ("next", IMAGE), *step}
    assert set(make_loss().in_keys) == expected
    assert len(make_loss().in_keys) == len(expected)
    recorded = make_loss(proposals=[CachedProposal("bc_action")]).in_keys
    assert set(recorded) == expected | {("next", "bc_action")}


@pytest.mark.parametrize("training", [True, False])
def test_s_and_s_prime_are_shifted_by_draws_of_their_own(training):
    loss, batch = make_loss(), make_batch(20)
    batch["next", IMAGE] = batch[IMAGE].clone()
    loss.encoder.train(training)
    seen = []
    loss.encoder.module.networks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    loss.qvalue_loss(batch)
    scaled = batch[IMAGE] / 255 - 0.5
    for other in (seen[1], scaled):
        differ = (seen[0] - other).abs().flatten(1).amax(1) > 1e-6
        assert differ.sum() > 15 if training else not differ.any()


# The learner


class Batches:
    """A replay buffer of fresh batches."""

    def __init__(self):
        self.given, self.returned = [], []

    def sample(self):
        self.given.append(make_batch(seed=len(self.given), reward=1.0))
        return self.given[-1].clone()

    def update_tensordict_priority(self, batch):
        self.returned.append(batch)


def tensors(loss):
    """A copy of everything, by owner."""
    return {
        "encoder": [p.detach().clone() for p in loss.encoder.parameters()],
        "critics": [p.detach().clone() for p in loss.qvalue_network_params.parameters()],
        "actor": [p.detach().clone() for p in loss.actor_network_params.parameters()],
        "target_critics": [t.clone() for t in loss.target_qvalue_network_params.values(True, True)],
        "target_actor": [t.clone() for t in loss.target_actor_network_params.values(True, True)],
        "bc": [t.clone() for t in loss.proposals.state_dict().values()],
    }


def test_the_critic_optimiser_owns_the_encoder():
    loss = make_loss()
    learner = Learner(loss, lr=1e-3, tau=0.1, critic_updates=1)
    of_critics, of_actor = (
        [id(p) for group in optimizer.param_groups for p in group["params"]]
        for optimizer in (learner.critic_optimizer, learner.actor_optimizer)
    )
    encoder = {id(p) for p in loss.encoder.parameters()}
    assert set(of_critics) == encoder | {id(p) for p in loss.qvalue_network_params.parameters()}
    assert set(of_actor) == {id(p) for p in loss.actor_network_params.parameters()}
    assert encoder and not encoder & set(of_actor)
    assert len(of_critics) == len(set(of_critics))


@BOTH
def test_a_round_from_pixels_moves_all_but_the_imitation_policy(network, ensemble):
    loss = make_loss(network, ensemble)
    learner = Learner(loss, lr=1e-2, tau=0.25, critic_updates=2)
    before, replay = tensors(loss), Batches()
    torch.manual_seed(2)
    reports = learner.round(replay, CPU)
    after = tensors(loss)
    for owner in ("encoder", "critics", "actor", "target_critics", "target_actor"):
        for old, new in zip(before[owner], after[owner], strict=True):
            if old.numel() > 16:  # some biases have no say
                assert not torch.equal(old, new), owner
    assert all(map(torch.equal, before["bc"], after["bc"]))
    # The actor's target moved once, from the online parameters it started as.
    for target, old, new in zip(
        after["target_actor"], before["actor"], after["actor"], strict=True
    ):
        assert torch.allclose(target, old + 0.25 * (new - old), atol=1e-6)
    assert len(replay.returned) == 2 and all("td_error" in batch for batch in replay.returned)
    assert all(value.isfinite() for report in reports for value in report.values())


def test_the_actor_update_leaves_the_encoder_alone():
    loss = make_loss()
    learner = Learner(loss, lr=1e-2, tau=0.25, critic_updates=1)
    batch = make_batch()
    learner.update_critics(batch)
    before = tensors(loss)
    learner.update_actor(batch)
    after = tensors(loss)
    for owner in ("encoder", "critics", "target_critics"):
        assert all(map(torch.equal, before[owner], after[owner]))


def test_rounds_fit_the_critics_to_what_they_are_told():
    # Every transition ends with reward 1: after some updates all critics say about 1.
    loss = make_loss()
    loss.encoder.eval()
    learner = Learner(loss, lr=1e-2, tau=0.25, critic_updates=1)
    batch = make_batch(reward=1.0, terminated=True)
    first = learner.update_critics(batch)["loss_qvalue"]
    for _ in range(60):
        last = learner.update_critics(batch)["loss_qvalue"]
    assert last < 0.05 and last < first / 10


# Recorded proposals


@pytest.mark.parametrize("settings", [{}, {"num_min": 1}, {"bootstrap": "soft"}], ids=str)
def test_a_recorded_proposal_is_the_policys_own(settings):
    own = make_loss(**settings)
    recorded = make_loss(proposals=[CachedProposal("bc_action")], **settings)
    batch = make_batch(32)
    policy = own.proposals[0]
    with_actions = batch.clone()
    policy(with_actions), policy(with_actions["next"])
    results = []
    for loss, given in ((own, batch), (recorded, with_actions)):
        loss.train()  # all but the imitation policy
        torch.manual_seed(5)
        value, info = loss.qvalue_loss(given)
        actor_value, _ = loss.actor_loss(given)
        results.append([value, actor_value, given["td_error"], *info.values()])
    for expected, result in zip(*results, strict=True):
        assert torch.equal(expected, result)
    chosen = results[1][-1]
    assert chosen.unique().tolist() == [0, 1]  # both proposals win somewhere


@pytest.mark.parametrize(("proposed", "target"), [(0.5, 0.45), (-0.5, 0.18)])
def test_a_recorded_proposal_by_hand(proposed, target):
    # Q = a and the actor says 0.2: y = 0.9 * max(0.2, proposal at s'); the one at s is not asked.
    loss = IBRLTD3Loss(
        actor(0.2), critics([1.0]), [CachedProposal("bc_action")], num_min=1, policy_noise=0.0
    )
    batch = transitions(4)
    batch["bc_action"] = torch.full((4, 1), 0.8)
    batch["next", "bc_action"] = torch.full((4, 1), proposed)
    _, info = loss.make_value_estimator(gamma=0.9).qvalue_loss(batch)
    assert torch.allclose(info["target_value"], torch.tensor(target))
    assert (info["next_proposal"] == int(proposed > 0)).all()


def test_a_recorded_proposal_has_nothing_to_train_or_save():
    loss = make_loss(proposals=[CachedProposal("bc_action")])
    assert not [*loss.proposals.parameters()]
    assert not any(name.startswith("proposals") for name in loss.state_dict())


def test_recorded_proposals_need_keys_of_their_own():
    with pytest.raises(ValueError, match="distinct keys"):
        make_loss(proposals=[CachedProposal("rl_action")])
    with pytest.raises(KeyError, match="bc_action"):
        make_loss(proposals=[CachedProposal("bc_action")]).qvalue_loss(make_batch())


# Saving


def test_a_saved_loss_sees_as_before():
    loss, other = still(make_loss(seed=0)), still(make_loss(seed=7))
    batch = make_batch()

    def values(which):
        torch.manual_seed(3)
        out = which(batch.clone())
        return [out["loss_qvalue"], out["loss_actor"], which.encoder.module(batch[IMAGE])]

    assert not any(map(torch.equal, values(loss), values(other)))
    other.load_state_dict(loss.state_dict())
    assert all(map(torch.equal, values(loss), values(other)))
    encoder = {f"encoder.{name}" for name in loss.encoder.state_dict()}
    assert encoder and encoder <= set(loss.state_dict())


def test_a_saved_learner_goes_on_as_if_never_stopped():
    results = []
    for stopped in (False, True):
        learner = Learner(make_loss(), lr=1e-2, tau=0.25, critic_updates=1)
        replay = Batches()
        torch.manual_seed(2)
        learner.round(replay, CPU)
        if stopped:
            saved = learner.state_dict()
            state = torch.get_rng_state()
            learner = Learner(make_loss(seed=9), lr=1e-2, tau=0.25, critic_updates=1)
            learner.loss.load_state_dict(saved["loss"])
            learner.critic_optimizer.load_state_dict(saved["critic_optimizer"])
            learner.actor_optimizer.load_state_dict(saved["actor_optimizer"])
            torch.set_rng_state(state)
        learner.round(replay, CPU)
        results.append(tensors(learner.loss))
    for owner in results[0]:
        assert all(map(torch.equal, results[0][owner], results[1][owner])), owner
