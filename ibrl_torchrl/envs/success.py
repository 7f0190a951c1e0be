"""Rules by which a step of a Gymnasium environment is a success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ibrl_torchrl.errors import UsageError, brief


class SuccessRule(Protocol):
    """Rule that tells from the result of a step whether the task is solved."""

    def __call__(self, reward: float, terminated: bool, info: Mapping[str, Any]) -> bool:
        """Whether the task is solved.

        Raises:
            UsageError: the environment does not report what the rule reads.
        """
        ...


@dataclass(frozen=True)
class InfoSuccess:
    """Success where an entry of ``info`` is true, or above 0.

    Attributes:
        key: name of the entry, which every step must have.
    """

    key: str

    def __call__(self, reward: float, terminated: bool, info: Mapping[str, Any]) -> bool:
        if self.key not in info:
            found = brief(", ".join(map(str, info))) or "nothing"
            raise UsageError(
                f"task.success=info:{self.key}: the info of a step has {found}; set task.success="
                "info:KEY to an entry that marks success, reward:NUMBER or terminated"
            )
        return bool(np.any(np.asarray(info[self.key]) > 0))


@dataclass(frozen=True)
class RewardSuccess:
    """Success where the reward of a step is at least ``threshold``."""

    threshold: float

    def __call__(self, reward: float, terminated: bool, info: Mapping[str, Any]) -> bool:
        return reward >= self.threshold


@dataclass(frozen=True)
class TerminationSuccess:
    """Success where the environment terminates its episode."""

    def __call__(self, reward: float, terminated: bool, info: Mapping[str, Any]) -> bool:
        return terminated


# By the word before the colon; a value is what follows it.
_RULES: Mapping[str, Callable[[str], SuccessRule]] = {
    "info": InfoSuccess,
    "reward": lambda value: RewardSuccess(float(value)),
    "terminated": lambda value: TerminationSuccess(),
}


def success_rule(text: str) -> SuccessRule:
    """Rule from its text.

    Args:
        text: ``"info:KEY"``, ``"reward:NUMBER"`` (of one step, at least) or ``"terminated"``.

    Raises:
        UsageError: it is none of these.

    Example:
        >>> rule = success_rule("reward:-0.05")
        >>> rule(-0.1, False, {}), rule(-0.01, False, {})
        (False, True)
    """
    word, colon, value = text.partition(":")
    try:
        if word in _RULES and bool(value) == bool(colon) == (word != "terminated"):
            return _RULES[word](value)
    except ValueError:  # no number
        pass
    raise UsageError(
        f"task.success={brief(text)} must be info:KEY, reward:NUMBER or terminated, such as "
        "info:is_success"
    )
