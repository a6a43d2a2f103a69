"""Requests that their callers gave up, from `chat-controls-v1`: also those that are not here yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from schemas.chat_topics import CHAT_CONTROLS
from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable
from streams.broker import Broadcast
from streams.clock import Clock
from streams.metrics import Metrics
from streams.readable import Followed, Readable

CANCEL = "cancel"
FOLLOW_EVERY_S = 0.05
KEPT, KEPT_S = 10_000, 3_600.0


class Cancels:
    def __init__(self, controls: Broadcast, registry: SchemaIds, clock: Clock, metrics: Metrics) -> None:
        self._followed = Followed(controls, Readable(CHAT_CONTROLS, registry, _cancelled, metrics))
        self._clock = clock
        self._since_s: OrderedDict[str, float] = OrderedDict()  # by request id, the oldest first
        self._polled_s = float("-inf")

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._since_s

    def follow(self, cancel: Callable[[str], None]) -> None:
        """Call `cancel` with each request id that came since the last call. Does not wait. A cancellation of a request that has not come
        is kept for an hour; at most the newest 10,000."""
        now_s = self._clock.monotonic_s()
        if now_s - self._polled_s < FOLLOW_EVERY_S:
            return
        self._polled_s = now_s
        try:
            ids = self._followed.poll()
        except BrokerUnavailable as error:  # cancellations are best effort: answers go on
            structlog.get_logger().warning("cancellations cannot be read", cause=str(error))
            return
        for request_id in ids:
            self._since_s[request_id] = now_s
            cancel(request_id)
        while self._since_s and (len(self._since_s) > KEPT or now_s - next(iter(self._since_s.values())) > KEPT_S):
            self._since_s.popitem(last=False)

    def close(self) -> None:
        self._followed.close()


def _cancelled(fields: Mapping[str, Any]) -> str:
    if fields["action"] != CANCEL:
        raise ValueError(f"action {fields['action']!r:.60} is not known")
    return str(fields["request_id"])
