"""The loop that retrains, watched once: traffic whose kind changes, and what Millrace does about it. For `demo --drift` and its benchmark.

Texts of two kinds go in with their truth as labels: talk, and offers that the shipped model knows. Then polite schemes come that it does
not know. From there on nothing is done by hand: drift is found, a run learns from the labelled requests, the gate compares, a canary
proves the candidate, and it takes over. After that a run with shuffled labels must be refused, and that refused version, promoted by hand,
must be brought back.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.codec import Encoder, read_any
from schemas.errors import Stop
from schemas.generated import Label
from schemas.topics import (
    CONTENT,
    DRIFT_EVENTS,
    LABELS,
    MODEL_UPDATES,
    MODERATION_VERDICTS,
    SWAP_ACKS,
    TRAINING_EVENTS,
    TRAINING_REQUESTS,
)
from streams import headers as h
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.registry import Registry
from streams.rows import OutRecords

TEXTS = Path(__file__).with_name("drift_story_texts.tsv")
PLACES = ("Lyon", "Utrecht", "Porto", "Ghent", "Turku", "Graz", "Malmö", "Split", "Cork", "Bergen")
MODEL = "moderation-text"
LABEL_DELAY_S = 0.5
STAGE_LIMIT_S = 420.0
ROLLING = 200
# What the loops are told, so that it takes minutes at the story's traffic; everything else is as shipped.
SETTINGS = {
    "MILLRACE_WINDOW": "300", "MILLRACE_LEARN_LABELLED": "200", "MILLRACE_GATE_LABELLED": "60", "MILLRACE_CANARY_SHARE": "0.5",
    "MILLRACE_CANARY_LABELLED": "60", "MILLRACE_COOL_DOWN_S": "3600",
}  # fmt: skip


class StoryFailed(Stop):
    code = "story-failed"


@dataclass(frozen=True)
class Event:
    """topic, the record, and when it was seen: seconds since the start, and how many texts had been sent by then."""

    topic: str
    record: dict[str, Any]
    at_s: float
    sent: int


@dataclass
class Story:
    """rights: by kind of traffic and version that answered, [right, all]. latencies_ms: from sending to the verdict."""

    events: list[Event] = field(default_factory=list)
    rights: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    latencies_ms: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    twice: int = 0
    shift: tuple[float, int] = (0.0, 0)  # seconds and texts sent when the traffic changed

    def find(self, topic: str, **fields: Any) -> Event | None:
        """The first event of a topic with these fields."""
        return next((e for e in self.events if e.topic == topic and all(e.record.get(k) == v for k, v in fields.items())), None)


def _lines() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in TEXTS.read_text(encoding="utf-8").splitlines():
        kind, text = line.split("\t")
        found.setdefault(kind, []).append(text)
    return found


class Texts:
    """(text, whether it is spam), the same for a seed. `scheme` texts are put together from three parts each."""

    def __init__(self, seed: int = 5) -> None:
        self._random, self._lines = random.Random(seed), _lines()

    def next(self, schemes: float) -> tuple[str, bool]:
        """schemes: their share of the texts."""
        pick = self._random.random()
        if pick < schemes:
            return " ".join(self._filled(kind) for kind in ("opener", "body", "closer")), True
        spam = self._random.random() < 0.2
        return self._filled("offer" if spam else "talk"), spam

    def _filled(self, kind: str) -> str:
        return self._random.choice(self._lines[kind]).format(n=self._random.randint(2, 99), place=self._random.choice(PLACES))


class Teller:
    """Sends, labels, reads, and tells each event as it comes. on_event: gets every one, on_tick: the share right of the last answers."""

    def __init__(
        self,
        bootstrap: str,
        registry: str,
        rate_per_s: float,
        on_event: Callable[[Event], None],
        on_tick: Callable[[Story, float], None],
    ) -> None:
        address, clock = KafkaAddress(bootstrap=bootstrap), SystemClock()
        self._ids, self._clock, self._rate = Registry(registry), clock, rate_per_s
        self._content = Encoder("content", CONTENT.subject, self._ids)
        self._labels = Encoder("label", LABELS.subject, self._ids)
        self._sink = KafkaSink(address, None)
        self._verdicts = KafkaBroadcast(address, MODERATION_VERDICTS.name, clock, "end")
        watched = (DRIFT_EVENTS, TRAINING_REQUESTS, TRAINING_EVENTS, MODEL_UPDATES, SWAP_ACKS)
        self._watched = {topic.name: KafkaBroadcast(address, topic.name, clock, "end") for topic in watched}
        self._texts, self._on_event, self._on_tick = Texts(), on_event, on_tick
        self._begun = time.perf_counter()
        self._truth: dict[str, tuple[float, bool, str]] = {}
        self._unlabelled: deque[tuple[float, str, bool]] = deque()
        self._rolling: deque[bool] = deque(maxlen=ROLLING)
        self._due, self._ticked = self._begun, self._begun
        self.schemes, self.story = 0.0, Story()

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self._begun

    def until(self, done: Callable[[], Any], words: str, limit_s: float = STAGE_LIMIT_S) -> Any:
        """Traffic goes on until `done` says something; that. Raises StoryFailed after the limit."""
        end_s = self.now_s + limit_s
        while not (found := done()):
            if self.now_s > end_s:
                raise StoryFailed(f"after {limit_s:.0f} s still no {words}; `./millrace logs` says what the processes did")
            self.step()
        return found

    def step(self) -> None:
        now = time.perf_counter()
        if now - self._due > 1.0:  # after a stall the rate holds again, without a burst
            self._due = now
        while self._due <= now:
            self._send(*self._texts.next(self.schemes))
            self._due += 1 / self._rate
        while self._unlabelled and self._unlabelled[0][0] <= now:
            self._label(*self._unlabelled.popleft()[1:])
        for value in self._verdicts.wait(0.004).values:
            self._verdict(read_any(value, self._ids))
        for topic, reader in self._watched.items():
            for value in reader.poll().values:
                event = Event(topic, read_any(value, self._ids), self.now_s, self.story.sent)
                self.story.events.append(event)
                self._on_event(event)
        if now - self._ticked >= 5.0:
            self._ticked = now
            self._on_tick(self.story, sum(self._rolling) / max(1, len(self._rolling)))

    def _send(self, text: str, spam: bool) -> None:
        request_id, number = uuid7(self._clock.now_ms()), self.story.sent
        values = self._content.encode({"content_id": [f"story-{number}"], "text": [text], "kind": ["message"]}, 1)
        self._sink.produce(OutRecords(
            CONTENT.name, [f"story-{number}".encode()], list(values), h.cloud_event([request_id], "content", "demo")
        ))  # fmt: skip
        now = time.perf_counter()
        self._truth[request_id] = now, spam, "changed" if self.schemes else "as before"
        self._unlabelled.append((now + LABEL_DELAY_S, request_id, spam))
        self.story.sent += 1

    def _label(self, request_id: str, spam: bool) -> None:
        label = Label(
            request_id=request_id, source="demo", task="moderation", truth={"spam": spam}, labelled_ms=self._clock.now_ms()
        )
        self._sink.produce(OutRecords(LABELS.name, [request_id.encode()], [self._labels.encode_one(label)], [[]]))

    def _verdict(self, verdict: dict[str, Any]) -> None:
        known = self._truth.pop(verdict["request_id"], None)
        if known is None:
            self.story.twice += verdict["origin_topic"] == CONTENT.name and verdict["content_id"].startswith("story-")
            return
        sent, spam, traffic = known
        self.story.answered += 1
        self.story.latencies_ms.append((self.now_s, (time.perf_counter() - sent) * 1000))
        flagged = any(one["category"] == "spam" and one["flagged"] for one in verdict["categories"])
        version = next((one["version"] for one in verdict["models"] if one["name"] == MODEL), "?")
        counts = self.story.rights.setdefault((traffic, version), [0, 0])
        counts[0] += flagged == spam
        counts[1] += 1
        self._rolling.append(flagged == spam)

    def close(self) -> None:
        self._sink.close()
        for reader in (self._verdicts, *self._watched.values()):
            reader.close()


def tell(teller: Teller, command: Callable[[Sequence[str]], None], baseline: int = 700) -> Story:
    """The whole story. command: runs a command of `training_triggers`. Raises StoryFailed where a stage does not come."""
    story = teller.story
    teller.until(lambda: story.sent >= baseline, "baseline")
    teller.schemes, story.shift = 0.45, (teller.now_s, story.sent)
    learnt = teller.until(lambda: story.find(TRAINING_EVENTS.name, kind="promoted"), "promotion")
    version = learnt.record["facts"]["version"]
    teller.until(lambda: story.find(SWAP_ACKS.name, version=version, arm="live", accepted=True), "swap")
    after = story.answered + ROLLING
    teller.until(lambda: story.answered >= after, "answers of the new version")
    command(["request", MODEL, "--reason", "a control: labels shuffled, it must not pass", "--option", "control=shuffled"])
    refused = teller.until(lambda: story.find(TRAINING_EVENTS.name, kind="refused"), "verdict on the control")
    folder = refused.record["facts"]["uri"].removeprefix("file:")
    command(["promote", MODEL, folder, "--reason", "by hand, past the gate, to see it brought back"])
    bad = refused.record["facts"]["version"]
    teller.until(lambda: story.find(SWAP_ACKS.name, version=bad, accepted=True), "swap to the refused version")
    back = teller.until(lambda: story.find(TRAINING_EVENTS.name, kind="rolled_back"), "rollback")
    teller.until(
        lambda: any(e.topic == SWAP_ACKS.name and e.record["version"] == version and e.at_s > back.at_s for e in story.events),
        "swap back",
    )
    after = story.answered + ROLLING
    teller.until(lambda: story.answered >= after, "answers of the version that is back")
    return story


def stages(story: Story) -> list[tuple[str, str, float, int]]:
    """From and to in words, seconds, texts sent between."""
    marks = [("the traffic changed", *story.shift)]
    for words, topic, fields in (
        ("drift was found", DRIFT_EVENTS.name, {}),
        ("a run was asked for", TRAINING_REQUESTS.name, {}),
        ("a version was trained", TRAINING_EVENTS.name, {"kind": "trained"}),
        ("the gate passed it", TRAINING_EVENTS.name, {"kind": "judged"}),
        ("it answered a share", SWAP_ACKS.name, {"arm": "canary", "accepted": True}),
        ("it took over", SWAP_ACKS.name, {"arm": "live", "accepted": True}),
    ):
        found = story.find(topic, **fields)
        if found is not None:
            marks.append((words, found.at_s, found.sent))
    rows = [(a, b, b_s - a_s, b_n - a_n) for (a, a_s, a_n), (b, b_s, b_n) in pairwise(marks)]
    return [*rows, (marks[0][0], marks[-1][0], marks[-1][1] - marks[0][1], marks[-1][2] - marks[0][2])]
