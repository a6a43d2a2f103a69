"""Retries wait in their topic: the first that is not due stops its partition there, and is read again later. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from streams.loop.admit import waits_until_ms
from streams.rows import Place, Polled


def not_due(polled: Polled, delays_ms: Mapping[str, int], now_ms: int) -> tuple[list[int], dict[Place, tuple[int, int]]]:
    """The indices of what may be worked on now; and of each other partition the offset to go back to, and when it is due. delays_ms: of
    each retry topic."""
    put_back: dict[Place, tuple[int, int]] = {}
    kept: list[int] = []
    for i, place in enumerate(polled.places):
        if place in put_back:
            continue
        delay_ms = delays_ms.get(place[0])
        not_before_ms = 0 if delay_ms is None else waits_until_ms(polled, i, now_ms, delay_ms)
        if not_before_ms <= now_ms:
            kept.append(i)
        else:
            put_back[place] = polled.offsets[i], not_before_ms
    return kept, put_back
