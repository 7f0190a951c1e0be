"""``ibrl export RUN``: a run's policy as an ONNX or ``torch.export`` file."""

from __future__ import annotations

from pathlib import Path

from ibrl_torchrl.config.commands import ExportConfig
from ibrl_torchrl.console import echo
from ibrl_torchrl.deployment.export import export_policy
from ibrl_torchrl.deployment.load import load_run_policies


def run(config: ExportConfig) -> None:
    """Write the policy and print by how much its numbers differ.

    Raises:
        UsageError: the folder is not a run folder, the file cannot be written, an exporter is not
            installed, or the policy cannot be exported with equal numbers.
    """
    run_dir = Path(config.run)
    policies = load_run_policies(run_dir, config.checkpoint)
    path = run_dir / "policy.onnx" if config.out is None else Path(config.out)
    name = config.policy or policies.default
    difference = export_policy(policies, name, path)
    echo(f"{name}: {path} (numbers equal to {difference:.1e})")
