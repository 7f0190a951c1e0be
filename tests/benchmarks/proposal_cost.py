"""Cost of proposals: updates and acting beside TorchRL's losses without them, and of N candidates.

    python tests/benchmarks/proposal_cost.py [--csv FILE] [--seconds 6] [--cases NAME ...]

One thread. The two or more variants of a case take turns in one process; times are medians of
processor time. Networks of three layers of 256 units, observations of 39 and actions of 4 numbers,
as on Meta-World; batches of 256. An update is loss, gradients, Adam and targets.

Cases: each of TorchRL's losses plain and with one imitation policy; ``candidates`` is IBRLTD3Loss
with N candidates, half of them noisy copies of the imitation action and half an edit of each.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import torch
from tables import write_table
from tensordict import TensorDict
from tensordict.nn import NormalParamExtractor, TensorDictModule, TensorDictSequential
from torch import nn
from torchrl.data import Bounded
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import (
    CrossQLoss,
    DDPGLoss,
    REDQLoss,
    SACLoss,
    SoftUpdate,
    TD3Loss,
    TQCLoss,
)

import ibrl_torchrl as ibrl

STATE, ACTION, BATCH, HIDDEN = 39, 4, 256, [256, 256, 256]
SPEC = Bounded(-1.0, 1.0, shape=(ACTION,))
COLUMNS = ["case", "variant", "update_ms", "update_ratio", "acting_ms", "acting_ratio"]


def mlp(inputs, outputs):
    return MLP(inputs, outputs, num_cells=HIDDEN, activation_class=nn.ReLU)


def deterministic(key="action"):
    return TensorDictModule(nn.Sequential(mlp(STATE, ACTION), nn.Tanh()), ["state"], [key])


def stochastic():
    network = nn.Sequential(mlp(STATE, 2 * ACTION), NormalParamExtractor())
    return ProbabilisticActor(
        TensorDictModule(network, ["state"], ["loc", "scale"]),
        ["loc", "scale"],
        distribution_class=TanhNormal,
        return_log_prob=True,
        spec=SPEC,
    )


def critic(outputs=1):
    return ValueOperator(mlp(STATE + ACTION, outputs), ["state", "action"])


def imitation():
    return ibrl.FrozenPolicy(deterministic("bc_action"))


SOFT = {"alpha_init": 0.01, "action_spec": SPEC}
LOSSES = {
    "SACLoss": lambda: SACLoss(stochastic(), critic(), **SOFT),
    "TQCLoss": lambda: TQCLoss(stochastic(), critic(25), num_qvalue_nets=2, **SOFT),
    "REDQLoss": lambda: REDQLoss(stochastic(), critic(), min_alpha=1e-3, **SOFT),
    "CrossQLoss": lambda: CrossQLoss(stochastic(), critic(), **SOFT),
    "TD3Loss": lambda: TD3Loss(deterministic(), critic(), bounds=(-1.0, 1.0)),
    "DDPGLoss": lambda: DDPGLoss(deterministic(), critic()),
}
NUMBERS = (2, 8, 16, 32)


def batch():
    def state():
        return torch.randn(BATCH, STATE)

    flag = torch.zeros(BATCH, 1, dtype=torch.bool)
    content = {"state": state(), "reward": torch.rand(BATCH, 1), "done": flag, "terminated": flag}
    action = torch.rand(BATCH, ACTION) * 2 - 1
    return TensorDict({"state": state(), "action": action, "next": content}, batch_size=[BATCH])


def update_of(loss):
    """Function that runs one update."""
    trained = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, fused=True)
    has_targets = any(name.startswith("target_") for name, _ in loss.named_children())
    targets = SoftUpdate(loss, tau=0.01) if has_targets else None
    data = batch()

    def update():
        out = loss(data.copy())
        optimizer.zero_grad()
        sum(value.mean() for key, value in out.items() if key.startswith("loss_")).backward()
        optimizer.step()
        if targets is not None:
            targets.step()

    return update


def acting_of(policy):
    """Function that acts in one state."""
    state = torch.randn(STATE)

    def act():
        with torch.no_grad():
            policy(TensorDict(state=state))

    return act


def loss_case(name):
    """Variants of one of TorchRL's losses."""
    plain = LOSSES[name]()
    plain.make_value_estimator(gamma=0.99)
    loss = ibrl.bootstrap_from(LOSSES[name](), [imitation()], gamma=0.99)
    actor = ibrl.tied_copy(plain.actor_network).eval()
    return {
        "plain": (update_of(plain), acting_of(actor)),
        "one proposal": (update_of(loss), acting_of(ibrl.hybrid_policy(loss))),
    }


def candidates_case():
    """IBRLTD3Loss with N candidates."""
    return {f"N = {number}": candidates(number) for number in NUMBERS}


def candidates(number):
    scale = ibrl.Normalize.identity(STATE + ACTION)
    edit = ibrl.ResidualActor(ibrl.StateActor(scale, ACTION, hidden=HIDDEN))
    actor = TensorDictModule(edit, ["state", "bc_action"], ["rl_action"])
    ensemble = ibrl.StateCriticEnsemble(
        ibrl.Normalize.identity(STATE), ACTION, num_critics=3, hidden=HIDDEN
    )
    critics = ibrl.CriticEnsemble(ensemble, ["state", "action"])
    proposals = ibrl.SampledProposals(imitation(), number // 2, noise_std=0.1)
    loss = ibrl.IBRLTD3Loss(actor, critics, [proposals]).make_value_estimator(gamma=0.99)
    policy = TensorDictSequential(ibrl.hybrid_policy(loss))
    return update_of(loss), acting_of(policy)


CASES = {name: lambda name=name: loss_case(name) for name in LOSSES}
CASES["candidates"] = candidates_case


def timed(function, repeats):
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats * 1e3


def measure(name, seconds):
    torch.manual_seed(0)
    variants = CASES[name]()
    times = defaultdict(list)
    for functions in variants.values():
        for function in functions:
            timed(function, 3)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) == 0:
        for variant, (update, act) in variants.items():
            times[variant, "update"].append(timed(update, 2))
            times[variant, "act"].append(timed(act, 10))
    first = next(iter(variants))
    rows = []
    for variant in variants:
        update, act = (median(times[variant, kind]) for kind in ("update", "act"))
        ratios = [median(times[first, kind]) for kind in ("update", "act")]
        numbers = (update, update / ratios[0], act, act / ratios[1])
        rows.append([name, variant, *(f"{number:.3g}" for number in numbers)])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\t".join(COLUMNS))
    rows = []
    for name in options.cases:
        for row in measure(name, options.seconds):
            rows.append(row)
            print("\t".join(row), flush=True)
    write_table(COLUMNS, rows, options.csv)


if __name__ == "__main__":
    main()
