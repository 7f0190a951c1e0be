"""Parts of a training run from settings, on any device, without a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from ibrl_torchrl.builders.agent import Agent, build_agent
from ibrl_torchrl.builders.imitation import frozen_policies
from ibrl_torchrl.builders.policies import build_imitation_policy
from ibrl_torchrl.builders.replay import build_replay
from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.data.replay.buffer import Replay
from ibrl_torchrl.keys import EXPLORE, WARMUP
from ibrl_torchrl.modules import Normalize
from ibrl_torchrl.rollouts.episode import LocalRollouts
from ibrl_torchrl.training.learner import Learner, build_learner

STATES, PROPRIO, ACTIONS, HORIZON = 6, 4, 2, 12
SMALL = [
    *("imitation.bc.network.hidden=[8]", "algo.actor.hidden=[8]", "algo.critic.hidden=[8]"),
    *("replay.batch_size=8", "replay.capacity=200", "algo.warmup.episodes=1"),
]
PIXELS = ["experiment=small_pixels", "algo.actor.head_size=8", "algo.critic.head_size=8"]
# Random numbers of a GPU differ from the CPU's: what compares both draws none.
EXACT = [
    *("algo.actor.dropout=0", "algo.loss.policy_noise=0", "algo.exploration_noise=0"),
    # Adam divides by the gradient's size, so that rounding errors of tiny ones become steps.
    "algo.update.lr=1e-5",
    "algo.proposals.num_min=${algo.critic.num_critics}",
]

METHODS = {
    "ibrl": [],
    "soft": ["algo=ibrl_soft"],
    "epsilon": ["algo.proposals.select=epsilon"],
    "cautious": ["algo=ibrl_cautious", "algo.proposals.bootstrap.gate=confidence"],
    "target-critic": ["algo.proposals.acting_critic=target"],
    "candidates": ["algo.proposals.samples=3"],
    "residual": ["algo=residual"],
    "expo": ["algo=expo"],
    "rft": ["algo=rft_dynamic", "imitation.bc.network.dropout=${algo.actor.dropout}"],
    "rlpd+": ["algo=rlpd_plus"],
    "sac": ["algo=ibrl_sac"],
    "tqc": ["algo=ibrl_tqc"],
    "redq": ["algo=ibrl_redq_sac"],
    "sac-by-value": ["algo=ibrl_sac", "algo.loss.choose_by=value"],
    "gmm": ["imitation.bc.policy=gmm", "algo.proposals.samples=3"],
    "cvae": ["imitation.bc.policy=cvae"],
    "flow": ["imitation.bc.policy=flow", "algo.proposals.samples=3"],
    "diffusion": ["imitation.bc.policy=diffusion", "imitation.bc.diffusion.steps=10"],
    "chunks": ["algo.chunk.size=3", "imitation.bc.chunk={size: 5, replan: 4}"],
    "chunk-prefix": ["imitation.bc.chunk={size: 5, replan: 2}"],
    "cached": ["replay.cache_proposals=true"],
    "prioritised": ["replay.prioritized=true"],
    "prioritised-halves": ["algo=rlpd", "replay.prioritized=true"],
    "replay-on-device": ["replay.storage=device"],
    "prioritised-on-device": ["replay.storage=device", "replay.prioritized=true"],
    "halves-on-device": ["algo=rlpd_plus", "replay.storage=device"],
    "pixels-on-device": [*PIXELS, "algo=ibrl", "replay.storage=device"],
    "drq": [*PIXELS, "algo=ibrl", "encoder@algo.encoder=drq", "algo.critic.head=drq"],
    "vit": [*PIXELS, "algo=ibrl", "replay.cache_proposals=false"],
}
SETTINGS = {name: [*SMALL, *settings] for name, settings in METHODS.items()}
# Its imitation policy has the actor's network.
SETTINGS["rft-pixels"] = [*SMALL[1:], *PIXELS, "algo=rft_pixels"]


class Scene(EnvBase):
    """Environment of states, proprioception and images of 12 steps; the sum of actions decides.

    Args:
        device: device of what it returns.
        image_size: height and width of the images in pixels.
    """

    def __init__(self, device: torch.device, image_size: int = 32) -> None:
        super().__init__(device=device, batch_size=[])
        flag = Categorical(2, shape=(1,), dtype=torch.bool, device=device)
        image = Bounded(0, 255, (3, image_size, image_size), dtype=torch.uint8, device=device)
        self.observation_spec = Composite(
            state=Unbounded(STATES, device=device),
            proprio=Unbounded(PROPRIO, device=device),
            corner2_image=image,
            success=flag,
            device=device,
        )
        self.action_spec = Bounded(-1.0, 1.0, shape=(ACTIONS,), device=device)
        self.reward_spec = Bounded(0.0, 1.0, shape=(1,), device=device)
        self.done_spec = Composite(
            done=flag.clone(), terminated=flag.clone(), truncated=flag.clone(), device=device
        )
        self.image_size = image_size
        self.generator = torch.Generator()
        self.elapsed = 0

    def _set_seed(self, seed: int | None) -> None:
        self.generator.manual_seed(seed or 0)

    def _reset(self, tensordict: TensorDict | None = None) -> TensorDict:
        self.elapsed = 0
        return TensorDict(self._observation(False), device=self.device)

    def _step(self, tensordict: TensorDict) -> TensorDict:
        self.elapsed += 1
        end = self.elapsed == HORIZON
        success = end and bool(tensordict["action"].cpu().sum() > 0)
        results = {
            "reward": torch.tensor([float(success)]),
            "terminated": torch.tensor([success]),
            "truncated": torch.tensor([end and not success]),
            "done": torch.tensor([end]),
        }
        return TensorDict(self._observation(success) | results, device=self.device)

    def _observation(self, success: bool) -> dict[str, Tensor]:
        size = (3, self.image_size, self.image_size)
        return {
            "state": torch.randn(STATES, generator=self.generator),
            "proprio": torch.randn(PROPRIO, generator=self.generator),
            "corner2_image": torch.randint(256, size, dtype=torch.uint8, generator=self.generator),
            "success": torch.tensor([success]),
        }


class Parts(NamedTuple):
    """Parts of a run."""

    config: TrainConfig
    env: Scene
    agent: Agent
    learner: Learner
    replay: Replay


def build_parts(
    settings: Sequence[str], device: torch.device, folder: Path, *, image_size: int = 32
) -> Parts:
    """Parts of ``ibrl train`` with settings such as ``"algo=ibrl_sac"``, weights by seed 0."""
    config = parse(TrainConfig, composed("train", ["run_dir=none", "algo=ibrl", *settings]))
    torch.manual_seed(0)
    demo_env, env = Scene(torch.device("cpu"), image_size), Scene(device, image_size)
    normalizers = {"state": Normalize.identity(STATES), "proprio": Normalize.identity(PROPRIO)}
    networks = {
        name: build_imitation_policy(
            policy, normalizers, demo_env.observation_spec, ACTIONS * policy.chunk.size
        )
        for name, policy in config.imitation.items()
    }
    policies = frozen_policies(networks, config.imitation)
    agent = build_agent(
        config.algo,
        policies,
        normalizers,
        env,
        device,
        chunks=config.imitation_chunks,
        cached_proposals=config.replay.cache_proposals,
    )
    learner = build_learner(agent, config.algo.update, config.compile)
    demo_env.set_seed(1)
    demos = [demo_env.rollout(HORIZON) for _ in range(3)]
    replay = build_replay(
        config.replay,
        agent.loss.in_keys,
        config.algo.loss.gamma,
        demos,
        folder,
        demos_in_replay=config.demos.in_replay,
        chunk_size=config.algo.chunk.size,
        policies=policies.values(),
        device=device,
    )
    return Parts(config, env, agent, learner, replay)


def collect_and_learn(
    parts: Parts, device: torch.device, rounds: int = 2
) -> list[dict[str, float]]:
    """Collect an episode of each policy and learn; returns the metrics of all updates."""
    rollouts = LocalRollouts(parts.env, parts.agent.rollout_policies)
    metrics = []
    for index, name in enumerate([WARMUP, EXPLORE, *parts.agent.policies]):
        episode = rollouts.submit(name, seed=index, explore=name == EXPLORE).result()
        if name == EXPLORE:
            parts.replay.extend(episode)
            for _ in range(rounds):
                metrics += parts.learner.round(parts.replay, device)
    return [{name: float(value) for name, value in update.items()} for update in metrics]


def tensors(state: Any) -> list[Tensor]:
    """Tensors of a nested state dict, on the CPU."""
    if isinstance(state, torch.Tensor):
        return [state.detach().cpu().clone()]
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in tensors(value)]
    return []
