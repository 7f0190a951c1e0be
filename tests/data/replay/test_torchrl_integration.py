"""Replay buffers in TorchRL's own Trainer and behind its collectors, also of several processes."""

from functools import partial

import pytest
import torch
from support.parts import Constant, Countdown, actor, critics, executing
from tensordict.nn import TensorDictModule
from torchrl.collectors import Collector, MultiAsyncCollector, MultiSyncCollector
from torchrl.envs import Compose, GymEnv, StepCounter, TransformedEnv
from torchrl.trainers import ReplayBufferTrainer, Trainer

from ibrl_torchrl.data.replay import (
    DeduplicateImages,
    EpisodeToTransitions,
    MixedReplay,
    ReplayWithDemos,
    episode_buffer,
)
from ibrl_torchrl.objectives import IBRLTD3Loss

LENGTHS = (5, 7)
COLLECTOR = {"frames_per_batch": 12, "trajs_per_batch": 1, "auto_register_policy_transforms": True}


def buffer(**settings):
    return episode_buffer(200, 8, EpisodeToTransitions(["state"], n_steps=3), **settings)


def demos(**settings):
    """A buffer of three successful episodes, 5, 7 and 5 steps long."""
    filled = buffer(**settings)
    env = Countdown(*LENGTHS)
    for _ in range(3):
        filled.extend(env.rollout(20, executing(1.0, 0)))
    return filled


def mixed(online, *, prioritized=False, keep_successes=False):
    return MixedReplay(
        demos(prioritized=prioritized),
        online,
        offline_fraction=0.25,
        batch_size=8,
        keep_successes=keep_successes,
    )


def stored_episodes(buffer):
    """Lengths of the episodes in a buffer, which checks that their steps are contiguous."""
    elapsed = buffer[:]["state"][:, 1].long().tolist()
    starts = [i for i, step in enumerate(elapsed) if step == 0]
    lengths = [end - start for start, end in zip(starts, [*starts[1:], len(elapsed)], strict=True)]
    assert elapsed == [step for length in lengths for step in range(length)]
    return lengths


# Collectors of one process


@pytest.mark.parametrize("kind", ["buffer", "mixed", "with demos"])
def test_collector_extends_replay_by_complete_episodes(kind):
    online = buffer()
    replay = online if kind == "buffer" else mixed(online)
    if kind == "with demos":
        replay = ReplayWithDemos(replay, demos())
    env, policy = Countdown(*LENGTHS), executing(1.0, 0)
    collector = Collector(env, policy, total_frames=60, replay_buffer=replay, **COLLECTOR)
    for batch in collector:
        assert batch is None
    collector.shutdown()
    assert set(stored_episodes(online)) == set(LENGTHS)
    assert replay.write_count == len(online) >= 48
    assert replay.sample().shape == (8,)


def test_collector_without_trajs_per_batch_is_refused():
    env, policy = Countdown(*LENGTHS), executing(1.0, 0)
    settings = COLLECTOR | {"trajs_per_batch": None, "frames_per_batch": 10}
    collector = Collector(env, policy, total_frames=10, replay_buffer=buffer(), **settings)
    with pytest.raises(ValueError, match="pass trajs_per_batch=1 to the collector"):
        next(iter(collector))
    collector.shutdown()


# Collectors of two processes


def two_processes(replay, kind=MultiSyncCollector, frames=72, **settings):
    return kind(
        [partial(Countdown, *LENGTHS)] * 2,
        executing(1.0, 0),
        total_frames=frames,
        replay_buffer=replay,
        **(COLLECTOR | settings),
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MultiSyncCollector, MultiAsyncCollector])
def test_two_processes_extend_shared_buffer_by_complete_episodes(kind):
    replay = buffer(shared=True)
    collector = two_processes(replay, kind)
    for batch in collector:
        assert batch is None
    collector.shutdown()
    lengths = stored_episodes(replay)
    assert set(lengths) == set(LENGTHS) and len(lengths) >= 6
    reward = replay[:]["next", "reward"].flatten()
    assert (reward > 0).sum() == 3 * len(lengths)  # the last three windows of each success


@pytest.mark.slow
def test_two_processes_extend_mixed_replay_and_its_demonstrations():
    online = buffer(shared=True)
    replay = mixed(online, keep_successes=True)
    collector = two_processes(replay)
    for _ in collector:
        batch = replay.sample() if len(online) else None
    collector.shutdown()
    assert batch["is_demo"].sum() == 2
    assert len(replay.demos) == 17 + len(online)
    assert set(stored_episodes(replay.demos)) == set(LENGTHS)


@pytest.mark.slow
def test_two_processes_extend_pendulum_replay():
    pytest.importorskip("gymnasium")
    replay = episode_buffer(500, 8, EpisodeToTransitions(["observation"]), shared=True)
    collector = MultiSyncCollector(
        [pendulum] * 2,
        TensorDictModule(Constant(0.0), ["observation"], ["action"]),
        total_frames=120,
        replay_buffer=replay,
        **COLLECTOR,
    )
    for _ in collector:
        pass
    collector.shutdown()
    content = replay[:]
    assert len(content) % 10 == 0 and len(content) >= 80
    assert content["next", "done"].view(-1, 10).sum(1).tolist() == [3] * (len(content) // 10)
    assert not content["next", "terminated"].any()


def pendulum():
    return TransformedEnv(GymEnv("Pendulum-v1"), StepCounter(10))


def test_two_processes_without_shared_storage_are_refused_with_remedy():
    with pytest.raises(ValueError, match="shared=True to episode_buffer"):
        two_processes(buffer())


def test_shared_buffer_refuses_deduplicated_images():
    transform = Compose(DeduplicateImages(["image"], 100), EpisodeToTransitions(["image"]))
    with pytest.raises(ValueError, match="DeduplicateImages keeps its frame pool in one process"):
        two_processes(episode_buffer(100, 8, transform, shared=True))


# Trainer


def trainer(replay, *, frames=48, write="hook", file=None):
    """TorchRL's Trainer; episodes reach the replay by its hook or by the collector itself."""
    writes = {"replay_buffer": replay} if write == "collector" else {"traj_format": "padded"}
    collector = Collector(
        Countdown(*LENGTHS), executing(1.0, 0), total_frames=frames, **writes, **COLLECTOR
    )
    loss = IBRLTD3Loss(actor(0.5), critics([0.1, 0.2]), num_min=2, policy_noise=0.0)
    loss.make_value_estimator(gamma=0.99)
    built = Trainer(
        collector=collector,
        total_frames=frames,
        frame_skip=1,
        optim_steps_per_batch=2,
        loss_module=loss,
        optimizer=torch.optim.Adam(loss.parameters(), 1e-2),
        replay_buffer=replay if write == "collector" else None,
        progress_bar=False,
        save_trainer_file=file,
    )
    hook = ReplayBufferTrainer(replay, batch_size=16, flatten_tensordicts=True)
    if write == "hook":
        built.register_op("batch_process", hook.extend)
    built.register_op("process_optim_batch", hook.sample)
    built.register_op("post_loss", hook.update_priority)
    built.register_module("replay_buffer", hook)
    return built, loss


@pytest.mark.parametrize("write", ["hook", "collector"])
@pytest.mark.parametrize("kind", ["buffer", "mixed", "with demos"])
def test_trainer_samples_updates_and_prioritizes(kind, write):
    torch.manual_seed(0)
    online = buffer(prioritized=True)
    replay = online if kind == "buffer" else mixed(online, prioritized=True)
    if kind == "with demos":
        replay = ReplayWithDemos(replay, demos())
    built, loss = trainer(replay, write=write)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    built.train()
    assert built.collected_frames >= 48
    assert set(stored_episodes(online)) == set(LENGTHS)
    assert any(not torch.equal(value, before[name]) for name, value in loss.state_dict().items())
    weights = online.sampler._sum_tree[torch.arange(len(online))]
    assert weights.unique().numel() > 2  # TD errors of the loss replaced the initial priorities


def test_trainer_hook_saves_and_restores_mixed_replay():
    torch.manual_seed(0)
    built, _ = trainer(mixed(buffer(prioritized=True), prioritized=True))
    built.train()
    state = built._modules["replay_buffer"].state_dict()
    replay = mixed(buffer(prioritized=True), prioritized=True)
    other, _ = trainer(replay)
    other._modules["replay_buffer"].load_state_dict(state)
    original = built._modules["replay_buffer"].replay_buffer
    assert len(replay) == len(original)
    assert (replay.online[:] == original.online[:]).all()
    rows = torch.arange(len(replay.online))
    assert torch.equal(
        replay.online.sampler._sum_tree[rows], original.online.sampler._sum_tree[rows]
    )
