"""Configurations, learners and batches of the benchmarks with pixels."""

import torch
from tensordict import TensorDict
from untrained import untrained_agent

from ibrl_torchrl.config.compose import composed
from ibrl_torchrl.config.parse import parse
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.training.learner import build_learner

IMAGE = "corner2_image"
# The paper's networks with a batch of 32 instead of 256, which takes 10 s on one core.
UPDATES = {
    "small_pixels": ["experiment=small_pixels", "algo=ibrl"],
    "paper_vit_32_of_256": ["experiment=paper_pixels", "replay.batch_size=32"],
    "paper_drq_32_of_256": ["experiment=paper_pixels_basic", "replay.batch_size=32"],
}


def images(rows, size=96):
    return torch.randint(256, (rows, 3, size, size), dtype=torch.uint8)


def pixel_setting(name):
    return parse(TrainConfig, composed("train", ["run_dir=none", *UPDATES[name]]))


def pixel_agent(setting):
    """Agent whose batches hold the imitation policy's actions."""
    return untrained_agent(setting, cached_proposals=True)


def pixel_learner(setting, agent, *, compile_mode=None):
    return build_learner(agent, setting.algo.update, compile_mode)


def pixel_batch(setting):
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
