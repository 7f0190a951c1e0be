"""Scripted policies of robosuite tasks: one plan a task, and what follows it."""

from ibrl_torchrl.experts.robosuite.expert import RobosuiteExpert

__all__ = ["RobosuiteExpert"]
