"""Agent from settings: networks, loss, and the policies that act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from tensordict.nn import TensorDictModuleBase, TensorDictSequential, WrapModule
from torch import nn
from torchrl.envs import EnvBase
from torchrl.modules import AdditiveGaussianModule
from torchrl.modules.tensordict_module import RandomPolicy

from ibrl_torchrl.builders.imitation import execute
from ibrl_torchrl.builders.losses import Networks, build_loss
from ibrl_torchrl.builders.networks import (
    build_encoder,
    build_feature_actor,
    build_feature_critics,
    build_state_actor,
    build_state_critics,
    policy_keys,
    proprio_keys,
)
from ibrl_torchrl.builders.normalization import Normalizers
from ibrl_torchrl.config.algo import UNIFORM, AlgoConfig, ProposalsConfig
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
    CriticEnsemble,
    ExecuteProposal,
    FastTensorDictModule,
    FrozenPolicy,
    IBRLSelector,
    PixelPolicy,
    ScoreProposals,
    tied_copy,
)
from ibrl_torchrl.modules.selector import SelectionMode
from ibrl_torchrl.objectives import IBRLTD3Loss


@dataclass(frozen=True)
class Agent:
    """Trained parts and the policies composed of them.

    Attributes:
        loss: owner of all trained networks and their targets.
        explore: policy that collects: proposals, noise on the RL action, choice.
        policies: evaluated policies in eval mode, without noise: ``"hybrid"``, ``"rl"`` and each
            imitation policy by its name.
        warmup: policy that collects before learning starts.
        scored: acts as the hybrid and writes the critics' values of all ``proposals``.
        proposals: names in the order of ``proposal``'s indices and of ``proposal_values``.
        target_proposals: names in the order of the TD target's choice.
    """

    loss: IBRLTD3Loss
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
    loss = build_loss(
        algo.loss,
        choice,
        networks,
        imitation,
        reference=reference,
        cached_proposals=cached_proposals,
    )
    # The policies of the critics' choice come first, so that its indices are those of all.
    proposals = tuple(dict.fromkeys([*choice.acting.policies, *imitation]))

    actor = tied_copy(networks.actor).eval()
    encoder = [] if networks.encoder is None else [tied_copy(networks.encoder).eval()]
    critic = tied_copy(networks.critic).eval()
    if choice.acting_critic == "target":
        loss.target_qvalue_network_params.to_module(critic)
    noise = AdditiveGaussianModule(
        spec=env.action_spec.to(device),
        sigma_init=algo.exploration_noise,
        sigma_end=algo.exploration_noise,
        action_key=RL_ACTION,
    ).to(device)
    execute_rl = ExecuteProposal(RL_ACTION, 0)
    rl = TensorDictSequential(*encoder, actor, execute_rl)
    acting = [imitation[name] for name in choice.acting.policies[1:]]
    if acting:
        choose = [*acting, _selector(critic, choice.acting.policies, choice.acting.select, choice)]
        hybrid = TensorDictSequential(*encoder, actor, *choose)
    else:
        choose, hybrid = [execute_rl], rl
    scored = hybrid
    if [*proposals] != choice.acting.policies:
        others = [imitation[name] for name in proposals[len(choice.acting.policies) :]]
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
        TensorDictSequential(*encoder, actor, noise, *choose),
        policies,
        uniform_policy(env) if warmup == UNIFORM else policies[warmup],
        scored,
        proposals,
        tuple(choice.bootstrap.policies),
    )


def uniform_policy(env: EnvBase) -> TensorDictModuleBase:
    """Policy that draws actions uniformly from the action space."""
    random = WrapModule(RandomPolicy(env.action_spec, action_key=RL_ACTION))
    return TensorDictSequential(random, ExecuteProposal(RL_ACTION, 0))


def _selector(
    critic: CriticEnsemble, names: list[str], mode: str, choice: ProposalsConfig
) -> IBRLSelector:
    return IBRLSelector(
        critic,
        [proposal_key(name) for name in names],
        mode=cast(SelectionMode, mode),
        beta=choice.beta,
        epsilon=choice.epsilon,
        num_min=choice.num_min,
    )


def _build_networks(
    algo: AlgoConfig, normalizers: Normalizers, env: EnvBase, device: torch.device
) -> Networks:
    action_size = env.action_spec.shape[-1]
    if algo.encoder is None:
        networks = _state_networks(algo, normalizers, action_size)
    else:
        networks = _pixel_networks(algo, algo.encoder, normalizers, env, action_size)
    encoder, actor, critic = networks
    return Networks(encoder and encoder.to(device), actor.to(device), critic.to(device))


def _state_networks(algo: AlgoConfig, normalizers: Normalizers, action_size: int) -> Networks:
    obs_keys = policy_keys(None)
    actor = build_state_actor(algo.actor, normalizers, action_size)
    critics = build_state_critics(algo.critic, normalizers, action_size)
    return Networks(
        None,
        FastTensorDictModule(actor, in_keys=obs_keys, out_keys=[RL_ACTION]),
        CriticEnsemble(critics, in_keys=[*obs_keys, ACTION]),
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
