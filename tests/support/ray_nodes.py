"""Ray clusters of several nodes on this machine, small enough for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextmanager
def ray_nodes(number: int) -> Iterator[Any]:
    """Context manager of a ``ray.cluster_utils.Cluster`` of nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        for _ in range(number - 1):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()
