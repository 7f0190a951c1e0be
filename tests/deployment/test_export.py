"""Exported policies, loaded by their own runtimes, against the run's policy."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.untrained_runs import write_untrained_run
from tensordict.nn import TensorDictModule, TensorDictSequential

from ibrl_torchrl import load_policy
from ibrl_torchrl.deployment import export
from ibrl_torchrl.deployment.export import METADATA, export_policy
from ibrl_torchrl.deployment.load import load_run_policies
from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.modules import ExecuteProposal
from ibrl_torchrl.runs.names import SPACES

pytestmark = pytest.mark.simulator

CHUNKS = ("algo.chunk={size: 4, replan: 3}", "imitation.bc.chunk.size=5", "replay.n_steps=1")
STACKS = ("task.state_stack=3", "task.state_parts=[hand_pos,goal_pos]")
HISTOGRAMS = ("algo.critic.output=hl_gauss", "algo.proposals.reduction=mean")
PIXELS = ("experiment=small_pixels", "task=metaworld/box-close", "task.frame_stack=2")


def exported(path):
    """Function of arrays by key that runs a file, and its metadata."""
    if path.suffix == ".onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        metadata = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        names = [output.name for output in session.get_outputs()]
        return lambda arrays: dict(zip(names, session.run(None, arrays), strict=True)), metadata
    files = {METADATA: ""}
    module = torch.export.load(path, extra_files=files).module()
    metadata = json.loads(files[METADATA])

    def run(arrays):
        outputs = module(*(torch.from_numpy(arrays[key]) for key in metadata["observations"]))
        return dict(zip(metadata["outputs"], [each.numpy() for each in outputs], strict=True))

    return run, metadata


def random_array(about, generator):
    """Observation of one step: the shape of a stack, divided by its size."""
    shape = [*about["shape"]]
    if about["stack"] > 1:
        shape[about["stack_dim"]] //= about["stack"]
    if about["dtype"] == "uint8":
        return generator.integers(0, 256, shape, np.uint8)
    return generator.normal(size=shape).astype(np.float32)


def first_stack(array, about):
    """Stack of an episode's first step."""
    if about["stack"] == 1:
        return array
    before = array if about["padding"] == "same" else np.zeros_like(array)
    return np.concatenate([before] * (about["stack"] - 1) + [array], about["stack_dim"])


def require_equal(path, policy):
    """Compare an exported file with a run's policy in the first steps of ten episodes."""
    run, metadata = exported(path)
    generator = np.random.default_rng(0)
    chosen = set()
    for _ in range(10):
        arrays = {
            key: random_array(about, generator) for key, about in metadata["observations"].items()
        }
        stacked = {key: first_stack(arrays[key], metadata["observations"][key]) for key in arrays}
        outputs = run(stacked)
        policy.reset()
        action, size = policy.act(arrays), metadata["chunk"]["size"]
        np.testing.assert_allclose(
            outputs["action"].reshape(size, -1)[0], action, rtol=0, atol=1e-6
        )
        chosen.add(metadata["proposals"][int(outputs["proposal"])])
        assert policy.decision.proposal == metadata["proposals"][int(outputs["proposal"])]
        values = [*policy.decision.values.values()]
        np.testing.assert_allclose(outputs.get("proposal_values", []), values, rtol=0, atol=1e-6)
    return metadata, chosen


@pytest.mark.parametrize(
    ("settings", "suffix"),
    [
        ((), ".pt2"),
        (("algo=ibrl_tqc",), ".pt2"),
        pytest.param(HISTOGRAMS, ".pt2", marks=pytest.mark.slow),
        (CHUNKS + STACKS, ".pt2"),
        ((), ".onnx"),
        (("algo=ibrl_tqc",), ".onnx"),
        *(
            pytest.param(settings, ".onnx", marks=pytest.mark.slow)
            for settings in (
                CHUNKS + STACKS,
                PIXELS,
                ("algo=expo",),
                ("algo=ibrl_cautious",),
                ("algo=ibrl_redq_sac",),
                ("imitation.bc.policy=gmm",),
                ("imitation.bc.policy=cvae",),
                ("imitation.bc.policy=flow",),
                ("imitation.bc.policy=diffusion",),
            )
        ),
    ],
)
def test_a_file_acts_as_the_run(ibrl, tmp_path, settings, suffix):
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    run = write_untrained_run(tmp_path / "run", *settings)
    path = tmp_path / f"policy{suffix}"
    code, output, errors = ibrl("export", run, f"out={path}")
    assert code == 0 and f"hybrid: {path} (numbers equal to " in output, errors
    metadata, _ = require_equal(path, load_policy(run))
    assert metadata["task"] == "metaworld/box-close" and metadata["proposals"] == ["rl", "bc"]
    size = 4 if settings[:1] == CHUNKS[:1] else 1
    assert metadata["chunk"] == {"size": size, "replan": 3 if size == 4 else 1}


def test_other_policies_and_bounds(ibrl, tmp_path):
    run = write_untrained_run(tmp_path / "run")
    spaces = json.loads((run / SPACES).read_text())
    spaces["native_action"] = {"low": [0, 0, 0, 0], "high": [1, 2, 3, 4]}
    (run / SPACES).write_text(json.dumps(spaces))
    path = tmp_path / "bc.pt2"
    assert ibrl("export", run, "policy=bc", f"out={path}")[0] == 0
    metadata, chosen = require_equal(path, load_policy(run, "bc"))
    assert chosen == {"bc"} and metadata["outputs"] == ["action", "proposal"]
    assert metadata["action"]["high"] == [1, 2, 3, 4]
    run_bounds = load_policy(run, "bc", action_bounds=(-1, 1))
    action = load_policy(run, "bc").act({"state": np.zeros(39)})
    expected = (run_bounds.act({"state": np.zeros(39)}) + 1) / 2 * [1, 2, 3, 4]
    np.testing.assert_allclose(action, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["out=policy.onx"], "unknown ending of out '.onx'; did you mean .onnx?"),
        (["out=no/such/folder/policy.pt2"], "policy.pt2: cannot write here"),
        (["policy=bcc", "out=policy.pt2"], "unknown policy 'bcc'; did you mean bc?"),
        (["checkpoint=best.pt", "out=policy.pt2"], "best.pt: no such checkpoint"),
    ],
)
def test_refuses_in_one_line(ibrl, tmp_path, settings, message):
    run = write_untrained_run(tmp_path / "run")
    code, _, errors = ibrl("export", run, *settings)
    assert code == 2 and message in errors and errors.count("\n") == 1


def test_refuses_recurrent_policies(ibrl, tmp_path):
    settings = ("imitation.bc.policy=gmm_rnn", "replay.cache_proposals=true")
    run = write_untrained_run(tmp_path / "run", *settings)
    for name in ("hybrid", "bc"):
        code, _, errors = ibrl("export", run, f"policy={name}", f"out={tmp_path / 'policy.pt2'}")
        assert code == 2 and f"policy={name}: is recurrent (state 'bc_action_" in errors
    assert ibrl("export", run, "policy=rl", f"out={tmp_path / 'policy.pt2'}")[0] == 0


class Unexportable(torch.nn.Module):
    """Network whose path depends on its numbers."""

    def forward(self, state):
        return state[..., :4].tanh() * (1 if bool(state.sum() > 0) else 2)


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    policies = load_run_policies(write_untrained_run(tmp_path / "run"))

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(export._WRITERS, ".pt2", full)
    with pytest.raises(UsageError, match="disk"):
        export_policy(policies, "bc", tmp_path / "policy.pt2")


def test_refuses_a_policy_that_cannot_be_exported(tmp_path):
    policies = load_run_policies(write_untrained_run(tmp_path / "run"))
    network = TensorDictModule(Unexportable(), ["state"], ["bc_action"])
    module = TensorDictSequential(network, ExecuteProposal("bc_action", 1))
    policies = replace(policies, modules={**policies.modules, "bc": module})
    path = tmp_path / "policy.pt2"
    with pytest.raises(
        UsageError, match=r"^policy=bc: cannot be exported to \.pt2 \(.*load_policy"
    ):
        export_policy(policies, "bc", path)
    assert [*tmp_path.iterdir()] == [tmp_path / "run"]
