"""Run folders: files, tables, checkpoints, provenance."""
