"""From configuration to parts: the only place that knows both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase, TensorDictSequential
from torch import nn
from torchrl.data import TensorDictReplayBuffer
from torchrl.envs import CatFrames, Compose, EnvBase, TransformedEnv
from torchrl.modules import AdditiveGaussianModule

from ibrl_torchrl.data import (
    DemoShareReplay,
    EpisodeToTransitions,
    RecordProposals,
    StoreFramesOnce,
    episode_buffer,
)
from ibrl_torchrl.data.memory import image_replay_bytes
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.keys import ACTION, BC_ACTION, FEATURES, RL_ACTION, image_key
from ibrl_torchrl.modules import (
    CriticEnsemble,
    ExecuteProposal,
    FrozenPolicy,
    IBRLSelector,
    LeanTensorDictModule,
    RecordedProposal,
    shared_twin,
)
from ibrl_torchrl.objectives import IBRLTD3Loss
from ibrl_torchrl.training.config import AlgoConfig, EncoderConfig, ReplayConfig, TaskConfig
from ibrl_torchrl.training.learner import IBRLLearner, Replay
from ibrl_torchrl.training.networks import (
    Scales,
    build_encoder,
    build_feature_actor,
    build_feature_critics,
    build_state_actor,
    build_state_critics,
    extra_keys,
    observed_keys,
)


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


def build_env(
    task: TaskConfig, device: torch.device | None = None, *, frame_stack: int | None = None
) -> EnvBase:
    """The task's environment; its tensors live where the policies are.

    Args:
        task: what to make.
        device: of its tensors.
        frame_stack: images in each observation; None takes the task's.

    Raises:
        UsageError: the task is unknown or its settings do not suit the simulator.
    """
    settings = {"action_repeat": task.action_repeat, "horizon": task.horizon}
    if task.cameras:
        settings |= {
            "cameras": task.cameras,
            "image_size": task.image_size,
            "render_quality": task.render_quality,
        }
    try:
        env = make_env(task.suite, task.name, device=device, **settings)
    except ValueError as error:
        raise UsageError(f"task: {error}") from error
    frames = task.frame_stack if frame_stack is None else frame_stack
    if frames == 1 or not task.cameras:
        return env
    return TransformedEnv(env, CatFrames(frames, -3, [*map(image_key, task.cameras)]))


def as_policy(network: nn.Module, encoder: EncoderConfig | None, key: str) -> LeanTensorDictModule:
    """A policy network as a TensorDict module that writes ``key``."""
    return LeanTensorDictModule(network, in_keys=observed_keys(encoder), out_keys=[key])


def bc_policy(network: nn.Module, encoder: EncoderConfig | None = None) -> FrozenPolicy:
    """The frozen imitation policy of a trained network."""
    return FrozenPolicy(as_policy(network, encoder, BC_ACTION))


def executing(policy: TensorDictModuleBase) -> TensorDictModuleBase:
    """The policy that does whatever the imitation policy proposes."""
    return TensorDictSequential(policy, ExecuteProposal(BC_ACTION, 1))


@dataclass(frozen=True)
class _Networks:
    """What an agent is composed of; the encoder is None for states."""

    encoder: TensorDictModuleBase | None
    actor: LeanTensorDictModule
    critic: CriticEnsemble


def _state_networks(algo: AlgoConfig, scales: Scales, action_size: int) -> _Networks:
    seen = observed_keys(None)
    actor = build_state_actor(algo.actor, scales, action_size)
    critics = build_state_critics(algo.critic, scales, action_size)
    return _Networks(
        None,
        LeanTensorDictModule(actor, in_keys=seen, out_keys=[RL_ACTION]),
        CriticEnsemble(critics, in_keys=[*seen, ACTION]),
    )


def _pixel_networks(
    algo: AlgoConfig, config: EncoderConfig, scales: Scales, env: EnvBase, action_size: int
) -> _Networks:
    encoder = build_encoder(config, env.observation_spec)
    shape = encoder.feature_shape
    actor = build_feature_actor(algo.actor, config, shape, scales, action_size)
    critics = build_feature_critics(algo.critic, config, shape, scales, action_size)
    seen = [FEATURES, *extra_keys(config)]
    return _Networks(
        LeanTensorDictModule(
            encoder, in_keys=[*map(image_key, config.cameras)], out_keys=[FEATURES]
        ),
        LeanTensorDictModule(actor, in_keys=seen, out_keys=[RL_ACTION]),
        CriticEnsemble(critics, in_keys=[*seen, ACTION]),
    )


def build_agent(
    algo: AlgoConfig,
    bc: FrozenPolicy,
    scales: Scales,
    env: EnvBase,
    device: torch.device,
    *,
    recorded_proposals: bool = False,
    compile_mode: str | None = None,
) -> Agent:
    """Compose encoder, actor, critics, loss, learner and policies.

    Args:
        algo: what to build.
        bc: the imitation policy.
        scales: observation statistics; every network gets a copy, to save what it uses.
        env: gives the shapes.
        device: where the networks live.
        recorded_proposals: batches hold the imitation policy's actions already.
        compile_mode: of the losses, see :class:`IBRLLearner`.
    """
    action_size = env.action_spec.shape[-1]
    networks = (
        _state_networks(algo, scales, action_size)
        if algo.encoder is None
        else _pixel_networks(algo, algo.encoder, scales, env, action_size)
    )
    actor, critic = networks.actor.to(device), networks.critic.to(device)
    encoder = networks.encoder.to(device) if networks.encoder is not None else None
    bc = bc.to(device)
    choice = {"beta": algo.beta, "epsilon": algo.epsilon, "num_min": algo.num_min}
    proposal = RecordedProposal(BC_ACTION) if recorded_proposals else bc
    loss = IBRLTD3Loss(
        actor,
        critic,
        [] if algo.bootstrap == "rl" else [proposal],
        encoder=encoder,
        bootstrap="greedy" if algo.bootstrap == "rl" else algo.bootstrap,
        policy_noise=algo.policy_noise,
        noise_clip=algo.noise_clip,
        noisy_actor_loss=algo.noisy_actor_loss,
        **choice,
    )
    loss.make_value_estimator(gamma=algo.gamma)
    learner = IBRLLearner(
        loss,
        lr=algo.lr,
        tau=algo.tau,
        critic_updates=algo.critic_updates,
        compile_mode=compile_mode,
    )

    seeing = [] if encoder is None else [shared_twin(encoder).eval()]
    acting_actor = shared_twin(actor).eval()
    acting_critic = shared_twin(critic).eval()
    if algo.score_acting_with == "target":
        loss.target_qvalue_network_params.to_module(acting_critic)
    noise = AdditiveGaussianModule(
        spec=env.action_spec.to(device),
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
        "hybrid": TensorDictSequential(*seeing, acting_actor, bc, selector),
        "rl": TensorDictSequential(*seeing, acting_actor, ExecuteProposal(RL_ACTION, 0)),
        "bc": executing(bc),
    }
    explore = TensorDictSequential(*seeing, acting_actor, noise, bc, selector)
    return Agent(loss, learner, explore, policies)


def replay_bytes(replay: ReplayConfig, env: EnvBase, keys: list[str], frame_stack: int = 1) -> int:
    """Bytes of the full replay buffer for observations with these keys."""
    spec = env.observation_spec
    images = [key for key in keys if spec[key].dtype == torch.uint8]
    frames = {key: (spec[key].shape[0] // frame_stack, *spec[key].shape[1:]) for key in images}
    floats = 2 * sum(spec[key].shape.numel() for key in keys if key not in images)
    floats += env.action_spec.shape.numel() * (3 if replay.record_proposals else 1)
    numbers = 4 * floats + 23  # reward, flags, steps_to_next_obs and TorchRL's index
    buffers = 2 if replay.keep_successes else 1
    return buffers * image_replay_bytes(replay.capacity, frames, numbers, frame_stack)


def build_replay(
    replay: ReplayConfig,
    gamma: float,
    demos: list[TensorDict],
    scratch_dir: Path,
    *,
    keys: list[str],
    frame_stack: int = 1,
    recorded: FrozenPolicy | None = None,
) -> Replay:
    """A replay buffer that holds the demonstrations.

    Args:
        replay: what to build.
        gamma: discount of the n-step rewards.
        demos: episodes it starts with.
        scratch_dir: folder of the memory map.
        keys: observation keys that updates read; images among them are stored once a frame.
        frame_stack: images in each observation.
        recorded: a policy whose actions are kept beside the observations.
    """
    recording = [] if recorded is None else [RecordProposals(recorded)]
    kept = keys if recorded is None else [*keys, *recorded.out_keys]
    images = [key for key in keys if demos[0][key].dtype == torch.uint8]

    def buffer(name: str) -> TensorDictReplayBuffer:
        storing = StoreFramesOnce(
            images,
            replay.capacity,
            frame_stack=frame_stack,
            storage=replay.storage,
            scratch_dir=scratch_dir / name,
        )
        to_transitions = EpisodeToTransitions(
            kept,
            n_steps=replay.n_steps,
            gamma=gamma,
            time_limit_terminates=replay.time_limit_terminates,
        )
        # Written from the last to the first, sampled from the first to the last.
        transforms = [*([storing] if images else []), to_transitions, *recording]
        return episode_buffer(
            replay.capacity,
            replay.batch_size,
            Compose(*transforms),
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
