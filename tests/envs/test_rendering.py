"""Camera images in observations."""

import os
import subprocess
import sys

import pytest
import torch
from torchrl.envs import ParallelEnv, check_env_specs

pytest.importorskip("metaworld")

from ibrl_torchrl.data.demos import check_demos_match, load_demos, record_demos, save_demos
from ibrl_torchrl.envs import make_env
from ibrl_torchrl.envs.rendering import QUALITIES
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.experts import scripted_expert

pytestmark = pytest.mark.simulator


def camera_env(task="box-close", **settings):
    return make_env("metaworld", task, **{"cameras": ["corner2"], "image_size": 64, **settings})


def observed_image(env, seed=3):
    env.set_seed(seed)
    return env.reset()["corner2_image"]


def test_env_with_several_cameras_satisfies_specs():
    env = camera_env(cameras=["corner2", "gripperPOV"], image_size=48)
    check_env_specs(env)
    images = env.rollout(2)
    assert images["corner2_image"].shape == images["gripperPOV_image"].shape == (2, 3, 48, 48)
    assert images["corner2_image"].dtype == torch.uint8
    assert not torch.equal(images["corner2_image"], images["gripperPOV_image"])


def test_cameras_do_not_change_states():
    plain, rendering = make_env("metaworld", "box-close", seed=1), camera_env(seed=1)
    torch.manual_seed(0)
    actions = torch.rand(5, 4) * 2 - 1
    starts = plain.reset(), rendering.reset()
    for action in actions:
        results = [
            env.step(start.clone().set("action", action))["next", "state"]
            for env, start in zip((plain, rendering), starts, strict=True)
        ]
        assert torch.equal(*results)


def test_images_are_reproducible_and_follow_simulator():
    env = camera_env()
    first = observed_image(env)
    assert torch.equal(observed_image(camera_env()), first)
    assert not torch.equal(observed_image(env, seed=4), first)
    env.set_seed(3)
    moved = env.rollout(5)["next", "corner2_image"][-1]
    assert not torch.equal(moved, first)
    env.set_seed(3)
    assert torch.equal(env.rollout(5, auto_reset=True)["corner2_image"][0], first)


def test_reset_renders_current_body_positions():
    """The image of a reset equals the one after a forward pass."""
    import mujoco

    env = camera_env("window-close", seed=0)
    env.rollout(3)
    image = env.reset()["corner2_image"]
    mujoco.mj_forward(env._simulator.model, env._simulator.data)
    assert torch.equal(env._observation(success=False)["corner2_image"], image)


def test_set_simulator_state_restores_image():
    env = camera_env(seed=2)
    env.rollout(3)
    state = env.simulator_state()
    other = camera_env(seed=5)
    assert torch.equal(
        other.set_simulator_state(state)["corner2_image"],
        env.set_simulator_state(state)["corner2_image"],
    )


@pytest.mark.parametrize("camera", ["corner", "corner2", "corner3", "corner4"])
def test_images_are_upright(camera):
    """A marker that moves up in the world moves up in the image."""
    import mujoco

    env = camera_env("reach", cameras=[camera], seed=0)
    env.reset()
    model = env._simulator.model
    marker = model.site("goal")

    def render(height, alpha):
        marker.pos[:] = (0.0, 0.7, height)
        marker.rgba[3] = alpha
        mujoco.mj_forward(model, env._simulator.data)
        return env._observation(success=False)[f"{camera}_image"].int()

    def row(height):
        changed = (render(height, 1.0) - render(height, 0.0)).abs().sum(0) > 50
        assert changed.any()
        return changed.nonzero()[:, 0].float().mean()

    assert row(0.3) < row(0.1) - 3


def test_corner2_has_position_of_paper():
    env = camera_env()
    assert env._simulator.model.camera("corner2").pos.tolist() == [0.75, 0.075, 0.7]


def test_render_qualities_differ_and_unknown_is_rejected():
    images = [observed_image(camera_env(render_quality=quality)).float() for quality in QUALITIES]
    fast, shadows, full = images
    assert (shadows - full).abs().mean() < (fast - full).abs().mean()
    with pytest.raises(UsageError, match="'best'; known are fast, full, shadows"):
        camera_env(render_quality="best")


def test_camera_renderers_in_one_process_are_independent():
    reference = observed_image(camera_env())
    first, second = camera_env(), camera_env("drawer-open", image_size=32)
    for _ in range(3):
        observed_image(second)
        assert torch.equal(observed_image(first), reference)
    second.close()
    assert torch.equal(observed_image(first), reference)


def test_unknown_camera_and_invalid_size_are_rejected():
    with pytest.raises(UsageError, match="unknown camera 'corner9'"):
        camera_env(cameras=["corner9"])
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        camera_env(image_size=0)


def test_large_image_leaves_model_options_unchanged():
    env = make_env("metaworld", "reach", seed=0)
    height = env._simulator.model.vis.global_.offheight
    env.reset()
    assert env.render(size=height + 32, quality="fast").shape == (height + 32, height + 32, 3)
    assert env._simulator.model.vis.global_.offheight == height


def test_missing_opengl_backend_error_is_one_line():
    code = (
        "from ibrl_torchrl.envs import make_env\n"
        "from ibrl_torchrl.errors import UsageError\n"
        "make_env('metaworld', 'reach')\n"
        "try: make_env('metaworld', 'reach', cameras=['corner2'])\n"
        "except UsageError as error: print(error)"
    )
    environment = {**os.environ, "MUJOCO_GL": "glfw", "DISPLAY": ""}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    (line,) = process.stdout.splitlines()
    assert line.startswith("cannot render images: install libegl1 or libosmesa6")
    assert process.returncode == 0


@pytest.mark.slow
def test_parallel_env_renders():
    env = ParallelEnv(2, camera_env, mp_start_method="spawn")
    try:
        env.set_seed(0)
        images = env.reset()["corner2_image"]
        assert images.shape == (2, 3, 64, 64) and images.float().std() > 10
        assert not torch.equal(images[0], images[1])
    finally:
        env.close()


def test_demonstrations_store_images_and_render_quality(tmp_path):
    env = camera_env(image_size=32)
    path = tmp_path / "demos.hdf5"
    episodes = [*record_demos(env, scripted_expert("metaworld", "box-close"), 1)]
    save_demos(path, episodes, env.env_args)
    keys = ["corner2_image", "proprio"]
    demos = load_demos(path, keys=keys)
    assert torch.equal(demos.episodes[0]["corner2_image"], episodes[0]["corner2_image"])
    after = demos.episodes[0]["next", "corner2_image"]
    assert torch.equal(after[:-1], episodes[0]["corner2_image"][1:])
    check_demos_match(demos, camera_env(image_size=32))
    with pytest.raises(UsageError, match="render_quality fast, the environment has shadows"):
        check_demos_match(demos, camera_env(image_size=32, render_quality="shadows"))
    with pytest.raises(UsageError, match=r"corner2_image \[3, 32, 32\].*\[3, 64, 64\]"):
        check_demos_match(demos, camera_env())

    stacked = load_demos(path, keys=keys, frame_stack=3).episodes[0]
    images = demos.episodes[0]["corner2_image"]
    assert torch.equal(stacked["corner2_image"][0], images[0].repeat(3, 1, 1))
    assert torch.equal(stacked["corner2_image"][5], images[3:6].flatten(0, 1))
    assert torch.equal(stacked["next", "corner2_image"][5], images[4:7].flatten(0, 1))
