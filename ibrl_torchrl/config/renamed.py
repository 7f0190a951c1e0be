"""Settings of version 0.1 and what they are called now."""

from __future__ import annotations

from ibrl_torchrl.errors import UsageError

RENAMED = {
    "frames": "total_frames",
    "task.start_states": "task.num_init_states",
    "starts": "num_states",
    "bc.network.embedding": "imitation.bc.network.head",
    "bc.network.embedding_size": "imitation.bc.network.head_size",
    "bc.evaluate_every": "imitation.bc.eval_every",
    "bc.keep_best": "imitation.bc.top_k",
    "bc": "imitation.bc",
    "algo.actor.embedding": "algo.actor.head",
    "algo.actor.embedding_size": "algo.actor.head_size",
    "algo.critic.number": "algo.critic.num_critics",
    "algo.critic.embedding": "algo.critic.head",
    "algo.critic.embedding_size": "algo.critic.head_size",
    "algo.critic.weights": "algo.critic.channel_weights",
    "algo.soft": "algo.proposals.select",
    "algo.acting": "algo.proposals.acting.policies and algo.proposals.acting.select",
    "algo.bootstrap": "algo.proposals.bootstrap.policies and algo.proposals.bootstrap.select",
    "algo.beta": "algo.proposals.beta",
    "algo.epsilon": "algo.proposals.epsilon",
    "algo.num_min": "algo.proposals.num_min",
    "algo.score_acting_with": "algo.proposals.acting_critic",
    "algo.gamma": "algo.loss.gamma",
    "algo.policy_noise": "algo.loss.policy_noise",
    "algo.noise_clip": "algo.loss.noise_clip",
    "algo.noisy_actor_loss": "algo.loss.noisy_actor_loss",
    "algo.bc_weight": "algo.loss.bc_weight",
    "algo.bc_filter": "algo.loss.q_filter",
    "algo.lr": "algo.update.lr",
    "algo.tau": "algo.update.tau",
    "algo.critic_updates": "algo.update.critic_updates",
    "algo.update_every": "algo.update.frames_per_round",
    "algo.warmup_episodes": "algo.warmup.episodes",
    "algo.pretrained": "algo.actor_init",
    "replay.demo_share": "replay.offline_fraction",
    "replay.demo_reward": "replay.offline_reward",
    "replay.record_proposals": "replay.cache_proposals",
}


def renamed_setting(setting: str) -> UsageError | None:
    """Error to raise for a setting of version 0.1; None for any other name."""
    if (name := new_name(setting)) is None:
        return None
    return UsageError(f"{setting}: is called {name} since version 0.2")


def new_name(setting: str) -> str | None:
    """Present name of a setting of version 0.1, or of one below it; None where it had no other."""
    parts = setting.split(".")
    for end in range(len(parts), 0, -1):
        if (name := RENAMED.get(".".join(parts[:end]))) is not None:
            return ".".join([name, *parts[end:]])
    return None
