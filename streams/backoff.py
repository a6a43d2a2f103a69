"""The pause after a server did not answer."""

from __future__ import annotations

from streams.clock import Clock

SHORTEST_BACKOFF_S = 1.0


class Backoff:
    """A server that did not answer is not asked again for as long as the failed call took, at least SHORTEST_BACKOFF_S. So a caller
    with many queries waits for only one of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = (float("-inf"), "")  # one value, because callers on several threads may begin a pause

    def cause(self) -> str:
        """Why the server is not asked now; empty if it may be asked."""
        until_s, cause = self._until
        return cause if self._clock.monotonic_s() < until_s else ""

    def begin(self, call_began_s: float, cause: str) -> None:
        """A call that began at `call_began_s` of the monotonic clock failed. cause: not empty."""
        now_s = self._clock.monotonic_s()
        self._until = now_s + max(SHORTEST_BACKOFF_S, now_s - call_began_s), cause
