"""Evaluation, diagnosis and videos of trained policies."""
