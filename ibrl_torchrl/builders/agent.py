"""From configuration to environments, policies and agents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tensordict.nn import TensorDictModuleBase, TensorDictSequential, WrapModule
from torch import nn
from torchrl.envs import EnvBase
from torchrl.modules import AdditiveGaussianModule
from torchrl.modules.tensordict_module import RandomPolicy

from ibrl_torchrl.builders.networks import (
    build_encoder,
    build_feature_actor,
    build_feature_critics,
    build_state_actor,
    build_state_critics,
    extra_keys,
    observed_keys,
)
from ibrl_torchrl.builders.normalization import Scales
from ibrl_torchrl.config.algo import AlgoConfig
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.keys import ACTION, BC_ACTION, FEATURES, RL_ACTION, image_key
from ibrl_torchrl.modules import (
    CachedProposal,
    CriticEnsemble,
    ExecuteProposal,
    FastTensorDictModule,
    FrozenPolicy,
    IBRLSelector,
    PixelPolicy,
    StateActor,
    tied_copy,
)
from ibrl_torchrl.objectives import BCRegularizedTD3Loss, IBRLTD3Loss
from ibrl_torchrl.training.learner import Learner


@dataclass(frozen=True)
class Agent:
    """The trained parts and the policies made of them.

    Attributes:
        loss: owner of all networks and targets.
        learner: updates them.
        explore: what collects data: proposals, noise on the RL one, selection.
        policies: what is evaluated: ``"hybrid"``, ``"rl"`` and ``"bc"``; no noise, eval mode.
        warmup: what collects data before learning starts.
        scored: the evaluated policy, with the critics' values of both proposals beside its action.
    """

    loss: IBRLTD3Loss
    learner: Learner
    explore: TensorDictModuleBase
    policies: dict[str, TensorDictModuleBase]
    warmup: TensorDictModuleBase
    scored: TensorDictModuleBase


def as_policy(network: nn.Module, encoder: EncoderConfig | None, key: str) -> FastTensorDictModule:
    """A policy network as a TensorDict module that writes ``key``."""
    return FastTensorDictModule(network, in_keys=observed_keys(encoder), out_keys=[key])


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
    actor: FastTensorDictModule
    critic: CriticEnsemble


def _state_networks(algo: AlgoConfig, scales: Scales, action_size: int) -> _Networks:
    seen = observed_keys(None)
    actor = build_state_actor(algo.actor, scales, action_size)
    critics = build_state_critics(algo.critic, scales, action_size)
    return _Networks(
        None,
        FastTensorDictModule(actor, in_keys=seen, out_keys=[RL_ACTION]),
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
        FastTensorDictModule(
            encoder, in_keys=[*map(image_key, config.cameras)], out_keys=[FEATURES]
        ),
        FastTensorDictModule(actor, in_keys=seen, out_keys=[RL_ACTION]),
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
        compile_mode: of the losses, see :class:`Learner`.
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
    if algo.pretrained:
        _take_over(bc.policy.module, actor, encoder)
    choice = {"beta": algo.beta, "epsilon": algo.epsilon, "num_min": algo.num_min}
    proposal = CachedProposal(BC_ACTION) if recorded_proposals else bc
    settings = {
        "encoder": encoder,
        "bootstrap": "greedy" if algo.bootstrap == "rl" else algo.bootstrap,
        "policy_noise": algo.policy_noise,
        "noise_clip": algo.noise_clip,
        "noisy_actor_loss": algo.noisy_actor_loss,
        **choice,
    }
    proposals = [] if algo.bootstrap == "rl" else [proposal]
    if algo.bc_weight > 0:
        loss = BCRegularizedTD3Loss(
            actor,
            critic,
            proposals,
            bc_weight=algo.bc_weight,
            reference=bc if algo.bc_filter else None,
            **settings,
        )
    else:
        loss = IBRLTD3Loss(actor, critic, proposals, **settings)
    loss.make_value_estimator(gamma=algo.gamma)
    learner = Learner(
        loss,
        lr=algo.lr,
        tau=algo.tau,
        critic_updates=algo.critic_updates,
        compile_mode=compile_mode,
    )

    seeing = [] if encoder is None else [tied_copy(encoder).eval()]
    acting_actor = tied_copy(actor).eval()
    acting_critic = tied_copy(critic).eval()
    if algo.score_acting_with == "target":
        loss.target_qvalue_network_params.to_module(acting_critic)
    noise = AdditiveGaussianModule(
        spec=env.action_spec.to(device),
        sigma_init=algo.exploration_noise,
        sigma_end=algo.exploration_noise,
        action_key=RL_ACTION,
    ).to(device)
    execute_rl = ExecuteProposal(RL_ACTION, 0)
    rl = TensorDictSequential(*seeing, acting_actor, execute_rl)
    mode = "greedy" if algo.acting == "rl" else algo.acting
    choosing = [bc, IBRLSelector(acting_critic, mode=mode, **choice)]
    if algo.acting == "rl":
        hybrid, exploring = rl, [execute_rl]
        scored = TensorDictSequential(*seeing, acting_actor, *choosing, execute_rl)
    else:
        hybrid = scored = TensorDictSequential(*seeing, acting_actor, *choosing)
        exploring = choosing
    policies = {"hybrid": hybrid, "rl": rl, "bc": executing(bc)}
    explore = TensorDictSequential(*seeing, acting_actor, noise, *exploring)
    warmup = policies["bc"] if algo.warmup == "bc" else uniform_policy(env)
    return Agent(loss, learner, explore, policies, warmup, scored)


def uniform_policy(env: EnvBase) -> TensorDictModuleBase:
    """The policy that draws actions uniformly from all that there are."""
    drawing = WrapModule(RandomPolicy(env.action_spec, action_key=RL_ACTION))
    return TensorDictSequential(drawing, ExecuteProposal(RL_ACTION, 0))


def _take_over(
    pretrained: StateActor | PixelPolicy, actor: nn.Module, encoder: nn.Module | None
) -> None:
    """Give the actor, and what it sees by, the weights of the imitation policy."""
    pairs = [(actor.module, pretrained)]
    if encoder is not None:
        pairs = [(actor.module, pretrained.actor), (encoder.module, pretrained.encoder)]
    for own, given in pairs:
        # One by one, since dropout, which may differ, counts among the layers that are named.
        tensors = zip(own.state_dict().values(), given.state_dict().values(), strict=True)
        for mine, theirs in tensors:
            mine.copy_(theirs)
