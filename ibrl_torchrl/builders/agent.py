"""Agent from settings: networks, loss, and the policies that act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from tensordict.nn import TensorDictModuleBase, TensorDictSequential, WrapModule
from torchrl.envs import EnvBase
from torchrl.modules.tensordict_module import RandomPolicy
from torchrl.objectives import LossModule

from ibrl_torchrl.builders.agent_networks import build_agent_networks
from ibrl_torchrl.builders.chunks import chunk_spec, execute_chunks, first_actions
from ibrl_torchrl.builders.exploration import build_noise
from ibrl_torchrl.builders.imitation import execute
from ibrl_torchrl.builders.initialization import initialize_actor
from ibrl_torchrl.builders.losses import build_gate, build_objective
from ibrl_torchrl.builders.normalization import Normalizers
from ibrl_torchrl.config.algo import UNIFORM, ActingChoiceConfig, AlgoConfig, ProposalsConfig
from ibrl_torchrl.config.chunk import ChunkConfig
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.keys import EXPLORATION, EXPLORE, HYBRID, RL, RL_ACTION, WARMUP, proposal_key
from ibrl_torchrl.modules import (
    ActorProposal,
    CachedProposal,
    ExecuteProposal,
    ExplorationPolicy,
    FallbackPolicy,
    FrozenPolicy,
    IBRLSelector,
    SampledProposals,
    ScoreProposals,
    SuccessTest,
    is_stochastic,
    tied_copy,
)
from ibrl_torchrl.modules.critics.base import CriticEnsembleBase, CriticReduction
from ibrl_torchrl.modules.selector import SelectionMode
from ibrl_torchrl.objectives import LossTerm
from ibrl_torchrl.objectives.adapters import adapter_of

Candidates = dict[str, TensorDictModuleBase]


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
        fallback: the hybrid with its fallback, which is ``policies["hybrid"]`` then; None without.
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
    fallback: FallbackPolicy | None
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
    env: EnvBase | Spaces,
    device: torch.device,
    *,
    chunks: Mapping[str, ChunkConfig] | None = None,
    cached_proposals: bool = False,
) -> Agent:
    """Agent of encoder, actor, critics, loss and policies.

    Args:
        algo: settings of the algorithm.
        imitation: frozen imitation policies by name.
        normalizers: observation statistics; every network gets a copy.
        env: environment, or its spaces, for shapes and action space.
        device: device of the networks.
        chunks: action chunks of the imitation policies by name; None (default): single actions.
        cached_proposals: batches hold the imitation policies' actions.
    """
    chunks = chunks or dict.fromkeys(imitation, ChunkConfig())
    action_spec = chunk_spec(env.action_spec, algo.chunk.size)
    networks = build_agent_networks(algo, normalizers, env.observation_spec, action_spec, device)
    imitation = {name: policy.to(device) for name, policy in imitation.items()}
    reference = None if algo.actor_init is None else imitation[algo.actor_init]
    if reference is not None:
        initialize_actor(networks, reference.policy.module, algo.actor_init_std)
    choice = algo.proposals

    def candidates_of(policies: Mapping[str, TensorDictModuleBase]) -> Candidates:
        size, action_size = algo.chunk.size, env.action_spec.shape[-1]
        return {
            name: first_actions(policy, chunks[name].size, size, action_size)
            for name, policy in _candidates(policies, choice).items()
        }

    candidates = candidates_of(imitation)
    cached = {name: CachedProposal(proposal_key(name)) for name in imitation}
    loss, terms, metrics = build_objective(
        algo,
        networks,
        candidates_of(cached) if cached_proposals else candidates,
        action_spec,
        reference=reference,
    )
    # The policies of the critics' choice come first, so that its indices are those of all.
    proposals = tuple(dict.fromkeys([*algo.acting_proposals, *imitation]))

    encoder = [] if networks.encoder is None else [tied_copy(networks.encoder).eval()]
    base = [] if algo.residual is None else [candidates[algo.residual.base]]
    actor = [*encoder, *base, _acting_actor(networks.actor)]
    critic = adapter_of(loss).acting_critics(target=choice.acting_critic == "target")
    noise = build_noise(
        algo.exploration_noise,
        algo.exploration_correlation,
        algo.exploration_value_power,
        action_spec,
        device,
    )
    execute_rl = ExecuteProposal(RL_ACTION, 0)
    rl = TensorDictSequential(*actor, execute_rl)
    has_choice = len(choice.acting.policies) > 1
    acting = [candidates[name] for name in choice.acting.policies[1:]]
    acting = [policy for policy in acting if policy not in base]
    choose = [execute_rl]
    if has_choice or algo.exploration_value_power > 0:  # the noise reads the chosen action's value
        choose = [*acting, _selector(critic, choice.acting, choice)]
    hybrid = TensorDictSequential(*actor, *choose) if has_choice else rl
    exploration = []
    if networks.exploration is not None:
        exploration = [tied_copy(networks.exploration).eval()]
    scored = hybrid
    if hybrid is rl or [*proposals] != choice.acting.policies:  # no selector has scored them all
        remaining = proposals[len(algo.acting_proposals) :]
        others = [*exploration, *(candidates[name] for name in remaining)]
        all_keys = [proposal_key(name) for name in proposals]
        reduction = cast(CriticReduction, choice.acting.reduction)
        score = ScoreProposals(critic, all_keys, reduction=reduction)
        scored = TensorDictSequential(hybrid, *others, score)
    acting_hybrid = execute_chunks(hybrid, algo.chunk)
    policies = {
        HYBRID: acting_hybrid,
        # One module under both names is evaluated once.
        RL: acting_hybrid if hybrid is rl else execute_chunks(rl, algo.chunk),
        **{
            name: execute(policy, name, proposals.index(name), chunks[name])
            for name, policy in imitation.items()
        },
    }
    fallback = None
    if algo.fallback.policy is not None:
        test = SuccessTest(algo.fallback.episodes, margin=algo.fallback.margin).to(device)
        fallback = FallbackPolicy(acting_hybrid, policies[algo.fallback.policy], test)
        policies[HYBRID] = fallback
    explore: TensorDictModuleBase = TensorDictSequential(*actor, noise, *choose)
    if exploration:
        select = _selector(critic, _with_exploration(choice.acting), choice)
        exploring: TensorDictModuleBase = TensorDictSequential(
            *actor, noise, *acting, *exploration, select
        )
        if fallback is not None:
            exploring = FallbackPolicy(exploring, explore, fallback.test)
        explore = ExplorationPolicy(explore, exploring)
    warmup = algo.warmup.policy
    return Agent(
        loss,
        terms,
        metrics,
        execute_chunks(explore, algo.chunk),
        policies,
        uniform_policy(env) if warmup == UNIFORM else policies[warmup],
        execute_chunks(scored, algo.chunk),
        fallback,
        proposals,
        tuple(algo.target_proposals),
    )


def _candidates(
    policies: Mapping[str, TensorDictModuleBase], choice: ProposalsConfig
) -> Candidates:
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


def uniform_policy(env: EnvBase | Spaces) -> TensorDictModuleBase:
    """Policy that draws actions uniformly from the action space."""
    random = WrapModule(RandomPolicy(env.action_spec, action_key=RL_ACTION))
    return TensorDictSequential(random, ExecuteProposal(RL_ACTION, 0))


def _with_exploration(choice: ActingChoiceConfig) -> ActingChoiceConfig:
    """Choice that the exploration actor takes part in, not trusted."""
    trusted = choice.policies[1:] if choice.trusted is None else choice.trusted
    return replace(choice, policies=[*choice.policies, EXPLORATION], trusted=trusted)


def _selector(
    critic: CriticEnsembleBase, choice: ActingChoiceConfig, config: ProposalsConfig
) -> IBRLSelector:
    return IBRLSelector(
        critic,
        [proposal_key(name) for name in choice.policies],
        mode=cast(SelectionMode, choice.select),
        beta=config.beta,
        epsilon=config.epsilon,
        num_min=config.num_min,
        reduction=cast(CriticReduction, choice.reduction),
        gate=build_gate(choice.gate, config),
        trusted=None if choice.trusted is None else [*map(proposal_key, choice.trusted)],
    )
