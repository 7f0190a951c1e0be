"""IBRL from camera images: the same loss and replay as from states, other networks."""

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.envs import Compose
from torchrl.modules import AdditiveGaussianModule
from torchrl.objectives import SoftUpdate

import ibrl_torchrl as ibrl

env = ibrl.make_env("metaworld", "box-close", seed=0, cameras=["corner2"], image_size=48)
demos = list(ibrl.record_demos(env, ibrl.scripted_expert("metaworld", "box-close"), episodes=2))
image = "corner2_image"  # uint8 [3, 48, 48] until the encoder


def vit() -> ibrl.CameraEncoder:
    network = ibrl.ViT(48, depth=1, dim=32, embedding="convolutions")
    return ibrl.CameraEncoder([network], [(3, 48, 48)])


# The imitation policy has an encoder of its own; train it on the demonstrations first.
eyes = vit()
clone = ibrl.PixelPolicy(
    eyes, ibrl.FeatureActor(ibrl.FlattenHead(eyes.feature_shape), 4, hidden=[64])
)
bc = ibrl.FrozenPolicy(TensorDictModule(clone, [image], ["bc_action"]))

# Actor and critics share one, trained by the critic loss alone.
eyes = vit()
shape = eyes.feature_shape  # (patches, features)
encoder = TensorDictModule(eyes, [image], ["features"])
head = ibrl.LinearHead(shape, size=32)
actor = TensorDictModule(ibrl.FeatureActor(head, 4, hidden=[64]), ["features"], ["rl_action"])
critics = ibrl.SpatialCriticEnsemble(shape, 4, embedding=64, hidden=[64])
critic = ibrl.CriticEnsemble(critics, ["features", "action"])
loss = ibrl.IBRLTD3Loss(actor, critic, [ibrl.CachedProposal("bc_action")], encoder=encoder)
loss.make_value_estimator(gamma=0.99)
targets = SoftUpdate(loss, tau=0.01)
optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=3e-4)

# Random shift and dropout are on in the loss's networks and off in their twins, which act.
seeing, acting = ibrl.tied_copy(encoder).eval(), ibrl.tied_copy(actor).eval()
noise = AdditiveGaussianModule(env.action_spec, sigma_init=0.1, action_key="rl_action")
policy = TensorDictSequential(seeing, acting, noise, bc, ibrl.IBRLSelector(critic))

# Each frame is stored once, and so is what the imitation policy would do there.
store = Compose(
    ibrl.DeduplicateImages([image], capacity=10_000),
    ibrl.EpisodeToTransitions([image, "bc_action"]),
    ibrl.CacheProposals(bc),
)
replay = ibrl.episode_buffer(10_000, 16, store)
_ = [replay.extend(demo) for demo in demos]
how = {"frames_per_batch": 10, "total_frames": 200, "trajs_per_batch": 1}
for _ in Collector(env, policy, replay_buffer=replay, **how):
    losses = loss(replay.sample())
    optimizer.zero_grad()
    (losses["loss_qvalue"] + losses["loss_actor"]).backward()
    optimizer.step()
    targets.step()
    print({key: round(value.item(), 3) for key, value in losses.items()})
