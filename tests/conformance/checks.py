"""Checks of an implementation of IBRL through its adapter."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from conformance.adapter import Batch, Implementation, Make, Settings

Check = Callable[[Make], None]

CHECKS: dict[str, Check] = {}
"""Checks by name, in the order of the documentation."""

NOT_SUPPORTED = "not supported"

NETWORKS = 2
"""Number of random implementations in checks that one lucky set of weights could pass."""


def run_checks(make: Make) -> dict[str, str]:
    """Run every check.

    Args:
        make: adapter class of the implementation.

    Returns:
        For each check ``""`` if it passed, the message if it failed, or ``"not supported"`` if the
        adapter raised ``NotImplementedError``.
    """
    results = {}
    for name, check in CHECKS.items():
        try:
            check(make)
            results[name] = ""
        except NotImplementedError:
            results[name] = NOT_SUPPORTED
        except AssertionError as error:
            results[name] = str(error)
    return results


def _check(function: Check) -> Check:
    """Decorator of a check: registration under its name and fixed seeds."""

    @functools.wraps(function)
    def seeded(make: Make) -> None:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        function(make)

    CHECKS[function.__name__.removeprefix("check_")] = seeded
    return seeded


# Critics


@_check
def check_acting_critics(make: Make) -> None:
    """The critics that choose while acting, online or target, are those that are trained.

    Trains the critics to prefer another proposal than at the start; the choice must follow.
    """
    implementation, states = make(Settings()), _states(64)
    proposals = _proposals(implementation, states)
    first = _executed(implementation, states, proposals)
    number = proposals.shape[1]
    is_first = torch.arange(number) == first[:, None]
    batch = _transitions(64 * number)._replace(
        state=states.repeat_interleave(number, 0),
        action=proposals.flatten(0, 1),
        reward=torch.where(is_first, -1.0, 1.0).flatten(),
        terminated=torch.ones(64 * number, dtype=torch.bool),
    )

    def minima() -> list[Tensor]:
        actions = _proposals(implementation, states)
        return [_minimum(implementation, states, actions, target) for target in (False, True)]

    def share_changed(values: Tensor) -> float:
        return (values.argmax(-1) != first).float().mean().item()

    for updates in range(1, 201):
        implementation.update(batch)
        if updates % 5 == 0 and min(map(share_changed, minima())) > 0.8:
            break
    else:
        raise AssertionError(
            "200 critic updates do not reverse the order of the proposals' values: the values are "
            "those of critics that are not trained"
        )
    chosen = _executed(implementation, states, _proposals(implementation, states))
    share = max(_is_greedy(values, chosen).float().mean().item() for values in minima())
    assert share > 0.6, (
        "actions are chosen by critics that are not trained: after critic updates, "
        f"{share:.0%} of the choices have the highest value"
    )


@_check
def check_members_differ(make: Make) -> None:
    """The members of the ensemble differ at the start and after updates on the same batches."""
    implementation = make(Settings(num_critics=3))
    batch = _transitions(64)
    for moment in ("at the start", "after 5 updates"):
        for target, name in ((False, "critics"), (True, "target critics")):
            values = _values(implementation, batch.next_state, batch.action[:, None], target)[:, 0]
            smallest = min(
                (values[:, i] - values[:, j]).abs().max().item()
                for i, j in itertools.combinations(range(3), 2)
            )
            assert smallest > 1e-3 * values.std(0).mean().item(), (
                f"members of the {name} have equal values {moment}: the ensemble is one critic"
            )
        for _ in range(5 if moment == "at the start" else 0):
            implementation.update(batch)


# Choice while acting


@_check
def check_greedy_choice(make: Make) -> None:
    """The greedy choice is the argmax over proposals of the minimum over critics."""
    for _ in range(NETWORKS):
        implementation, states = make(Settings()), _states(64)
        proposals = _proposals(implementation, states)
        values = _minimum(implementation, states, proposals)
        greedy = _is_greedy(values, _executed(implementation, states, proposals))
        assert greedy.all(), (
            f"{(~greedy).float().mean().item():.0%} of the greedy choices are not the argmax over "
            "proposals of the minimum over critics"
        )


@_check
def check_soft_choice(make: Make) -> None:
    """The soft choice is sampled from softmax(beta * minimum over critics): chi-square test."""
    states, draws = _states(16), 1000
    implementation = make(Settings(mode="soft"))
    values = _minimum(implementation, states, _proposals(implementation, states))
    gap = (values.amax(-1) - values.amin(-1)).median().item()
    assert gap > 0, "all proposals have the same value"
    beta = 2 / gap  # for probabilities far from 0, 1 and 1/2
    implementation = make(Settings(mode="soft", beta=beta))
    proposals = _proposals(implementation, states)
    number = proposals.shape[1]
    values = _minimum(implementation, states, proposals)
    chosen = _executed(
        implementation,
        states.repeat_interleave(draws, 0),
        proposals.repeat_interleave(draws, 0),
    )
    counts = torch.nn.functional.one_hot(chosen.view(16, draws), number).sum(1)
    expected = draws * torch.softmax(beta * values, -1)
    usable = expected.amin(-1) >= 20
    assert usable.any(), "the values of the proposals are too different for a test of frequencies"
    statistic = ((counts - expected).square() / expected)[usable].sum().item()
    freedom = int(usable.sum()) * (number - 1)
    # Mean and variance of chi-square are its degrees of freedom and twice that.
    if statistic > freedom + 10 * math.sqrt(2 * freedom):
        others = {
            "softmax(exp(beta * Q))": torch.softmax((beta * values).exp(), -1),
            "softmax(Q)": torch.softmax(values, -1),
            "softmax(-beta * Q)": torch.softmax(-beta * values, -1),
            "the argmax": (values == values.amax(-1, keepdim=True)).float(),
        }
        errors = {
            name: (counts / draws - shares).abs().max().item() for name, shares in others.items()
        }
        closest = min(errors, key=lambda name: errors[name])
        hint = f"; they are those of {closest}" if errors[closest] < 0.05 else ""
        raise AssertionError(
            "frequencies of the soft choice are not those of softmax(beta * Q): chi-square "
            f"{statistic:.0f} at {freedom} degrees of freedom{hint}"
        )


@_check
def check_epsilon_choice(make: Make) -> None:
    """Epsilon is the probability of a uniformly random choice: 0 is greedy, 1 is uniform."""
    size = 2000
    for epsilon in (0.0, 0.3, 1.0):
        implementation, states = make(Settings(mode="epsilon", epsilon=epsilon)), _states(size)
        proposals = _proposals(implementation, states)
        values = _minimum(implementation, states, proposals)
        chosen = _executed(implementation, states, proposals)
        share = 1 - _is_greedy(values, chosen).float().mean().item()
        number = proposals.shape[1]
        expected = epsilon * (number - 1) / number
        bound = 6 * math.sqrt(expected * (1 - expected) / size)  # of a binomial proportion
        assert abs(share - expected) <= bound + 1e-3, (
            f"with epsilon = {epsilon}, {share:.3f} of the choices are not greedy, "
            f"expected {expected:.3f}"
        )


# Imitation policies


@_check
def check_imitation_is_frozen(make: Make) -> None:
    """Imitation actions change neither by ``train()`` nor by updates; no gradients, no dropout."""
    implementation, states = make(Settings()), _states(16)
    batch = _transitions(16)

    def actions() -> Tensor:
        targets = (False, True)
        return torch.cat([_proposals(implementation, states, target)[:, 1:] for target in targets])

    before, target_before = actions(), _td_target(implementation, batch)
    assert _close(actions(), before), "imitation actions are random at the start: dropout is active"
    implementation.train()
    for _ in range(2):
        assert _close(actions(), before), "train() changes imitation actions: dropout is active"
        assert _close(_td_target(implementation, batch), target_before), (
            "train() changes the TD target: dropout of an imitation policy is active in it"
        )
    parameters = [value.detach().clone() for value in implementation.parameters("imitation")]
    for _ in range(2):
        implementation.update(batch, actor=True)
    after = implementation.parameters("imitation")
    assert all(map(torch.equal, parameters, after)), "updates change the imitation policies"
    assert not any(map(_has_gradient, after)), "imitation policies receive gradients"
    assert _close(actions(), before), "updates change the imitation actions"


# TD target


@_check
def check_one_subset(make: Make) -> None:
    """The TD target takes its minimum over one random subset of K critics for the whole batch.

    The choice among proposals and the value of the chosen one come from the same subset. Which
    proposals take part is left to ``td_target``.
    """
    settings = Settings(num_critics=3, num_min=2)
    subsets = [*itertools.combinations(range(3), 2)]
    for _ in range(NETWORKS):
        implementation, batch = make(settings), _transitions(32)
        proposals = _proposals(implementation, batch.next_state, target=True)
        values = _values(implementation, batch.next_state, proposals, target=True)  # [B, N, E]
        minima = torch.stack([values[..., subset].amin(-1) for subset in subsets])
        allowed = torch.cat([minima.amax(-1)[None], minima.movedim(-1, 0)])  # [1 + N, subsets, B]
        seen: set[int] = set()
        for _ in range(100):
            next_values = (_td_target(implementation, batch) - batch.reward) / settings.gamma
            matches = torch.isclose(next_values, allowed, rtol=1e-4, atol=1e-5)
            for_all = matches.all(-1).any(0)
            if not for_all.any():
                if _close(next_values, values.amin(-1).amax(-1)):
                    fault = "is a minimum over all critics instead of K of them"
                elif matches[0].any(0).all():
                    fault = "draws a subset of critics for each transition instead of for the batch"
                else:
                    fault = "is not the value of the chosen proposal by the K critics that chose it"
                raise AssertionError(f"the TD target {fault}")
            seen.update(for_all.nonzero().flatten().tolist())
            if len(seen) == len(subsets):
                break
        assert len(seen) == len(subsets), (
            f"only {len(seen)} of the {len(subsets)} subsets of 2 of 3 critics are ever drawn"
        )


@_check
def check_ends(make: Make) -> None:
    """Terminated transitions do not bootstrap; truncated ones do."""
    implementation, batch = make(Settings()), _transitions(16)
    ends = torch.ones(16, dtype=torch.bool)
    terminal = _td_target(implementation, batch._replace(terminated=ends))
    assert _close(terminal, batch.reward), "terminated transitions bootstrap"
    truncated = _td_target(implementation, batch._replace(truncated=ends))
    assert _close(truncated, _td_target(implementation, batch)), (
        "truncated transitions bootstrap differently from others: a time limit is no termination"
    )


@_check
def check_n_steps(make: Make) -> None:
    """A transition of k steps discounts its next value by gamma^k."""
    settings = Settings()
    implementation, batch = make(settings), _transitions(16)
    next_value = _td_target(implementation, batch) - batch.reward
    for steps in (2, 3):
        target = _td_target(implementation, batch._replace(steps=torch.full((16,), steps)))
        assert _close(target - batch.reward, settings.gamma ** (steps - 1) * next_value), (
            f"the next value of a transition of {steps} steps is not discounted by gamma^{steps}"
        )


@_check
def check_td_target(make: Make) -> None:
    """The TD target is r + gamma * max over proposals of the minimum over target critics.

    After updates, so that target and online networks differ. The minimum is over all critics.
    """
    for _ in range(NETWORKS):
        implementation, batch = make(Settings()), _transitions(64)
        for _ in range(3):
            implementation.update(batch, actor=True)
        found, expected = _td_target(implementation, batch), _known_targets(implementation, batch)
        error = (found - expected[""]).abs().max().item()
        hints = [name for name, target in expected.items() if name and _close(found, target)]
        assert _close(found, expected[""]), (
            "the TD target is not r + gamma * max over proposals of the minimum over target critics"
            + (f": it uses {hints[0]}" if hints else f": largest difference {error:.3g}")
        )


def _known_targets(implementation: Implementation, batch: Batch) -> dict[str, Tensor]:
    """TD targets [B] of one-step transitions: that of IBRL, by ``""``, and faulty ones by name."""
    states = batch.next_state
    proposals = _proposals(implementation, states, target=True)
    values = _values(implementation, states, proposals, target=True)
    online = _values(implementation, states, proposals, target=False)
    acting = _values(implementation, states, _proposals(implementation, states), target=True)
    next_values = {
        "": values.amin(-1).amax(-1),
        "the online critics": online.amin(-1).amax(-1),
        "the online actor": acting.amin(-1).amax(-1),
        "the RL actor's proposal alone": values.amin(-1)[:, 0],
        "the imitation proposals alone": values.amin(-1)[:, 1:].amax(-1),
        "the lowest proposal": values.amin(-1).amin(-1),
        "the mean over critics": values.mean(-1).amax(-1),
        "the maximum over critics": values.amax(-1).amax(-1),
    }
    gamma = Settings.gamma
    return {name: batch.reward + gamma * value for name, value in next_values.items()}


@_check
def check_target_critics(make: Make) -> None:
    """Target critics start as copies, receive no gradients and follow by an EMA of rate tau."""
    settings = Settings()
    implementation, batch = make(settings), _transitions(16)
    assert not implementation.td_target(batch).requires_grad, "the TD target has a gradient"

    def copies(name: str) -> list[Tensor]:
        return [value.detach().clone() for value in implementation.parameters(name)]

    def all_close(left: list[Tensor], right: list[Tensor]) -> bool:
        return len(left) == len(right) and all(map(_close, left, right))

    before = copies("target_critics")
    assert all_close(before, copies("critics")), "target critics do not start as copies"
    for _ in range(2):
        implementation.update(batch)
        online, after = copies("critics"), copies("target_critics")
        assert not any(map(_has_gradient, implementation.parameters("target_critics"))), (
            "target critics receive gradients"
        )

        def moved(rate: float, old: list[Tensor], new: list[Tensor]) -> list[Tensor]:
            return [torch.lerp(*pair, rate) for pair in zip(old, new, strict=True)]

        exchanged = all_close(after, moved(1 - settings.tau, before, online))
        assert all_close(after, moved(settings.tau, before, online)), (
            "target critics do not move to (1 - tau) * target + tau * online"
            + (": tau and 1 - tau are exchanged" if exchanged else "")
        )
        before = after


# Parts of checks


def _states(size: int) -> Tensor:
    """Random states float [B, S], far apart, so that the best proposal depends on the state."""
    return 3 * torch.randn(size, Settings.state_size)


def _transitions(size: int) -> Batch:
    """Batch [B] of random one-step transitions that end no episode."""
    return Batch(
        state=_states(size),
        action=torch.rand(size, Settings.action_size) * 2 - 1,
        reward=torch.rand(size),
        next_state=_states(size),
        terminated=torch.zeros(size, dtype=torch.bool),
        truncated=torch.zeros(size, dtype=torch.bool),
        steps=torch.ones(size, dtype=torch.int64),
    )


def _proposals(implementation: Implementation, states: Tensor, target: bool = False) -> Tensor:
    """Proposals float [B, N, A] at states [B, S], without gradient.

    Raises:
        AssertionError: fewer than two proposals, or the RL actor is the imitation policy.
    """
    proposals = implementation.propose(states, target=target).detach().clone()
    shape = [*proposals.shape]
    assert len(shape) == 3 and [shape[0], shape[2]] == [len(states), Settings.action_size], (
        f"propose() must return [B, N, A], got {shape}"
    )
    assert shape[1] >= 2, "there must be an RL actor and at least one imitation policy"
    distance = (proposals[:, :1] - proposals[:, 1:]).abs().amax((-1, -2))
    assert (distance > 1e-4).float().mean() > 0.9, (
        "the RL actor proposes the actions of the imitation policy: initialise it independently"
    )
    return proposals


def _values(
    implementation: Implementation, states: Tensor, actions: Tensor, target: bool
) -> Tensor:
    """Values float [B, N, E] of actions [B, N, A] at states [B, S], without gradient."""
    batch, number, _ = actions.shape
    repeated = states.repeat_interleave(number, 0)
    values = implementation.values(repeated, actions.flatten(0, 1), target=target).detach()
    assert values.ndim == 2 and len(values) == batch * number, (
        f"values() must return [B, E], got {[*values.shape]} for a batch of {batch * number}"
    )
    return values.unflatten(0, (batch, number)).clone()


def _minimum(
    implementation: Implementation, states: Tensor, actions: Tensor, target: bool = False
) -> Tensor:
    """Minimum over all critics, float [B, N], of actions [B, N, A] at states [B, S]."""
    return _values(implementation, states, actions, target).amin(-1)


def _executed(implementation: Implementation, states: Tensor, proposals: Tensor) -> Tensor:
    """Indices int64 [B] of the executed actions among proposals [B, N, A]."""
    actions = implementation.act(states).detach()
    distance, index = (proposals - actions[:, None]).abs().amax(-1).min(-1)
    assert (distance < 1e-4).all(), "an executed action is none of the proposals"
    return index


def _is_greedy(values: Tensor, chosen: Tensor) -> Tensor:
    """Whether chosen indices [B] have the highest of values [B, N], up to rounding; bool [B]."""
    chosen_values, highest = values.gather(-1, chosen[:, None])[:, 0], values.amax(-1)
    return chosen_values >= highest - 1e-5 * (1 + highest.abs())


def _td_target(implementation: Implementation, batch: Batch) -> Tensor:
    """TD target float [B] of a batch [B], without gradient."""
    target = implementation.td_target(batch).detach()
    assert target.shape == batch.reward.shape, f"td_target() must be [B], got {[*target.shape]}"
    return target.clone()


def _close(left: Tensor, right: Tensor) -> bool:
    """Whether tensors are equal up to rounding."""
    return torch.allclose(left, right, rtol=1e-4, atol=1e-5)


def _has_gradient(parameter: Tensor) -> bool:
    """Whether a parameter has a gradient other than zero."""
    return parameter.grad is not None and bool(parameter.grad.any())
