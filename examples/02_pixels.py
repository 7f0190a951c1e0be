"""IBRL from camera images: loss and replay buffer as from states, with image encoders."""

import torch
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.collectors import Collector
from torchrl.envs import Compose
from torchrl.modules import AdditiveGaussianModule
from torchrl.objectives import SoftUpdate

import ibrl_torchrl as ibrl

env = ibrl.make_env("metaworld", "box-close", seed=0, cameras=["corner2"], image_size=48)
demos = list(ibrl.record_demos(env, ibrl.scripted_expert("metaworld", "box-close"), episodes=2))
image = "corner2_image"  # key of the images, uint8 [3, 48, 48]


def make_encoder() -> ibrl.CameraEncoder:
    network = ibrl.ViT(48, depth=1, dim=32, embedding="convolutions")
    return ibrl.CameraEncoder([network], [(3, 48, 48)])


# Imitation policy with a separate encoder; train it on the demonstrations first.
bc_encoder = make_encoder()
bc_head = ibrl.FlattenHead(bc_encoder.feature_shape)
bc_network = ibrl.PixelPolicy(bc_encoder, ibrl.FeatureActor(bc_head, 4, hidden=[64]))
bc = ibrl.FrozenPolicy(TensorDictModule(bc_network, [image], ["bc_action"]))

# Actor and critics share an encoder, which only the critic loss trains.
encoder_network = make_encoder()
shape = encoder_network.feature_shape  # (patches, features)
encoder = TensorDictModule(encoder_network, [image], ["features"])
head = ibrl.LinearHead(shape, size=32)
actor = TensorDictModule(ibrl.FeatureActor(head, 4, hidden=[64]), ["features"], ["rl_action"])
critics = ibrl.SpatialCriticEnsemble(shape, 4, embedding=64, hidden=[64])
critic = ibrl.CriticEnsemble(critics, ["features", "action"])
loss = ibrl.IBRLTD3Loss(actor, critic, [ibrl.CachedProposal("bc_action")], encoder=encoder)
loss.make_value_estimator(gamma=0.99)
targets = SoftUpdate(loss, tau=0.01)
optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=3e-4)

# Random shifts and dropout are on in the loss's networks and off in their tied copies, which act.
eval_encoder, eval_actor = ibrl.tied_copy(encoder).eval(), ibrl.tied_copy(actor).eval()
noise = AdditiveGaussianModule(env.action_spec, sigma_init=0.1, action_key="rl_action")
policy = TensorDictSequential(eval_encoder, eval_actor, noise, bc, ibrl.IBRLSelector(critic))

# Each image is stored once, and the imitation policy's action is cached with it.
transform = Compose(
    ibrl.DeduplicateImages([image], capacity=10_000),
    ibrl.EpisodeToTransitions([image, "bc_action"]),
    ibrl.CacheProposals(bc),
)
replay = ibrl.episode_buffer(10_000, 16, transform)
_ = [replay.extend(demo) for demo in demos]
frames = {"frames_per_batch": 10, "total_frames": 200, "trajs_per_batch": 1}
for _ in Collector(env, policy, replay_buffer=replay, **frames):
    losses = loss(replay.sample())
    optimizer.zero_grad()
    (losses["loss_qvalue"] + losses["loss_actor"]).backward()
    optimizer.step()
    targets.step()
    print({key: round(value.item(), 3) for key, value in losses.items()})
