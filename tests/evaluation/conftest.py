"""Run folders without training."""

import pytest
import torch


@pytest.fixture
def untrained_run(box_close_demos, tmp_path):
    """Create the run folder of an untrained box-close agent; returns its path."""
    from omegaconf import OmegaConf

    from ibrl_torchrl.builders.agent import build_agent
    from ibrl_torchrl.builders.env import build_env
    from ibrl_torchrl.builders.imitation import frozen_policies, policy_path, save_policy
    from ibrl_torchrl.builders.networks import build_policy
    from ibrl_torchrl.builders.normalization import identity_normalizers
    from ibrl_torchrl.config.compose import composed
    from ibrl_torchrl.config.parse import parse
    from ibrl_torchrl.config.train import TrainConfig
    from ibrl_torchrl.runs.checkpoint import KIND, save_checkpoint
    from ibrl_torchrl.runs.folder import CHECKPOINT, CONFIG

    def create(*settings):
        run = tmp_path / "run"
        run.mkdir()
        overrides = ["task=metaworld/box-close", "task.horizon=10", "collector.workers=0"]
        overrides += ["algo.actor.hidden=[8]", "algo.critic.hidden=[8]", f"run_dir={run}"]
        overrides += [f"demos.path={box_close_demos}", "demos.episodes=3", *settings]
        config = parse(TrainConfig, composed("train", overrides))
        OmegaConf.save(OmegaConf.structured(config), run / CONFIG)
        torch.manual_seed(0)
        env = build_env(config.task)
        normalizers = identity_normalizers(config.task, env)
        networks = {
            name: build_policy(policy.network, policy.encoder, normalizers, env.observation_spec, 4)
            for name, policy in config.imitation.items()
        }
        for name, network in networks.items():
            save_policy(policy_path(run, name), network, config.imitation[name], config.task)
        policies = frozen_policies(networks, config.imitation)
        agent = build_agent(config.algo, policies, normalizers, env, torch.device("cpu"))
        meta = {"task": config.task.label, "frames": 120}
        save_checkpoint(run / CHECKPOINT, KIND, meta, {"loss": agent.loss.state_dict()})
        return run

    return create
