"""Computes how many records a consumer group is behind. Offsets alone are not enough: transaction markers and aborted records
have offsets too, and no reader ever sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.errors import BrokerUnavailable
from streams.clock import Clock, SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Place

LOOKED_BEHIND = 1_000  # offsets; in a longer range the share of markers is small
LOOK_LIMIT_S = 5.0


def looked(
    address: KafkaAddress, offsets: Mapping[Place, int], ends: Mapping[Place, int], clock: Clock, limit_s: float = LOOK_LIMIT_S
) -> dict[Place, tuple[int, int]]:
    """For each place in `offsets`: the number of committed records from that offset to the end, and the time of the first one
    in ms, 0 if there is none.

    Raises BrokerUnavailable."""
    if not offsets:
        return {}
    topics = sorted({topic for topic, _ in offsets})
    starts = {place: offsets.get(place, end) for place, end in ends.items()}
    reader = KafkaBroadcast(address, topics, clock, starts)
    try:
        polled = reader.read_to_end(limit_s)
    finally:
        reader.close()
    times: dict[Place, list[int]] = {place: [] for place in offsets}
    for place, offset, at_ms in zip(polled.places, polled.offsets, polled.timestamps_ms, strict=True):
        if place in offsets and offset >= offsets[place]:
            times[place].append(at_ms)
    return {place: (len(times_ms), min(times_ms, default=0)) for place, times_ms in times.items()}


def lags(address: KafkaAddress, groups: Iterable[str], places: Iterable[Place]) -> dict[str, dict[Place, int]]:
    """Records behind, by group and place, for topics in which the group has committed an offset. If the group is more than
    LOOKED_BEHIND offsets behind, the result is the number of offsets, markers included. Raises BrokerUnavailable."""
    admin, mine = KafkaAdmin(address), list(places)
    committed = admin.committed_of(groups)  # before the ends, so that no position is past its end
    ends, firsts = admin.ends(mine), admin.firsts(mine)
    stands: dict[str, dict[Place, int]] = {}
    wanted: dict[Place, set[int]] = {}
    for group, positions in committed.items():
        topics = {topic for topic, _ in positions}
        stands[group] = {place: max(firsts[place], positions.get(place, 0)) for place in mine if place[0] in topics}
        for place, at in stands[group].items():
            if 0 < ends[place] - at <= LOOKED_BEHIND:
                wanted.setdefault(place, set()).add(at)
    seen: dict[tuple[Place, int], int] = {}
    while wanted:  # one read usually serves all groups, because groups of one topic seldom have different offsets
        part = {place: offsets.pop() for place, offsets in wanted.items()}
        wanted = {place: offsets for place, offsets in wanted.items() if offsets}
        try:
            counted = looked(
                address, part, {place: end for place, end in ends.items() if place[0] in {p[0] for p in part}}, SystemClock()
            )
        except BrokerUnavailable:  # the end was not reached, because too much is written: the count by offsets is used
            continue
        seen |= {(place, part[place]): n for place, (n, _) in counted.items()}
    return {
        group: {place: seen.get((place, at), max(0, ends[place] - at)) for place, at in positions.items()}
        for group, positions in stands.items()
    }
