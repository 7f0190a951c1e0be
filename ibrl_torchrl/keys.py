"""Every TensorDict key of the project, once.

Environments, replay, modules and losses talk to each other only through these names. The step
results live under ``NEXT`` as in all of TorchRL: ``td["next", "reward"]``.
"""

from __future__ import annotations

NEXT = "next"

# Names of policies
RL = "rl"  # the RL actor, as a proposal and alone
HYBRID = "hybrid"  # the critics' choice among all proposals

# Observations
STATE = "state"  # full low-dimensional simulator observation, float32 [*, S]
PROPRIO = "proprio"  # what the robot feels of itself, float32 [*, P]
FEATURES = "features"  # patch features of the images, float32 [*, P, D]

# Environment step
ACTION = "action"  # executed action, float32 [*, A] in [-1, 1]
REWARD = "reward"  # 1 at success, else 0, float32 [*, 1]
DONE = "done"  # terminated or truncated, bool [*, 1]
TERMINATED = "terminated"  # success, bool [*, 1]
TRUNCATED = "truncated"  # the horizon was reached without success, bool [*, 1]
SUCCESS = "success"  # bool [*, 1]
IS_INIT = "is_init"  # an episode begins here, bool [*, 1], as InitTracker writes it
SIMULATOR_STATE = "simulator_state"  # before the action, in recordings only, float64 [*, n]
MODEL_XML = "model_xml"  # the simulator's model, in recordings of robosuite only, text

# Proposals and selection
RL_ACTION = "rl_action"  # the RL actor's proposal, float32 [*, A]
BC_ACTION = "bc_action"  # the frozen imitation policy's proposal, float32 [*, A]
PROPOSAL = "proposal"  # index of the proposal that won; 0 is the RL actor, int64 [*]
CHOSEN_VALUE = "chosen_value"  # value of the chosen action, float32 [*, 1]
PROPOSAL_VALUES = "proposal_values"  # value of every proposal, float32 [*, N]

# Critics and replay
STATE_ACTION_VALUE = "state_action_value"  # one value a critic, float32 [*, E]
STEPS_TO_NEXT_OBS = "steps_to_next_obs"  # k of a k-step transition, int64 [*, 1]
DEMO = "demo"  # demonstration transitions that came with a batch, nested TensorDict [*]
IS_DEMO = "is_demo"  # the transition came from the demonstrations, bool [*]
PRIORITY = "td_error"  # mean absolute TD error over the critics, float32 [*]
PRIORITY_WEIGHT = "priority_weight"  # importance weight of prioritised replay, float32 [*]


def proposal_key(name: str) -> str:
    """Key of the action that a named proposal writes, float32 [*, A], such as ``"bc_action"``."""
    return f"{name}_action"


def image_key(camera: str) -> str:
    """Key of a camera's images, uint8 [*, C, H, W]; the name robomimic's files use."""
    return f"{camera}_image"
