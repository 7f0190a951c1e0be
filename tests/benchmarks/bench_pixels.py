"""What pixels cost: encoders, updates, rendering, and images from the replay."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import Compose

from ibrl_torchrl.data import EpisodeToTransitions, StoreFramesOnce, episode_buffer
from ibrl_torchrl.envs.rendering import QUALITIES
from ibrl_torchrl.modules import (
    CameraEncoder,
    DrQConvolutions,
    RandomShift,
    ResNet18,
    ResNet96,
    ViT,
)
from ibrl_torchrl.training.builders import bc_policy, build_agent, build_env
from ibrl_torchrl.training.compose import composed
from ibrl_torchrl.training.config import TrainConfig, parse
from ibrl_torchrl.training.networks import build_policy
from ibrl_torchrl.training.scales import placeholder_scales

CPU = torch.device("cpu")
IMAGE = "corner2_image"
ENCODERS = {"vit": ViT, "resnet18": ResNet18, "resnet96": ResNet96, "drq": DrQConvolutions}
# The paper's networks with 32 of its 256 transitions: a whole batch takes 10 s on one core.
UPDATES = {
    "small_pixels": ["experiment=small_pixels"],
    "paper_vit_32_of_256": ["experiment=paper_pixels", "replay.batch_size=32"],
    "paper_drq_32_of_256": ["experiment=paper_pixels_basic", "replay.batch_size=32"],
}


def images(rows, size=96):
    return torch.randint(256, (rows, 3, size, size), dtype=torch.uint8)


@pytest.mark.benchmark(group="encoder, 16 images")
@pytest.mark.parametrize("name", ENCODERS)
def bench_encoder_forward(benchmark, name):
    encoder = CameraEncoder([ENCODERS[name](96)], [(3, 96, 96)])
    with torch.no_grad():
        benchmark(encoder, images(16))


@pytest.mark.benchmark(group="encoder, 16 images")
@pytest.mark.parametrize("name", ENCODERS)
def bench_encoder_forward_backward(benchmark, name):
    encoder, batch = CameraEncoder([ENCODERS[name](96)], [(3, 96, 96)]), images(16)
    benchmark(lambda: encoder(batch).sum().backward())


@pytest.mark.benchmark(group="random shift, 256 images")
def bench_random_shift(benchmark):
    benchmark(RandomShift(4).train(), images(256))


@pytest.fixture(params=UPDATES)
def setting(request):
    return parse(TrainConfig, composed("train", ["run_dir=none", *UPDATES[request.param]]))


@pytest.fixture
def learner(setting):
    env = build_env(setting.task)
    scales = placeholder_scales(setting.task, env)
    network = build_policy(setting.bc.network, setting.bc.encoder, scales, env.observation_spec, 4)
    bc = bc_policy(network, setting.bc.encoder)
    return build_agent(setting.algo, bc, scales, env, CPU, recorded_proposals=True).learner


@pytest.fixture
def batch(setting):
    rows, size = setting.replay.batch_size, setting.task.image_size
    flag = torch.zeros(rows, 1, dtype=torch.bool)
    return TensorDict(
        {
            IMAGE: images(rows, size),
            "proprio": torch.rand(rows, 4),
            "action": torch.rand(rows, 4) * 2 - 1,
            "steps_to_next_obs": torch.full((rows, 1), 3),
            "next": {
                IMAGE: images(rows, size),
                "proprio": torch.rand(rows, 4),
                "bc_action": torch.rand(rows, 4) * 2 - 1,
                "reward": torch.zeros(rows, 1),
                "terminated": flag,
                "done": flag,
            },
        },
        batch_size=[rows],
    )


@pytest.mark.benchmark(group="pixel update")
def bench_pixel_critic_update(benchmark, learner, batch):
    benchmark.pedantic(learner.update_critics, (batch,), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="pixel update")
def bench_pixel_actor_update(benchmark, learner, batch):
    learner.update_critics(batch)  # leaves the features
    benchmark.pedantic(learner.update_actor, (batch,), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="render, 96 pixels")
@pytest.mark.parametrize("quality", QUALITIES)
def bench_render(benchmark, quality):
    pytest.importorskip("metaworld")
    from ibrl_torchrl.envs import make_env

    env = make_env("metaworld", "box-close", cameras=["corner2"], render_quality=quality)
    env.reset()
    benchmark.pedantic(
        lambda: env._rig.render(env._simulator.data), rounds=20, iterations=5, warmup_rounds=1
    )


CAPACITY, EPISODE, BATCH = 2000, 100, 256


@pytest.mark.benchmark(group="sample 256 pairs of images")
@pytest.mark.parametrize("storage", ["memory", "memmap"])
@pytest.mark.parametrize("once", [True, False], ids=["frames once", "images of s and s'"])
def bench_sample_images(benchmark, once, storage, tmp_path):
    place = {"storage": storage, "scratch_dir": tmp_path}
    storing = [StoreFramesOnce([IMAGE], CAPACITY, **place)] if once else []
    replay = episode_buffer(
        CAPACITY, BATCH, Compose(*storing, EpisodeToTransitions([IMAGE])), **place
    )
    end = torch.zeros(EPISODE, 1, dtype=torch.bool)
    end[-1] = True
    frames = images(EPISODE + 1)
    episode = TensorDict(
        {
            IMAGE: frames[:-1],
            "action": torch.rand(EPISODE, 4),
            "next": {
                IMAGE: frames[1:],
                "reward": torch.zeros(EPISODE, 1),
                "terminated": torch.zeros_like(end),
                "truncated": end,
                "done": end,
            },
        },
        batch_size=[EPISODE],
    )
    for _ in range(CAPACITY // EPISODE):
        replay.extend(episode)
    benchmark(replay.sample)
