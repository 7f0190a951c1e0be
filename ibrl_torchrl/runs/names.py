"""Names of the files and folders in a run folder."""

from __future__ import annotations

MARKER = ".ibrl-run"  # marks a folder as one that this program made
LOCK = ".lock"
CONFIG = "config.yaml"
SPACES = "spaces.json"  # shapes and bounds of observations and actions
PROVENANCE = "run.json"
LOG = "log.txt"
DEMOS = "demos.hdf5"  # scripted demonstrations
IMITATION = "imitation"
EPISODES = "episodes"
REPLAY = "replay"  # memory maps
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint-previous.pt"
BEST = "best.pt"
FAILED = "not-finite.pt"
TRAIN = "train.csv"
EVAL = "eval.csv"
EVALUATION = "evaluation.csv"
SUMMARY = "summary.json"
TIMING = "timing.json"
CURVE = "curve.png"
DIAGNOSIS_STEPS = "diagnosis_steps.csv"
DIAGNOSIS_ROLLOUTS = "diagnosis_rollouts.csv"
VIDEO = "video.mp4"
