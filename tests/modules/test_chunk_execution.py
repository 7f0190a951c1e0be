"""Execution of action chunks against plain loops, in batches, and by TorchRL's MultiAction."""

import pytest
import torch
from support.parts import Countdown
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential, WrapModule
from torchrl.envs import Compose, InitTracker, MultiAction, SerialEnv, TransformedEnv

from ibrl_torchrl.modules import ChunkExecutor, ChunkPrefix, ExecuteProposal, FrozenPolicy
from ibrl_torchrl.modules.frozen import stateful_part


class Plan(torch.nn.Module):
    """Chunk of 3 actions: a tenth of the step, and 0.1 and 0.2 above it; counts its calls."""

    calls = 0

    def forward(self, state):
        self.calls += 1
        return state[..., -1:] / 10 + torch.tensor([0.0, 0.1, 0.2])


def plan(key="action"):
    return TensorDictModule(Plan(), ["state"], [key])


def by_loop(env, size, replan):
    """Actions and states of an episode, by the loop that a chunk policy stands for."""
    td, done, actions = env.reset(), False, []
    network = Plan()
    while not done:
        chunk = network(td["state"]).unflatten(-1, (size, -1))
        for action in chunk[:replan]:
            td = env.step(td.set("action", action))["next"]
            actions.append(action)
            done = bool(td["done"])
            if done:
                break
    return torch.stack(actions), network.calls


@pytest.mark.parametrize(("replan", "executed"), [(None, 3), (3, 3), (2, 2), (1, 1)])
@pytest.mark.parametrize("length", [2, 7])
def test_episode_equals_a_plain_loop(length, replan, executed):
    env = Countdown(length)
    expected, calls = by_loop(env, 3, executed)
    policy = ChunkExecutor(plan(), 3, replan=replan)
    episode = env.rollout(100, policy)
    assert len(episode) == length and bool(episode["next", "done"][-1])
    torch.testing.assert_close(episode["action"], expected)
    assert policy.policy.module.calls == calls
    assert episode["chunk_step"].flatten().tolist() == [t % executed for t in range(length)]


def test_each_step_keeps_what_its_decision_wrote():
    class Alternate(torch.nn.Module):
        def forward(self, state):
            self.count = getattr(self, "count", -1) + 1
            return torch.full((1,), self.count % 2)

    chooser = TensorDictModule(Alternate(), ["state"], ["proposal"])
    episode = Countdown(5).rollout(9, ChunkExecutor(TensorDictSequential(plan(), chooser), 3))
    assert episode["proposal"].flatten().tolist() == [0, 0, 0, 1, 1]


def test_episodes_of_a_batch_decide_each_at_their_own_steps():
    # The second environment ends after 4 steps and starts anew, with a decision.
    lengths = (7, 4)
    env = TransformedEnv(
        SerialEnv(2, [lambda length=length: Countdown(length) for length in lengths]),
        InitTracker(),
    )
    policy = ChunkExecutor(plan(), 3)
    steps = env.rollout(7, policy, break_when_any_done=False)["chunk_step"].squeeze(-1)
    assert steps.tolist() == [[0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0, 0, 1, 2]]
    single = Countdown(4).rollout(9, ChunkExecutor(plan(), 3))
    batched = env.rollout(4, policy, break_when_any_done=False)
    torch.testing.assert_close(batched["action"][1], single["action"])


def test_multi_action_executes_the_same_episode():
    """TorchRL's environment-side execution of chunks: rows are decisions."""
    chunked = TransformedEnv(Countdown(7), Compose(MultiAction(stack_rewards=False)))
    rows = TensorDictSequential(
        plan(), TensorDictModule(lambda a: a.unflatten(-1, (3, 1)), ["action"], ["action"])
    )
    decisions = chunked.rollout(9, rows)
    episode = Countdown(7).rollout(9, ChunkExecutor(plan(), 3))
    at_decisions = episode[episode["chunk_step"].squeeze(-1) == 0]
    torch.testing.assert_close(decisions["state"], at_decisions["state"])
    torch.testing.assert_close(decisions["action"].flatten(1), at_decisions["action_chunk"])
    torch.testing.assert_close(decisions["next", "state"][-1], episode["next", "state"][-1])


def test_a_proposal_of_chunks_is_executed_by_name():
    bc = FrozenPolicy(plan("bc_action"))
    policy = ChunkExecutor(TensorDictSequential(bc, ExecuteProposal("bc_action", 1)), 3)
    episode = Countdown(4).rollout(9, policy)
    expected = Countdown(4).rollout(9, ChunkExecutor(plan(), 3))
    torch.testing.assert_close(episode["action"], expected["action"])
    assert episode["proposal"].tolist() == [1, 1, 1, 1]


def test_first_actions_of_a_chunk_propose_for_shorter_critics():
    prefix = ChunkPrefix(FrozenPolicy(plan("bc_action")), 2)
    td = prefix(TensorDict(state=torch.ones(4, 2), batch_size=[4]))
    torch.testing.assert_close(td["bc_action"], torch.tensor([0.1, 0.2]).expand(4, 2))
    longer = ChunkPrefix(FrozenPolicy(plan("bc_action")), 6)
    with pytest.raises(ValueError, match=r"'bc_action' has 3 numbers, fewer than the 6 of the"):
        longer(TensorDict(state=torch.ones(2)))


def test_a_policy_without_inputs_is_executed():
    plan = WrapModule(lambda td: td.set("action", torch.arange(3.0)), out_keys=["action"])
    td, policy = TensorDict(), ChunkExecutor(plan, 3)
    assert [policy(td)["action"].item() for _ in range(4)] == [0.0, 1.0, 2.0, 0.0]


def test_executor_refuses_what_it_cannot_execute():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        ChunkExecutor(plan(), 0)
    with pytest.raises(ValueError, match="replan must be between 1 and size=3, got 4"):
        ChunkExecutor(plan(), 3, replan=4)
    with pytest.raises(ValueError, match="3 numbers, no multiple of the chunk's 2 steps"):
        ChunkExecutor(plan(), 2)(TensorDict(state=torch.ones(2)))


def test_executor_cannot_propose_in_a_target():
    assert stateful_part(ChunkExecutor(plan(), 3)) == "ChunkExecutor"
