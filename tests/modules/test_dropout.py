"""Dropout from 16 random bits a unit: laws of dropout, on sizes that are no multiple of four."""

import pytest
import torch

from ibrl_torchrl.modules.dropout import FastDropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_scale_of_units(p):
    torch.manual_seed(0)
    output = FastDropout(p)(torch.ones(3, 100_001))
    kept = output > 0
    assert torch.allclose(output[kept], torch.tensor(1 / (1 - p)), rtol=1e-4)
    # Four standard deviations of the share, of all units and of each of a word's four.
    assert abs(kept.float().mean() - (1 - p)) < 4 * (p * (1 - p) / output.numel()) ** 0.5
    by_place = kept.flatten()[:300_000].view(-1, 4).float()
    assert (by_place.mean(0) - (1 - p)).abs().max() < 4 * (p * (1 - p) / 75_000) ** 0.5
    correlation = torch.corrcoef(by_place.T) - torch.eye(4)  # units of one word are independent
    assert correlation.abs().max() < 4 / 75_000**0.5


def test_gradients_pass_where_units_are_kept():
    torch.manual_seed(0)
    inputs = torch.randn(7, 5, requires_grad=True)
    output = FastDropout(0.5)(inputs)
    (gradient,) = torch.autograd.grad(output.sum(), inputs)
    assert torch.equal(output, inputs * gradient) and set(gradient.unique().tolist()) == {0.0, 2.0}


def test_one_seed_gives_one_mask():
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(FastDropout(0.5)(torch.ones(33)))
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_without_effect_in_eval_mode_and_at_p_0():
    inputs = torch.randn(4, 3)
    state = torch.get_rng_state()
    assert torch.equal(FastDropout(0.5).eval()(inputs), inputs)
    assert torch.equal(FastDropout(0.0)(inputs), inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(FastDropout(1.0)(inputs), torch.zeros(4, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    assert FastDropout(0.5)(torch.ones(8, dtype=dtype)).dtype == dtype


def test_other_shapes_and_devices():
    assert FastDropout(0.5)(torch.ones(0, 3)).shape == (0, 3)
    assert FastDropout(0.5)(torch.tensor(1.0)).shape == ()
    assert FastDropout(0.5)(torch.ones(2, 3, device="meta")).device.type == "meta"


def test_compiles_without_a_graph_break():
    dropout, inputs = FastDropout(0.5), torch.ones(5, 7)
    compiled = torch.compile(dropout, backend="eager", fullgraph=True)
    masks = []
    for module in (dropout, compiled):
        torch.manual_seed(0)
        masks.append(module(inputs))
    assert torch.equal(*masks)
