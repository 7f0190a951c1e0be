"""Pixels: encoders, updates, rendering, sampling of images from the replay."""

import pytest
import torch
from pixel_parts import (
    IMAGE,
    UPDATES,
    images,
    pixel_agent,
    pixel_batch,
    pixel_learner,
    pixel_setting,
)
from tensordict import TensorDict
from torchrl.envs import Compose

from ibrl_torchrl.data.replay import DeduplicateImages, EpisodeToTransitions, episode_buffer
from ibrl_torchrl.envs.rendering import QUALITIES
from ibrl_torchrl.modules import (
    CameraEncoder,
    DrQConvolutions,
    RandomShift,
    ResNet18,
    ResNet96,
    ViT,
)

ENCODERS = {"vit": ViT, "resnet18": ResNet18, "resnet96": ResNet96, "drq": DrQConvolutions}


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
    return pixel_setting(request.param)


@pytest.fixture
def learner(setting):
    return pixel_learner(setting, pixel_agent(setting))


@pytest.fixture
def batch(setting):
    return pixel_batch(setting)


@pytest.mark.benchmark(group="pixel update")
def bench_pixel_critic_update(benchmark, learner, batch):
    benchmark.pedantic(learner.update, ("loss_qvalue", batch), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="pixel update")
def bench_pixel_actor_update(benchmark, learner, batch):
    learner.update("loss_qvalue", batch)  # writes the features
    benchmark.pedantic(learner.update, ("loss_actor", batch), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="render, 96 pixels")
@pytest.mark.parametrize("quality", QUALITIES)
def bench_render(benchmark, quality):
    pytest.importorskip("metaworld")
    from ibrl_torchrl.envs import make_env

    env = make_env("metaworld", "box-close", cameras=["corner2"], render_quality=quality)
    env.reset()
    benchmark.pedantic(
        lambda: env._obs_renderer.render(env._simulator.data),
        rounds=20,
        iterations=5,
        warmup_rounds=1,
    )


CAPACITY, EPISODE, BATCH = 2000, 100, 256


@pytest.mark.benchmark(group="sample 256 pairs of images")
@pytest.mark.parametrize("storage", ["memory", "memmap"])
@pytest.mark.parametrize(
    "is_deduplicated", [True, False], ids=["frames once", "images of s and s'"]
)
def bench_sample_images(benchmark, is_deduplicated, storage, tmp_path):
    settings = {"storage": storage, "scratch_dir": tmp_path}
    deduplicate = [DeduplicateImages([IMAGE], CAPACITY, **settings)] if is_deduplicated else []
    replay = episode_buffer(
        CAPACITY, BATCH, Compose(*deduplicate, EpisodeToTransitions([IMAGE])), **settings
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
