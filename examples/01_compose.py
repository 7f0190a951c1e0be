"""IBRL from states in a TorchRL script: demonstrations, networks, loss, collector, updates."""

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.modules import AdditiveGaussianModule
from torchrl.objectives import SoftUpdate

import ibrl_torchrl as ibrl

env = ibrl.make_env("metaworld", "box-close", seed=0)
demos = list(ibrl.record_demos(env, ibrl.scripted_expert("metaworld", "box-close"), episodes=2))
normalize = ibrl.Normalize.from_data(torch.cat([demo["state"] for demo in demos]))
actor = TensorDictModule(ibrl.StateActor(normalize, 4, hidden=[64]), ["state"], ["rl_action"])
bc_network = ibrl.StateActor(normalize, 4, hidden=[64])  # train on the demonstrations first
bc = ibrl.FrozenPolicy(TensorDictModule(bc_network, ["state"], ["bc_action"]))
critics = ibrl.StateCriticEnsemble(normalize, 4, num_critics=5, hidden=[64])
critic = ibrl.CriticEnsemble(critics, ["state", "action"])
loss = ibrl.IBRLTD3Loss(actor, critic, [bc]).make_value_estimator(gamma=0.99)
targets = SoftUpdate(loss, tau=0.01)
optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=3e-4)

noise = AdditiveGaussianModule(env.action_spec, sigma_init=0.1, action_key="rl_action")
policy = TensorDictSequential(ibrl.tied_copy(actor).eval(), noise, bc, ibrl.IBRLSelector(critic))
replay = ibrl.episode_buffer(10_000, 64, ibrl.EpisodeToTransitions(["state"], n_steps=3))
_ = [replay.extend(demo) for demo in demos]
frames = {"frames_per_batch": 10, "total_frames": 200, "trajs_per_batch": 1}
for _ in Collector(env, policy, replay_buffer=replay, **frames):
    losses = loss(replay.sample())
    optimizer.zero_grad()
    (losses["loss_qvalue"] + losses["loss_actor"]).backward()
    optimizer.step()
    targets.step()
    print({key: round(value.item(), 3) for key, value in losses.items()})
