"""InterventionPolicy and TakeOver: who acts, when, and what is written."""

import pytest
import torch
from support.parts import Countdown, executing
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential

from ibrl_torchrl.keys import NO_PROPOSAL
from ibrl_torchrl.modules import ChunkExecutor, InterventionPolicy, NewestState, TakeOver
from ibrl_torchrl.rollouts.episode import rollout_episode


def expert():
    """Expert whose action is 0.7."""
    return TensorDictModule(lambda state: 0.7 + 0 * state[..., :1], ["state"], ["action"])


def taken_over(length, seed=0, **settings):
    """Steps of an episode that the expert takes, of a policy that executes 0.1 as proposal 1."""
    policy = InterventionPolicy(executing(0.1, 1), TakeOver(expert(), **settings))
    episode = rollout_episode(Countdown(length), policy, seed, explore=True)
    flags = episode["intervention"].flatten()
    actions = torch.where(flags, 0.7, 0.1)
    assert torch.allclose(episode["action"].flatten(), actions)
    assert episode["proposal"].tolist() == torch.where(flags, NO_PROPOSAL, 1).tolist()
    assert "steps_to_intervention" not in episode
    return flags.tolist()


@pytest.mark.parametrize("after", [0, 1, 3, 4, 9])
def test_the_expert_acts_from_a_step_to_the_end(after):
    assert taken_over(4, after=after) == [step >= after for step in range(4)]


def test_the_expert_acts_in_a_share_of_episodes_that_depends_on_the_seed_alone():
    share = [taken_over(3, seed, after=1, probability=0.3) for seed in range(200)]
    assert all(flags in ([False] * 3, [False, True, True]) for flags in share)
    count = sum(flags[-1] for flags in share)
    assert 40 <= count <= 80  # 60 expected, standard deviation 6.5
    assert share[:20] == [taken_over(3, seed, after=1, probability=0.3) for seed in range(20)]
    assert not any(taken_over(3, seed, after=1, probability=0)[-1] for seed in range(20))


def test_a_new_episode_of_a_batch_draws_anew():
    take_over = TakeOver(expert(), after=1, probability=1.0)
    td = TensorDict(state=torch.zeros(2, 1), action=torch.zeros(2, 1), batch_size=[2])
    steps = []
    for step in range(4):
        td["is_init"] = torch.tensor([[step == 0], [step in (0, 2)]])  # the second ends after 2
        td["action"] = torch.zeros(2, 1)
        td = take_over(td)
        steps.append(td["action"].flatten().tolist())
    half = pytest.approx(0.7)
    assert steps == [[0, 0], [half, half], [half, 0], [half, half]]


def test_a_batch_mixes_actions_by_row():
    flags = torch.tensor([[True], [False], [True]])
    override = TensorDictModule(
        lambda state: (torch.full_like(state, 9.0), flags), ["state"], ["action", "intervention"]
    )
    policy = InterventionPolicy(executing(0.1, 0), override)
    td = policy(TensorDict(state=torch.zeros(3, 1), batch_size=[3]))
    assert td["action"].flatten().tolist() == [9, pytest.approx(0.1), 9]
    assert td["proposal"].tolist() == [-1, 0, -1] and torch.equal(td["intervention"], flags)


def test_an_intervention_sees_what_the_policy_wrote_and_leaves_it():
    """One that doubles the policy's action, and would overwrite the proposal."""
    double = TensorDictSequential(
        TensorDictModule(
            lambda action: (2 * action, torch.ones(1, dtype=torch.bool), torch.ones(1)),
            ["action"],
            ["action", "intervention", "rl_action"],
        ),
        selected_out_keys=["action", "intervention"],
    )
    policy = InterventionPolicy(executing(0.3, 0), double)
    assert policy.in_keys == ["state"]
    td = policy(TensorDict(state=torch.zeros(1)))
    assert td["action"].item() == pytest.approx(0.6)
    assert td["rl_action"].item() == pytest.approx(0.3)


def test_a_policy_of_chunks_plans_anew_after_an_intervention():
    """Plans of three steps; somebody else acts at step 1 alone."""
    plan = TensorDictModule(lambda s: s[..., 1:] + torch.tensor([0, 10, 20]), ["state"], ["action"])
    flag = TensorDictModule(
        lambda s: (torch.full((1,), -1.0), s[..., 1:] == 1), ["state"], ["action", "intervention"]
    )
    policy = InterventionPolicy(ChunkExecutor(plan, 3), flag)
    episode = rollout_episode(Countdown(6), policy, 0)
    # Without it: 0, 10, 20, 3, 13, 23.
    assert episode["action"].flatten().tolist() == [0, -1, 2, 12, 22, 5]


def test_newest_state_keeps_the_state_of_a_chunk():
    plan = TensorDictModule(lambda s: s + torch.arange(3.0), ["state"], ["action"])
    policy, td = NewestState(ChunkExecutor(plan, 3), 2), TensorDict(state=torch.zeros(2))
    assert [policy(td)["action"].item() for _ in range(4)] == [0.0, 1.0, 2.0, 0.0]
    assert torch.equal(td["state"], torch.zeros(2))


def test_an_expert_reads_the_newest_of_stacked_states():
    newest = NewestState(TensorDictModule(lambda s: -s, ["state"], ["action"]), 2)
    td = TensorDict(state=torch.arange(8.0).view(2, 4), batch_size=[2])
    assert newest(td)["action"].tolist() == [[-2, -3], [-6, -7]]
    assert td["state"].shape == (2, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"after": -1}, "after must be at least 0, got -1"),
        ({"after": 1, "probability": 1.5}, r"probability must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TakeOver(expert(), **settings)
