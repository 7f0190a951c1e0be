"""Rounds of updates as one CUDA graph: loss, backward, optimiser and targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from tensordict import TensorDictBase

Round = Callable[[Sequence[TensorDictBase]], object]
WARMUP = 3  # rounds before the capture, which allocate and initialise


class GraphedRound:
    """Round of updates that is captured once and replayed.

    The graph reads the batches from fixed memory, into which every call copies its own. Random
    numbers are drawn anew at each replay. Optimisers must keep their step count on the device, see
    :func:`make_capturable`.

    Args:
        round_: runs a round of updates on a list of batches, without reading from the device.
        batches: batches of a round, of the shapes of all later ones. ``WARMUP`` rounds of updates
            are run on them.
    """

    def __init__(self, round_: Round, batches: Sequence[TensorDictBase]) -> None:
        self._batches = [batch.clone() for batch in batches]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP):
                round_([batch.copy() for batch in self._batches])
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            # Copies of the TensorDicts: what updates write into a batch belongs to the graph.
            self._outputs = round_([batch.copy() for batch in self._batches])

    def __call__(self, batches: Sequence[TensorDictBase]) -> object:
        """Run a round; its outputs are overwritten by the next one."""
        for static, batch in zip(self._batches, batches, strict=True):
            static.update_(batch)
        self._graph.replay()
        return self._outputs


def make_capturable(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Let optimisers that have not yet stepped be captured."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["capturable"] = True
