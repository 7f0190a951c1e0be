"""Imitation policies that draw actions: modes, samples, shapes, known numbers."""

import pytest
import torch
from tensordict import TensorDict
from torch import distributions
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.modules import (
    ACTPolicy,
    CameraEncoder,
    CVAEPolicy,
    DiffusionPolicy,
    FastTensorDictModule,
    FlattenHead,
    FlowPolicy,
    FrozenPolicy,
    GaussianMixture,
    GaussianMixturePolicy,
    Normalize,
    PixelFeatures,
    SampledProposals,
    StateFeatures,
    ViT,
    is_stochastic,
)

A, S = 2, 3
KINDS = [GaussianMixturePolicy, CVAEPolicy, FlowPolicy, DiffusionPolicy, ACTPolicy]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def policy_of(kind, features=None, **settings):
    torch.manual_seed(0)
    size = {"width": 16} if kind is ACTPolicy else {"hidden": [16]}
    features = features or StateFeatures(Normalize.identity(S))
    return kind(features, A, **{**size, **settings}).eval()


def deterministic():
    return set_exploration_type(ExplorationType.DETERMINISTIC)


@kinds
@pytest.mark.parametrize("batch", [[], [5], [5, 4]])
def test_actions_have_the_batch_shape_and_stay_in_bounds(kind, batch):
    policy = policy_of(kind)
    for parameter in policy.parameters():
        parameter.data *= 20
    for mode in ExplorationType.RANDOM, ExplorationType.DETERMINISTIC:
        with set_exploration_type(mode), torch.no_grad():
            action = policy(torch.randn(*batch, S))
        assert action.shape == (*batch, A)
        assert action.abs().max() <= 1


@kinds
def test_deterministic_actions_draw_nothing_and_random_ones_differ(kind):
    policy, state = policy_of(kind), torch.randn(6, S)
    with deterministic(), torch.no_grad():
        before = torch.get_rng_state()
        first, second = policy(state), policy(state)
        assert torch.equal(first, second) and torch.equal(before, torch.get_rng_state())
    for context in ExplorationType.RANDOM, None:
        with set_exploration_type(context), torch.no_grad():
            assert not torch.equal(policy(state), policy(state))


@kinds
def test_sampled_proposals_are_n_different_candidates(kind):
    policy = policy_of(kind)
    if kind is DiffusionPolicy:  # untrained, it ends at the bounds
        policy.actor.module.score_network.denoiser.forward = lambda action, *_: action
    module = FastTensorDictModule(policy, in_keys=["state"], out_keys=["bc_action"])
    frozen = FrozenPolicy(module)
    assert is_stochastic(frozen)
    proposals = SampledProposals(frozen, 4)
    batch = TensorDict(state=torch.randn(5, S), batch_size=[5])
    with set_exploration_type(ExplorationType.RANDOM):
        candidates = proposals(batch)["bc_action"]
    assert candidates.shape == (5, 4, A)
    for state in candidates:
        assert len(state.unique(dim=0)) == 4
    with deterministic():
        assert proposals(batch)["bc_action"].shape == (5, 1, A)


@kinds
def test_policies_of_images_and_proprioception(kind):
    encoder = CameraEncoder([ViT(32, depth=1, dim=16)], [(3, 32, 32)])
    features = PixelFeatures(
        encoder, FlattenHead(encoder.feature_shape), proprio=Normalize.identity(4), proprio_size=4
    )
    settings = {} if kind is ACTPolicy else {"layer_norm": True}
    policy = policy_of(kind, features, **settings)
    images = torch.zeros(5, 6, 3, 32, 32, dtype=torch.uint8)
    assert features.size == 16 * 16 + 4
    assert policy(images, torch.zeros(5, 6, 4)).shape == (5, 6, A)


def test_mixture_log_likelihood_and_mode():
    logits, scale = torch.tensor([0.0, 1.0]), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    loc = torch.tensor([[0.5, -0.5], [0.0, 0.25]])
    mixture = GaussianMixture(logits, loc, scale)
    value = torch.tensor([0.4, -0.1])
    components = distributions.Normal(loc, scale).log_prob(value).sum(-1)
    expected = torch.logsumexp(logits.log_softmax(0) + components, 0)
    assert mixture.log_prob(value) == pytest.approx(expected.item(), abs=1e-5)
    assert mixture.mode.tolist() == [0.0, 0.25]
    batch = GaussianMixture(torch.stack([logits, -logits]), loc.expand(2, 2, 2), scale)
    assert batch.mode.tolist() == [[0.0, 0.25], [0.5, -0.5]]


def test_flow_integrates_the_velocity_by_eulers_method():
    policy = policy_of(FlowPolicy, steps=2)
    # dx/dt = 1 - x from 0 in two steps: 0 -> 0.5 -> 0.75.
    policy.velocity.forward = lambda action, features, time: 1 - action
    with deterministic():
        assert policy(torch.zeros(S)).tolist() == [0.75, 0.75]
    times = []
    policy.velocity.forward = lambda action, features, time: times.append(time.item()) or action
    policy(torch.zeros(S))
    assert times == [0.0, 0.5]


def test_cvae_decodes_zero_under_deterministic():
    policy = policy_of(CVAEPolicy, latent_size=3)
    state = torch.randn(4, S)
    with deterministic(), torch.no_grad():
        expected = policy.decode(policy.features(state), torch.zeros(4, 3))
        assert torch.equal(policy(state), expected)


def test_diffusion_schedule_ends_in_noise_and_steps_are_fractions():
    torch.manual_seed(0)
    policy = DiffusionPolicy(StateFeatures(Normalize.identity(S)), A, steps=20, hidden=[8]).eval()
    schedule = policy.actor.module
    assert schedule.betas[[0, -1]].tolist() == pytest.approx([0.005, 0.5])
    assert schedule.alphas_cumprod[-1] < 0.005
    score = schedule.score_network
    features, action = torch.tensor([1.0, 1.0, -1.0]), torch.tensor([0.3, 0.4])
    found = score(torch.cat([action, features, torch.tensor([5.0])]))
    assert torch.allclose(found, score.denoiser(action, features, torch.tensor([0.25])))


def test_act_decodes_zero_under_deterministic_as_torchrls_model_does():
    policy = policy_of(ACTPolicy, chunk_size=2, layers=2)
    state = torch.randn(4, 5, S)
    with deterministic(), torch.no_grad():
        chunk, mean, _ = policy.model(state)
        assert chunk.shape == (4, 5, 2, A // 2) and not mean.any()
        assert torch.allclose(policy(state), chunk.flatten(-2).clamp(-1, 1), atol=1e-6)
        latent = torch.randn(4, 5, policy.model.latent_dim)
        decoded = policy.decode(state, latent)
        assert torch.allclose(decoded[2, 3], policy.decode(state[2, 3], latent[2, 3]), atol=1e-6)
        assert not torch.allclose(decoded, chunk.flatten(-2), atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 10}, r"^width must be even and a multiple of heads=4, got 10$"),
        ({"width": 3, "heads": 1}, r"^width must be even and a multiple of heads=1, got 3$"),
        ({"chunk_size": 3}, r"^action_size must be a multiple of chunk_size=3, got 2$"),
    ],
)
def test_act_refuses_sizes_that_do_not_divide(settings, message):
    with pytest.raises(ValueError, match=message):
        policy_of(ACTPolicy, **settings)
