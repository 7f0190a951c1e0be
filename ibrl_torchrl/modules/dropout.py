"""Dropout whose random numbers do not cost more than the layer it follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``, several times faster on the CPU.

    PyTorch draws each Bernoulli variable of a CPU mask on its own: 0.9 ms for 256 x 256, three
    times the matrix product before it. Here one 64-bit draw decides four units, so that the
    probability is a multiple of 2^-16. On other devices this is ``torch.nn.Dropout``.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop units of a tensor of any shape in train mode; identity in eval mode."""
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        draws = torch.empty((input.numel() + 3) // 4, dtype=torch.int64)
        draws.random_(-(2**63), None)
        uniform = draws.view(torch.int16)[: input.numel()].view(input.shape)  # in [-2^15, 2^15)
        kept = uniform >= round(self.p * 2**16) - 2**15
        return input * (kept.to(input.dtype) / (1 - self.p))
