"""Redrives of dead letters, each letter once: planned when the redrive begins and not earlier, and checked against the audit
before each part."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from typing import Any, Literal

from infra.audit import Position
from infra.monitor import forms, letters
from infra.monitor.letters import Letter
from infra.monitor.reading import browse
from infra.monitor.safety import Actor
from infra.monitor.transact import Transactions
from infra.monitor.watching.story import Story
from schemas.errors import InvalidRequest, MillraceError, Stop
from streams.clock import Clock
from streams.kafka.config import KafkaAddress
from streams.rows import Place
from streams.schema_registry import Registry

PART = 100  # records per transaction
MOST_REDRIVES = 5


class Busy(Stop):
    code = "busy"


@dataclass(frozen=True)
class Order:
    """edited: by position, the new value in JSON that replaces the failed one."""

    edited: Mapping[Position, Any]
    rate_per_s: float
    actor: Actor
    reason: str


@dataclass
class RedriveRun:
    """n: letters that were to go. done: those that went. refused: those that may not. words: why it failed, or what was left out."""

    n: int
    refused: int
    actor: str
    state: Literal["running", "done", "failed"] = "running"
    done: int = 0
    words: str = ""


@dataclass(frozen=True)
class RefusedLetter:
    position: Position
    why: str


@dataclass(frozen=True)
class RedrivePlan:
    """ready: letters that would go, each once. targets: by retry topic, how many go there. run: where it was begun."""

    ready: list[Position]
    refused: list[RefusedLetter]
    targets: dict[str, int]
    run: RedriveRun | None = None


class Redrives:
    def __init__(
        self, address: KafkaAddress, ids: Registry, clock: Clock, story: Story, transactions: Transactions, stopping: Event
    ) -> None:
        self._address, self._ids, self._clock, self._story = address, ids, clock, story
        self._transactions, self._stopping = transactions, stopping
        self._beginning = Lock()
        self._run: RedriveRun | None = None

    def run(self) -> RedriveRun | None:
        """The state of the current redrive, or of the last one."""
        return None if self._run is None else replace(self._run)

    def plan(self, chosen: Sequence[Letter], edited: Mapping[Position, Any]) -> RedrivePlan:
        """The effect of a redrive of these letters: the records that would be written, each once, and the reason why others
        would not. Changes nothing."""
        redriven = self._story.dead_letters().redriven
        ready, refused, targets = list[Position](), list[RefusedLetter](), dict[str, int]()
        for position, one in {one.position: one for one in chosen}.items():
            why = letters.refusal(one, redriven, MOST_REDRIVES if position not in edited else sys.maxsize)
            if why is None and position in edited:
                why = self._unfit(one, edited[position])
            if why is not None:
                refused.append(RefusedLetter(position, why))
                continue
            ready.append(position)
            retry = letters.reader_of(position[0]).retry_topics()[0]
            targets[retry] = targets.get(retry, 0) + 1
        return RedrivePlan(ready, refused, targets)

    def _unfit(self, one: Letter, value: Any) -> str | None:
        try:
            forms.encoded(self._ids, letters.reader_of(one.position[0]).topic.subject, value)
        except InvalidRequest as error:
            return str(error)
        return None

    def begin(self, chosen: Sequence[Letter], order: Order) -> RedrivePlan:
        """Begin to redrive the permitted letters, PART records per transaction with their audit line, at most `rate_per_s`. A
        letter that was redriven is never redriven again, however this redrive ends. Raises Busy if another one is in progress."""
        with self._beginning:  # the plan depends on the result of the run before it
            if self._run is not None and self._run.state == "running":
                raise Busy("a redrive is under way: wait for its end")
            plan = self.plan(chosen, order.edited)
            by_position = {one.position: one for one in chosen}
            todo = [by_position[position] for position in plan.ready]
            self._run = run = RedriveRun(len(todo), len(plan.refused), order.actor.name)
            begun = replace(plan, run=replace(run))
        Thread(target=self._go, args=(run, todo, order), name="redrive", daemon=True).start()
        return begun

    def _go(self, run: RedriveRun, todo: Sequence[Letter], order: Order) -> None:
        try:
            self._send(run, todo, order)
            missing = run.n - run.done
            run.words = f"{missing} were sent by another monitor meanwhile, or could not be read" if missing else ""
            run.state = "done"
        except MillraceError as error:
            run.words, run.state = str(error), "failed"
        except Exception as error:
            run.words, run.state = f"a fault of the monitor: {type(error).__name__}: {error}", "failed"
        finally:
            self._transactions.release()

    def _send(self, run: RedriveRun, todo: Sequence[Letter], order: Order) -> None:
        by_topic: dict[str, list[Letter]] = {}
        for one in todo:
            by_topic.setdefault(one.position[0], []).append(one)
        size = max(1, min(PART, int(order.rate_per_s)))
        parts = [(topic, mine[i : i + size]) for topic, mine in by_topic.items() for i in range(0, len(mine), size)]
        sent: set[Position] = set()
        for number, (topic, mine) in enumerate(parts, 1):
            begun_s = self._clock.monotonic_s()
            run.done += self._part(topic, mine, sent, order)
            left_s = len(mine) / order.rate_per_s - (self._clock.monotonic_s() - begun_s)
            if number < len(parts) and self._stopping.wait(max(0.0, left_s)):
                raise Stop("the monitor was stopped; what was not sent waits as before")

    def _part(self, topic: str, mine: Sequence[Letter], sent: set[Position], order: Order) -> int:
        """Write those of `mine` that are not in the audit; returns their number. sent: letters that the audit already lists,
        kept current."""
        with self._transactions.lock:
            sent |= self._transactions.claim() or set()
            wanted: dict[Place, list[int]] = {}
            for one in mine:
                if one.position not in sent:
                    wanted.setdefault((topic, one.position[1]), []).append(one.position[2])
            if not wanted:
                return 0
            polled = browse.raw(self._address, wanted)
            if not len(polled):
                return 0
            subject = letters.reader_of(topic).topic.subject
            found = [(*place, offset) for place, offset in zip(polled.places, polled.offsets, strict=True)]
            values = {one: forms.encoded(self._ids, subject, order.edited[one]) for one in found if one in order.edited}
            out = letters.redrive(polled, range(len(polled)), values, self._clock.now_ms())
            words = f"{len(found)} to {out.topic}, {len(values) or 'none'} of them mended"
            words += f": {order.reason}" if order.reason else ""
            positions = ["/".join(map(str, one)) for one in found]
            entry = self._transactions.entry(order.actor.name, order.actor.role, topic, positions, words)
            self._transactions.write([out], entry)
            sent.update(found)
        self._story.audited(entry)  # immediately, without waiting for the next read of the audit
        return len(found)
