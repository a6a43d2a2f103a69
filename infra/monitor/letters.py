"""Dead letters: what each says of itself, their groups by cause, and what a redrive writes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from infra.audit import Position
from schemas.topic_kinds import Consumption
from schemas.topics import CONSUMPTIONS
from streams import headers as h
from streams.headers import HeaderList
from streams.loop.deadletter import OURS
from streams.rows import OutRecords, Polled

BY_TOPIC: Mapping[str, Consumption] = {taken.dead_letter_topic: taken for taken in CONSUMPTIONS}
# Of the attempt that failed: nobody waits for the answer any more, and the cause is written anew where it fails again.
LEFT_OUT = OURS - {h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET} | {h.DEADLINE_MS, h.REPLY_TO}


@dataclass(frozen=True, slots=True)
class Letter:
    """redrives: how often it was sent again before it failed this time. bytes: of its value."""

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
    """Whatever its headers hold: what is missing or no number is empty or 0, for anybody may write to a topic."""
    topic, partition = polled.places[i]
    said = {name: (raw or b"").decode(errors="replace") for name, raw in polled.headers[i] or ()}
    origin = "/".join(said.get(name, "?") for name in (h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET))
    return Letter(
        (topic, partition, polled.offsets[i]), polled.timestamps_ms[i], (polled.keys[i] or b"").decode(errors="replace"),
        BY_TOPIC[topic].group, said.get(h.ERROR_CODE, ""), said.get(h.ERROR_MESSAGE, ""), said.get(h.ERROR_STEP, ""),
        said.get(h.ERROR_WORKER, ""), origin, _number(said.get(h.ATTEMPT)), _number(said.get(h.REDRIVE)),
        said.get(h.CE_ID, ""), len(polled.values[i] or b""),
    )  # fmt: skip


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
    """By topic, step and code; the most waiting first. The message is the newest one."""
    found: dict[tuple[str, str, str], LetterGroup] = {}
    for one in letters:
        key = (one.position[0], one.step, one.code)
        group = found.get(key)
        if group is None:
            retry = BY_TOPIC[one.position[0]].retry_topics()
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
    """Those that are known at a moment. redriven: who sent them again, also of letters that are not held any more. not_shown: older
    ones, which are on their topics alone."""

    by_position: Mapping[Position, Letter]
    redriven: Mapping[Position, str]
    not_shown: int = 0

    def waiting(self) -> list[Letter]:
        """Those that were not sent again."""
        return [one for position, one in self.by_position.items() if position not in self.redriven]

    def of(self, topic: str, step: str | None = None, code: str | None = None) -> list[Letter]:
        """Those of a topic, and of a step and a code where they are named; the newest first."""
        found = [
            one
            for one in self.by_position.values()
            if one.position[0] == topic and step in (None, one.step) and code in (None, one.code)
        ]
        return sorted(found, key=lambda one: (one.at_ms, one.position), reverse=True)

    def groups(self) -> list[LetterGroup]:
        return grouped(self.by_position.values(), self.redriven)


def refusal(one: Letter, redriven: Mapping[Position, str], most: int) -> str | None:
    """Why it may not be sent again; None where it may."""
    if not BY_TOPIC[one.position[0]].retry_topics():
        return f"group {one.group} has no retry topic: mend the record and produce it to {BY_TOPIC[one.position[0]].topic.name}"
    if one.position in redriven:
        return f"it was redriven already ({redriven[one.position]})"
    if one.redrives >= most:
        return f"it was redriven {one.redrives} times, and {most} is the most: mend the record first"
    return None


def redrive(polled: Polled, chosen: Sequence[int], edited: Mapping[Position, bytes], now_ms: int) -> OutRecords:
    """Records for the group's first retry topic: key, value and headers as they were, the redrive's number one higher, due at once.

    edited: by position, the value in place of the one that failed."""
    topic = polled.places[chosen[0]][0]
    target = BY_TOPIC[topic].retry_topics()[0]
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
