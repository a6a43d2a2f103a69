"""Declared tasks under load: three senders ask all of them, while their workers are killed, a task is added, the model of another is
swapped, and a third task is removed.

The ledger judges each task by its topics, the removed one too: its data stay.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.codec import read_any
from schemas.declared.declarations import Declaration
from schemas.declared.task_kinds import TaskKind
from streams.client import Client, connect
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Polled
from streams.schema_registry import Registry
from tests.support.ledger import dead_key, end_of, problems
from tests.support.waiting import until

SENDERS = 3
REQUESTS = 1_000  # of each task that is declared at first
LATE_REQUESTS = 200  # of the task that is added
MOST_REQUESTS = 8_000  # of a task
DEADLINE_MS = 90_000
READ_LIMIT_S = 30.0
LIMIT_S = 120.0

Fields = Callable[[int], Mapping[str, Any]]
Result = dict[str, Any]


class Running(Protocol):
    """A stack that runs."""

    address: KafkaAddress
    registry: Registry

    def succeed(self, *words: str) -> str:
        """What a command printed. Raises AssertionError if it failed."""
        ...

    def kill(self, name: str) -> None: ...


@dataclass(frozen=True)
class Plot:
    """requests: the fields of a task's n-th request, by task. late: the task that is added, with the words of `tasks add`. swapped: the
    task that gets another model, and its address. removed: a task of `requests`. pause_s: of a sender, after one request to each task."""

    requests: Mapping[str, Fields]
    late: str
    late_words: Sequence[str]
    late_requests: Fields
    swapped: str
    address: str
    removed: str
    pause_s: float = 0.06


@dataclass
class Traffic:
    """asked: numbers of requests by task. answers: by task, with the fields of their requests, in the order in which they came."""

    plot: Plot
    asked: Counter[str] = field(default_factory=Counter)
    answers: dict[str, list[tuple[Mapping[str, Any], Result]]] = field(default_factory=dict)
    is_late_there: threading.Event = field(default_factory=threading.Event)
    is_told: threading.Event = field(default_factory=threading.Event)

    def next_requests(self) -> list[tuple[str, Mapping[str, Any]]]:
        """One of each task that gets more, with its fields. Those that are not removed get requests until all has happened."""
        found = []
        tasks = {**self.plot.requests, **({self.plot.late: self.plot.late_requests} if self.is_late_there.is_set() else {})}
        for task, fields in tasks.items():
            goes_on = task != self.plot.removed and not self.is_told.is_set() and self.asked[task] < MOST_REQUESTS
            if goes_on or self.asked[task] < (LATE_REQUESTS if task == self.plot.late else REQUESTS):
                found.append((task, fields(self.asked[task])))
                self.asked[task] += 1
        return found

    def answered(self, task: str) -> int:
        return len(self.answers.get(task, ()))

    def versions(self, task: str) -> Counter[str]:
        """Answers by the version that gave them."""
        return Counter(answer["models"][0]["version"] for _, answer in self.answers.get(task, ()) if answer["models"])


def told(stack: Running, plot: Plot, say: Callable[[str], object] = print) -> Traffic:
    """Tell the story. Raises AssertionError if a command fails, or something does not happen within LIMIT_S."""
    traffic = Traffic(plot)
    asyncio.run(_together(stack, traffic, say))
    return traffic


async def _together(stack: Running, traffic: Traffic, say: Callable[[str], object]) -> None:
    events = asyncio.create_task(asyncio.to_thread(_happen, stack, traffic, say))
    await asyncio.gather(*(_send(stack, traffic) for _ in range(SENDERS)))
    await events


async def _send(stack: Running, traffic: Traffic) -> None:
    async with connect(stack.address.bootstrap, stack.registry.url, "story") as client:
        waiting: list[asyncio.Task[None]] = []
        while (requests := traffic.next_requests()) or not traffic.is_told.is_set():
            waiting += [asyncio.create_task(_ask(client, traffic, task, fields)) for task, fields in requests]
            await asyncio.sleep(traffic.plot.pause_s)
        await asyncio.gather(*waiting)


async def _ask(client: Client, traffic: Traffic, task: str, fields: Mapping[str, Any]) -> None:
    answer = await client.request(task, fields, deadline_ms=DEADLINE_MS)
    traffic.answers.setdefault(task, []).append((fields, answer))


def _happen(stack: Running, traffic: Traffic, say: Callable[[str], object]) -> None:
    plot = traffic.plot

    def answered(task: str, least: int) -> None:
        until(lambda: traffic.answered(task) >= least, LIMIT_S, lambda: f"{least} answers of {task}: {traffic.answered(task)}")

    try:
        for task in plot.requests:
            answered(task, 100)
        for task in plot.requests:
            stack.kill(f"{task}-0")
        counts = {task: traffic.answered(task) for task in plot.requests}
        say(f"kill -9 of the worker of each task, after {counts} answers")
        stack.succeed("tasks", "add", plot.late, *plot.late_words)
        traffic.is_late_there.set()
        say(f"{plot.late} was added")
        for task, count in counts.items():
            answered(task, count + 200)
        stack.succeed("models", "promote", plot.swapped, plot.address, "--reason", "a story")
        until(lambda: len(traffic.versions(plot.swapped)) == 2, LIMIT_S, f"answers of both versions of {plot.swapped}")
        say(f"{plot.swapped} was swapped: {dict(traffic.versions(plot.swapped))}")
        answered(plot.removed, REQUESTS)
        stack.succeed("tasks", "remove", plot.removed)
        say(f"{plot.removed} was removed")
    finally:
        traffic.is_told.set()


@dataclass(frozen=True)
class Account:
    """What a reader of a task's topics sees. problems: empty if each request has one result."""

    requests: int
    results: list[Result]
    dead_letters: int
    problems: list[str]


def account(stack: Running, task: str) -> Account:
    """Of a declared task that need not be declared any more."""
    taken = Declaration(name=task, kind=TaskKind.TABULAR).consumption()  # the names of its topics follow from its own
    assert taken.results is not None
    names = (taken.topic.name, taken.results.name, taken.dead_letter_topic)
    asked, ends, letters = (_read(stack.address, name) for name in names)
    results = [read_any(value, stack.registry) for value in ends.values]
    dead = [{name: value.decode(errors="replace") for name, value in headers or ()} for headers in letters.headers]
    keys = [((place[0], place[1], offset), 0) for place, offset in zip(asked.places, asked.offsets, strict=True)]
    found = problems(keys, map(end_of, results), map(dead_key, dead))
    return Account(len(asked), results, len(dead), found)


def _read(address: KafkaAddress, topic: str) -> Polled:
    reader = KafkaBroadcast(address, topic, SystemClock())
    try:
        return reader.read_to_end(READ_LIMIT_S)
    finally:
        reader.close()
