"""Critic ensembles of states and of image features."""
