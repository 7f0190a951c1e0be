"""TorchRL's SAC with an imitation proposal on FetchReach, with success as the only reward."""

import os

import gymnasium
import gymnasium_robotics
import torch
from tensordict.nn import NormalParamExtractor, TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import (
    CatTensors,
    Compose,
    DoubleToFloat,
    GymEnv,
    RewardScaling,
    StepCounter,
    TerminateTransform,
    TransformedEnv,
)
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import BCLoss, SACLoss, SoftUpdate

import ibrl_torchrl as ibrl

FRAMES = int(os.environ.get("FRAMES", 3000))
gymnasium.register_envs(gymnasium_robotics)
torch.manual_seed(0)
sparse = RewardScaling(1.0, 1.0), TerminateTransform(lambda td: td["reward"] > 0)  # 0, 1 at success
state = CatTensors(["observation", "desired_goal"], "state", del_keys=False)
transforms = Compose(DoubleToFloat(), state, *sparse, StepCounter(20))
env = TransformedEnv(GymEnv("FetchReach-v4"), transforms)
env.set_seed(0)


def expert(td):
    action = env.action_spec.zero()
    action[:3] = (3 * (td["desired_goal"] - td["achieved_goal"])).clamp(-1, 1)
    return td.set("action", action)


demos = torch.cat([env.rollout(20, expert) for _ in range(3)])
scale = ibrl.Normalize.from_data(demos["state"], min_std=0.01)
bc_network = ibrl.StateActor(scale, 4, hidden=[64, 64], dropout=0.0)
bc_module = TensorDictModule(bc_network, ["state"], ["action"])
bc_loss = BCLoss(bc_module, loss_function="l2")
bc_optimizer = torch.optim.Adam(bc_network.parameters(), lr=1e-3)
for _ in range(500):
    bc_optimizer.zero_grad()
    bc_loss(demos)["loss_bc"].backward()
    bc_optimizer.step()
bc = ibrl.FrozenPolicy(bc_module, out_key="bc_action")

network = torch.nn.Sequential(scale, MLP(13, 8, num_cells=[64, 64]), NormalParamExtractor())
parameters = TensorDictModule(network, ["state"], ["loc", "scale"])
actor = ProbabilisticActor(
    parameters, ["loc", "scale"], spec=env.action_spec, distribution_class=TanhNormal
)
critics = [ibrl.StateCritic(scale, 4, hidden=[64, 64]) for _ in range(2)]
critics = [ValueOperator(critic, ["state", "action"]) for critic in critics]
loss = SACLoss(actor, critics, num_qvalue_nets=2, loss_function="l2", alpha_init=0.01)
ibrl.bootstrap_from(loss, [bc], gamma=0.95, choose_by="value")
targets = SoftUpdate(loss, tau=0.02)
optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=1e-3)

hybrid = ibrl.hybrid_policy(loss)
replay = TensorDictReplayBuffer(storage=LazyTensorStorage(10_000), batch_size=128)
replay.extend(demos.select(*loss.in_keys))
for data in Collector(env, hybrid, frames_per_batch=25, total_frames=FRAMES):
    replay.extend(data.select(*loss.in_keys))
    for _ in range(25):
        losses = loss(replay.sample())
        optimizer.zero_grad()
        (losses["loss_qvalue"] + losses["loss_actor"] + losses["loss_alpha"]).backward()
        optimizer.step()
        targets.step()
print({key: round(value.item(), 3) for key, value in losses.items()})

alone = TensorDictSequential(bc, ibrl.ExecuteProposal("bc_action", 1))
for name, policy in {"bc": alone, "rl": actor, "hybrid": hybrid}.items():
    env.set_seed(100)
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        successes = [env.rollout(20, policy)["next", "reward"].sum() for _ in range(20)]
    print(f"{name:6} success {sum(successes).item() / 20:.2f} of 20")
