"""TensorDict keys and policy names, with shapes and dtypes.

Environments, replay buffers, modules and losses exchange data under these keys only. As in TorchRL,
results of a step are nested under ``NEXT``: ``td["next", "reward"]``.
"""

from __future__ import annotations

NEXT = "next"

# Names of policies
RL = "rl"  # RL actor
EXPLORATION = "exploration"  # second RL actor, which proposes in exploring episodes
WARMUP, EXPLORE = "warmup", "explore"  # collect episodes, before and while learning
HYBRID = "hybrid"  # choice of the critics among the proposals

# Observations
STATE = "state"  # low-dimensional observation of the simulator, float32 [*, S]
PROPRIO = "proprio"  # proprioception of the robot, float32 [*, Y]
FEATURES = "features"  # patch features of the images, float32 [*, P, D]

# Environment step
ACTION = "action"  # executed action, float32 [*, A] within the action space
REWARD = "reward"  # 1 at success, else 0, float32 [*, 1]
DONE = "done"  # terminated or truncated, bool [*, 1]
TERMINATED = "terminated"  # success, bool [*, 1]
TRUNCATED = "truncated"  # time limit reached without success, bool [*, 1]
SUCCESS = "success"  # bool [*, 1]
# Label of the expert, in episodes that another policy executed (DAgger), float32 [*, A]
EXPERT_ACTION = "expert_action"
# Somebody else acted instead of the policy: reported by environments under NEXT, in episodes at the
# root, bool [*, 1]
INTERVENTION = "intervention"
EXECUTED_ACTION = "executed_action"  # at every step, reported with it under NEXT, float32 [*, A]
STEPS_TO_INTERVENTION = "steps_to_intervention"  # state of a scripted one, int64 [*, 1]
IS_INIT = "is_init"  # first step of an episode, written by InitTracker, bool [*, 1]
SIMULATOR_STATE = "simulator_state"  # before the action, in demonstrations, float64 [*, n]
MODEL_XML = "model_xml"  # model of the simulator, in demonstrations from robosuite, text

# Proposals and selection
RL_ACTION = "rl_action"  # proposal of the RL actor, float32 [*, A] or [*, n, A]
EXPLORATION_ACTION = "exploration_action"  # proposal of the exploration actor, float32 [*, A]
BC_ACTION = "bc_action"  # proposal of the frozen imitation policy named bc, float32 [*, A]
PROPOSAL = "proposal"  # index of the chosen proposal; 0 is the RL actor, int64 [*]
NO_PROPOSAL = -1  # value of `proposal` where an intervention acted
CHOSEN_VALUE = "chosen_value"  # value of the chosen proposal, float32 [*, 1]
ACTION_CHUNK = "action_chunk"  # chosen actions of h steps, in order, float32 [*, h A]
CHUNK_STEP = "chunk_step"  # index of the executed action in them, int64 [*, 1]
PROPOSAL_VALUES = "proposal_values"  # value of each proposal, float32 [*, P]

# Critics and replay
STATE_ACTION_VALUE = "state_action_value"  # value of each critic, float32 [*, E]
STEPS_TO_NEXT_OBS = "steps_to_next_obs"  # environment steps to s', int64 [*, 1]
DEMO = "demo"  # demonstration transitions of a batch, nested TensorDict [*]
IS_DEMO = "is_demo"  # transition of a demonstration, bool [*]
PRIORITY = "td_error"  # mean absolute TD error over the critics, float32 [*]
PRIORITY_WEIGHT = "priority_weight"  # importance weight of prioritised replay, float32 [*]


def proposal_key(name: str) -> str:
    """Key of the action of a named proposal, float32 [*, A].

    Example:
        >>> proposal_key("bc")
        'bc_action'
    """
    return f"{name}_action"


def image_key(camera: str) -> str:
    """Key of the images of a camera, uint8 [*, C, H, W], named as in robomimic's datasets.

    Example:
        >>> image_key("corner2")
        'corner2_image'
    """
    return f"{camera}_image"
