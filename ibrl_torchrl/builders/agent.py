"""Agent from settings: networks, loss, and the policies that act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from tensordict.nn import TensorDictModuleBase, TensorDictSequential, WrapModule
from torch import nn
from torchrl.data import TensorSpec
from torchrl.envs import EnvBase
from torchrl.modules import AdditiveGaussianModule
from torchrl.modules.tensordict_module import RandomPolicy
from torchrl.objectives import LossModule

from ibrl_torchrl.builders.imitation import execute
from ibrl_torchrl.builders.losses import Networks, build_gate, build_objective
from ibrl_torchrl.builders.networks import (
    build_encoder,
    build_feature_actor,
    build_feature_critics,
    build_residual_actor,
    build_separate_critics,
    build_state_actor,
    build_state_critics,
    build_stochastic_actor,
    policy_keys,
    proprio_keys,
)
from ibrl_torchrl.builders.normalization import Normalizers
from ibrl_torchrl.config.algo import UNIFORM, AlgoConfig, ChoiceConfig, ProposalsConfig
from ibrl_torchrl.config.networks import EncoderConfig
from ibrl_torchrl.keys import (
    ACTION,
    EXPLORE,
    FEATURES,
    HYBRID,
    RL,
    RL_ACTION,
    WARMUP,
    image_key,
    proposal_key,
)
from ibrl_torchrl.modules import (
    ActorProposal,
    CachedProposal,
    CriticEnsemble,
    ExecuteProposal,
    FastTensorDictModule,
    FrozenPolicy,
    IBRLSelector,
    PixelPolicy,
    SampledProposals,
    ScoreProposals,
    is_stochastic,
    tied_copy,
)
from ibrl_torchrl.modules.critics.base import CriticEnsembleBase
from ibrl_torchrl.modules.selector import SelectionMode
from ibrl_torchrl.objectives import LossTerm
from ibrl_torchrl.objectives.adapters import adapter_of


@dataclass(frozen=True)
class Agent:
    """Trained parts and the policies composed of them.

    Attributes:
        loss: owner of all trained networks and their targets.
        terms: loss terms by name, for the learner.
        metrics: names of the scalars of an update, in the order of columns.
        explore: policy that collects: proposals, noise on the RL action, choice.
        policies: evaluated policies in eval mode, without noise: ``"hybrid"``, ``"rl"`` and each
            imitation policy by its name.
        warmup: policy that collects before learning starts.
        scored: acts as the hybrid and writes the critics' values of all ``proposals``.
        proposals: names in the order of ``proposal``'s indices and of ``proposal_values``.
        target_proposals: names in the order of the TD target's choice.
    """

    loss: LossModule
    terms: dict[str, LossTerm]
    metrics: list[str]
    explore: TensorDictModuleBase
    policies: dict[str, TensorDictModuleBase]
    warmup: TensorDictModuleBase
    scored: TensorDictModuleBase
    proposals: tuple[str, ...]
    target_proposals: tuple[str, ...]

    @property
    def rollout_policies(self) -> dict[str, TensorDictModuleBase]:
        """Evaluated and collecting policies by name."""
        return {**self.policies, WARMUP: self.warmup, EXPLORE: self.explore}


def build_agent(
    algo: AlgoConfig,
    imitation: Mapping[str, FrozenPolicy],
    normalizers: Normalizers,
    env: EnvBase,
    device: torch.device,
    *,
    cached_proposals: bool = False,
) -> Agent:
    """Agent of encoder, actor, critics, loss and policies.

    Args:
        algo: settings of the algorithm.
        imitation: frozen imitation policies by name.
        normalizers: observation statistics; every network gets a copy.
        env: environment, for shapes and action space.
        device: device of the networks.
        cached_proposals: batches hold the imitation policies' actions.
    """
    networks = _build_networks(algo, normalizers, env, device)
    imitation = {name: policy.to(device) for name, policy in imitation.items()}
    reference = None if algo.actor_init is None else imitation[algo.actor_init]
    if reference is not None:
        _initialize(networks, reference.policy.module)
    choice = algo.proposals
    cached = {name: CachedProposal(proposal_key(name)) for name in imitation}
    loss, terms, metrics = build_objective(
        algo,
        networks,
        _candidates(cached if cached_proposals else imitation, choice),
        env.action_spec,
        reference=reference,
    )
    # The policies of the critics' choice come first, so that its indices are those of all.
    proposals = tuple(dict.fromkeys([*choice.acting.policies, *imitation]))

    candidates = _candidates(imitation, choice)
    encoder = [] if networks.encoder is None else [tied_copy(networks.encoder).eval()]
    base = [] if algo.residual is None else [candidates[algo.residual.base]]
    actor = [*encoder, *base, _acting_actor(networks.actor)]
    critic = adapter_of(loss).acting_critics(target=choice.acting_critic == "target")
    noise = AdditiveGaussianModule(
        spec=env.action_spec.to(device),
        sigma_init=algo.exploration_noise,
        sigma_end=algo.exploration_noise,
        action_key=RL_ACTION,
    ).to(device)
    execute_rl = ExecuteProposal(RL_ACTION, 0)
    rl = TensorDictSequential(*actor, execute_rl)
    acting = [candidates[name] for name in choice.acting.policies[1:]]
    if acting:
        others = [policy for policy in acting if policy not in base]
        choose = [*others, _selector(critic, choice.acting, choice)]
        hybrid = TensorDictSequential(*actor, *choose)
    else:
        choose, hybrid = [execute_rl], rl
    scored = hybrid
    if [*proposals] != choice.acting.policies:
        others = [candidates[name] for name in proposals[len(choice.acting.policies) :]]
        all_keys = [proposal_key(name) for name in proposals]
        scored = TensorDictSequential(hybrid, *others, ScoreProposals(critic, all_keys))
    policies = {
        HYBRID: hybrid,
        RL: rl,
        **{
            name: execute(policy, name, proposals.index(name)) for name, policy in imitation.items()
        },
    }
    warmup = algo.warmup.policy
    return Agent(
        loss,
        terms,
        metrics,
        TensorDictSequential(*actor, noise, *choose),
        policies,
        uniform_policy(env) if warmup == UNIFORM else policies[warmup],
        scored,
        proposals,
        tuple(choice.bootstrap.policies),
    )


def _candidates(
    policies: Mapping[str, TensorDictModuleBase], choice: ProposalsConfig
) -> dict[str, TensorDictModuleBase]:
    """Proposals of imitation policies: their actions, samples, or actions with noisy copies."""
    if choice.samples == 1:
        return {**policies}

    def candidates(policy: TensorDictModuleBase) -> SampledProposals:
        noise = None if is_stochastic(policy) else choice.sample_noise
        return SampledProposals(policy, choice.samples, noise_std=noise)

    return {name: candidates(policy) for name, policy in policies.items()}


def _acting_actor(actor: TensorDictModuleBase) -> TensorDictModuleBase:
    """Weight-sharing copy of the actor in eval mode that writes the RL action alone."""
    acting = tied_copy(actor).eval()
    return acting if [*actor.out_keys] == [RL_ACTION] else ActorProposal(acting, RL_ACTION)


def uniform_policy(env: EnvBase) -> TensorDictModuleBase:
    """Policy that draws actions uniformly from the action space."""
    random = WrapModule(RandomPolicy(env.action_spec, action_key=RL_ACTION))
    return TensorDictSequential(random, ExecuteProposal(RL_ACTION, 0))


def _selector(
    critic: CriticEnsembleBase, choice: ChoiceConfig, config: ProposalsConfig
) -> IBRLSelector:
    return IBRLSelector(
        critic,
        [proposal_key(name) for name in choice.policies],
        mode=cast(SelectionMode, choice.select),
        beta=config.beta,
        epsilon=config.epsilon,
        num_min=config.num_min,
        gate=build_gate(choice.gate, config),
    )


def _build_networks(
    algo: AlgoConfig, normalizers: Normalizers, env: EnvBase, device: torch.device
) -> Networks:
    if algo.loss.algorithm != "td3":
        networks = _separate_networks(algo, normalizers, env.action_spec)
    elif algo.encoder is None:
        networks = _state_networks(algo, normalizers, env)
    else:
        size = env.action_spec.shape[-1]
        networks = _pixel_networks(algo, algo.encoder, normalizers, env, size)
    encoder, actor, critic = networks
    moved = [each.to(device) for each in critic] if isinstance(critic, list) else critic.to(device)
    return Networks(encoder and encoder.to(device), actor.to(device), moved)


def _state_networks(algo: AlgoConfig, normalizers: Normalizers, env: EnvBase) -> Networks:
    obs_keys, action_size = policy_keys(None), env.action_spec.shape[-1]
    if algo.residual is None:
        actor: nn.Module = build_state_actor(algo.actor, normalizers, action_size)
        actor_keys = obs_keys
    else:
        spec, scale = env.observation_spec, algo.residual.scale
        actor = build_residual_actor(algo.actor, normalizers, spec, action_size, scale)
        actor_keys = [*obs_keys, proposal_key(algo.residual.base)]
    critics = build_state_critics(algo.critic, normalizers, action_size)
    return Networks(
        None,
        FastTensorDictModule(actor, in_keys=actor_keys, out_keys=[RL_ACTION]),
        CriticEnsemble(critics, in_keys=[*obs_keys, ACTION]),
    )


def _separate_networks(
    algo: AlgoConfig, normalizers: Normalizers, action_spec: TensorSpec
) -> Networks:
    """Stochastic actor and separate critics, as TorchRL's losses take them."""
    outputs = algo.loss.quantiles if algo.loss.algorithm == "tqc" else 1
    return Networks(
        None,
        build_stochastic_actor(algo.actor, normalizers, action_spec),
        build_separate_critics(algo.critic, normalizers, action_spec.shape[-1], outputs),
    )


def _pixel_networks(
    algo: AlgoConfig,
    config: EncoderConfig,
    normalizers: Normalizers,
    env: EnvBase,
    action_size: int,
) -> Networks:
    encoder = build_encoder(config, env.observation_spec)
    shape = encoder.feature_shape
    actor = build_feature_actor(algo.actor, config, shape, normalizers, action_size)
    critics = build_feature_critics(algo.critic, config, shape, normalizers, action_size)
    obs_keys = [FEATURES, *proprio_keys(config)]
    return Networks(
        FastTensorDictModule(
            encoder, in_keys=[*map(image_key, config.cameras)], out_keys=[FEATURES]
        ),
        FastTensorDictModule(actor, in_keys=obs_keys, out_keys=[RL_ACTION]),
        CriticEnsemble(critics, in_keys=[*obs_keys, ACTION]),
    )


def _initialize(networks: Networks, pretrained: nn.Module) -> None:
    """Copy an imitation policy's weights to the actor and, from pixels, to the encoder."""
    pairs: list[tuple[nn.Module, nn.Module]] = [(networks.actor.module, pretrained)]
    if networks.encoder is not None:
        assert isinstance(pretrained, PixelPolicy)
        pairs = [
            (networks.actor.module, pretrained.actor),
            (networks.encoder.module, pretrained.encoder),
        ]
    for network, source in pairs:
        # By position: dropout, which may differ, counts among the layers that names number.
        tensors = zip(network.state_dict().values(), source.state_dict().values(), strict=True)
        for tensor, value in tensors:
            tensor.copy_(value)
