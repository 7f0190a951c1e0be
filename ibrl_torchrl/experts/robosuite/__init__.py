"""Scripted experts of robosuite tasks."""

from ibrl_torchrl.experts.robosuite.expert import RobosuiteExpert

__all__ = ["RobosuiteExpert"]
