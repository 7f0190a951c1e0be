"""Rollouts of policies, in this process or in worker processes."""
