"""Camera images of a MuJoCo simulation, without a screen."""

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
    """What a renderer spends its time on; None leaves the model's own setting.

    Attributes:
        shadows: draw shadows.
        reflections: draw reflections in mirroring materials.
        samples: multisampling of edges, 0 for none.
        shadow_map: side of the shadow map in pixels.
    """

    shadows: bool = True
    reflections: bool = True
    samples: int | None = None
    shadow_map: int | None = None


# Demonstrations, BC and RL must see the same: the name is stored with all three.
QUALITIES = {
    "fast": RenderQuality(shadows=False, reflections=False, samples=0),
    "shadows": RenderQuality(samples=0, shadow_map=512),
    "full": RenderQuality(),
}


class CameraRig:
    """Cameras of one simulation, rendered at one size and quality.

    Works headless, by EGL (Debian: libegl1) or OSMesa (libosmesa6); the environment variable
    ``MUJOCO_GL`` chooses, by default the first of the two that works. Several rigs can live in one
    process, and show one model at several qualities.

    Args:
        model: the simulation's model; its rendering options are left as they are.
        cameras: names of cameras in the model.
        size: height and width of the images in pixels.
        quality: name of a :class:`RenderQuality` in ``QUALITIES``: ``"fast"``, ``"shadows"`` or
            ``"full"``, the model's own.
        hidden_groups: groups of geometry to leave out, such as what only collides.

    Raises:
        UsageError: a camera or the quality is unknown, or nothing here can render.
        ValueError: ``size`` is less than one.
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
        with _lent(model, self._quality, size):
            self._renderer = _renderer(model, size)
        # At exit, contexts must go before MuJoCo ends OpenGL; what is registered last goes first.
        atexit.register(_close, weakref.ref(self._renderer))
        self._shown = mujoco.MjvOption()
        self._shown.geomgroup[[*hidden_groups]] = 0
        self._upside_down = {name: _is_upside_down(model, name) for name in cameras}

    def render(self, data: mujoco.MjData) -> dict[str, Tensor]:
        """Images uint8 [3, H, W] of all cameras, right side up.

        A fixed camera that the model mounts upside down gives an image turned by half a circle.
        """
        images = {}
        for camera, upside_down in self._upside_down.items():
            self._renderer.update_scene(data, camera, self._shown)
            self._set_flags()
            image = self._renderer.render()
            image = image[::-1, ::-1] if upside_down else image
            images[camera] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return images

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()

    def _set_flags(self) -> None:
        from mujoco import mjtRndFlag

        self._renderer.scene.flags[mjtRndFlag.mjRND_SHADOW] = self._quality.shadows
        self._renderer.scene.flags[mjtRndFlag.mjRND_REFLECTION] = self._quality.reflections


@contextmanager
def _lent(model: mujoco.MjModel, quality: RenderQuality, size: int) -> Iterator[None]:
    """Lend a model settings while its OpenGL context is made, which reads them there and then."""
    shown, buffer = model.vis.quality, model.vis.global_
    own = shown.offsamples, shown.shadowsize, buffer.offwidth, buffer.offheight
    if quality.samples is not None:
        shown.offsamples = quality.samples
    if quality.shadow_map is not None:
        shown.shadowsize = quality.shadow_map
    buffer.offwidth, buffer.offheight = max(size, own[2]), max(size, own[3])
    try:
        yield
    finally:
        shown.offsamples, shown.shadowsize, buffer.offwidth, buffer.offheight = own


def _close(renderer: weakref.ref[mujoco.Renderer]) -> None:
    if (alive := renderer()) is not None:
        alive.close()


def _is_upside_down(model: mujoco.MjModel, camera: str) -> bool:
    """Whether a camera fixed in the world has its upper edge downward."""
    import mujoco

    index = model.camera(camera).id
    if model.cam_bodyid[index] != 0:
        return False
    up = np.zeros(3)
    mujoco.mju_rotVecQuat(up, np.array([0.0, 1.0, 0.0]), model.cam_quat[index])
    return bool(up[2] < -1e-6)


def _renderer(model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    import mujoco

    failures = []
    for backend in [os.environ["MUJOCO_GL"]] if os.environ.get("MUJOCO_GL") else ["egl", "osmesa"]:
        try:
            # MuJoCo chooses its backend when it is first imported, which may long have happened,
            # and without MUJOCO_GL it chooses one that needs a screen.
            mujoco.gl_context.GLContext = import_module(f"mujoco.{backend}").GLContext
            return mujoco.Renderer(model, size, size)
        except Exception as error:  # each backend fails in its own way
            failures.append(f"{backend}: {' '.join(str(error).split()) or type(error).__name__}")
    raise UsageError(
        "cannot render images: install libegl1 or libosmesa6 (Debian's names) and set "
        f"MUJOCO_GL=egl or MUJOCO_GL=osmesa ({'; '.join(failures)})"
    )
