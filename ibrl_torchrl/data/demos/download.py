"""robomimic's human demonstrations, from its repository on the public hub.

What arrives is kept beside the target until it is whole, so that an interrupted download goes on
where it stopped, and the target appears only once size and SHA-256 are right. The library tells
where a file is and what it should be; its bytes are asked for here, because ``hf_hub_download`` of
recent releases begins anew each time (issue 4196 of huggingface/huggingface_hub).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from ibrl_torchrl.errors import UsageError, require_extra, unknown_name

REPOSITORY = "robomimic/robomimic_datasets"
# Pinned because files have been replaced under their names, the last time on 2025-04-13.
REVISION = "74fa018461f479cd9fd15b924a16103012096203"
# Settings of huggingface_hub that a person may overrule. Telemetry is a request of its own, and the
# warnings ask for a token that public files do not need.
_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_VERBOSITY": "error"}


@dataclass(frozen=True)
class Dataset:
    """One file of robomimic's repository.

    Attributes:
        path: its name in the repository.
        size: bytes; None: what the hub says of the pinned revision.
        sha256: hexadecimal digits; None: what the hub says of the pinned revision.
    """

    path: str
    size: int | None = None
    sha256: str | None = None


# Proficient-human data of robomimic v1.5. The raw files hold simulator states and no observations.
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
    """Fetch a dataset to a file, or find that it is there.

    The environment variable ``HF_ENDPOINT`` names another server than the public hub.

    Args:
        name: a key of ``DATASETS``, such as ``"lift"`` or ``"can-raw"``.
        out: file to write; missing folders are made. If it is the dataset already, it stays as it
            is, and nothing is asked of the hub unless its hash is not in the table.

    Returns:
        ``out``, whose size and SHA-256 are right.

    Raises:
        UsageError: the name is unknown; ``out`` is another file, which stays untouched; the hub
            cannot be reached or has no such file, where a second call goes on with what has
            arrived; the hub's file is not the known one; the library is not installed.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    dataset = DATASETS[name]
    if out.exists() and dataset.sha256 is not None:
        return _existing(name, dataset, out)
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    hub = require_extra("huggingface_hub", "robomimic")
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    url = hub.hf_hub_url(
        REPOSITORY, dataset.path, repo_type="dataset", revision=REVISION, endpoint=endpoint
    )
    by_hand = f"or fetch {url} by hand and pass demos.path=FILE"
    try:
        dataset = _described(hub, dataset, url, by_hand)
        if out.exists():
            return _existing(name, dataset, out)
        # Named by content, so that remains of another file are never continued.
        partial = out.with_name(f".{out.name}.{dataset.sha256[:12]}.part")
        partial.parent.mkdir(parents=True, exist_ok=True)
        _receive(hub, url, partial, dataset.size)
    # The last two: a proxy of a kind that the HTTP client does not know, or not without an extra.
    except (hub.errors.HTTPError, ConnectionError, ValueError, ImportError) as error:
        raise UsageError(
            f"{name}: cannot fetch it ({_reason(error)}); check the connection and try again, "
            f"what has arrived is kept; {by_hand}"
        ) from error
    except OSError as error:
        raise UsageError(f"{out}: cannot write here ({error.strerror or error})") from error
    if difference := _difference(_measured(partial), dataset):
        partial.unlink()
        raise UsageError(
            f"{name}: what arrived is wrong ({difference}) and was deleted; try again, {by_hand}"
        )
    os.replace(partial, out)
    return out


def _existing(name: str, dataset: Dataset, out: Path) -> Path:
    """``out`` if it is the dataset."""
    if out.is_dir():
        raise UsageError(f"{out}: is a folder; choose out=FILE")
    if difference := _difference(_measured(out), dataset):
        raise UsageError(
            f"{out}: exists and is not the dataset {name} ({difference}); "
            "move it away or choose another out=FILE"
        )
    return out


def _described(hub: ModuleType, dataset: Dataset, url: str, by_hand: str) -> Dataset:
    """The dataset with what the hub tells of it; refused where that is not what is known."""
    told = hub.get_hf_file_metadata(url, token=False)
    # The ETag of a large file is its SHA-256, that of a small one is a Git hash of 40 digits.
    digest = told.etag if re.fullmatch("[0-9a-f]{64}", told.etag or "") else None
    offered = Dataset(dataset.path, told.size, digest)
    if difference := _difference(offered, dataset):
        raise UsageError(
            f"{url}: the server offers another file ({difference}); "
            "unset HF_ENDPOINT if it is set, or fetch a file by hand and pass demos.path=FILE"
        )
    size, digest = dataset.size or offered.size, dataset.sha256 or offered.sha256
    if size is None or digest is None:
        raise UsageError(f"{url}: the server does not tell its size and SHA-256; {by_hand}")
    return Dataset(dataset.path, size, digest)


def _receive(hub: ModuleType, url: str, partial: Path, size: int) -> None:
    """Append what is missing; a broken connection is taken up again as long as each brings data."""
    partial.touch()
    begun = partial.stat().st_size
    with tqdm(total=size, initial=begun, unit="B", unit_scale=True, disable=None) as bar:
        while (have := partial.stat().st_size) < size:
            failure: Exception = ConnectionError("the server sends nothing")
            try:
                _append(hub, url, partial, have, bar)
            except hub.errors.HTTPError as error:
                failure = error
            if partial.stat().st_size <= have:
                raise failure


def _append(hub: ModuleType, url: str, partial: Path, have: int, bar: tqdm) -> None:
    """One request for what comes after the first ``have`` bytes."""
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    timeout = hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
    with hub.get_session().stream(
        "GET", url, headers=headers, timeout=timeout, follow_redirects=True
    ) as response:
        response.raise_for_status()
        if response.status_code != 206:
            have = 0  # a server without ranges sends all of it
        bar.n = have
        # Pieces as they come: larger ones would be lost with the connection that breaks in them.
        with partial.open("ab" if have else "wb") as file:
            for piece in response.iter_bytes():
                file.write(piece)
                bar.update(len(piece))


def _measured(path: Path) -> Dataset:
    """A file as it is."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return Dataset(path.name, path.stat().st_size, digest.hexdigest())


def _difference(found: Dataset, right: Dataset) -> str | None:
    """``5 bytes, not 10`` or ``SHA-256 0123456789ab, not ba9876543210``; None where nothing is."""
    if None not in (found.size, right.size) and found.size != right.size:
        return f"{found.size} bytes, not {right.size}"
    if None not in (found.sha256, right.sha256) and found.sha256 != right.sha256:
        return f"SHA-256 {found.sha256[:12]}, not {right.sha256[:12]}"
    return None


def _reason(error: Exception) -> str:
    """A failed request in a few words."""
    if (response := getattr(error, "response", None)) is not None:
        return f"the server answers {response.status_code} {response.reason_phrase}"
    return next(iter(str(error).splitlines()), type(error).__name__)
