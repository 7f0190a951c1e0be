"""Adapter of the original code, https://github.com/hengyuan-hu/ibrl at commit 3c457da.

PYTHONPATH: a checkout of the repository; its C++ code need not be compiled. Command::

    cd tests && PYTHONPATH=CHECKOUT python -m conformance conformance.published.original:Original

The adapter is that of ``QAgent`` from states. As in ``train_rl.py``, the agent is in train mode
except while acting. Actions have noise of standard deviation 1e-8. ``ibrl_eps_greedy`` gets
epsilon, as its name says. Not supported: TD targets of transitions that end an episode or have
several steps. The C++ replay (``common_utils/rela/episode.cc``) decides those and gives the agent
the product of discount and mask; updates on such transitions take the adapter's own product.

Stubs: ``einops`` and ``torchvision``, which code for images uses; the ``__init__`` of
``common_utils``, which imports the compiled replay and loggers; its functions ``wrap_ruler`` and
``count_parameters``, which only print. What the agent prints is discarded.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from conformance.adapter import Batch, Implementation, Settings
from conformance.published import stubs

_spec = find_spec("common_utils")
if _spec is None:
    raise ModuleNotFoundError("no checkout of https://github.com/hengyuan-hu/ibrl on PYTHONPATH")
common_utils = sys.modules["common_utils"] = module_from_spec(_spec)  # does not run __init__

with stubs("einops", "torchvision", "torchvision.transforms"):
    from common_utils.py import data_aug, ibrl_utils

    common_utils.ibrl_utils = ibrl_utils
    common_utils.RandomShiftsAug = data_aug.RandomShiftsAug
    common_utils.wrap_ruler = str
    common_utils.count_parameters = lambda module: None

    from bc.bc_policy import StateBcPolicy, StateBcPolicyConfig
    from rl.actor import FcActorConfig
    from rl.critic import MultiFcQConfig
    from rl.q_agent import QAgent, QAgentConfig

NOISE = 1e-8


class Zeros(nn.Module):
    """Critics with values [B, E] of zero, in place of the agent's."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.value


class Original(Implementation):
    """``QAgent`` from states with small networks; the TD target is greedy in every mode."""

    def __init__(self, settings: Settings) -> None:
        size, shape = settings.action_size, (settings.state_size,)
        config = QAgentConfig(
            device="cpu",
            lr=settings.learning_rate,
            critic_target_tau=settings.tau,
            act_method="ibrl_soft" if settings.mode == "soft" else "ibrl",
            bootstrap_method="ibrl",
            ibrl_eps_greedy=settings.epsilon if settings.mode == "epsilon" else 1,
            soft_ibrl_beta=settings.beta,
            state_critic=MultiFcQConfig(
                num_q=settings.num_critics, num_k=settings.num_min, hidden_dim=32
            ),
            state_actor=FcActorConfig(hidden_dim=16, dropout=0),
        )
        self.settings = settings
        with redirect_stdout(io.StringIO()):
            self.agent = QAgent(True, shape, (), size, "", config)
        self.imitation = StateBcPolicy(shape, size, StateBcPolicyConfig(hidden_dim=16, dropout=0.5))
        self.agent.add_bc_policy(self.imitation)

    def propose(self, state: Tensor, *, target: bool = False) -> Tensor:
        actor = self.agent.actor_target if target else self.agent.actor
        obs = {"state": state}
        return torch.stack([actor(obs, 0.0).mean, self.imitation.act(obs)], 1)

    def act(self, state: Tensor) -> Tensor:
        with ibrl_utils.eval_mode(self.agent):
            return self.agent.act({"state": state}, eval_mode=False, stddev=NOISE)

    def values(self, state: Tensor, action: Tensor, *, target: bool = False) -> Tensor:
        critic = self.agent.critic_target if target else self.agent.critic
        return critic(state, action)

    def td_target(self, batch: Batch) -> Tensor:
        if (batch.terminated | batch.truncated | (batch.steps != 1)).any():
            raise NotImplementedError
        agent, critic = self.agent, self.agent.critic
        agent.critic = zeros = Zeros(len(batch.reward), self.settings.num_critics)
        try:
            agent.update_critic(
                obs={"state": batch.state},
                reply={"action": batch.action},
                reward=batch.reward,
                discount=self._discount(batch),
                next_obs={"state": batch.next_state},
                stddev=NOISE,
            )
        finally:
            agent.critic = critic
        return -zeros.value.grad[:, 0] * len(batch.reward) / 2

    def update(self, batch: Batch, *, actor: bool = False) -> None:
        fields = SimpleNamespace(
            obs={"state": batch.state},
            action={"action": batch.action},
            reward=batch.reward,
            bootstrap=self._discount(batch),
            next_obs={"state": batch.next_state},
        )
        self.agent.update(fields, NOISE, actor)

    def train(self) -> None:
        self.agent.train(True)

    def parameters(self, name: str) -> list[Tensor]:
        networks = {
            "critics": self.agent.critic,
            "target_critics": self.agent.critic_target,
            "imitation": self.imitation,
        }
        return [*networks[name].parameters()]

    def _discount(self, batch: Batch) -> Tensor:
        """Discount [B] of one-step transitions, 0 after termination."""
        return self.settings.gamma * (~batch.terminated).float()
