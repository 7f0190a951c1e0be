"""Functional calls: modules run with the parameters that a loss holds for them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn


def with_params(params: TensorDictBase, network: nn.Module) -> AbstractContextManager:
    """Context manager that runs ``network`` with other parameters.

    ``preserve_module_state=False``: by default tensordict would turn the plain tensors of targets
    into trainable parameters.

    Args:
        params: parameters and buffers by nested names, all of the network's.
        network: module that has them within the context.
    """
    return params.to_module(network, preserve_module_state=False)


def run_policy(
    policy: TensorDictModuleBase, params: TensorDictBase, tensordict: TensorDictBase
) -> TensorDictBase:
    """Output of a policy with the parameters ``params``; ``tensordict`` stays as it is.

    Args:
        policy: module that writes actions.
        params: parameters and buffers by nested names, all of the policy's.
        tensordict: its inputs, [*].
    """
    with with_params(params, policy):
        return policy(tensordict.select(*policy.in_keys))
