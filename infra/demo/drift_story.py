"""The story of `demo --drift` and its benchmark: the traffic changes, and Millrace retrains a model for it.

Requests are sent with their true answers as labels: first of a kind that the shipped model knows, then of a new kind
(`drift_traffic.py`). From then on everything happens automatically: drift is detected, a run trains on the labelled requests,
the gate compares, a canary tests the candidate, and the candidate becomes live. After that a run with shuffled labels must be
refused, and when its version is promoted by hand, it must be rolled back. People who ask for recommendations send no labels: these
come of what they do (`shoppers.py`), the model learns from that, and no labels can be shuffled.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from infra.demo.drift_traffic import Traffic
from schemas.codec import Encoder
from schemas.errors import Stop
from schemas.generated import Label
from schemas.topics import (
    DRIFT_EVENTS,
    LABELS,
    MODEL_UPDATES,
    SWAP_ACKS,
    TRAINING_EVENTS,
    TRAINING_REQUESTS,
)
from schemas.vocabulary import Arm, RunEvent
from streams import headers as h
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.readable import Followed, Readable
from streams.rows import OutRecords
from streams.schema_registry import Registry

LABEL_DELAY_S = 0.5
QUIET_LIMIT_S = 600.0  # a busy machine trains slowly, but a run that goes on says so
STAGE_LIMIT_S = 3_600.0
CHANGED = "changed"  # the traffic since its change
ROLLING = 200
# Settings with which the story takes minutes at its low traffic; all other settings have their defaults.
SETTINGS = {
    "MILLRACE_DRIFT_WINDOW_ENTRIES": "300",
    "MILLRACE_DRIFT_BASELINE_S": "0",
    "MILLRACE_TRAINING_MIN_LABELLED": "300",
    "MILLRACE_GATE_MIN_LABELLED": "50",
    "MILLRACE_CANARY_SHARE": "0.5",
    "MILLRACE_CANARY_MIN_LABELLED": "60",
    "MILLRACE_COOL_DOWN_S": "3600",
    "MILLRACE_GATE_MARGIN": "0.03",
    # Some 50 of about 500 labelled pictures are of one digit, but in four stories of ten one of the digits has fewer than 40.
    "MILLRACE_GATE_CLASS_MIN_LABELLED": "25",
    "MILLRACE_GATE_CLASS_MARGIN": "0.15",  # one right answer lost takes 34 examples of a digit, two take 45; with 0.1, 53 and 69
    "MILLRACE_WATCH_SHARE": "0.5",
}


class StoryFailed(Stop):
    code = "story-failed"


@dataclass(frozen=True)
class Event:
    """A record and the time it was read: seconds since the start, and the number of requests sent by then."""

    topic: str
    record: dict[str, Any]
    at_s: float
    sent: int


@dataclass
class Story:
    """rights: by kind of traffic and answering version, [right answers, all answers]. latencies_ms: (time of the answer in s, ms from sending)."""

    events: list[Event] = field(default_factory=list)
    rights: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    latencies_ms: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0
    answered: int = 0
    twice: int = 0
    shift: tuple[float, int] = (0.0, 0)  # seconds and number of requests sent when the traffic changed
    # Shares of right answers since then: of the old version, and of the one that was trained.
    learnt: tuple[float, float] = (0.0, 0.0)

    def find(self, topic: str, **fields: Any) -> Event | None:
        """The first event of a topic with these field values."""
        return next((e for e in self.events if e.topic == topic and all(e.record.get(k) == v for k, v in fields.items())), None)


class Teller:
    """Sends requests and labels, and reads events. on_event: called with each event. on_tick: called with the share of right
    recent answers."""

    def __init__(
        self,
        bootstrap: str,
        registry: str,
        traffic: Traffic,
        rate_per_s: float,
        on_event: Callable[[Event], None],
        on_tick: Callable[[Story, float], None],
    ) -> None:
        address, clock = KafkaAddress(bootstrap=bootstrap), SystemClock()
        self._ids, self._clock, self._rate = Registry(registry), clock, rate_per_s
        topic, results = traffic.taken.topic, traffic.taken.results
        assert results is not None
        self._requests = Encoder.of(topic, self._ids)
        self._labels = Encoder.of(LABELS, self._ids)
        self._sink = KafkaSink(address, None)
        self._answers = KafkaBroadcast(address, results.name, clock, "end")
        self._results = Followed(self._answers, Readable(results, self._ids, dict))
        watched = (DRIFT_EVENTS, TRAINING_REQUESTS, TRAINING_EVENTS, MODEL_UPDATES, SWAP_ACKS)
        self._watched = {
            topic.name: Followed(KafkaBroadcast(address, topic.name, clock, "end"), Readable(topic, self._ids, dict))
            for topic in watched
        }
        self.traffic, self._on_event, self._on_tick = traffic, on_event, on_tick
        traffic.open(address, self._ids, self._sink)
        self._begun = time.perf_counter()
        self._sent: dict[str, tuple[float, dict[str, bool], str]] = {}  # requests without an answer yet
        self._answered: set[str] = set()
        self._unlabelled: deque[tuple[float, str, dict[str, bool]]] = deque()
        self._rolling: deque[bool] = deque(maxlen=ROLLING)
        self._due, self._ticked = self._begun, self._begun
        self._moved_s = 0.0  # when a run or a model changed last
        self.story = Story()

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self._begun

    def until(self, done: Callable[[], Any], words: str) -> Any:
        """Send traffic until `done` returns a true value, and return it. Raises StoryFailed if no run and no model changes for
        QUIET_LIMIT_S, or after STAGE_LIMIT_S."""
        begun_s = self.now_s
        while not (outcome := done()):
            took_s, quiet_s = self.now_s - begun_s, self.now_s - max(begun_s, self._moved_s)
            if is_hopeless(took_s, quiet_s):
                raise StoryFailed(
                    f"there was no {words} after {took_s:.0f} s, and nothing new for {quiet_s:.0f} s: "
                    "`./millrace logs` shows what the processes did"
                )
            self.step()
        return outcome

    def step(self) -> None:
        now = time.perf_counter()
        if now - self._due > 1.0:  # after a stall the usual rate continues, without a burst
            self._due = now
        while self._due <= now:
            self._send(*self.traffic.next(self.story.sent))
            self._due += 1 / self._rate
        while self._unlabelled and self._unlabelled[0][0] <= now:
            self._label(*self._unlabelled.popleft()[1:])
        for result in self._results.take(self._answers.wait(0.004)):
            self._result(result)
        for topic, records in self._watched.items():
            for record in records.poll():
                event = Event(topic, record, self.now_s, self.story.sent)
                self.story.events.append(event)
                if topic != DRIFT_EVENTS.name:
                    self._moved_s = event.at_s
                self._on_event(event)
        if now - self._ticked >= 5.0:
            self._ticked = now
            self._on_tick(self.story, sum(self._rolling) / max(1, len(self._rolling)))

    def _send(self, fields: dict[str, Any], truth: dict[str, bool]) -> None:
        request_id, topic = uuid7(self._clock.now_ms()), self.traffic.taken.topic
        values = self._requests.encode({name: [value] for name, value in fields.items()}, 1)
        headers = h.cloud_event([request_id], topic.record_name, "demo")
        key = fields.get("user_id", f"story-{self.story.sent}")
        self._sink.produce(OutRecords(topic.name, [key.encode()], list(values), headers))
        now = time.perf_counter()
        self._sent[request_id] = now, truth, CHANGED if self.traffic.changed else "as before"
        if self.traffic.labelled:
            self._unlabelled.append((now + LABEL_DELAY_S, request_id, truth))
        self.story.sent += 1

    def _label(self, request_id: str, truth: dict[str, bool]) -> None:
        label = Label(
            request_id=request_id, source="demo", task=self.traffic.taken.group, truth=truth, labelled_ms=self._clock.now_ms()
        )
        self._sink.produce(OutRecords(LABELS.name, [request_id.encode()], [self._labels.encode_one(label)], [[]]))

    def _result(self, result: dict[str, Any]) -> None:
        request_id = result["request_id"]
        if request_id not in self._sent:
            self.story.twice += request_id in self._answered
            return
        sent, truth, kind = self._sent.pop(request_id)
        self._answered.add(request_id)
        self.story.answered += 1
        self.story.latencies_ms.append((self.now_s, (time.perf_counter() - sent) * 1000))
        right = result["status"] == "ok" and self.traffic.right(result, truth)
        self.traffic.answered(result, truth)
        version = next((one["version"] for one in result["models"] if one["name"] == self.traffic.model), "?")
        counts = self.story.rights.setdefault((kind, version), [0, 0])
        counts[0] += right
        counts[1] += 1
        self._rolling.append(right)

    def close(self) -> None:
        self._sink.close()
        for reader in (self._results, *self._watched.values()):
            reader.close()


def is_hopeless(took_s: float, quiet_s: float) -> bool:
    """took_s: time of a stage until now. quiet_s: its part since a run or a model changed last."""
    return quiet_s > QUIET_LIMIT_S or took_s > STAGE_LIMIT_S


def learn(teller: Teller) -> str:
    """Change the traffic, wait until a retrained version is live, and return that version. Raises StoryFailed, also if it is right no
    more often than the versions before."""
    story = teller.story
    teller.until(lambda: story.sent >= teller.traffic.baseline, "baseline")
    teller.traffic.changed, story.shift = True, (teller.now_s, story.sent)
    ends = (RunEvent.PROMOTED, RunEvent.REFUSED, RunEvent.FAILED, RunEvent.ROLLED_BACK)
    end = teller.until(
        lambda: next(filter(None, (story.find(TRAINING_EVENTS.name, kind=kind) for kind in ends)), None), "promotion"
    )
    if end.record["kind"] != RunEvent.PROMOTED:
        raise StoryFailed(f"the run ended as {end.record['kind']}: {end.record['words']}")
    version: str = end.record["facts"]["version"]
    teller.until(lambda: story.find(SWAP_ACKS.name, version=version, arm=Arm.LIVE, accepted=True), "swap")
    after = story.answered + ROLLING
    teller.until(lambda: story.answered >= after, "answers of the new version")
    story.learnt = before, now = since_the_change(story, version)
    if now <= before:
        raise StoryFailed(f"{version} took over, but {teller.traffic.good} are {now:.1%} of its answers, and were {before:.1%}")
    return version


def since_the_change(story: Story, version: str) -> tuple[float, float]:
    """Shares of right answers to the changed traffic: of all other versions, and of this one. 0 where there are no answers."""
    counts = {of: count for (traffic, of), count in story.rights.items() if traffic == CHANGED}
    new = counts.pop(version, (0, 0))
    old = sum(right for right, _ in counts.values()), sum(n for _, n in counts.values())
    return old[0] / max(1, old[1]), new[0] / max(1, new[1])


def tell(teller: Teller, command: Callable[[Sequence[str]], None]) -> Story:
    """Run the whole story. command: runs a command of `training_triggers`. Raises StoryFailed if a stage is not reached in
    time."""
    story, model, version = teller.story, teller.traffic.model, learn(teller)
    command(["request", model, "--reason", "a control: labels shuffled, it must not pass", "--option", "control=shuffled"])
    refused = teller.until(lambda: story.find(TRAINING_EVENTS.name, kind=RunEvent.REFUSED), "verdict on the control")
    folder = refused.record["facts"]["uri"].removeprefix("file:")
    command(["promote", model, folder, "--reason", "by hand, past the gate, to see it brought back"])
    bad = refused.record["facts"]["version"]
    swapped = teller.until(lambda: story.find(SWAP_ACKS.name, version=bad, accepted=True), "swap to the refused version")
    teller.until(lambda: story.find(TRAINING_EVENTS.name, kind=RunEvent.ROLLED_BACK), "rollback")
    came = story.events.index(swapped)  # workers may have swapped back before the rollback is told
    teller.until(lambda: any(_serves(event, version) for event in story.events[came:]), "swap back")
    after = story.answered + ROLLING
    teller.until(lambda: story.answered >= after, "answers of the version that is back")
    return story


def _serves(event: Event, version: str) -> bool:
    record = event.record
    return event.topic == SWAP_ACKS.name and (record["version"], record["arm"], record["accepted"]) == (version, Arm.LIVE, True)


def stages(story: Story) -> list[tuple[str, str, float, int]]:
    """(from, to, seconds, requests sent in between) of each stage; the last entry is the whole."""
    marks = [("the traffic changed", *story.shift)]
    for words, topic, fields in (
        ("drift was found", DRIFT_EVENTS.name, {}),
        ("a run was asked for", TRAINING_REQUESTS.name, {}),
        ("a version was trained", TRAINING_EVENTS.name, {"kind": RunEvent.TRAINED}),
        ("the gate passed it", TRAINING_EVENTS.name, {"kind": RunEvent.JUDGED}),
        ("it answered a share", SWAP_ACKS.name, {"arm": Arm.CANARY, "accepted": True}),
        ("it took over", SWAP_ACKS.name, {"arm": Arm.LIVE, "accepted": True}),
    ):
        event = story.find(topic, **fields)
        if event is not None:
            marks.append((words, event.at_s, event.sent))
    rows = [(a, b, b_s - a_s, b_n - a_n) for (a, a_s, a_n), (b, b_s, b_n) in pairwise(marks)]
    return [*rows, (marks[0][0], marks[-1][0], marks[-1][1] - marks[0][1], marks[-1][2] - marks[0][2])]
