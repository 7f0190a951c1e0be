"""Tables and summary of a diagnosis."""

import numpy as np

from ibrl_torchrl.evaluation.diagnosis import ScoredEpisode, ScoredStep, StateRollout
from ibrl_torchrl.evaluation.diagnosis_tables import summary, write_rollouts, write_scored_steps
from ibrl_torchrl.runs.tables import read_rows

PROPOSALS = ("rl", "bc", "act")
STATE = np.zeros(1)
VALUES = {"rl": 0.75, "bc": 0.5, "act": 0.25}
EPISODES = [
    ScoredEpisode(
        7,
        True,
        (
            ScoredStep(0, "rl", VALUES, {"bc": 1.5, "act": 2.5}, STATE),
            ScoredStep(1, "bc", VALUES, {"bc": 0.0, "act": 1 / 3}, STATE),
        ),
    ),
    ScoredEpisode(8, False, (ScoredStep(0, "bc", VALUES, {"bc": 0.0, "act": 2.0}, STATE),)),
]
ROLLOUTS = [
    StateRollout("bc", "visited", "seed 7", 1, False, 0.5),
    StateRollout("act", "visited", "seed 7", 1, True, 0.25),
    StateRollout("bc", "demonstrated", "demo_0", 3, True, None),
]


def test_write_scored_steps(tmp_path):
    write_scored_steps(tmp_path / "steps.csv", EPISODES, PROPOSALS, 0.5)
    first, second, third = read_rows(tmp_path / "steps.csv")
    assert first == {
        **{"seed": "7", "step": "0", "length": "2", "success": "1", "proposal": "rl"},
        **{"value": "0.75", "return": "0.5"},
        **{"value/rl": "0.75", "value/bc": "0.5", "value/act": "0.25"},
        **{"distance/bc": "1.5", "distance/act": "2.5"},
    }
    assert (second["proposal"], second["value"], second["return"]) == ("bc", "0.5", "1")
    assert second["distance/act"] == "0.333333"
    assert (third["seed"], third["success"], third["return"]) == ("8", "0", "0")


def test_write_scored_steps_leaves_unknown_returns_empty(tmp_path):
    write_scored_steps(tmp_path / "steps.csv", EPISODES, PROPOSALS, None)
    assert {row["return"] for row in read_rows(tmp_path / "steps.csv")} == {""}


def test_write_rollouts(tmp_path):
    write_rollouts(tmp_path / "rollouts.csv", ROLLOUTS)
    first, _, last = read_rows(tmp_path / "rollouts.csv")
    assert first == {
        **{"policy": "bc", "source": "visited", "episode": "seed 7", "step": "1"},
        **{"success": "False", "error": "0.5"},
    }
    assert (last["success"], last["error"]) == ("True", "")


def test_summary():
    # Errors of the successful episode: 0.75 - 0.5 and 0.5 - 1; of the failed one 0.5 - 0.
    assert [*summary(EPISODES, ROLLOUTS, PROPOSALS, 0.5)] == [
        "value - return in 1 successful episodes: -0.125 on average",
        "value - return in 1 failed episodes: +0.500 on average",
        "share of bc actions in each fifth of an episode: 0.50 - 1.00 - -",
        "share of act actions in each fifth of an episode: 0.00 - 0.00 - -",
        "bc from demonstrated states: success 1.00 of 1",
        "bc from visited states: success 0.00 of 1, action error 0.50",
        "act from visited states: success 1.00 of 1, action error 0.25",
    ]
    assert not [line for line in summary(EPISODES, [], PROPOSALS, None) if "return" in line]
