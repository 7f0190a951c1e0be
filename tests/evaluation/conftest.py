"""Run folders without training."""

import pytest


@pytest.fixture
def untrained_run(box_close_demos, tmp_path):
    """Create the run folder of an untrained box-close agent; returns its path."""
    from support.untrained_runs import write_untrained_run

    def create(*settings):
        demos = [f"demos.path={box_close_demos}", "demos.episodes=3"]
        return write_untrained_run(tmp_path / "run", *demos, *settings)

    return create
