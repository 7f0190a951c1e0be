"""SpatialEmbedding, and critics and policy networks of patch features."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ibrl_torchrl.modules import (
    CameraEncoder,
    DrQCriticEnsemble,
    FeatureActor,
    FlattenHead,
    LinearHead,
    Normalize,
    PixelPolicy,
    SpatialCriticEnsemble,
    SpatialHead,
    ViT,
)
from ibrl_torchrl.modules.critics.ensemble import EnsembleLinear
from ibrl_torchrl.modules.initialize import orthogonal_
from ibrl_torchrl.modules.spatial import SpatialEmbedding

BOTH_WEIGHTS = pytest.mark.parametrize("weights", ["softmax", "free"])
SHAPE = (5, 3)  # P, D


def trainable(module):
    """Parameters without the statistics of normalisation."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def randomise(module):
    torch.manual_seed(0)
    for parameter in trainable(module):
        nn.init.normal_(parameter)
    return module


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def scale(size=2):
    return Normalize(torch.arange(size).float(), torch.full((size,), 0.5))


# Spatial embedding


def reference_embedding(embedding, channels, extra, member):
    """Embedding of one member, channels [D, P] and extra input [X], by concatenation."""
    rows = torch.cat([channels, extra.expand(len(channels), -1)], -1)  # [D, P + X]
    layer, norm = embedding.projection, embedding.norm
    hidden = F.linear(rows, layer.weight[member].T, layer.bias[member, 0])
    hidden = F.layer_norm(hidden, hidden.shape[-1:], norm.weight[member, 0], norm.bias[member, 0])
    hidden = F.relu(hidden)  # [D, H]
    if hasattr(embedding.weighting, "projection"):
        layer = embedding.weighting.projection
        scores = F.linear(rows, layer.weight[member].T, layer.bias[member, 0]).exp()  # [D, 1]
        return (hidden * scores / scores.sum()).sum(0)
    return (hidden * embedding.weighting.weight[member, 0, 0]).sum(0)


@BOTH_WEIGHTS
@pytest.mark.parametrize("members", [None, [2, 0], [1]])
@pytest.mark.parametrize("num_extra", [1, 4])
@torch.no_grad()
def test_embedding_equals_reference_for_members_and_extra_inputs(weights, members, num_extra):
    embedding = randomise(SpatialEmbedding(3, SHAPE, 2, 6, weights=weights))
    features, extra = torch.randn(4, *SHAPE), torch.randn(4, num_extra, 2)
    indices = None if members is None else torch.tensor(members)
    result = embedding(features, extra, indices)
    expected = [
        [[reference_embedding(embedding, features[b].T, extra[b, n], i) for n in range(num_extra)]
         for b in range(4)]
        for i in members or range(3)
    ]  # fmt: skip
    expected = torch.stack([torch.stack([torch.stack(row) for row in rows]) for rows in expected])
    assert result.shape == (len(members or range(3)), 4, num_extra, 6)
    assert torch.allclose(result, expected, atol=1e-4)


@BOTH_WEIGHTS
@torch.no_grad()
def test_embedding_without_extra_input_equals_reference(weights):
    embedding = randomise(SpatialEmbedding(2, SHAPE, 0, 6, weights=weights))
    features = torch.randn(4, *SHAPE)
    result = embedding(features, torch.empty(4, 1, 0))
    for i in range(2):
        for b in range(4):
            expected = reference_embedding(embedding, features[b].T, torch.empty(0), i)
            assert torch.allclose(result[i, b, 0], expected, atol=1e-4)


def small_embedding(weights):
    """One patch p, two channels, one extra input e: hidden units (p - e, 0)."""
    embedding = SpatialEmbedding(1, (1, 2), 1, 2, weights=weights)
    embedding.projection.weight.data = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    embedding.projection.bias.data.zero_()
    return embedding


# Channels 3 and 1 with extra input 2: units (1, 0) and (-1, 0), after layer norm (1, -1) and
# (-1, 1), after ReLU (1, 0) and (0, 1).
SMALL_INPUTS = torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[2.0]]])


def test_softmax_weights_equal_analytic_values():
    embedding = small_embedding("softmax")
    # Logits p ln(3) / 2 + 7 e differ by ln 3, so that the weights are 3/4 and 1/4.
    projection = embedding.weighting.projection
    projection.weight.data = torch.tensor([[[math.log(3) / 2], [7.0]]])
    result = embedding(*SMALL_INPUTS).flatten()
    assert torch.allclose(result, torch.tensor([0.75, 0.25]), atol=1e-4)


def test_free_weights_equal_analytic_values():
    embedding = small_embedding("free")
    embedding.weighting.weight.data = torch.tensor([[2.0, 5.0], [7.0, -4.0]]).view(1, 1, 1, 2, 2)
    # 2 * 1 + 7 * 0 and 5 * 0 - 4 * 1.
    result = embedding(*SMALL_INPUTS).flatten()
    assert torch.allclose(result, torch.tensor([2.0, -4.0]), atol=1e-3)


def test_softmax_weights_sum_to_one_over_the_channels():
    embedding = randomise(SpatialEmbedding(2, SHAPE, 2, 6))
    channels, extra = torch.randn(4, SHAPE[1], SHAPE[0]), torch.randn(4, 7, 2)
    weights = embedding.weighting(channels, extra)
    assert weights.shape == (2, 4, 7, SHAPE[1], 1)
    assert torch.allclose(weights.sum(-2), torch.ones(1)) and (weights > 0).all()
    assert weights.std(-2).min() > 0


def test_free_weights_are_initialised_normally_and_independently():
    torch.manual_seed(0)
    weight = SpatialEmbedding(2, (4, 50), 0, 100, weights="free").weighting.weight
    assert weight.mean().item() == pytest.approx(0, abs=0.05)
    assert weight.std().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(weight[0], weight[1])


def test_unknown_weights_raise():
    with pytest.raises(ValueError, match="'mean'"):
        SpatialEmbedding(2, SHAPE, 2, 6, weights="mean")


# Critics


def spatial(weights="softmax", **settings):
    settings = {"embedding": 6, "hidden": [7, 8], **settings}
    return SpatialCriticEnsemble(SHAPE, 2, weights=weights, **settings)


def drq(**settings):
    return DrQCriticEnsemble(SHAPE, 2, **{"embedding": 6, "hidden": [7, 8], **settings})


ALL_CRITICS = pytest.mark.parametrize(
    "make",
    [spatial, lambda **settings: spatial("free", **settings), drq],
    ids=["softmax", "free", "drq"],
)


def reference_mlp(mlp, x, member):
    """Output of one member of an EnsembleMLP."""
    for layer, norm in zip(mlp.layers, mlp.norms, strict=True):
        x = F.linear(x, layer.weight[member].T, layer.bias[member, 0])
        x = F.relu(F.layer_norm(x, x.shape[-1:], norm.weight[member, 0], norm.bias[member, 0]))
    return F.linear(x, mlp.head.weight[member].T, mlp.head.bias[member, 0])


def reference_value(critic, features, extra, member):
    """Value of one critic at features [P, D] and extra input [X]."""
    if isinstance(critic, SpatialCriticEnsemble):
        vector = reference_embedding(critic.embedding, features.T, extra, member)
    else:
        layer, norm = critic.bottleneck, critic.norm
        vector = F.linear(features.flatten(), layer.weight[member].T, layer.bias[member, 0])
        vector = F.layer_norm(vector, (6,), norm.weight[member, 0], norm.bias[member, 0]).relu()
    return reference_mlp(critic.mlp, torch.cat([vector, extra]), member)


@ALL_CRITICS
@pytest.mark.parametrize("proprio", [False, True])
@torch.no_grad()
def test_critics_equal_reference(make, proprio):
    settings = {"proprio": scale(), "proprio_size": 2} if proprio else {}
    critic = randomise(make(num_critics=3, **settings))
    features, vector, action = torch.randn(4, *SHAPE), torch.randn(4, 2), torch.randn(4, 2)
    values = critic(features, *([vector] if proprio else []), action)
    assert values.shape == (4, 3)
    for b in range(4):
        extra = torch.cat([scale()(vector[b]), action[b]]) if proprio else action[b]
        for i in range(3):
            expected = reference_value(critic, features[b], extra, i)
            assert torch.allclose(values[b, i], expected, rtol=1e-3, atol=1e-3)


@ALL_CRITICS
@pytest.mark.parametrize("proprio", [False, True])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@torch.no_grad()
def test_values_of_many_actions_equal_values_of_single_actions(make, proprio, batch):
    settings = {"proprio": scale(), "proprio_size": 2} if proprio else {}
    critic = randomise(make(num_critics=2, **settings))
    features, actions = torch.randn(*batch, *SHAPE), torch.randn(*batch, 5, 2)
    vectors = [torch.randn(*batch, 2)] if proprio else []
    values = critic(features.unsqueeze(-3), *(vector.unsqueeze(-2) for vector in vectors), actions)
    assert values.shape == (*batch, 5, 2)
    for n in range(5):
        expected = critic(features, *vectors, actions[..., n, :])
        assert expected.shape == (*batch, 2)
        assert torch.allclose(values[..., n, :], expected, rtol=1e-3, atol=1e-3)


@ALL_CRITICS
@torch.no_grad()
def test_members_select_values_in_order(make):
    critic = randomise(make(num_critics=4))
    features, actions = torch.randn(3, 1, *SHAPE), torch.randn(3, 5, 2)
    values = critic(features, actions)
    for members in ([3, 1], [2], [0, 1, 2, 3]):
        subset = critic(features, actions, members=torch.tensor(members))
        assert torch.allclose(subset, values[..., members], rtol=1e-4, atol=1e-4)


@ALL_CRITICS
@pytest.mark.parametrize("orthogonal", [True, False])
def test_members_are_initialised_independently(make, orthogonal):
    torch.manual_seed(0)
    critic = make(num_critics=3, orthogonal=orthogonal)
    for name, weight in critic.named_parameters():
        if weight.shape[1:].numel() > 8 and "norm" not in name:  # more than a bias
            assert not torch.equal(weight[0], weight[1]), name
            assert not torch.equal(weight[1], weight[2]), name
    values = critic(torch.randn(1, *SHAPE), torch.randn(1, 2))
    assert values.unique().numel() == 3


def is_orthogonal(weight):
    """Whether the rows of a wide or the columns of a tall matrix are orthonormal."""
    wide = weight if weight.shape[0] <= weight.shape[1] else weight.T
    return torch.allclose(wide @ wide.T, torch.eye(len(wide)), atol=1e-5)


@ALL_CRITICS
def test_mlp_initialisation_is_orthogonal_if_set(make):
    for orthogonal in (True, False):
        critic = make(orthogonal=orthogonal, head_gain=1.0)
        layers = [*critic.mlp.layers, critic.mlp.head]
        for layer in layers:
            for weight, bias in zip(layer.weight, layer.bias, strict=True):
                assert is_orthogonal(weight) == orthogonal
                assert bias.any() != orthogonal


@ALL_CRITICS
def test_head_gain_scales_the_last_layer(make):
    # The weight vector of an orthogonal layer with one output has norm 1.
    for settings, norm in (({}, 0.01), ({"head_gain": 0.5}, 0.5)):
        norms = make(**settings).mlp.head.weight.norm(dim=(1, 2))
        assert torch.allclose(norms, torch.tensor(norm))
    assert make(orthogonal=False).mlp.head.weight.norm(dim=(1, 2)).max() < 0.02


def test_orthogonal_initialisation_covers_the_drq_bottleneck_but_no_spatial_embedding():
    assert all(is_orthogonal(weight) for weight in drq().bottleneck.weight)
    assert not any(is_orthogonal(weight) for weight in spatial().embedding.projection.weight)


def test_orthogonal_initialises_all_kinds_of_layers():
    layers = nn.ModuleList([nn.Linear(5, 3), nn.Linear(3, 5), EnsembleLinear(2, 5, 3)])
    convolution = nn.Conv2d(3, 4, 2, bias=False)
    orthogonal_(layers.append(convolution))
    wide, tall, ensemble = layers[:3]
    for weight in (wide.weight, tall.weight, *ensemble.weight):
        assert is_orthogonal(weight)
    assert not any(layer.bias.any() for layer in (wide, tall, ensemble))
    assert is_orthogonal(convolution.weight.flatten(1) / math.sqrt(2))  # the gain of a ReLU


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # A critic: projection (144 + 4) * 1024 + 1024 = 152576 and its norm 2 * 1024 = 2048; MLP
        # (1024 + 4) * 1024 + 1024 = 1053696, 1024 * 1024 + 1024 = 1049600, two norms 4096, head
        # 1024 + 1: 2108417. Together 2263041, and the weights of the channels:
        # softmax 144 + 4 + 1 = 149, free 128 * 1024 = 131072.
        ("softmax", 4526380),  # 2 * (2263041 + 149)
        ("free", 4788226),  # 2 * (2263041 + 131072)
    ],
)
def test_parameter_count_of_spatial_critics(weights, expected):
    assert count(SpatialCriticEnsemble((144, 128), 4, weights=weights)) == expected


def test_parameter_count_of_drq_critics():
    # A critic: 1681 * 32 * 64 + 64 = 3442752, norm 2 * 64 = 128, MLP (64 + 4) * 1024 + 1024 =
    # 70656, 1049600, norms 4096, head 1025: 1125377. Two of 4568257.
    assert count(DrQCriticEnsemble((1681, 32), 4)) == 9136514


@ALL_CRITICS
def test_zero_critics_raise(make):
    with pytest.raises(ValueError, match="got 0"):
        make(num_critics=0)


@ALL_CRITICS
def test_features_and_actions_of_every_row_have_gradients(make):
    torch.manual_seed(0)
    critic = make()
    features = torch.randn(3, 1, *SHAPE, requires_grad=True)
    actions = torch.randn(3, 4, 2, requires_grad=True)
    critic(features, actions).sum().backward()
    assert features.grad.flatten(1).abs().sum(-1).gt(0).all()
    assert actions.grad.abs().sum(-1).gt(0).float().mean() > 0.5  # 0 where all units are off
    assert all(parameter.grad is not None for parameter in trainable(critic))


# Policy networks


def heads(proprio_size=0):
    return [
        FlattenHead(SHAPE),
        LinearHead(SHAPE, 16),
        SpatialHead(SHAPE, 16, proprio_size=proprio_size),
        SpatialHead(SHAPE, 16, proprio_size=proprio_size, weights="free"),
    ]


EVERY_HEAD = pytest.mark.parametrize("index", range(4))


def test_flatten_and_linear_head_equal_reference():
    features = torch.randn(4, *SHAPE)
    flat = features.reshape(4, 15)
    assert torch.equal(FlattenHead(SHAPE)(features), flat) and FlattenHead(SHAPE).size == 15
    head = randomise(LinearHead(SHAPE, 6)).eval()
    linear, norm = head.layers[:2]
    hidden = F.layer_norm(flat @ linear.weight.T + linear.bias, (6,), norm.weight, norm.bias)
    assert torch.allclose(head(features), hidden.relu(), atol=1e-5)


@BOTH_WEIGHTS
@torch.no_grad()
def test_spatial_head_equals_reference(weights):
    head = SpatialHead(SHAPE, 6, proprio_size=2, weights=weights)
    head = randomise(head).eval()
    features, vectors = torch.randn(2, 3, *SHAPE), torch.randn(2, 3, 2)
    result = head(features, vectors)
    for i in range(2):
        for j in range(3):
            expected = reference_embedding(head.embedding, features[i, j].T, vectors[i, j], 0)
            assert torch.allclose(result[i, j], expected, atol=1e-4)


@EVERY_HEAD
@pytest.mark.parametrize("proprio", [False, True])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_feature_actor_is_bounded_and_keeps_the_batch_shape(index, proprio, batch):
    torch.manual_seed(0)
    settings = {"proprio": scale(), "proprio_size": 2} if proprio else {}
    head = heads(2 if proprio else 0)[index]
    actor = FeatureActor(head, 3, hidden=[8, 8], **settings).eval()
    nn.init.normal_(actor.mlp[-1].weight, std=10.0)
    features = torch.randn(*batch, *SHAPE)
    vectors = [torch.randn(*batch, 2)] if proprio else []
    action = actor(features, *vectors)
    assert action.shape == (*batch, 3)
    assert 0.9 < action.abs().max() <= 1
    processed = [scale()(vector) for vector in vectors]
    expected = actor.mlp(torch.cat([head(features, *processed), *processed], -1)).tanh()
    assert torch.equal(action, expected)


@EVERY_HEAD
def test_feature_actor_dropout_is_active_in_train_mode_only(index):
    torch.manual_seed(0)
    features = torch.randn(4, *SHAPE)
    actor = FeatureActor(heads()[index], 3, hidden=[32, 32])
    assert not torch.equal(actor(features), actor(features))
    actor.eval()
    assert torch.equal(actor(features), actor(features))


@pytest.mark.parametrize("head", heads()[1:])
def test_heads_drop_units_in_train_mode(head):
    torch.manual_seed(0)
    features = torch.randn(200, *SHAPE)
    without = head.eval()(features)
    dropped = head.train()(features)
    active = without != 0
    # Dropout of 0.5 zeroes half of the units and doubles the others.
    assert (dropped[active] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.allclose(dropped[dropped != 0], 2 * without[dropped != 0])


def test_zero_dropout_is_deterministic_in_train_mode():
    actor = FeatureActor(LinearHead(SHAPE, 16, dropout=0.0), 3, hidden=[8], dropout=0.0)
    features = torch.randn(4, *SHAPE)
    assert torch.equal(actor(features), actor(features))


@EVERY_HEAD
def test_feature_actor_initialisation_is_orthogonal_if_set(index):
    for orthogonal in (True, False):
        actor = FeatureActor(heads()[index], 3, hidden=[8, 8], orthogonal=orthogonal)
        weights = [layer.weight for layer in actor.modules() if isinstance(layer, nn.Linear)]
        ensembles = [layer for layer in actor.modules() if isinstance(layer, EnsembleLinear)]
        weights += [weight for layer in ensembles for weight in layer.weight if weight.numel() > 5]
        assert len(weights) == (3 if index == 0 else 4)
        assert [is_orthogonal(weight) for weight in weights] == [orthogonal] * len(weights)


def test_parameter_count_of_feature_actor():
    # Head 144 * 128 * 128 + 128 = 2359424 and norm 256; MLP 128 * 1024 + 1024 = 132096,
    # 1024 * 1024 + 1024 = 1049600, two norms 4096, head 1024 * 4 + 4 = 4100.
    actor = FeatureActor(LinearHead((144, 128)), 4)
    assert count(actor) == 2359424 + 256 + 132096 + 1049600 + 4096 + 4100


def pixel_policy(proprio):
    settings = {"proprio": scale(), "proprio_size": 2} if proprio else {}
    networks = [ViT(8, patch=4, depth=1, dim=8) for _ in range(2)]
    encoder = CameraEncoder(networks, [(3, 8, 8)] * 2)
    head = LinearHead(encoder.feature_shape, 16)
    return PixelPolicy(encoder, FeatureActor(head, 3, hidden=[8], **settings))


@pytest.mark.parametrize("proprio", [False, True])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_pixel_policy_equals_encoder_and_actor(proprio, batch):
    torch.manual_seed(0)
    policy = pixel_policy(proprio).eval()
    images = [torch.randint(256, (*batch, 3, 8, 8), dtype=torch.uint8) for _ in range(2)]
    vectors = [torch.randn(*batch, 2)] if proprio else []
    action = policy(*images, *vectors)
    assert action.shape == (*batch, 3)
    assert torch.equal(action, policy.actor(policy.encoder(*images), *vectors))
    for i in range(2):  # depends on every camera
        other = [255 - image if j == i else image for j, image in enumerate(images)]
        assert not torch.allclose(policy(*other, *vectors), action)
    if proprio:
        assert not torch.allclose(policy(*images, vectors[0] + 1), action)


def test_all_parameters_of_pixel_policy_have_gradients():
    torch.manual_seed(0)
    policy = pixel_policy(True)
    images = [torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8) for _ in range(2)]
    policy(*images, torch.randn(16, 2)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trainable(policy))
