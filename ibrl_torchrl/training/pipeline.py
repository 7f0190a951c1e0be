"""A run in three stages: demonstrations, imitation, reinforcement."""

from __future__ import annotations

from pathlib import Path

import torch

from ibrl_torchrl.builders.env import build_env
from ibrl_torchrl.builders.imitation import load_policies
from ibrl_torchrl.builders.interventions import has_interventions, scripted_intervention
from ibrl_torchrl.builders.networks import policy_keys
from ibrl_torchrl.builders.normalization import observation_normalizers
from ibrl_torchrl.builders.replay import (
    require_demonstrated,
    require_replay_fits,
    stored_actions,
    stored_keys,
)
from ibrl_torchrl.config.compose import trial_number
from ibrl_torchrl.config.train import TrainConfig
from ibrl_torchrl.runs.folder import open_run_folder
from ibrl_torchrl.runs.names import REPLAY
from ibrl_torchrl.runs.origin import require_same_origin
from ibrl_torchrl.runs.provenance import input_fingerprints, write_inputs
from ibrl_torchrl.runs.spaces import write_spaces
from ibrl_torchrl.runtime import setup_process
from ibrl_torchrl.training.demonstrations import (
    load_configured_demos,
    recorded_demos,
    require_images_fit,
)
from ibrl_torchrl.training.imitation import imitation, load_configured_policies
from ibrl_torchrl.training.reinforcement import reinforce
from ibrl_torchrl.training.state import read_checkpoint


def run_pipeline(config: TrainConfig) -> None:
    """Run the three stages in a run folder, from the start or from its checkpoint.

    What is wrong with settings, files and devices is refused before the folder is made.

    Raises:
        UsageError: something that the user can fix.
        KeyboardInterrupt: Ctrl-C; the first one is answered with a checkpoint.
    """
    device = setup_process(config.seed, config.threads, config.device, trial_number())
    torch.set_float32_matmul_precision(config.matmul_precision)
    env = build_env(config.task, device)
    policies = config.imitation
    require_images_fit(env, config.encoders)
    intervention = scripted_intervention(config.interventions, config.demos, config.task, env)
    keys = policy_keys(*config.encoders)
    demos = load_configured_demos(config.demos, config.task, env, keys)
    if demos is not None:
        require_demonstrated(config.replay, demos.episodes)
    networks = load_configured_policies(policies, config.task, env)
    require_replay_fits(
        config.replay,
        env,
        stored_keys(config.replay, config.algo, policies.values()),
        Path(config.run_dir) / REPLAY,
        frame_stack=config.task.frame_stack,
        num_actions=stored_actions(config.replay, config.algo, policies.values()),
        beside=[
            (policy_keys(policy.encoder), policy.chunk.size)
            for policy in policies.values()
            if policy.self_imitation.every is not None
        ],
        interventions=has_interventions(env, intervention),
        device=device,
    )
    with open_run_folder(config.run_dir, config, config.if_exists) as (run_dir, is_resumed):
        write_spaces(run_dir, env)
        checkpoint = read_checkpoint(run_dir, config.task.label) if is_resumed else None
        if checkpoint is not None:
            require_same_origin(run_dir, checkpoint.origin)
        demos = demos or recorded_demos(config.demos, config.task, keys, run_dir)
        normalizers = observation_normalizers(config.task, env, demos.episodes)
        if is_resumed:
            networks = load_policies(run_dir, policies, config.task, env)
        else:
            networks = imitation(
                policies, networks, config.task, demos.episodes, normalizers, env, device, run_dir
            )
        write_inputs(run_dir, input_fingerprints(demos.episodes, networks))
        reinforce(
            config,
            demos.episodes,
            networks,
            normalizers,
            env,
            device,
            run_dir,
            checkpoint,
            intervention=intervention,
        )
