"""From configuration to parts: the only place that knows both."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torchrl.data import TensorDictReplayBuffer, TensorSpec
from torchrl.envs import EnvBase
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.data import DemoShareReplay, EpisodeToTransitions, episode_buffer
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, BC_ACTION, RL_ACTION, STATE
from ibrl_torchrl.modules import (
    CriticEnsemble,
    ExecuteProposal,
    FrozenPolicy,
    IBRLSelector,
    LeanTensorDictModule,
    Standardize,
    StateActor,
    StateCriticEnsemble,
    shared_twin,
)
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.config import (
    AlgoConfig,
    NetworkConfig,
    ReplayConfig,
    TaskConfig,
)
from ibrl_torchrl.training.learner import IBRLLearner, Replay

OBSERVATION_KEYS = [STATE]


@dataclass(frozen=True)
class Agent:
    """The trained parts and the policies made of them.

    Attributes:
        loss: owner of all networks and targets.
        learner: updates them.
        explore: what collects data: proposals, noise on the RL one, selection.
        policies: what is evaluated: ``"hybrid"``, ``"rl"`` and ``"bc"``; no noise, eval mode.
        warmup: the imitation policy alone.
    """

    loss: IBRLTD3Loss
    learner: IBRLLearner
    explore: TensorDictModuleBase
    policies: dict[str, TensorDictModuleBase]

    @property
    def warmup(self) -> TensorDictModuleBase:
        return self.policies["bc"]


def build_env(task: TaskConfig, device: torch.device | None = None) -> EnvBase:
    """The task's environment; its tensors live where the policies are.

    Raises:
        UsageError: the task is unknown or its settings do not suit the simulator.
    """
    settings = {"action_repeat": task.action_repeat, "horizon": task.horizon}
    try:
        return make_env(task.suite, task.name, device=device, **settings)
    except ValueError as error:
        raise UsageError(f"task: {error}") from error


def build_policy_network(
    network: NetworkConfig, standardize: Standardize, action_size: int
) -> StateActor:
    """A policy network of a state."""
    return StateActor(standardize, action_size, hidden=network.hidden, dropout=network.dropout)


def bc_policy(network: StateActor) -> FrozenPolicy:
    """The frozen imitation policy of a trained network."""
    module = LeanTensorDictModule(network, in_keys=OBSERVATION_KEYS, out_keys=[BC_ACTION])
    return FrozenPolicy(module)


def executing(bc: FrozenPolicy) -> TensorDictModuleBase:
    """The policy that does whatever the imitation policy proposes."""
    return TensorDictSequential(bc, ExecuteProposal(BC_ACTION, 1))


def build_agent(
    algo: AlgoConfig,
    bc: FrozenPolicy,
    standardize: Standardize,
    action_spec: TensorSpec,
    device: torch.device,
) -> Agent:
    """Compose actor, critics, loss, learner and policies.

    Every network gets observation statistics of its own, to save what it uses.
    """
    action_size = action_spec.shape[-1]
    actor = LeanTensorDictModule(
        build_policy_network(algo.actor, copy.deepcopy(standardize), action_size),
        in_keys=OBSERVATION_KEYS,
        out_keys=[RL_ACTION],
    ).to(device)
    critic = CriticEnsemble(
        StateCriticEnsemble(
            copy.deepcopy(standardize),
            action_size,
            num_critics=algo.critic.number,
            hidden=algo.critic.hidden,
            layer_norm=algo.critic.layer_norm,
        ),
        in_keys=[*OBSERVATION_KEYS, ACTION],
    ).to(device)
    bc = bc.to(device)
    choice = {"beta": algo.beta, "epsilon": algo.epsilon, "num_min": algo.num_min}
    loss = IBRLTD3Loss(
        actor,
        critic,
        [] if algo.bootstrap == "rl" else [bc],
        bootstrap="greedy" if algo.bootstrap == "rl" else algo.bootstrap,
        policy_noise=algo.policy_noise,
        noise_clip=algo.noise_clip,
        noisy_actor_loss=algo.noisy_actor_loss,
        **choice,
    )
    loss.make_value_estimator(gamma=algo.gamma)
    learner = IBRLLearner(loss, lr=algo.lr, tau=algo.tau, critic_updates=algo.critic_updates)

    acting_actor = shared_twin(actor).eval()
    acting_critic = shared_twin(critic).eval()
    if algo.score_acting_with == "target":
        loss.target_qvalue_network_params.to_module(acting_critic)
    noise = AdditiveGaussianModule(
        spec=action_spec.to(device),
        sigma_init=algo.exploration_noise,
        sigma_end=algo.exploration_noise,
        action_key=RL_ACTION,
    ).to(device)
    selector = (
        ExecuteProposal(RL_ACTION, 0)
        if algo.acting == "rl"
        else IBRLSelector(acting_critic, mode=algo.acting, **choice)
    )
    policies = {
        "hybrid": TensorDictSequential(acting_actor, bc, selector),
        "rl": TensorDictSequential(acting_actor, ExecuteProposal(RL_ACTION, 0)),
        "bc": executing(bc),
    }
    explore = TensorDictSequential(acting_actor, noise, bc, selector)
    return Agent(loss, learner, explore, policies)


def build_replay(
    replay: ReplayConfig, gamma: float, demos: list[TensorDict], scratch_dir: Path
) -> Replay:
    """A replay buffer that holds the demonstrations."""
    transform = EpisodeToTransitions(
        OBSERVATION_KEYS,
        n_steps=replay.n_steps,
        gamma=gamma,
        time_limit_terminates=replay.time_limit_terminates,
    )

    def buffer(name: str) -> TensorDictReplayBuffer:
        return episode_buffer(
            replay.capacity,
            replay.batch_size,
            transform,
            storage=replay.storage,
            scratch_dir=scratch_dir / name,
            prioritized=replay.prioritized,
            alpha=replay.alpha,
            beta=replay.beta,
        )

    demo_buffer = buffer("demos")
    for episode in demos:
        demo_buffer.extend(episode)
    if replay.demo_share is None:
        return demo_buffer
    return DemoShareReplay(
        demo_buffer,
        buffer("online"),
        demo_share=replay.demo_share,
        batch_size=replay.batch_size,
        keep_successes=replay.keep_successes,
    )


def demo_states(demos: list[TensorDictBase]) -> torch.Tensor:
    """All demonstrated states [N, S]."""
    return torch.cat([episode[STATE] for episode in demos])
