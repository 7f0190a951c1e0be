"""Headless rendering of MuJoCo cameras."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ibrl_torchrl.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True)
class RenderQuality:
    """Rendering options; None keeps the model's setting.

    Attributes:
        shadows: render shadows.
        reflections: render reflections of reflective materials.
        samples: samples of multisample anti-aliasing, 0 for none.
        shadow_map: height and width of the shadow map in pixels.
    """

    shadows: bool = True
    reflections: bool = True
    samples: int | None = None
    shadow_map: int | None = None


# Demonstrations, BC and RL need equal images, so all three store the name of the quality.
QUALITIES = {
    "fast": RenderQuality(shadows=False, reflections=False, samples=0),
    "shadows": RenderQuality(samples=0, shadow_map=512),
    "full": RenderQuality(),
}


class CameraRenderer:
    """Renderer of the cameras of one simulation at one size and quality.

    Renders headless with EGL (Debian: libegl1) or OSMesa (libosmesa6); the environment variable
    ``MUJOCO_GL`` selects the backend, by default the first of the two that works. One process can
    have several instances, also of one model at several qualities.

    Args:
        model: model of the simulation; its rendering options are not changed.
        cameras: names of cameras in the model.
        size: height and width of the images in pixels.
        quality: name of a :class:`RenderQuality` in ``QUALITIES``: ``"fast"``, ``"shadows"`` or
            ``"full"`` (the model's settings).
        hidden_groups: geom groups that are not rendered, such as collision geoms.

    Raises:
        UsageError: a camera or the quality is unknown, or no OpenGL backend is available.
        ValueError: ``size`` is below 1.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[str],
        size: int,
        quality: str,
        hidden_groups: Sequence[int] = (),
    ) -> None:
        import mujoco

        if quality not in QUALITIES:
            raise unknown_name("render quality", quality, QUALITIES)
        if size < 1:
            raise ValueError(f"image_size must be at least 1, got {size}")
        names = [model.camera(i).name for i in range(model.ncam)]
        for camera in cameras:
            if camera not in names:
                raise unknown_name("camera", camera, names)
        self._quality = QUALITIES[quality]
        with _context_settings(model, self._quality, size):
            self._renderer = _create_renderer(model, size)
        # OpenGL contexts have to be freed before MuJoCo's exit handler terminates OpenGL; handlers
        # run in reverse order of registration.
        atexit.register(_close_renderer, weakref.ref(self._renderer))
        self._scene_option = mujoco.MjvOption()
        self._scene_option.geomgroup[[*hidden_groups]] = 0
        self._upside_down = {name: _is_upside_down(model, name) for name in cameras}

    def render(self, data: mujoco.MjData) -> dict[str, Tensor]:
        """Render all cameras.

        Images of fixed cameras that the model mounts upside down are rotated by 180 degrees.

        Args:
            data: state of the simulation.

        Returns:
            RGB images by camera, uint8 [3, H, W], upright.
        """
        images = {}
        for camera, upside_down in self._upside_down.items():
            self._renderer.update_scene(data, camera, self._scene_option)
            self._set_flags()
            image = self._renderer.render()
            image = image[::-1, ::-1] if upside_down else image
            images[camera] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return images

    def close(self) -> None:
        """Release the OpenGL context."""
        self._renderer.close()

    def _set_flags(self) -> None:
        from mujoco import mjtRndFlag

        self._renderer.scene.flags[mjtRndFlag.mjRND_SHADOW] = self._quality.shadows
        self._renderer.scene.flags[mjtRndFlag.mjRND_REFLECTION] = self._quality.reflections


@contextmanager
def _context_settings(model: mujoco.MjModel, quality: RenderQuality, size: int) -> Iterator[None]:
    """Set a model's options temporarily, for the creation of an OpenGL context that reads them."""
    options, buffer = model.vis.quality, model.vis.global_
    samples, shadow_map = options.offsamples, options.shadowsize
    width, height = buffer.offwidth, buffer.offheight
    if quality.samples is not None:
        options.offsamples = quality.samples
    if quality.shadow_map is not None:
        options.shadowsize = quality.shadow_map
    buffer.offwidth, buffer.offheight = max(size, width), max(size, height)
    try:
        yield
    finally:
        options.offsamples, options.shadowsize = samples, shadow_map
        buffer.offwidth, buffer.offheight = width, height


def _close_renderer(renderer: weakref.ref[mujoco.Renderer]) -> None:
    if (referent := renderer()) is not None:
        referent.close()


def _is_upside_down(model: mujoco.MjModel, camera: str) -> bool:
    """Whether the up vector of a camera fixed in the world points downward."""
    import mujoco

    index = model.camera(camera).id
    if model.cam_bodyid[index] != 0:
        return False
    up = np.zeros(3)
    mujoco.mju_rotVecQuat(up, np.array([0.0, 1.0, 0.0]), model.cam_quat[index])
    return bool(up[2] < -1e-6)


def _create_renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    """Create a renderer with the first OpenGL backend that works."""
    import mujoco

    failures = []
    for backend in [os.environ["MUJOCO_GL"]] if os.environ.get("MUJOCO_GL") else ["egl", "osmesa"]:
        try:
            # MuJoCo selects its backend when it is first imported, possibly before this call, and
            # without MUJOCO_GL it selects one that needs a display.
            mujoco.gl_context.GLContext = import_module(f"mujoco.{backend}").GLContext
            return mujoco.Renderer(model, size, size)
        except Exception as error:  # backends raise various types
            failures.append(f"{backend}: {' '.join(str(error).split()) or type(error).__name__}")
    raise UsageError(
        "cannot render images: install libegl1 or libosmesa6 (Debian's names) and set "
        f"MUJOCO_GL=egl or MUJOCO_GL=osmesa ({'; '.join(failures)})"
    )
