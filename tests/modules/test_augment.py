"""RandomShift against a NumPy reference, and GaussianNoise."""

import numpy as np
import pytest
import torch

from ibrl_torchrl.modules import GaussianNoise, RandomShift
from ibrl_torchrl.modules.augment import shift_images

PAD = 4
ALL_SHIFTS = torch.cartesian_prod(torch.arange(2 * PAD + 1), torch.arange(2 * PAD + 1)).T


def reference_shift(image, row, column, pad):
    """Crop of one image [C, H, W] after edge padding by NumPy."""
    height, width = image.shape[-2:]
    padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    return torch.from_numpy(padded[:, row : row + height, column : column + width].copy())


def random_images(*shape, dtype=torch.uint8):
    torch.manual_seed(0)
    return torch.randint(256, shape).to(dtype)


def index_images(size, pixels=9):
    """Images of their pixel indices: after a shift, the centre is the index of the shift."""
    row = torch.arange(pixels**2, dtype=torch.uint8)
    return row.view(1, 1, pixels, pixels).repeat(size, 1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 7, 11), (1, 11, 7), (1, 2, 3)])
def test_every_shift_equals_numpy_edge_padding(shape, dtype):
    images = random_images(81, *shape, dtype=dtype)
    result = shift_images(images, ALL_SHIFTS, PAD)
    assert result.shape == images.shape and result.dtype == dtype
    for i in range(81):
        row, column = ALL_SHIFTS[:, i].tolist()
        assert torch.equal(result[i], reference_shift(images[i], row, column, PAD)), (row, column)


def test_compiled_shifts_are_the_same():
    images = random_images(81, 3, 7, 11)
    compiled = torch.compile(shift_images, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images, ALL_SHIFTS, PAD), shift_images(images, ALL_SHIFTS, PAD))


def test_shift_replicates_the_border():
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]], dtype=torch.uint8)
    # Padded by one: 1 1 2 3 3 / 1 1 2 3 3 / 4 4 5 6 6 / 4 4 5 6 6. From row 2, column 0:
    down_left = shift_images(image, torch.tensor([[2], [0]]), 1)
    assert down_left[0, 0].tolist() == [[4, 4, 5], [4, 4, 5]]
    up_right = shift_images(image, torch.tensor([[0], [2]]), 1)
    assert up_right[0, 0].tolist() == [[2, 3, 3], [2, 3, 3]]


def test_shift_by_pad_is_the_identity():
    images = random_images(3, 3, 8, 10)
    assert torch.equal(shift_images(images, torch.full((2, 3), PAD), PAD), images)


def test_shifts_are_uniform():
    torch.manual_seed(0)
    mean = 400
    shifted = RandomShift(PAD)(index_images(81 * mean))
    counts = torch.bincount(shifted[:, 0, 4, 4].int(), minlength=81)
    assert len(counts) == 81
    # Chi-square with 80 degrees of freedom: mean 80, standard deviation sqrt(160) = 12.6.
    assert ((counts - mean) ** 2 / mean).sum().item() < 80 + 3 * 12.7


@pytest.mark.parametrize(("pad", "num_shifts"), [(1, 9), (2, 25)])
def test_pad_is_the_largest_shift(pad, num_shifts):
    torch.manual_seed(0)
    shifted = RandomShift(pad)(index_images(1000, pixels=2 * pad + 1))
    assert shifted[:, 0, pad, pad].unique().tolist() == [*range(num_shifts)]


def test_shift_is_drawn_per_image_and_shared_by_channels():
    torch.manual_seed(0)
    first = index_images(50)
    shifted = RandomShift(PAD)(torch.cat([first, first + 100, first + 150], 1))
    assert torch.equal(shifted[:, 1], shifted[:, 0] + 100)
    assert torch.equal(shifted[:, 2], shifted[:, 0] + 150)
    assert shifted[:, 0, 4, 4].unique().numel() > 20
    for image in shifted[:, :1]:
        row, column = divmod(image[0, 4, 4].item(), 9)
        assert torch.equal(image, reference_shift(first[0], row, column, PAD))


def test_calls_draw_independently():
    torch.manual_seed(0)
    shift, images = RandomShift(PAD), index_images(50)
    first, second = (shift(images)[:, 0, 4, 4] for _ in range(2))
    assert (first != second).sum() > 40  # equal with probability 1/81
    torch.manual_seed(0)
    assert torch.equal(shift(images)[:, 0, 4, 4], first)


def test_shift_is_out_of_place():
    torch.manual_seed(0)
    images = random_images(8, 3, 10, 10)
    before = images.clone()
    shifted = RandomShift(PAD)(images)
    assert not torch.equal(shifted, images)
    shifted.zero_()
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    "shift", [RandomShift(PAD).eval(), RandomShift(0), RandomShift(0).eval()], ids=str
)
def test_eval_mode_and_zero_pad_are_the_identity_without_draws(shift):
    images = random_images(20, 3, 10, 12)
    state = torch.get_rng_state()
    assert torch.equal(shift(images), images)
    assert torch.equal(torch.get_rng_state(), state)


def test_default_pad_is_that_of_the_paper():
    assert RandomShift().pad == 4


def test_negative_arguments_raise():
    with pytest.raises(ValueError, match="got -1"):
        RandomShift(-1)
    with pytest.raises(ValueError, match=r"got -0\.1"):
        GaussianNoise(-0.1)


def test_noise_has_the_given_standard_deviation():
    torch.manual_seed(0)
    inputs = torch.full((1000, 100), 3.0)
    noise = GaussianNoise(0.1)(inputs) - inputs
    assert noise.mean().item() == pytest.approx(0.0, abs=0.001)
    assert noise.std().item() == pytest.approx(0.1, rel=0.01)
    # Independent entries, not one draw per row or column.
    assert noise.std(0).min() > 0.08 and noise.std(1).min() > 0.06
    assert (inputs == 3).all()


def test_noise_is_active_in_train_mode_only():
    inputs = torch.randn(5, 3)
    noise = GaussianNoise(0.1)
    assert not torch.equal(noise(inputs), noise(inputs))
    assert torch.equal(noise.eval()(inputs), inputs)
    assert torch.equal(GaussianNoise(0.0)(inputs), inputs)
