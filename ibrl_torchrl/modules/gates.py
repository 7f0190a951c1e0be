"""Gates: when a trained policy's action may be chosen instead of an imitation policy's."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Gate(ABC):
    """Test whether critics are sure enough that a candidate beats the imitation policies.

    Critics that have seen little value unseen actions at random, and the maximum over proposals
    then picks their errors. With a gate, a trained policy's candidate takes part in the choice only
    where it passes; imitation policies' candidates always do.
    """

    @abstractmethod
    def __call__(self, values: Tensor, baseline: Tensor) -> Tensor:
        """Candidates that pass.

        Args:
            values: float [*, N, E], value of each candidate by each critic.
            baseline: float [*, 1, E], values of the best imitation candidate.

        Returns:
            bool [*, N].
        """


class AgreementGate(Gate):
    """Gate by the fraction of critics that value a candidate above the baseline.

    Args:
        share: fraction of critics that must agree, in (0, 1]; default 1, all of them.

    Raises:
        ValueError: ``share`` is out of range.

    Example:
        >>> import torch
        >>> values = torch.tensor([[0.3, 0.3, 0.1]])  # one candidate, three critics
        >>> AgreementGate(0.6)(values, torch.tensor([[0.2, 0.2, 0.2]]))
        tensor([True])
    """

    def __init__(self, share: float = 1.0) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self.share = share

    def __call__(self, values: Tensor, baseline: Tensor) -> Tensor:
        """Candidates [*, N] that at least ``share`` of the critics value above the baseline."""
        return (values > baseline).to(values.dtype).mean(-1) >= self.share


class ConfidenceGate(Gate):
    """Gate by a lower confidence bound of the advantage over the baseline.

    With d_i the difference of critic i's values of candidate and baseline, a candidate passes where
    mean(d) - kappa * std(d) > 0.

    Args:
        kappa: number of standard deviations over the ensemble, at least 0; default 1.

    Raises:
        ValueError: ``kappa`` is negative.

    Example:
        >>> import torch
        >>> values, baseline = torch.tensor([[0.5, 0.3]]), torch.tensor([[0.2, 0.2]])
        >>> ConfidenceGate(1.0)(values, baseline), ConfidenceGate(2.0)(values, baseline)
        (tensor([True]), tensor([False]))
    """

    def __init__(self, kappa: float = 1.0) -> None:
        if kappa < 0:
            raise ValueError(f"kappa must not be negative, got {kappa}")
        self.kappa = kappa

    def __call__(self, values: Tensor, baseline: Tensor) -> Tensor:
        """Candidates [*, N] whose lower confidence bound is above 0."""
        difference = values - baseline
        deviation = difference.std(-1) if values.shape[-1] > 1 else 0.0
        return difference.mean(-1) - self.kappa * deviation > 0
