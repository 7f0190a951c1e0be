"""Resumable download of robomimic's human demonstrations from the Hugging Face Hub.

A partial download is stored beside the target, so that an interrupted download resumes, and is
renamed to the target once size and SHA-256 match. huggingface_hub gives URL, size and hash; the
content is requested here, because ``hf_hub_download`` of recent releases restarts each time
(issue 4196 of huggingface/huggingface_hub).
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError, require_extra, unknown_name
from ibrl_torchrl.files import open_in_place

REPOSITORY = "robomimic/robomimic_datasets"
# Pinned because files have been replaced without renaming, last on 2025-04-13.
REVISION = "74fa018461f479cd9fd15b924a16103012096203"
_MAX_BYTES = 4 << 30  # of a dataset; the largest has 0.3 GB
# A server that sends less, in the mean, is given up after a minute; a second call resumes.
_MIN_BYTES_PER_SECOND = 10_000
_GRACE_SECONDS = 60.0
# Defaults of huggingface_hub's environment variables. Telemetry is an additional request, and its
# warnings ask for a token that public files do not need.
_HUB_DEFAULTS = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_VERBOSITY": "error"}


@dataclass(frozen=True)
class Dataset:
    """One file of robomimic's repository.

    Attributes:
        path: path in the repository.
        size: bytes; None: as the hub states for the pinned revision.
        sha256: hexadecimal digest; None: as the hub states for the pinned revision, which protects
            from a damaged transfer and not from another file at the server. The user is told.
    """

    path: str
    size: int | None = None
    sha256: str | None = None


# Proficient-human data of robomimic v1.5. Raw files have simulator states and no observations.
DATASETS: dict[str, Dataset] = {
    "lift": Dataset(
        "v1.5/lift/ph/low_dim_v15.hdf5",
        21_084_088,
        "2067777cb8b532e9263dd09fd6448c41cc31224bb27be4a3b734010ae13eb540",
    ),
    "can": Dataset(
        "v1.5/can/ph/low_dim_v15.hdf5",
        46_889_752,
        "3f2eb92e0a5025d0095e866ac16cc8092d6a762abe27dec90dbaff9027282962",
    ),
    "square": Dataset(
        "v1.5/square/ph/low_dim_v15.hdf5",
        51_145_256,
        "45d8cabb6d57a4c03e839aa5e4b3e58fb60fe8bd20e1951fec563a2abfd14951",
    ),
    "transport": Dataset(
        "v1.5/transport/ph/low_dim_v15.hdf5",
        303_187_328,
        "260515618f4c8b660e54171497ecceb08c7c6463691a9ce862b158bcacd950b4",
    ),
    "tool_hang": Dataset(
        "v1.5/tool_hang/ph/low_dim_v15.hdf5",
        198_601_752,
        "c5cb01b119a109a3d4842ca515906e86f1f35a8ee1a333d22b3503c1a513a8f4",
    ),
    "lift-raw": Dataset("v1.5/lift/ph/demo_v15.hdf5"),
    "can-raw": Dataset(
        "v1.5/can/ph/demo_v15.hdf5",
        64_932_974,
        "86961df85af1b9c6b9d4182a3755a8a4db6d0660cd550e45cca1f7accdb6d73d",
    ),
    "square-raw": Dataset("v1.5/square/ph/demo_v15.hdf5"),
    "transport-raw": Dataset("v1.5/transport/ph/demo_v15.hdf5"),
    "tool_hang-raw": Dataset("v1.5/tool_hang/ph/demo_v15.hdf5"),
}


def download_dataset(name: str, out: Path) -> Path:
    """Download a dataset to a file, or verify an existing one.

    The environment variable ``HF_ENDPOINT`` selects another server than the public hub.

    Args:
        name: key of ``DATASETS``, such as ``"lift"`` or ``"can-raw"``.
        out: file to write; missing folders are created. An existing file is verified and not
            modified; the hub is contacted only if its hash is not in ``DATASETS``.

    Returns:
        ``out``, with verified size and SHA-256.

    Raises:
        UsageError: the name is unknown; ``out`` is another file; the hub cannot be reached or has
            no such file, or sends less than 10 kB/s (a second call resumes a partial download); the
            partial download is a link;
            the hub's file differs from ``DATASETS``; or huggingface_hub is not installed.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    dataset = DATASETS[name]
    if out.exists() and dataset.sha256 is not None:
        return _verify_existing(name, dataset, out)
    os.environ.update({key: value for key, value in _HUB_DEFAULTS.items() if key not in os.environ})
    hub = require_extra("huggingface_hub", "robomimic")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    url = hub.hf_hub_url(
        REPOSITORY, dataset.path, repo_type="dataset", revision=REVISION, endpoint=endpoint
    )
    manual_remedy = f"or download {url} manually and pass demos.path=FILE"
    try:
        size, digest = _size_and_hash(hub, dataset, url, manual_remedy)
        if dataset.sha256 is None:
            echo(
                f"{name}: this version pins no SHA-256 of it; it is verified by the server's own "
                f"statement ({size} bytes, SHA-256 {digest})"
            )
        dataset = Dataset(dataset.path, size, digest)
        if out.exists():
            return _verify_existing(name, dataset, out)
        # Named by content, so that a partial download of another file is never resumed.
        partial = out.with_name(f".{out.name}.{digest[:12]}.part")
        partial.parent.mkdir(parents=True, exist_ok=True)
        _download(hub, url, partial, size)
    # ValueError and ImportError: a proxy scheme that the HTTP client does not support.
    except (hub.errors.HTTPError, ConnectionError, ValueError, ImportError) as error:
        raise UsageError(
            f"{name}: download failed ({_reason(error)}); check the connection and try again to "
            f"resume, {manual_remedy}"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be written ({error.strerror or error}); choose another out=FILE"
        ) from error
    if mismatch := _mismatch(_identify(partial), dataset):
        partial.unlink()
        raise UsageError(
            f"{name}: the downloaded file is corrupt ({mismatch}) and was deleted; try again, "
            f"{manual_remedy}"
        )
    os.replace(partial, out)
    return out


def _verify_existing(name: str, dataset: Dataset, out: Path) -> Path:
    """Return ``out`` if it is the dataset."""
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; choose out=FILE")
    if mismatch := _mismatch(_identify(out), dataset):
        raise UsageError(
            f"{out}: exists and is not the dataset {name} ({mismatch}); "
            "move it away or choose another out=FILE"
        )
    return out


def _size_and_hash(
    hub: ModuleType, dataset: Dataset, url: str, manual_remedy: str
) -> tuple[int, str]:
    """Size and SHA-256 of a dataset, completed by the hub's metadata and compared with them."""
    metadata = hub.get_hf_file_metadata(url, token=False)
    # The ETag of a large file is its SHA-256, that of a small one is a Git hash of 40 digits.
    etag = metadata.etag if re.fullmatch("[0-9a-f]{64}", metadata.etag or "") else None
    if mismatch := _mismatch(Dataset(dataset.path, metadata.size, etag), dataset):
        raise UsageError(
            f"{url}: the server has another file ({mismatch}); "
            "unset HF_ENDPOINT if it is set, or download a file manually and pass demos.path=FILE"
        )
    size, digest = dataset.size or metadata.size, dataset.sha256 or etag
    if size is None or digest is None:
        raise UsageError(
            f"{url}: the server does not state its size and SHA-256; try again, {manual_remedy}"
        )
    if not 0 < size <= _MAX_BYTES:
        raise UsageError(
            f"{url}: the server states {size} bytes, at most {_MAX_BYTES} are downloaded; "
            f"{manual_remedy}"
        )
    return size, digest


def _download(hub: ModuleType, url: str, partial: Path, size: int) -> None:
    """Append missing content; reconnect while each connection transfers data.

    Raises:
        ConnectionError: the server sends nothing, or less than a minimum speed.
    """
    open_in_place(partial, "ab").close()  # created; a link would lead to another file
    initial = partial.stat().st_size
    deadline = time.monotonic() + _GRACE_SECONDS + (size - initial) / _MIN_BYTES_PER_SECOND
    with tqdm(total=size, initial=initial, unit="B", unit_scale=True, disable=None) as bar:
        while (offset := partial.stat().st_size) < size:
            failure: Exception = ConnectionError("the server sends no data")
            try:
                _append(hub, url, partial, offset, bar, size, deadline)
            except hub.errors.HTTPError as error:
                failure = error
            if partial.stat().st_size <= offset:
                raise failure


def _append(
    hub: ModuleType, url: str, partial: Path, offset: int, bar: tqdm, size: int, deadline: float
) -> None:
    """Request the content from ``offset`` bytes on and append it, until ``deadline`` (seconds)."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={offset}-"} if offset else {})}
    timeout = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    with hub.get_session().stream(
        "GET", url, headers=headers, timeout=timeout, follow_redirects=True
    ) as response:
        response.raise_for_status()
        if response.status_code != 206:
            offset = 0  # a server without range requests sends the whole file
        bar.n = offset
        # Chunks of the transport's size: an interrupted larger chunk would be lost.
        with open_in_place(partial, "ab" if offset else "wb") as file:
            for chunk in response.iter_bytes():
                if time.monotonic() > deadline:
                    raise ConnectionError(
                        f"the server sends less than {_MIN_BYTES_PER_SECOND / 1000:g} kB/s"
                    )
                # A byte more than stated is enough to find the file corrupt.
                remaining = memoryview(chunk)[: size + 1 - file.tell()]
                # Unbuffered: a full disk may take a part of it.
                while remaining:
                    remaining = remaining[file.write(remaining) :]
                bar.update(len(chunk))
                if file.tell() > size:
                    return


def _identify(path: Path) -> Dataset:
    """Size and SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return Dataset(path.name, path.stat().st_size, digest.hexdigest())


def _mismatch(actual: Dataset, expected: Dataset) -> str | None:
    """``5 bytes, not 10`` or ``SHA-256 0123456789ab, not ba9876543210``; None if they match."""
    if None not in (actual.size, expected.size) and actual.size != expected.size:
        return f"{actual.size} bytes, not {expected.size}"
    if actual.sha256 and expected.sha256 and actual.sha256 != expected.sha256:
        return f"SHA-256 {actual.sha256[:12]}, not {expected.sha256[:12]}"
    return None


def _reason(error: Exception) -> str:
    """Short description of a failed request."""
    if (response := getattr(error, "response", None)) is not None:
        return f"the server answers {response.status_code} {response.reason_phrase}"
    return next(iter(str(error).splitlines()), type(error).__name__)
