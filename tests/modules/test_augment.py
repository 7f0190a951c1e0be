"""Random shifts, picture by picture, and noise."""

import numpy as np
import pytest
import torch

from ibrl_torchrl.modules import GaussianNoise, RandomShift
from ibrl_torchrl.modules.augment import shifted

PAD = 4
ALL_SHIFTS = torch.cartesian_prod(torch.arange(2 * PAD + 1), torch.arange(2 * PAD + 1)).T


def slowly(image, row, column, pad):
    """One picture [C, H, W], padded by its border and cut."""
    height, width = image.shape[-2:]
    padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    return torch.from_numpy(padded[:, row : row + height, column : column + width].copy())


def pictures(*shape, dtype=torch.uint8):
    torch.manual_seed(0)
    return torch.randint(256, shape).to(dtype)


def numbered(size, pixels=9):
    """Pictures whose pixels are numbered: once shifted, the centre is the number of the shift."""
    row = torch.arange(pixels**2, dtype=torch.uint8)
    return row.view(1, 1, pixels, pixels).repeat(size, 1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(3, 12, 12), (2, 7, 11), (1, 11, 7), (1, 2, 3)])
def test_every_shift_equals_the_slow_one(shape, dtype):
    images = pictures(81, *shape, dtype=dtype)
    fast = shifted(images, ALL_SHIFTS, PAD)
    assert fast.shape == images.shape and fast.dtype == dtype
    for i in range(81):
        row, column = ALL_SHIFTS[:, i].tolist()
        assert torch.equal(fast[i], slowly(images[i], row, column, PAD)), (row, column)


def test_a_shift_by_hand():
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]], dtype=torch.uint8)
    # Padded by one: 1 1 2 3 3 / 1 1 2 3 3 / 4 4 5 6 6 / 4 4 5 6 6. From row 2, column 0:
    down_left = shifted(image, torch.tensor([[2], [0]]), 1)
    assert down_left[0, 0].tolist() == [[4, 4, 5], [4, 4, 5]]
    up_right = shifted(image, torch.tensor([[0], [2]]), 1)
    assert up_right[0, 0].tolist() == [[2, 3, 3], [2, 3, 3]]


def test_the_middle_cut_is_the_image_itself():
    images = pictures(3, 3, 8, 10)
    assert torch.equal(shifted(images, torch.full((2, 3), PAD), PAD), images)


def test_every_shift_is_equally_likely():
    torch.manual_seed(0)
    mean = 400
    moved = RandomShift(PAD)(numbered(81 * mean))
    counts = torch.bincount(moved[:, 0, 4, 4].int(), minlength=81)
    assert len(counts) == 81
    # Chi-square with 80 degrees of freedom: mean 80, standard deviation sqrt(160) = 12.6.
    assert ((counts - mean) ** 2 / mean).sum().item() < 80 + 3 * 12.7


@pytest.mark.parametrize(("pad", "moves"), [(1, 9), (2, 25)])
def test_the_largest_shift_is_a_setting(pad, moves):
    torch.manual_seed(0)
    moved = RandomShift(pad)(numbered(1000, pixels=2 * pad + 1))
    assert moved[:, 0, pad, pad].unique().tolist() == [*range(moves)]


def test_one_draw_an_image_and_all_its_channels_move_together():
    torch.manual_seed(0)
    first = numbered(50)
    moved = RandomShift(PAD)(torch.cat([first, first + 100, first + 150], 1))
    assert torch.equal(moved[:, 1], moved[:, 0] + 100)
    assert torch.equal(moved[:, 2], moved[:, 0] + 150)
    assert moved[:, 0, 4, 4].unique().numel() > 20
    for picture in moved[:, :1]:
        row, column = divmod(picture[0, 4, 4].item(), 9)
        assert torch.equal(picture, slowly(first[0], row, column, PAD))


def test_two_calls_draw_separately():
    torch.manual_seed(0)
    shift, images = RandomShift(PAD), numbered(50)
    now, later = (shift(images)[:, 0, 4, 4] for _ in range(2))
    assert (now != later).sum() > 40  # the same by chance once in 81
    torch.manual_seed(0)
    assert torch.equal(shift(images)[:, 0, 4, 4], now)


def test_it_leaves_its_input_alone():
    torch.manual_seed(0)
    images = pictures(8, 3, 10, 10)
    before = images.clone()
    moved = RandomShift(PAD)(images)
    assert not torch.equal(moved, images)
    moved.zero_()
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    "shift", [RandomShift(PAD).eval(), RandomShift(0), RandomShift(0).eval()], ids=str
)
def test_nothing_moves_in_eval_mode_or_without_a_shift(shift):
    images = pictures(20, 3, 10, 12)
    state = torch.get_rng_state()
    assert torch.equal(shift(images), images)
    assert torch.equal(torch.get_rng_state(), state)  # and nothing is drawn


def test_the_papers_shift_is_the_default():
    assert RandomShift().pad == 4


def test_negative_settings_are_refused():
    with pytest.raises(ValueError, match="got -1"):
        RandomShift(-1)
    with pytest.raises(ValueError, match=r"got -0\.1"):
        GaussianNoise(-0.1)


def test_noise_has_its_standard_deviation():
    torch.manual_seed(0)
    inputs = torch.full((1000, 100), 3.0)
    noise = GaussianNoise(0.1)(inputs) - inputs
    assert noise.mean().item() == pytest.approx(0.0, abs=0.001)
    assert noise.std().item() == pytest.approx(0.1, rel=0.01)
    # A draw for each number, not one a row or column.
    assert noise.std(0).min() > 0.08 and noise.std(1).min() > 0.06
    assert (inputs == 3).all()


def test_noise_is_for_train_mode():
    inputs = torch.randn(5, 3)
    noise = GaussianNoise(0.1)
    assert not torch.equal(noise(inputs), noise(inputs))
    assert torch.equal(noise.eval()(inputs), inputs)
    assert torch.equal(GaussianNoise(0.0)(inputs), inputs)
