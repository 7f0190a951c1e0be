"""Short names for contents, by which runs tell whether they began alike."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from torch import Tensor, nn

from ibrl_torchrl.data import Demos


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """16 hexadecimal digits that differ where types, shapes or numbers do."""
    digest = sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def inputs_of(demos: Demos, bc: nn.Module) -> dict[str, str]:
    """Fingerprints of what a run learns from: ``"demos"`` and ``"bc"``."""
    observed = (
        episode[key]
        for episode in demos.episodes
        for key in sorted(episode.keys(True, True), key=str)
    )
    return {"demos": fingerprint(observed), "bc": fingerprint(bc.state_dict().values())}
