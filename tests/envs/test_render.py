"""Pictures for people beside what policies see."""

import numpy as np
import pytest
import torch
from torchrl.envs import CatFrames, TransformedEnv

pytest.importorskip("metaworld")

from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError

SEEING = {"cameras": ["corner2"], "image_size": 48}


def observation(env, seed=3):
    env.set_seed(seed)
    return env.reset()


def test_pictures_of_other_qualities_leave_what_the_policy_sees_bit_for_bit():
    alone = make_env("metaworld", "box-close", **SEEING)
    env = make_env("metaworld", "box-close", **SEEING)
    image = observation(alone)["corner2_image"]
    assert torch.equal(observation(env)["corner2_image"], image)
    pictures = [env.render(size=48, quality=quality) for quality in ("fast", "full", "shadows")]
    assert torch.equal(observation(env)["corner2_image"], image)
    # A picture of the policy's own size and quality is what the policy sees, and a better one has
    # the model's own quality, whatever renderers were made before.
    assert np.array_equal(pictures[0], image.permute(1, 2, 0).numpy())
    states = make_env("metaworld", "box-close")
    observation(states)
    assert np.array_equal(pictures[1], states.render(size=48, quality="full"))
    assert not np.array_equal(pictures[1], pictures[2])


def test_pictures_need_no_camera_in_the_observations_and_leave_them_alone():
    env, alone = (make_env("metaworld", "box-close") for _ in range(2))
    before = env.env_args
    for one in (env, alone):
        observation(one)
    picture = env.render("corner", size=40, quality="fast")
    assert picture.dtype == np.uint8 and picture.shape == (40, 40, 3)
    assert env.env_args == before
    assert list(env.observation_spec.keys()) == ["state", "proprio", "success"]
    torch.manual_seed(0)
    action = torch.rand(4)
    results = [one.step(observation(one).set("action", action)) for one in (env, alone)]
    assert torch.equal(*(result["next", "state"] for result in results))
    assert not np.array_equal(env.render("corner", size=40, quality="fast"), picture)
    env.close()


def test_pictures_of_an_environment_that_stacks_frames():
    env = TransformedEnv(
        make_env("metaworld", "box-close", **SEEING), CatFrames(2, -3, ["corner2_image"])
    )
    newest = observation(env)["corner2_image"][-3:]
    assert np.array_equal(env.render(size=48, quality="fast"), newest.permute(1, 2, 0).numpy())


def test_unknown_cameras_are_refused():
    with pytest.raises(UsageError, match="unknown camera 'corner9'"):
        make_env("metaworld", "box-close").render("corner9")
