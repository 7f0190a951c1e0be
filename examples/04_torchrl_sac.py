"""TorchRL's SAC script in one file; IBRL is what the comments ``IBRL:`` mark.

After ``sota-implementations/sac`` of pytorch/rl. Without the marked lines it is plain SAC.
"""

import os
from dataclasses import dataclass

import torch
from tensordict.nn import InteractionType, NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import Compose, DoubleToFloat, GymEnv, TransformedEnv
from torchrl.envs.transforms import InitTracker, RewardSum, StepCounter
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import SACLoss, SoftUpdate, group_optimizers

import ibrl_torchrl as ibrl


@dataclass
class Config:
    env: str = "Pendulum-v1"
    seed: int = 0
    max_episode_steps: int = 200
    total_frames: int = int(os.environ.get("FRAMES", 4_000))
    frames_per_batch: int = 100
    utd_ratio: float = 0.5
    buffer_size: int = 100_000
    batch_size: int = 128
    hidden_sizes: tuple[int, ...] = (64, 64)
    lr: float = 1e-3
    gamma: float = 0.97
    target_update_polyak: float = 0.99
    alpha_init: float = 0.1  # TorchRL's 1.0 outweighs the values of proposals at first
    eval_iter: int = 1_000


def make_environment(cfg):
    """Environments for training and evaluation."""
    train_env, eval_env = (
        TransformedEnv(
            GymEnv(cfg.env),
            Compose(
                InitTracker(), StepCounter(cfg.max_episode_steps), DoubleToFloat(), RewardSum()
            ),
        )
        for _ in range(2)
    )
    train_env.set_seed(cfg.seed)
    eval_env.set_seed(cfg.seed + 1)
    return train_env, eval_env


def make_sac_agent(cfg, train_env):
    """Stochastic actor and one critic, of which the loss makes two."""
    spec = train_env.action_spec
    actor_net = nn.Sequential(
        MLP(out_features=2 * spec.shape[-1], num_cells=cfg.hidden_sizes), NormalParamExtractor()
    )
    actor = ProbabilisticActor(
        TensorDictModule(actor_net, ["observation"], ["loc", "scale"]),
        in_keys=["loc", "scale"],
        spec=spec,
        distribution_class=TanhNormal,
        distribution_kwargs={"low": spec.space.low, "high": spec.space.high},
        default_interaction_type=InteractionType.RANDOM,
    )
    qvalue = ValueOperator(
        MLP(out_features=1, num_cells=cfg.hidden_sizes), in_keys=["action", "observation"]
    )
    model = nn.ModuleList([actor, qvalue])
    with torch.no_grad():  # initialize lazy layers
        data = train_env.fake_tensordict()
        for net in model:
            net(data)
    return model


# IBRL: the imitation policy. Any frozen TensorDict module serves; a controller which pumps energy
# stands here for a network trained on demonstrations. It reaches the top and cannot balance there.
def make_imitation_policy():
    def swing_up(observation):
        cos, _, velocity = observation.unbind(-1)
        energy = velocity.square() / 6 + 5 * cos - 5
        return (-velocity.sign() * energy).clamp(-2, 2).unsqueeze(-1)

    return ibrl.FrozenPolicy(TensorDictModule(swing_up, ["observation"], ["bc_action"]))


def make_loss_module(cfg, model):
    """Loss and updater of its target networks."""
    loss_module = SACLoss(
        actor_network=model[0],
        qvalue_network=model[1],
        num_qvalue_nets=2,
        loss_function="l2",
        alpha_init=cfg.alpha_init,
    )
    loss_module.make_value_estimator(gamma=cfg.gamma)
    ibrl.bootstrap_from(loss_module, [make_imitation_policy()])  # IBRL: bootstrap proposal
    return loss_module, SoftUpdate(loss_module, eps=cfg.target_update_polyak)


def make_collector(cfg, train_env, policy):
    """Collector; without random frames, as the imitation policy explores from the start."""
    collector = Collector(
        train_env,
        policy,
        frames_per_batch=cfg.frames_per_batch,
        total_frames=cfg.total_frames,
    )
    collector.set_seed(cfg.seed)
    return collector


def make_replay_buffer(cfg):
    """Uniform replay of single transitions."""
    return TensorDictReplayBuffer(
        storage=LazyTensorStorage(cfg.buffer_size), batch_size=cfg.batch_size
    )


def make_optimizer(cfg, loss_module):
    """Optimizers of actor, critics and temperature, as one."""
    actor_params = loss_module.actor_network_params.flatten_keys().values()
    critic_params = loss_module.qvalue_network_params.flatten_keys().values()
    return group_optimizers(
        torch.optim.Adam([*actor_params], lr=cfg.lr),
        torch.optim.Adam([*critic_params], lr=cfg.lr),
        torch.optim.Adam([loss_module.log_alpha], lr=cfg.lr),
    )


@torch.no_grad()
def evaluate(cfg, eval_env, policy, episodes=5):
    """Mean return of the deterministic policy."""
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        rollouts = [eval_env.rollout(cfg.max_episode_steps, policy) for _ in range(episodes)]
    return sum(rollout["next", "reward"].sum().item() for rollout in rollouts) / episodes


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_env, eval_env = make_environment(cfg)
    model = make_sac_agent(cfg, train_env)
    loss_module, target_net_updater = make_loss_module(cfg, model)
    exploration_policy = model[0]
    exploration_policy = ibrl.hybrid_policy(loss_module)  # IBRL: the critics choose while acting
    collector = make_collector(cfg, train_env, exploration_policy)
    replay_buffer = make_replay_buffer(cfg)
    optimizer = make_optimizer(cfg, loss_module)

    num_updates = int(cfg.frames_per_batch * cfg.utd_ratio)
    collected_frames = 0
    for data in collector:
        data = data.reshape(-1)
        replay_buffer.extend(data)
        collected_frames += data.numel()

        for _ in range(num_updates):
            loss_td = loss_module(replay_buffer.sample())
            (loss_td["loss_actor"] + loss_td["loss_qvalue"] + loss_td["loss_alpha"]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            target_net_updater.step()

        if collected_frames % cfg.eval_iter < cfg.frames_per_batch:
            metrics = {key: loss_td[key].item() for key in ("loss_actor", "loss_qvalue", "alpha")}
            metrics["eval_reward"] = evaluate(cfg, eval_env, exploration_policy)
            # IBRL: shares of the imitation policy among chosen actions, while acting and at s'.
            metrics["imitation_acting"] = (data["proposal"] > 0).float().mean().item()
            chosen = loss_module.value_estimator.next_proposal
            metrics["imitation_target"] = (chosen > 0).float().mean().item()
            print(collected_frames, {key: round(value, 3) for key, value in metrics.items()})
    collector.shutdown()


if __name__ == "__main__":
    main()
