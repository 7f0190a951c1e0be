"""Settings of the replay buffer."""

from __future__ import annotations

from dataclasses import dataclass

from ibrl_torchrl.config.setting import MAX_BATCH, require, setting


@dataclass(kw_only=True)
class ReplayConfig:
    """Replay buffer."""

    capacity: int = setting(
        200_000, help="Capacity.", at_least=1, at_most=10**9, unit="transitions"
    )
    batch_size: int = setting(
        128, help="Batch size; paper: 256.", at_least=1, at_most=MAX_BATCH, unit="transitions"
    )
    storage: str = setting(
        "memory",
        help="Storage: memory, files of the run folder, or the learner's device.",
        choices=("memory", "memmap", "device"),
    )
    n_steps: int = setting(
        3,
        help="Steps (of chunks: chunks) of the n-step return; original code: 3.",
        at_least=1,
        at_most=1000,
    )
    time_limit_terminates: bool = setting(
        False, help="Treat the horizon as terminal, as the original code does."
    )
    prioritized: bool = setting(False, help="Sample by TD error instead of uniformly.")
    alpha: float = setting(0.6, help="Exponent of the priorities.", at_least=0)
    beta: float = setting(0.4, help="Exponent of the importance weights.", at_least=0)
    offline_fraction: float | None = setting(
        None,
        help="Exact fraction of each batch from demonstrations; null: one buffer; RLPD: 0.5.",
        above=0,
        below=1,
    )
    offline_fraction_final: float | None = setting(
        None,
        help="Fraction to which offline_fraction is annealed linearly; null: constant.",
        at_least=0,
        below=1,
    )
    offline_fraction_frames: int | None = setting(
        None,
        help="Frames over which it is annealed, from the first of the warm-up.",
        at_least=1,
        unit="frames",
    )
    keep_successes: bool = setting(
        False, help="Add successful episodes to the demonstrations; needs offline_fraction."
    )
    imitate_successes: bool = setting(
        False,
        help="Add successful episodes to those that behaviour cloning in the actor loss imitates, "
        "too; needs algo.loss.bc_weight.",
    )
    keep_interventions: bool = setting(
        True,
        help="Add what somebody else did in place of the policy to the demonstrations of "
        "offline_fraction; HIL-SERL's rule.",
    )
    offline_reward: float | None = setting(
        None, help="Reward of every demonstrated step; null: the recorded one; SQIL: 1."
    )
    online_reward: float | None = setting(
        None, help="Reward of every other step; null: the environment's; SQIL: 0."
    )
    cache_proposals: bool = setting(
        False, help="Store the imitation policies' actions, so that updates do not compute them."
    )

    def __post_init__(self) -> None:
        mixed = self.offline_fraction is not None
        require(
            mixed or not self.keep_successes,
            "replay.keep_successes",
            self.keep_successes,
            "false unless replay.offline_fraction is set",
        )
        self._require_annealing()
        for name in ("offline_fraction", "offline_fraction_final"):
            fraction = getattr(self, name)
            if fraction is not None and 0 < fraction < 1:
                require(
                    0 < round(fraction * self.batch_size) < self.batch_size,
                    f"replay.{name}",
                    fraction,
                    f"a fraction of which replay.batch_size={self.batch_size} has one or more "
                    "transitions of each kind",
                )
        require(
            mixed or self.offline_reward == self.online_reward,
            "replay.offline_reward",
            self.offline_reward,
            "replay.online_reward unless replay.offline_fraction is set",
        )

    @property
    def retains_successes(self) -> bool:
        """Whether successful episodes stay when the newest transitions have replaced them."""
        return self.keep_successes or self.imitate_successes

    @property
    def interventions_join_demos(self) -> bool:
        """Whether interventions, if there are any, are added to a buffer of demonstrations."""
        return self.keep_interventions and self.offline_fraction is not None

    def _require_annealing(self) -> None:
        """Refuse annealing without a fraction, an end or a duration.

        Raises:
            UsageError: names the setting that is missing.
        """
        final, frames = self.offline_fraction_final, self.offline_fraction_frames
        require(
            final is None or self.offline_fraction is not None,
            "replay.offline_fraction_final",
            final,
            "null unless replay.offline_fraction is set",
        )
        require(
            (final is None) == (frames is None),
            "replay.offline_fraction_frames",
            frames,
            "null without replay.offline_fraction_final"
            if final is None
            else f"a number of frames with replay.offline_fraction_final={final:g}",
        )
