"""Encoders: shapes, parameter counts, reference implementations, multiple cameras."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ibrl_torchrl.modules import CameraEncoder, DrQConvolutions, ResNet18, ResNet96, ViT
from ibrl_torchrl.modules.encoders.resnet import PreNormBlock, ResidualBlock


class Pixels(nn.Module):
    """Encoder whose patches are pixels and whose features are their channels times a factor."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def forward(self, images):
        return self.factor * images.flatten(2).transpose(1, 2)


def cameras(*factors, shape=(1, 1, 2), **settings):
    networks = [Pixels(factor) for factor in factors]
    return CameraEncoder(networks, [shape] * len(factors), **{"shift": 0, **settings})


def image(*values):
    """Image uint8 [1, 1, W] of one row of pixels."""
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, -1)


def random_images(*shape):
    return torch.randint(256, shape, dtype=torch.uint8)


def randomise(module):
    """Draw all parameters from a standard normal distribution, so that each has an effect."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# Shapes and parameter counts


def shallow(size, channels=3, **settings):
    return ViT(size, channels, depth=1, **settings)


def convolutional(size, channels=3):
    return shallow(size, channels, embedding="convolutions")


def shallow_resnet(size, channels=3):
    return ResNet18(size, channels, blocks=1)


@pytest.mark.parametrize(
    ("network", "size", "shape"),
    [
        (shallow, 96, (144, 128)),  # 12 x 12 patches of 8
        (shallow, 64, (64, 128)),
        (lambda size: shallow(size, patch=7, dim=12), 84, (144, 12)),
        # (96 - 8) / 4 + 1 = 23, then (23 - 3) / 2 + 1 = 11; from 84: 20, 9; from 64: 15, 7.
        (convolutional, 96, (121, 128)),
        (convolutional, 84, (81, 128)),
        (convolutional, 64, (49, 128)),
        # Stem (96 - 4) / 2 + 1 = 47, pool 24, then 12, 6, 3; 84: 41, 21, 11, 6, 3; 64: 31, 16 .. 2.
        (shallow_resnet, 96, (9, 512)),
        (shallow_resnet, 84, (9, 512)),
        (shallow_resnet, 64, (4, 512)),
        # Halved three times: 12; 84: 42, 21, 11; 64: 8.
        (ResNet96, 96, (144, 256)),
        (ResNet96, 84, (121, 256)),
        (ResNet96, 64, (64, 256)),
        # (96 - 3) // 2 + 1 = 47, then 45, 43, 41; 84: 41 .. 35; 64: 31 .. 25.
        (DrQConvolutions, 96, (1681, 32)),
        (DrQConvolutions, 84, (1225, 32)),
        (DrQConvolutions, 64, (625, 32)),
    ],
)
def test_feature_shape(network, size, shape):
    encoder = CameraEncoder([network(size)], [(3, size, size)])
    assert encoder.feature_shape == shape
    features = encoder(random_images(2, 3, size, size))
    assert features.shape == (2, *shape) and features.dtype == torch.float32


@pytest.mark.parametrize("network", [shallow, convolutional, ResNet18, ResNet96, DrQConvolutions])
def test_features_depend_on_every_stacked_frame(network):
    encoder = CameraEncoder([network(48, 9)], [(9, 48, 48)])
    stack = random_images(1, 9, 48, 48)
    other = stack.clone()
    other[:, 4] = 255 - other[:, 4]
    encoder.eval()
    assert not torch.allclose(encoder(stack), encoder(other))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        # One layer: norms 2 * 256, q, k, v 128 * 384 + 384 = 49536, out 128 * 128 + 128 = 16512,
        # feed-forward 128 * 512 + 512 + 512 * 128 + 128 = 131712: together 198272.
        # Patches 3 * 64 * 128 + 128 = 24704, positions 144 * 128 = 18432, last norm 256:
        # 24704 + 18432 + 3 * 198272 + 256.
        (lambda: ViT(96), 638208),
        # Second convolution 128 * 128 * 9 + 128 = 147584, positions 121 * 128 = 15488:
        # 24704 + 147584 + 15488 + 198272 + 256.
        (lambda: ViT(96, depth=1, embedding="convolutions"), 386304),
        # Convolutions have no bias, a norm two numbers a channel. Stem 3 * 64 * 16 + 128 = 3200.
        # 64: 4 * 64 * 64 * 9 + 4 * 128 = 147968.
        # 128: 64 * 128 * 9 + 3 * 128 * 128 * 9 + shortcut 64 * 128 + 5 * 256 = 525568.
        # 256: 294912 + 3 * 589824 + 32768 + 5 * 512 = 2099712.
        # 512: 1179648 + 3 * 2359296 + 131072 + 5 * 1024 = 8393728.
        (lambda: ResNet18(96), 11170176),
        # One block a stage: 64: 73728 + 256; 128: 73728 + 147456 + 8192 + 768 = 230144;
        # 256: 294912 + 589824 + 32768 + 1536 = 919040; 512: 1179648 + 2359296 + 131072 + 3072.
        (lambda: ResNet18(96, blocks=1), 3200 + 73984 + 230144 + 919040 + 3673088),
        # First 3 * 32 * 9 = 864; blocks: norms 64 + 128, 32 * 64 * 9 + 64 * 64 * 9 = 55296, short
        # cut 2048: 57536; 384 + 73728 + 147456 + 8192 = 229760;
        # 768 + 294912 + 589824 + 32768 = 918272; last norm 512.
        (lambda: ResNet96(96), 1206944),
        # 3 * 32 * 9 + 32 = 896, then three times 32 * 32 * 9 + 32 = 9248.
        (lambda: DrQConvolutions(96), 28640),
    ],
)
def test_parameter_count(network, expected):
    assert count(network()) == expected


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: ViT(90), "image size 90 is not a multiple of the patch 8"),
        (lambda: ViT(84), "image size 84"),
        (lambda: ViT(15, embedding="convolutions"), "image size 15 is too small"),
        (lambda: ViT(96, heads=5), "heads=5 must divide dim=128"),
        (lambda: ViT(96, embedding="pixels"), "'pixels'"),
        (lambda: ResNet18(31), "image size 31 is too small"),
        (lambda: ResNet96(7), "image size 7 is too small"),
        (lambda: DrQConvolutions(14), "image size 14 is too small"),
    ],
)
def test_invalid_sizes_raise(network, message):
    with pytest.raises(ValueError, match=message):
        network()


@pytest.mark.parametrize(
    ("network", "size", "patches"),
    [
        (shallow, 8, 1),
        (convolutional, 16, 1),
        (ResNet18, 36, 4),
        (ResNet96, 9, 4),
        (DrQConvolutions, 15, 1),
    ],
)
def test_smallest_images_have_distinct_features(network, size, patches):
    torch.manual_seed(0)
    features = network(size)(torch.rand(2, 3, size, size) - 0.5)
    assert features.shape[1] == patches
    assert (features[0] - features[1]).abs().max() > 1e-3


# Vision transformer


def reference_layer(layer, tokens):
    """Pre-norm transformer layer, one head and one query at a time."""
    attention, dim = layer.self_attn, tokens.shape[-1]
    size = dim // attention.num_heads
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    normed = F.layer_norm(tokens, (dim,), layer.norm1.weight, layer.norm1.bias)
    queries, keys, values = (
        normed @ weight.T + bias for weight, bias in zip(weights, biases, strict=True)
    )
    attended = torch.zeros_like(tokens)
    for b in range(len(tokens)):
        for head in range(attention.num_heads):
            dims = slice(head * size, (head + 1) * size)
            for i in range(tokens.shape[1]):
                scores = torch.stack(
                    [queries[b, i, dims] @ key / math.sqrt(size) for key in keys[b, :, dims]]
                )
                attended[b, i, dims] = scores.softmax(0) @ values[b, :, dims]
    tokens = tokens + attended @ attention.out_proj.weight.T + attention.out_proj.bias
    hidden = F.layer_norm(tokens, (dim,), layer.norm2.weight, layer.norm2.bias)
    hidden = hidden @ layer.linear1.weight.T + layer.linear1.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))  # GELU
    return tokens + hidden @ layer.linear2.weight.T + layer.linear2.bias


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])  # eval mode runs PyTorch's fused kernel
def test_transformer_layer_equals_reference(training):
    torch.manual_seed(0)
    network = ViT(16, dim=8, depth=1, heads=2).train(training)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    (layer,), tokens = network.layers, torch.randn(2, 5, 8)
    assert torch.allclose(layer(tokens), reference_layer(layer, tokens), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_vit_equals_reference():
    network = randomise(ViT(6, 2, patch=3, depth=2, heads=2, dim=4))
    images = torch.randn(2, 2, 6, 6)
    flat = network.embed.weight.flatten(1)
    # Patches in row-major order.
    tokens = [
        images[:, :, row : row + 3, column : column + 3].flatten(1) @ flat.T + network.embed.bias
        for row in (0, 3)
        for column in (0, 3)
    ]
    tokens = torch.stack(tokens, 1) + network.position
    for layer in network.layers:
        tokens = reference_layer(layer, tokens)
    expected = F.layer_norm(tokens, (4,), network.norm.weight, network.norm.bias)
    assert torch.allclose(network(images), expected, atol=1e-4)


@torch.no_grad()
def test_convolutional_patch_embedding_equals_reference():
    network = randomise(ViT(12, 2, patch=4, depth=0, heads=1, dim=4, embedding="convolutions"))
    first, _, second = network.embed
    images = torch.randn(2, 2, 12, 12)
    maps = F.conv2d(images, first.weight, first.bias, stride=2).relu()  # 5 x 5
    maps = F.conv2d(maps, second.weight, second.bias, stride=2)  # 2 x 2
    tokens = torch.stack([maps[:, :, i, j] for i in (0, 1) for j in (0, 1)], 1) + network.position
    expected = F.layer_norm(tokens, (4,), network.norm.weight, network.norm.bias)
    assert torch.allclose(network(images), expected, atol=1e-4)


@torch.no_grad()
def test_vit_without_position_embedding_is_permutation_equivariant():
    network = randomise(ViT(8, 1, patch=4, depth=1, heads=2, dim=8))
    images = torch.randn(1, 1, 8, 8)
    swapped = torch.cat([images[:, :, 4:], images[:, :, :4]], 2)  # patches 2, 3, 0, 1
    order = [2, 3, 0, 1]
    assert not torch.allclose(network(swapped), network(images)[:, order], atol=1e-2)
    network.position.zero_()
    assert torch.allclose(network(swapped), network(images)[:, order], atol=1e-5)


def test_vit_initialisation():
    torch.manual_seed(0)
    network = ViT(32, depth=2)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not module.bias.any()
        elif isinstance(module, nn.MultiheadAttention):
            assert module.in_proj_weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not module.in_proj_bias.any()
    assert network.position.std().item() == pytest.approx(0.02, rel=0.1)


# Residual networks and DrQ


def instance_norm(maps, norm):
    """Group norm with one channel per group."""
    mean = maps.mean((-2, -1), keepdim=True)
    variance = (maps - mean).square().mean((-2, -1), keepdim=True)
    scale, offset = norm.weight[:, None, None], norm.bias[:, None, None]
    return (maps - mean) / (variance + 1e-5).sqrt() * scale + offset


@torch.no_grad()
@pytest.mark.parametrize(("inputs", "stride"), [(3, 2), (3, 1), (4, 1)])
def test_residual_block_equals_reference(inputs, stride):
    block = randomise(ResidualBlock(inputs, 4, stride))
    maps = torch.randn(2, inputs, 6, 6)
    first, norm1, _, second, norm2 = block.residual
    hidden = instance_norm(F.conv2d(maps, first.weight, stride=stride, padding=1), norm1).relu()
    hidden = instance_norm(F.conv2d(hidden, second.weight, padding=1), norm2)
    shortcut = maps
    if (inputs, stride) != (4, 1):
        convolution, norm = block.shortcut
        shortcut = instance_norm(F.conv2d(maps, convolution.weight, stride=stride), norm)
    assert torch.allclose(block(maps), (hidden + shortcut).relu(), atol=1e-3)


@torch.no_grad()
def test_pre_norm_block_equals_reference():
    block = randomise(PreNormBlock(3, 4))
    maps = torch.randn(2, 3, 6, 6)
    norm1, _, first, norm2, _, second = block.residual
    hidden = F.conv2d(instance_norm(maps, norm1).relu(), first.weight, stride=2, padding=1)
    hidden = F.conv2d(instance_norm(hidden, norm2).relu(), second.weight, padding=1)
    expected = hidden + F.conv2d(maps, block.shortcut.weight, stride=2)
    assert torch.allclose(block(maps), expected, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("network", [shallow, convolutional, ResNet18, ResNet96, DrQConvolutions])
def test_features_do_not_depend_on_the_rest_of_the_batch(network):
    torch.manual_seed(0)
    encoder = network(40).train()
    images = torch.rand(3, 3, 40, 40) * torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1, 1)
    alone = torch.cat([encoder(image[None]) for image in images])
    # Features are of size 5; norms amplify rounding errors.
    assert torch.allclose(encoder(images), alone, atol=1e-2)


@pytest.mark.parametrize("network", [ResNet18, ResNet96])
def test_residual_networks_have_one_group_per_channel(network):
    norms = [module for module in network(40).modules() if isinstance(module, nn.GroupNorm)]
    # ResNet-18: stem, 8 blocks of 2 and 3 shortcuts; ResNet96: 3 blocks of 2 and the last.
    assert len(norms) == (20 if network is ResNet18 else 7)
    assert all(norm.num_groups == norm.num_channels for norm in norms)


def test_drq_convolutions_are_orthogonal_with_relu_gain():
    first, *others = [layer for layer in DrQConvolutions(16) if isinstance(layer, nn.Conv2d)]
    flat = first.weight.flatten(1)  # 32 x 27: orthogonal columns
    assert torch.allclose(flat.T @ flat, 2 * torch.eye(27), atol=1e-5)
    for layer in others:
        flat = layer.weight.flatten(1)  # 32 x 288: orthogonal rows
        assert torch.allclose(flat @ flat.T, 2 * torch.eye(32), atol=1e-5)
    assert not any(layer.bias.any() for layer in [first, *others])


@torch.no_grad()
def test_drq_convolutions_equal_reference():
    network = randomise(DrQConvolutions(15, 2))
    maps = images = torch.randn(2, 2, 15, 15)
    for i, layer in enumerate([*network][::2]):
        maps = F.conv2d(maps, layer.weight, layer.bias, stride=1 if i else 2).relu()
    assert torch.allclose(network(images), maps.flatten(2).transpose(1, 2), rtol=1e-4)


# Multiple cameras


def test_images_are_scaled_to_half_around_zero():
    # 0 -> -0.5, 51 / 255 - 0.5 = -0.3, 255 -> 0.5.
    features = cameras(1.0, shape=(1, 1, 3))(image(0, 51, 255))
    assert torch.allclose(features, torch.tensor([[-0.5], [-0.3], [0.5]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_images_of_another_dtype_raise(dtype):
    with pytest.raises(TypeError, match=str(dtype)):
        cameras(1.0)(image(0, 255).to(dtype))


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [("concatenate", [-1, 1, 2, 2]), ("add", [1, 3]), ("multiply", [-2, 2])],
)
def test_fusion_of_two_cameras(fusion, expected):
    # Camera 0: 2 * (-0.5, 0.5); camera 1: 4 * (0.5, 0.5).
    encoder = cameras(2.0, 4.0, fusion=fusion)
    assert encoder.feature_shape == (len(expected), 1)
    features = encoder(image(0, 255), image(255, 255))
    assert torch.allclose(features.flatten(), torch.tensor(expected).float())


def test_fusion_of_three_cameras():
    # Features 2 * 0.5, 4 * 0.5 and 8 * 0.5.
    for fusion, expected in (("add", 7.0), ("multiply", 8.0)):
        encoder = cameras(2.0, 4.0, 8.0, shape=(1, 1, 1), fusion=fusion)
        assert encoder(*[image(255)] * 3).item() == pytest.approx(expected)


def test_incompatible_feature_shapes_raise():
    shapes = [(1, 1, 2), (1, 1, 3)]
    assert CameraEncoder([Pixels(), Pixels()], shapes).feature_shape == (5, 1)
    for fusion in ("add", "multiply"):
        with pytest.raises(ValueError, match=f"cannot be fused by {fusion}"):
            CameraEncoder([Pixels(), Pixels()], shapes, fusion=fusion)
    with pytest.raises(ValueError, match="cannot be fused by concatenate"):
        CameraEncoder([Pixels(), Pixels()], [(1, 1, 2), (3, 1, 2)])


def test_numbers_of_networks_shapes_and_images_must_agree():
    with pytest.raises(ValueError, match="1 networks and 2 image shapes"):
        CameraEncoder([Pixels()], [(1, 1, 2)] * 2)
    with pytest.raises(ValueError, match="0 networks"):
        CameraEncoder([], [])
    with pytest.raises(ValueError, match="'average'"):
        cameras(1.0, 1.0, fusion="average")
    with pytest.raises(ValueError, match="zip"):
        cameras(1.0, 1.0)(image(0, 255))


def test_cameras_have_separate_weights():
    encoder = CameraEncoder([shallow(8), shallow(8)], [(3, 8, 8)] * 2, shift=0)
    assert count(encoder) == 2 * count(shallow(8))
    images = random_images(1, 3, 8, 8)
    first, second = encoder(images, images)[0]
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 3), (2, 1, 3)])
def test_batch_shape_is_kept(batch):
    torch.manual_seed(0)
    encoder = CameraEncoder([shallow(8, patch=4, dim=8)] * 2, [(3, 8, 8)] * 2).eval()
    images = [random_images(*batch, 3, 8, 8) for _ in range(2)]
    features = encoder(*images)
    assert features.shape == (*batch, 8, 8)
    flat = encoder(*(camera.view(-1, 3, 8, 8) for camera in images))
    assert torch.allclose(features.view(-1, 8, 8), flat, atol=1e-6)


def test_shifts_are_drawn_per_image_and_camera_in_train_mode():
    torch.manual_seed(0)
    encoder = cameras(1.0, 1.0, shape=(1, 9, 9), shift=4)
    pixels = torch.arange(81, dtype=torch.uint8).view(1, 1, 9, 9)
    before = pixels.clone()
    centres = encoder(*[pixels.expand(20, -1, -1, -1)] * 2)[:, [40, 81 + 40], 0]
    assert centres[:, 0].unique().numel() > 5  # differ between images
    assert (centres[:, 0] != centres[:, 1]).sum() > 10  # differ between cameras
    encoder.eval()
    features = encoder(pixels, pixels)[0, :, 0]
    assert torch.allclose(features, torch.arange(81).repeat(2) / 255 - 0.5)
    assert torch.equal(pixels, before)


@torch.no_grad()
@pytest.mark.parametrize("network", [shallow, ResNet96])
def test_precision_and_memory_format_change_features_by_rounding_only(network):
    torch.manual_seed(0)
    module = network(16)
    images = random_images(4, 3, 16, 16)
    expected = CameraEncoder([module], [(3, 16, 16)]).eval()(images)
    for settings, largest, mean in (
        ({"memory_format": torch.channels_last}, 1e-3, 1e-4),
        ({"dtype": torch.bfloat16}, 1.0, 0.05),  # relative precision 2^-8, over several layers
    ):
        features = CameraEncoder([module], [(3, 16, 16)], **settings).eval()(images)
        assert features.dtype == torch.float32
        error = (features - expected).abs()
        assert error.max() < largest and error.mean() < mean
        assert "dtype" not in settings or error.mean() > 1e-4  # bfloat16 has an effect
