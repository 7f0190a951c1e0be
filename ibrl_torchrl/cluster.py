"""Ray: connection of this process to a cluster, and what the cluster's nodes offer.

Ray is an extra, imported when it is needed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from ibrl_torchrl.console import echo
from ibrl_torchrl.errors import UsageError, brief, require_extra

_AUTO, _LOCAL = "auto", "local"
_CONNECT_SECONDS = 10.0


@contextmanager
def ray_cluster(
    address: str, *, cpus: int, gpus: float, setting: str = "ray"
) -> Iterator[ModuleType]:
    """Context manager that connects this process to a Ray cluster.

    A connection that the process has already is used, and stays.

    Args:
        address: ``"auto"``: of the environment variable ``RAY_ADDRESS``, or the cluster that this
            machine is a node of; ``"local"``: a new one on this machine, stopped at the end; or
            ``HOST:PORT`` of the head of a cluster that this machine is a node of.
        cpus: CPUs that each of the process's tasks needs.
        gpus: GPUs of each, likewise.
        setting: name of the group of settings in messages. Default ``"ray"``.

    Yields:
        The module ``ray``.

    Raises:
        UsageError: Ray is not installed, there is no such cluster, or ``local`` is too small. A
            cluster without a node of that size, which may join later, costs a warning.
    """
    ray = require_extra("ray", "ray")
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address, setting)
    try:
        _require_size(ray, address, cpus, gpus, setting)
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def _connect(ray: ModuleType, address: str, setting: str) -> None:
    """Connect this process to a cluster.

    Raises:
        UsageError: there is none, or the local one does not start.
    """
    options: dict[str, object] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == _LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it sends them elsewhere
        options["include_dashboard"] = False
    host = os.environ.get("RAY_ADDRESS", _AUTO) if address == _AUTO else address
    try:
        _require_reachable(host)
        ray.init(address=host, **options)
    except Exception as error:  # Ray has no class for it: a node that is too slow raises this one
        if address == _LOCAL:
            failure, remedy = "Ray did not start", "free processors and memory, or try again"
        else:
            failure = "no Ray cluster there"
            remedy = f"start one with: ray start --head, or use {setting}.address=local"
        raise UsageError(
            f"{setting}.address={address}: {failure} ({brief(error, 200)}); {remedy}"
        ) from error


def _require_reachable(address: str) -> None:
    """Refuse an address that no program listens at, which Ray would try for minutes.

    Raises:
        OSError: nothing answers.
    """
    host, _, port = address.rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def _require_size(ray: ModuleType, address: str, cpus: int, gpus: float, setting: str) -> None:
    """Refuse, or warn of, a cluster of which no node has as many CPUs and GPUs.

    Raises:
        UsageError: it is the local one, which no node joins.
    """
    sizes = [
        (node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    if any(size[0] >= cpus and size[1] >= gpus for size in sizes):
        return
    most_cpus, most_gpus = max(sizes, default=(0, 0))
    message = (
        f"{setting}.cpus={cpus} {setting}.gpus={gpus:g}: no node of the Ray cluster has as many, "
        f"the largest has {most_cpus:g} and {most_gpus:g}"
    )
    if address == _LOCAL:
        raise UsageError(f"{message}; ask for less")
    echo(f"warning: {message}; waiting for one to join")


def reason(error: Exception) -> str:
    """Last line of an error of Ray's, whose message starts with the traceback of another process.

    Example:
        >>> reason(RuntimeError("ray::run()\\n  File ...\\nValueError: a defect"))
        'ValueError: a defect'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return brief(lines[-1].strip(), 300)
