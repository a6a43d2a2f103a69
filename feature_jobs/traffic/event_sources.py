"""Sources of events for trials: the generator, and MovieLens 100k replayed in event time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from feature_jobs.traffic.generator import World
from schemas.codec import Encoder, SchemaIds
from schemas.durations import MINUTE_MS
from schemas.errors import BadSettings
from schemas.generated import Item, UserEvent, UserProfile
from schemas.topic_kinds import Record, Topic
from schemas.topics import ITEMS, USER_EVENTS, USER_PROFILES
from streams import headers as h
from streams.broker import Sink
from streams.clock import Clock
from streams.ids import uuid7
from streams.rows import OutRecords

AT_ONCE = 1_000
VISIT_GAP_MS = 30 * MINUTE_MS


class Sender:
    """Writes records of the features' topics, in columns."""

    def __init__(self, sink: Sink, ids: SchemaIds, clock: Clock, name: str) -> None:
        self._sink, self._ids, self._clock, self._name = sink, ids, clock, name
        self._encoders: dict[str, Encoder] = {}

    def send(self, topic: Topic[Record], records: Sequence[Any], key: str, behind_ms: Sequence[int] = ()) -> None:
        """behind_ms: for each replayed event, how far its clock is behind ours."""
        if not records:
            return
        record = topic.record_name
        encoder = self._encoders.setdefault(topic.name, Encoder(record, topic.subject, self._ids))
        rows = [asdict(one) for one in records]
        values = encoder.encode({name: [row[name] for row in rows] for name in rows[0]}, len(rows))
        now_ms = self._clock.now_ms()
        headers = h.cloud_event([uuid7(now_ms) for _ in rows], record, self._name)
        for header, behind in zip(headers, behind_ms, strict=False):
            header.append((h.REPLAY_OFFSET_MS, str(max(0, behind)).encode()))
        self._sink.produce(OutRecords(topic.name, [row[key].encode() for row in rows], values, headers))

    def people_and_things(self, profiles: Sequence[UserProfile], items: Sequence[Item]) -> None:
        self.send(USER_PROFILES, profiles, "user_id")
        self.send(ITEMS, items, "item_id")
        self._sink.flush(30.0)

    def flush(self) -> None:
        self._sink.flush(30.0)


def live(sender: Sender, world: World, per_s: float, seconds: float, clock: Clock, said: Callable[[int], None]) -> int:
    """Send current events, each when it happens; returns how many. The events of a visit come after its start, so the stream
    begins some minutes in the past: visits are under way from the first second."""
    begun_ms = clock.now_ms()
    sender.people_and_things(world.profiles(begun_ms), world.catalogue(begun_ms))
    until_ms = begun_ms + int(seconds * 1000)
    sent, waiting = 0, list[UserEvent]()
    for event in world.events(begun_ms - 10 * MINUTE_MS, until_ms, per_s):
        if event.event_ms < begun_ms:
            continue
        now_ms = clock.now_ms()
        if event.event_ms > now_ms or len(waiting) >= AT_ONCE:
            sender.send(USER_EVENTS, waiting, "user_id")
            sent, waiting = sent + len(waiting), []
            said(sent)
            clock.sleep(max(0, event.event_ms - now_ms) / 1000)
        waiting.append(event)
    sender.send(USER_EVENTS, waiting, "user_id")
    sender.flush()
    return sent + len(waiting)


def fast(sender: Sender, events: Iterable[UserEvent], clock: Clock, said: Callable[[int], None]) -> int:
    """Send past events, in order, as fast as the broker takes them; returns how many. A header says how far behind their clock
    is, so that their history equals that of events which arrived when they happened."""
    sent, stream = 0, iter(events)
    while some := list(itertools.islice(stream, AT_ONCE)):
        now_ms = clock.now_ms()
        sender.send(USER_EVENTS, some, "user_id", [now_ms - event.event_ms for event in some])
        sent += len(some)
        said(sent)
    sender.flush()
    return sent


def replay(sender: Sender, events: Sequence[UserEvent], speed: float, clock: Clock, said: Callable[[int], None]) -> int:
    """Send events of another time, in order, `speed` times as fast as they happened; returns how many. They are shifted so that
    the last happens when the replay ends; a header says how far behind the replayed clock is, so that none counts as late."""
    begun_ms = clock.now_ms()
    first_ms, last_ms = events[0].event_ms, events[-1].event_ms
    ends_ms = begun_ms + (last_ms - first_ms) / speed
    shift_ms = int(ends_ms - last_ms)
    sent = 0
    for at in range(0, len(events), AT_ONCE):
        some = events[at : at + AT_ONCE]
        due_ms = ends_ms - (last_ms - some[-1].event_ms) / speed  # when the last of them happens
        clock.sleep(max(0.0, due_ms - clock.now_ms()) / 1000)
        now_ms = max(int(due_ms), clock.now_ms())
        shifted = [replace(event, event_ms=event.event_ms + shift_ms) for event in some]
        sender.send(USER_EVENTS, shifted, "user_id", [now_ms - event.event_ms for event in shifted])
        sent += len(some)
        said(sent)
    sender.flush()
    return sent


def movielens(folder: Path) -> tuple[list[UserProfile], list[Item], list[UserEvent]]:
    """People, films and ratings ordered by time; a visit ends after half an hour in which a person rates nothing. Raises
    BadSettings if the data set is missing."""
    if not (folder / "u.data").exists():
        raise BadSettings(f"no MovieLens 100k in {folder}: MILLRACE_DATA names the folder of the public data sets")
    ratings = sorted(tuple(map(int, line.split())) for line in (folder / "u.data").read_text().splitlines())
    ratings.sort(key=lambda row: row[3])
    genres = [line.partition("|")[0] for line in (folder / "u.genre").read_text().splitlines() if line]
    start_ms = ratings[0][3] * 1000
    profiles = [
        UserProfile(user_id=f"ml-{user}", age=int(age), country="US", updated_ms=start_ms)
        for user, age, *_ in (line.split("|") for line in (folder / "u.user").read_text().splitlines())
    ]
    items = list(_films((folder / "u.item").read_text("latin-1").splitlines(), genres, start_ms))
    return profiles, items, list(_ratings(ratings))


def _films(lines: Iterable[str], genres: Sequence[str], at_ms: int) -> Iterator[Item]:
    for line in lines:
        number, title, *rest = line.split("|")
        flags = [genre for genre, flag in zip(genres, rest[3:], strict=False) if flag == "1"]
        yield Item(item_id=f"ml-{number}", title=title, category=(flags or ["unknown"])[0].lower(), updated_ms=at_ms)


def _ratings(rows: Iterable[tuple[int, ...]]) -> Iterator[UserEvent]:
    visits: dict[int, tuple[int, int]] = {}  # number of the visit and time of its last event, by person
    for user, item, stars, at_s in rows:
        number, last_ms = visits.get(user, (0, -VISIT_GAP_MS - 1))
        at_ms = at_s * 1000
        number += at_ms - last_ms > VISIT_GAP_MS
        visits[user] = number, at_ms
        yield UserEvent(
            event_id=f"ml-{user}-{item}",
            user_id=f"ml-{user}",
            kind="rating",
            item_id=f"ml-{item}",
            session_id=f"ml-{user}-{number}",
            rating=stars,
            event_ms=at_ms,
        )
