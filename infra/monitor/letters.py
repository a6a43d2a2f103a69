"""Dead letters: the details of each, their groups by cause, and the records that a redrive writes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from infra.audit import Position
from schemas.catalogue import Catalogue, catalogue
from schemas.errors import InvalidRequest
from schemas.topic_kinds import Consumption
from streams import headers as h
from streams.headers import HeaderList
from streams.loop.deadletter import OURS
from streams.rows import OutRecords, Polled

# Headers of the failed attempt. A redrive drops them: nobody waits for the answer any more, and a new failure writes a new cause.
LEFT_OUT = OURS - {h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET} | {h.DEADLINE_MS, h.REPLY_TO}


def by_topic() -> Mapping[str, Consumption]:
    """The reader whose dead letters a topic holds, by the topic's name."""
    return _by_topic(catalogue())


@lru_cache(maxsize=2)
def _by_topic(known: Catalogue) -> Mapping[str, Consumption]:
    return {taken.dead_letter_topic: taken for taken in known.consumptions}


def reader_of(dead_letter_topic: str) -> Consumption:
    """Raises InvalidRequest if no reader has this topic for its dead letters."""
    taken = by_topic().get(dead_letter_topic)
    if taken is None:
        raise InvalidRequest(f"{dead_letter_topic} is not a topic of dead letters, or its task was removed")
    return taken


@dataclass(frozen=True, slots=True)
class Letter:
    """redrives: how often the letter was redriven before this failure. bytes: size of its value."""

    position: Position
    at_ms: int
    key: str
    group: str
    code: str
    message: str
    step: str
    worker: str
    origin: str
    attempt: int
    redrives: int
    request_id: str
    bytes: int


def letter(polled: Polled, i: int) -> Letter:
    """A letter from any headers: a missing header, or one that is not a number, becomes empty or 0, because anybody may write
    to a topic."""
    topic, partition = polled.places[i]
    said = {name: (raw or b"").decode(errors="replace") for name, raw in polled.headers[i] or ()}
    origin = "/".join(said.get(name, "?") for name in (h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET))
    return Letter(
        (topic, partition, polled.offsets[i]),
        polled.timestamps_ms[i],
        (polled.keys[i] or b"").decode(errors="replace"),
        taken.group if (taken := by_topic().get(topic)) is not None else "",
        said.get(h.ERROR_CODE, ""),
        said.get(h.ERROR_MESSAGE, ""),
        said.get(h.ERROR_STEP, ""),
        said.get(h.ERROR_WORKER, ""),
        origin,
        _number(said.get(h.ATTEMPT)),
        _number(said.get(h.REDRIVE)),
        said.get(h.CE_ID, ""),
        len(polled.values[i] or b""),
    )


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 0


@dataclass(frozen=True)
class DeadLetter(Letter):
    """redriven: who sent it again, or null."""

    redriven: str | None


@dataclass
class LetterGroup:
    """Dead letters of one cause. n: all of them. waiting: those that were not redriven. message: of the newest."""

    topic: str
    group: str
    step: str
    code: str
    n: int = 0
    waiting: int = 0
    first_ms: int = 0
    last_ms: int = 0
    message: str = ""
    retry_topic: str | None = None


def grouped(letters: Iterable[Letter], redriven: Mapping[Position, str]) -> list[LetterGroup]:
    """Groups by topic, step and code; the one with the most waiting letters comes first. The message is that of the newest
    letter."""
    found: dict[tuple[str, str, str], LetterGroup] = {}
    for one in letters:
        key = (one.position[0], one.step, one.code)
        group = found.get(key)
        if group is None:
            taken = by_topic().get(one.position[0])
            retry = taken.retry_topics() if taken is not None else ()
            group = found[key] = LetterGroup(
                key[0], one.group, one.step, one.code, first_ms=one.at_ms, retry_topic=retry[0] if retry else None
            )
        group.n += 1
        group.waiting += one.position not in redriven
        group.first_ms = min(group.first_ms, one.at_ms)
        if one.at_ms >= group.last_ms:
            group.last_ms, group.message = one.at_ms, one.message
    return sorted(found.values(), key=lambda group: (-group.waiting, -group.last_ms))


@dataclass(frozen=True)
class DeadLetters:
    """The letters known at one moment. redriven: who redrove each letter, including letters that are no longer held.
    not_shown: the number of older letters, which are only on their topics."""

    by_position: Mapping[Position, Letter]
    redriven: Mapping[Position, str]
    not_shown: int = 0

    def waiting(self) -> list[Letter]:
        """Letters that were not redriven."""
        return [one for position, one in self.by_position.items() if position not in self.redriven]

    def of(self, topic: str, step: str | None = None, code: str | None = None) -> list[Letter]:
        """The letters of a topic, and of a step and a code if they are given; newest first."""
        found = [
            one
            for one in self.by_position.values()
            if one.position[0] == topic and step in (None, one.step) and code in (None, one.code)
        ]
        return sorted(found, key=lambda one: (one.at_ms, one.position), reverse=True)

    def groups(self) -> list[LetterGroup]:
        return grouped(self.by_position.values(), self.redriven)


def refusal(one: Letter, redriven: Mapping[Position, str], most: int) -> str | None:
    """The reason why the letter may not be redriven; None if it may."""
    taken = by_topic().get(one.position[0])
    if taken is None:
        return "its task was removed"
    if not taken.retry_topics():
        return f"group {one.group} has no retry topic: mend the record and produce it to {taken.topic.name}"
    if one.position in redriven:
        return f"it was redriven already ({redriven[one.position]})"
    if one.redrives >= most:
        return f"it was redriven {one.redrives} times, and {most} is the most: mend the record first"
    return None


def redrive(polled: Polled, chosen: Sequence[int], edited: Mapping[Position, bytes], now_ms: int) -> OutRecords:
    """Records for the group's first retry topic: key, value and headers unchanged, the redrive number one higher, due
    immediately.

    edited: by position, the new value that replaces the failed one."""
    topic = polled.places[chosen[0]][0]
    target = reader_of(topic).retry_topics()[0]
    keys, values, headers, partitions = [], [], [], []
    for i in chosen:
        position = (*polled.places[i], polled.offsets[i])
        found: HeaderList = [
            (name, raw) for name, raw in polled.headers[i] or () if name not in LEFT_OUT and not name.startswith(h.KIP_1034)
        ]
        number = letter(polled, i).redrives + 1
        keys.append(polled.keys[i])
        values.append(edited.get(position, polled.values[i]))
        headers.append([*found, (h.REDRIVE, str(number).encode()), (h.NOT_BEFORE_MS, str(now_ms).encode())])
        partitions.append(polled.places[i][1])
    return OutRecords(target, keys, values, headers, partitions)
