"""Which events of a user followed a recommendation: the label of an answer. Pure.

An event counts for each answer that showed its item to its user less than a window before it, by the broker's times.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

ENGAGED = ("view", "cart", "purchase")
MAX_EVENTS_A_USER = 1_000  # of a window; a user with more is no person


@dataclass(frozen=True, slots=True)
class UserAction:
    at_ms: int  # by the broker
    item: str
    kind: str


class Attribution:
    """The events of the last windows, by user. Memory: one entry for each event of a window."""

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._actions: dict[str, deque[UserAction]] = {}
        self._oldest: list[tuple[int, str]] = []  # a heap: for each user a time that none of the user's events is before

    def add(self, event: Mapping[str, Any], at_ms: int) -> None:
        """An event of `user-events-valid-v1`. at_ms: the broker's time of it."""
        if event["item_id"] is not None and event["kind"] in ENGAGED:
            user = event["user_id"]
            if user not in self._actions:
                self._actions[user] = deque(maxlen=MAX_EVENTS_A_USER)
                heapq.heappush(self._oldest, (at_ms, user))
            self._actions[user].append(UserAction(at_ms, event["item_id"], event["kind"]))

    def kinds(self, user: str, shown: Collection[str], from_ms: int) -> dict[str, list[str]]:
        """By item that was shown to the user at from_ms, the kinds of events that followed within the window."""
        found: dict[str, list[str]] = {}
        for action in self._actions.get(user, ()):
            if action.item in shown and 0 <= action.at_ms - from_ms < self.window_ms:
                found.setdefault(action.item, []).append(action.kind)
        return found

    def forget_before(self, at_ms: int) -> None:
        """Drop events that no answer from at_ms on can have caused. Looks only at users who have such events."""
        while self._oldest and self._oldest[0][0] < at_ms:
            _, user = heapq.heappop(self._oldest)
            actions = self._actions[user]
            while actions and actions[0].at_ms < at_ms:
                actions.popleft()
            if actions:
                heapq.heappush(self._oldest, (actions[0].at_ms, user))
            else:
                del self._actions[user]


def label_of(result: Mapping[str, Any], followed: Mapping[str, list[str]], now_ms: int) -> dict[str, Any]:
    """The label of an answer as fields of its record. followed: see `Attribution.kinds`."""
    counts = [f"{item}: {', '.join(dict.fromkeys(kinds))}" for item, kinds in followed.items()]
    return {
        "request_id": result["request_id"],
        "source": "user events",
        "task": "recommendation",
        "truth": {"engaged": bool(followed)},
        "parts": {item: {"engaged": True, "purchased": "purchase" in kinds} for item, kinds in followed.items()},
        "actor": "attribution",
        "note": "; ".join(counts)[:1000] or None,
        "labelled_ms": now_ms,
    }
