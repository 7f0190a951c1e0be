"""Export of a run's policy to ``torch.export`` and ONNX."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModuleBase
from torch import Tensor, nn
from torch.export import ExportedProgram
from torchrl.envs.utils import ExplorationType, set_exploration_type

from ibrl_torchrl.builders.env import observation_stacks
from ibrl_torchrl.deployment.actions import ActionScale
from ibrl_torchrl.deployment.load import RunPolicies
from ibrl_torchrl.deployment.policy import recurrent_keys
from ibrl_torchrl.envs.spaces import Spaces
from ibrl_torchrl.errors import UsageError, require_extra, unknown_name
from ibrl_torchrl.files import atomic_path
from ibrl_torchrl.keys import ACTION, PROPOSAL, PROPOSAL_VALUES
from ibrl_torchrl.modules import ChunkExecutor
from ibrl_torchrl.modules.critics.stacked import StackedCritics, UnrolledCritics

METADATA = "ibrl_torchrl.json"  # name of the metadata in a file
TOLERANCE = 1e-5  # of an exported program's numbers: rounding of the largest networks
_NUM_CHECKS = 20  # random observations

Run = Callable[..., tuple[Tensor, ...]]


class TensorPolicy(nn.Module):
    """Policy of tensors instead of TensorDicts, without exploration.

    One observation gives one decision: of a policy of chunks the whole chunk.

    Args:
        module: unbatched policy in eval mode.
        spaces: spaces of the environment of the run.

    Attributes:
        in_keys: observation keys, in the order of the arguments of ``forward``.
        out_keys: ``action`` float32 [A], or [h A] of a chunk, within the environment's own bounds;
            ``proposal`` int64 []; with a choice ``proposal_values`` float32 [P].
        chunk: number of actions of a decision, and of those executed before the next one.
    """

    def __init__(self, module: TensorDictModuleBase, spaces: Spaces) -> None:
        super().__init__()
        self.chunk = {"size": 1, "replan": 1}
        if isinstance(module, ChunkExecutor):
            self.chunk = {"size": module.size, "replan": module.replan}
            module = module.policy
        self.module = _unrolled(copy.deepcopy(module)).requires_grad_(False)
        native = spaces.native_action_spec.space
        self.scale = ActionScale(
            spaces.action_spec, native.low, native.high, repeats=self.chunk["size"]
        )
        self.in_keys = [key for key in spaces.observation_spec if key in module.in_keys]
        choice = [PROPOSAL_VALUES] if PROPOSAL_VALUES in module.out_keys else []
        self.out_keys = [ACTION, PROPOSAL, *choice]

    def forward(self, *observation: Tensor) -> tuple[Tensor, ...]:
        """Decide on one observation, stacked as in the run's environment."""
        inputs = dict(zip(self.in_keys, observation, strict=True))
        with set_exploration_type(ExplorationType.DETERMINISTIC):
            output = self.module(TensorDict(inputs, batch_size=[]))
        return self.scale(output[ACTION]), *(output[key] for key in self.out_keys[1:])


def _unrolled(module: nn.Module) -> nn.Module:
    """Replace stacked critics, whose parameters ``torch.export`` cannot swap, in place."""
    for parent in [*module.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, StackedCritics):
                setattr(parent, name, UnrolledCritics(child))
    return module


@torch.no_grad()
def export_policy(policies: RunPolicies, name: str, path: Path) -> float:
    """Export a policy of a run, and compare the program with it.

    Args:
        policies: policies of the run, on the CPU.
        name: name of the policy, such as ``policies.default``.
        path: file to write: ``.pt2`` for ``torch.export``, ``.onnx`` for ONNX.

    Returns:
        Largest difference of its numbers from the policy's, over random observations.

    Raises:
        UsageError: the file has another ending or cannot be written, ONNX is not installed, or
            the policy cannot be exported, or not with equal numbers.
    """
    if path.suffix not in _WRITERS:
        raise unknown_name("ending of out", path.suffix, _WRITERS)
    module = policies.named(name)
    decision = module.policy if isinstance(module, ChunkExecutor) else module
    if states := recurrent_keys(decision):
        raise UsageError(
            f"policy={name}: is recurrent (state {states[0]!r}), which is not exported; export "
            "another policy, such as policy=rl, or use load_policy in Python"
        )
    policy = TensorPolicy(module, policies.spaces).eval()
    with torch.random.fork_rng(devices=[]), atomic_path(path) as temporary, _quiet():
        torch.manual_seed(0)
        observation = _random_observation(policy, policies.spaces)
        try:
            program = torch.export.export(policy, observation, strict=False)
            run = _WRITERS[path.suffix](program, policy, _metadata(policy, policies), temporary)
        except (UsageError, OSError):
            raise
        except Exception as error:  # of many types, whichever operation a policy has
            reason = " ".join(str(error).split())[:100]
            raise UsageError(
                f"policy={name}: cannot be exported to {path.suffix} ({reason}); export another "
                "policy, such as policy=bc, or use load_policy in Python"
            ) from error
        difference = max(
            _difference(policy, run, _random_observation(policy, policies.spaces))
            for _ in range(_NUM_CHECKS)
        )
        if not difference <= TOLERANCE:
            raise UsageError(
                f"policy={name}: the exported program differs by {difference:.1e}, more than "
                f"{TOLERANCE:.0e}; export another policy, or use load_policy in Python"
            )
    return difference


def _write_program(
    program: ExportedProgram, policy: TensorPolicy, metadata: str, path: Path
) -> Run:
    content = io.BytesIO()  # torch.export warns of temporary files' endings
    torch.export.save(program, content, extra_files={METADATA: metadata})
    path.write_bytes(content.getbuffer())
    content.seek(0)
    return torch.export.load(content).module()


def _write_onnx(program: ExportedProgram, policy: TensorPolicy, metadata: str, path: Path) -> Run:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require_extra(module, "onnx")
    import onnxruntime

    exported = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=policy.in_keys,
        output_names=policy.out_keys,
    )
    assert exported is not None
    exported.model.metadata_props[METADATA] = metadata
    exported.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*observation: Tensor) -> tuple[Tensor, ...]:
        arrays = {
            key: value.numpy() for key, value in zip(policy.in_keys, observation, strict=True)
        }
        return tuple(torch.from_numpy(each) for each in session.run(policy.out_keys, arrays))

    return run


# By the ending of the file.
_WRITERS: dict[str, Callable[[ExportedProgram, TensorPolicy, str, Path], Run]] = {
    ".pt2": _write_program,
    ".onnx": _write_onnx,
}


def _metadata(policy: TensorPolicy, policies: RunPolicies) -> str:
    """What a program around the exported policy needs, as JSON."""
    stacks = {key: stack for stack in observation_stacks(policies.task) for key in stack.keys}
    spaces = policies.spaces.as_dict()
    observations: dict[str, Any] = {
        key: {
            **spaces["observation"][key],
            "stack": stacks[key].size if key in stacks else 1,
            "stack_dim": stacks[key].dim if key in stacks else None,
            "padding": stacks[key].padding if key in stacks else None,
        }
        for key in policy.in_keys
    }
    return json.dumps(
        {
            "task": policies.task.label,
            "observations": observations,
            "outputs": policy.out_keys,
            "action": spaces["native_action"],
            "chunk": policy.chunk,
            "proposals": policies.proposals,
        }
    )


def _random_observation(policy: TensorPolicy, spaces: Spaces) -> tuple[Tensor, ...]:
    """Observation of standard normal numbers and of uniform pixels."""
    specs = [spaces.observation_spec[key] for key in policy.in_keys]
    return tuple(
        torch.randint(256, spec.shape, dtype=torch.uint8)
        if spec.dtype == torch.uint8
        else torch.randn(spec.shape)
        for spec in specs
    )


def _difference(policy: TensorPolicy, run: Run, observation: tuple[Tensor, ...]) -> float:
    """Largest difference of outputs; infinite for another proposal."""
    expected, actual = policy(*observation), run(*observation)
    pairs = [*zip(policy.out_keys, expected, actual, strict=True)]
    if any(not torch.equal(a, b) for key, a, b in pairs if key == PROPOSAL):
        return float("inf")
    return max(float((a - b).abs().max()) for _, a, b in pairs)


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager without the exporters' notes on operations that are not used."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
