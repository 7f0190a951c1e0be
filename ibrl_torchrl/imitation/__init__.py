"""Imitation policies and their training."""
