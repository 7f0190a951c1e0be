"""Observations that have other names in a file, or are stored there in parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ibrl_torchrl.errors import UsageError, brief

# Names of the arrays that make up an observation, in order, by the observation's key.
KeyMap = Mapping[str, Sequence[str]]


def unknown_key(where: str, name: str, known: Collection[str], key: str) -> UsageError:
    """Error for an observation that a file lacks, which lists those that it has.

    Args:
        where: file and episode, for the message.
        name: missing array.
        known: names of all arrays.
        key: key of the observation.
    """
    names = ", ".join(known) or "nothing"
    return UsageError(
        f"{where}: no {brief(name)!r}, found {brief(names, 300)}; name what makes up {key}: "
        f"demos.keys.{key}=[{brief(','.join([*known][:2])) or 'NAME'}]"
    )


def join_observations(parts: Mapping[str, np.ndarray], key: str, where: str) -> np.ndarray:
    """Concatenate the parts of an observation to [T, n]; a single image stays as it is.

    Args:
        parts: arrays [T, ...] by their names, in order.
        key: key of the observation.
        where: file and episode, for messages.

    Returns:
        float32 [T, n]; of an image uint8 [T, H, W, C], whichever order the file has.

    Raises:
        UsageError: there are no parts, or an image is one of several.
    """
    arrays = [*parts.values()]
    if not arrays:
        raise UsageError(f"{where}: demos.keys.{key}=[] must name one array or more")
    images = [name for name, array in parts.items() if array.dtype == np.uint8 and array.ndim == 4]
    if images and len(arrays) > 1:
        raise UsageError(
            f"{where}: {images[0]} is an image, which cannot be concatenated with other parts of "
            f"{key}; give it a key of its own: demos.keys.CAMERA_image=[{images[0]}]"
        )
    if images:
        (image,) = arrays
        is_channels_first = image.shape[1] in (1, 3) and image.shape[-1] not in (1, 3)
        return np.moveaxis(image, 1, -1) if is_channels_first else image
    flat = [array.reshape(len(array), -1).astype(np.float32) for array in arrays]
    return np.concatenate(flat, axis=-1)
