"""Expected wall time of a run, measured while it learns."""

from __future__ import annotations

MEASURED = 30.0  # seconds of learning before the first forecast
_CHANGE = 0.2  # relative change of the remaining time that is worth another line


class Forecast:
    """Expected wall time of a run; the warm-up, which is faster, is left out of the measurement.

    Args:
        total_frames: budget of the run.
        final: seconds that are expected after the last frame, for the final evaluation.

    Example:
        >>> forecast = Forecast(total_frames=1000)
        >>> forecast.update(frames=100, rounds=0, wall=10.0)  # warm-up
        >>> forecast.update(frames=200, rounds=5, wall=20.0)  # learning has begun
        >>> forecast.update(frames=300, rounds=55, wall=80.0)  # 0.6 s a frame: 420 s to go
        500.0
        >>> forecast.update(frames=400, rounds=105, wall=140.0)  # as expected
    """

    def __init__(self, total_frames: int, *, final: float = 0.0) -> None:
        self._total_frames = total_frames
        self._final = final
        self._begin: tuple[int, float] | None = None
        self._last: float | None = None

    def update(self, *, frames: int, rounds: int, wall: float) -> float | None:
        """Take a measurement.

        Args:
            frames: frames of the run so far.
            rounds: rounds of updates so far.
            wall: seconds since the start of the run.

        Returns:
            Expected wall time of the whole run in seconds, ``MEASURED`` seconds after the first
            round and whenever the remaining time has changed by a fifth; otherwise None.
        """
        if rounds == 0 or frames >= self._total_frames:
            return None
        if self._begin is None:
            self._begin = frames, wall
        first, begin = self._begin
        if wall - begin < MEASURED or frames == first:
            return None
        remaining = (wall - begin) / (frames - first) * (self._total_frames - frames) + self._final
        expected = wall + remaining
        if self._last is not None and abs(expected - self._last) <= max(60, _CHANGE * remaining):
            return None
        self._last = expected
        return expected
