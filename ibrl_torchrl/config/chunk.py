"""Settings of action chunks."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.setting import require, setting


@dataclass(kw_only=True)
class ChunkConfig:
    """Action chunk: the actions of one decision, and how many of them are executed."""

    size: int = setting(1, help="Actions of a decision.", at_least=1, at_most=1000, unit="frames")
    replan: int | None = setting(
        None,
        help="Actions executed before the next decision; null: all of the chunk.",
        at_least=1,
        unit="frames",
    )


def require_replan(chunk: ChunkConfig, name: str) -> None:
    """Refuse to execute more actions than a chunk has.

    Args:
        chunk: settings of the chunk.
        name: their name, such as ``"algo.chunk"``.

    Raises:
        UsageError: names the setting and its limit.
    """
    require(
        chunk.replan is None or chunk.replan <= chunk.size,
        f"{name}.replan",
        chunk.replan,
        f"at most {name}.size={chunk.size}",
    )
