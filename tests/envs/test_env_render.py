"""Images of ``env.render``, next to the images in observations."""

import numpy as np
import pytest
import torch
from torchrl.envs import CatFrames, TransformedEnv

pytest.importorskip("metaworld")

from ibrl_torchrl.envs import make_env
from ibrl_torchrl.errors import UsageError

pytestmark = pytest.mark.simulator

CAMERA = {"cameras": ["corner2"], "image_size": 48}


def observation(env, seed=3):
    env.set_seed(seed)
    return env.reset()


def test_render_of_any_quality_leaves_observations_bit_identical():
    reference = make_env("metaworld", "box-close", **CAMERA)
    env = make_env("metaworld", "box-close", **CAMERA)
    image = observation(reference)["corner2_image"]
    assert torch.equal(observation(env)["corner2_image"], image)
    images = [env.render(size=48, quality=quality) for quality in ("fast", "full", "shadows")]
    assert torch.equal(observation(env)["corner2_image"], image)
    # At the size and quality of the observations it is the observed image; at full quality it has
    # the model's settings, whatever renderers were created before.
    assert np.array_equal(images[0], image.permute(1, 2, 0).numpy())
    states = make_env("metaworld", "box-close")
    observation(states)
    assert np.array_equal(images[1], states.render(size=48, quality="full"))
    assert not np.array_equal(images[1], images[2])


def test_render_without_observed_cameras_leaves_env_unchanged():
    env, reference = (make_env("metaworld", "box-close") for _ in range(2))
    before = env.env_args
    for instance in (env, reference):
        observation(instance)
    image = env.render("corner", size=40, quality="fast")
    assert image.dtype == np.uint8 and image.shape == (40, 40, 3)
    assert env.env_args == before
    assert list(env.observation_spec.keys()) == ["state", "proprio", "success"]
    torch.manual_seed(0)
    action = torch.rand(4)
    results = [
        instance.step(observation(instance).set("action", action)) for instance in (env, reference)
    ]
    assert torch.equal(*(result["next", "state"] for result in results))
    assert not np.array_equal(env.render("corner", size=40, quality="fast"), image)
    env.close()


def test_render_of_transformed_env_equals_newest_stacked_frame():
    env = TransformedEnv(
        make_env("metaworld", "box-close", **CAMERA), CatFrames(2, -3, ["corner2_image"])
    )
    newest = observation(env)["corner2_image"][-3:]
    assert np.array_equal(env.render(size=48, quality="fast"), newest.permute(1, 2, 0).numpy())


def test_render_rejects_unknown_camera():
    with pytest.raises(UsageError, match="unknown camera 'corner9'"):
        make_env("metaworld", "box-close").render("corner9")
