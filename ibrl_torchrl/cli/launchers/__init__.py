"""Launchers of a grid's runs: Hydra's, which run them in processes of this machine or of Slurm, and
Ray."""
