"""Who may do what in the monitor: which topics a token writes, whose name a record bears, what is audited, what a letter is sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from infra import audit, redact
from infra.audit import Audit, Position
from infra.monitor import letters, permits, pipeline, transact
from infra.monitor.letters import Letter
from infra.monitor.reading import browse
from infra.monitor.redrive import Order, RedriveRun, Redrives
from infra.monitor.safety import Actor, NotAllowed
from infra.monitor.transact import Transactions
from infra.monitor.watching.story import Story
from infra.settings import StackSettings
from schemas import avro
from schemas.codec import read_any
from schemas.errors import Fenced, InvalidRequest, TransactionAborted
from schemas.topics import AUDIT, CATALOGUE, LABELS
from streams import headers as h
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.rows import OutRecords, Polled
from streams.schema_registry import MemoryRegistry

ADA = Actor("ada", "operator")
DEAD = "content-v1-moderation-dlq"

# --- what a token writes ------------------------------------------------------------------------------------------------

OPEN = {
    "content-v1",
    "labels-v1",
    "vision-requests-v1",
    "translation-requests-v1",
    "transcription-requests-v1",
    "recommendation-requests-v1",
    "chat-requests-v1",
    "chat-controls-v1",
    "user-events-v1",
    "user-profiles-v1",
    "items-v1",
}


@pytest.mark.parametrize("topic", [one.name for one in pipeline.catalogue()])
def test_a_token_produces_to_what_people_outside_write_and_to_nothing_else(topic: str) -> None:
    if topic in OPEN:
        assert permits.producible(topic).name == topic
        return
    with pytest.raises(NotAllowed, match="no token produces"):
        permits.producible(topic)


def test_the_open_topics_are_the_catalogues() -> None:
    """A new topic is closed, until its writers say that people outside write it."""
    assert {topic.name for topic in CATALOGUE if {"producers", "clients"} & set(topic.writers)} == OPEN
    with pytest.raises(InvalidRequest):
        permits.producible("of-nobody-v1")


def test_a_dead_letter_is_mended_only_where_its_record_could_be_produced() -> None:
    for dead, taken in letters.by_topic().items():
        assert (permits.unmendable(dead) is None) == (taken.topic.name in OPEN), dead


def test_a_label_is_written_in_the_name_of_who_writes_it() -> None:
    assert permits.signed(LABELS.name, {"task": "moderation"}, "ada") == {"task": "moderation", "actor": "ada"}
    assert permits.signed(LABELS.name, {"actor": "ada"}, "ada") == {"actor": "ada"}
    assert permits.signed("content-v1", {"actor": "bob"}, "ada") == {"actor": "bob"}
    with pytest.raises(NotAllowed, match="'ada'"):
        permits.signed(LABELS.name, {"actor": "the chief reviewer"}, "ada")


@pytest.mark.parametrize("header", h.CATALOGUE, ids=lambda one: one.name)
def test_a_header_that_our_own_processes_write_is_not_taken_from_a_form(header: h.Header) -> None:
    clients = header.name in {h.CE_ID, h.TRACEPARENT, h.DEADLINE_MS, h.PRIORITY, h.REPLY_TO}
    if clients:
        permits.headers([header.name, "own"])
        return
    with pytest.raises(NotAllowed, match=header.name):
        permits.headers([header.name])


# --- a broker in memory, for transactions -------------------------------------------------------------------------------


class Log:
    """Topics in memory, with one transactional id that whoever opens it takes."""

    def __init__(self) -> None:
        self.ids = MemoryRegistry()
        self.ids.register(AUDIT.subject, avro.schema("audit-entry"))
        self.records: list[OutRecords] = []
        self.epoch = 0
        self.before_commit: Callable[[], None] = lambda: None

    def entries(self) -> list[dict[str, Any]]:
        return [read_any(one.values[0], self.ids) for one in self.records if one.topic == AUDIT.name]

    def on(self, topic: str) -> list[dict[str, bytes]]:
        return [dict(found) for one in self.records if one.topic == topic for found in one.headers]


class FakeSink:
    log: Log

    def __init__(self, address: KafkaAddress, transactional_id: str | None) -> None:
        self._fenced_by = None if transactional_id is None else self.log.epoch + 1
        if self._fenced_by is not None:
            self.log.epoch = self._fenced_by
        self._open: list[OutRecords] | None = None

    def begin(self) -> None:
        self._open = []

    def produce(self, out: OutRecords) -> None:
        (self.log.records if self._open is None else self._open).append(out)

    def commit_records(self, limit_s: float) -> None:
        self.log.before_commit()
        if self._fenced_by != self.log.epoch:
            raise Fenced("a newer producer has the id")
        assert self._open is not None
        self.log.records += self._open
        self._open = None

    def flush(self, limit_s: float) -> None: ...
    def close(self) -> None: ...
    def failed_topics(self) -> set[str]:
        return set()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(FakeSink, "log", made, raising=False)
    monkeypatch.setattr(transact, "KafkaSink", FakeSink)
    monkeypatch.setattr("streams.kafka.write.KafkaSink", FakeSink)

    def all_redriven(*_: Any) -> set[Position]:
        return {one for entry in made.entries() for one in audit.redriven(entry)}

    def raw(address: Any, wanted: dict[tuple[str, int], list[int]]) -> Polled:
        rows = [(place, offset) for place, offsets in wanted.items() for offset in offsets]
        n = len(rows)
        return Polled([p for p, _ in rows], [o for _, o in rows], [b"k"] * n, [b"v"] * n, [[]] * n, [1] * n)

    monkeypatch.setattr(transact, "all_redriven", all_redriven)
    monkeypatch.setattr(browse, "raw", raw)
    return made


class Desk:
    """The redrives of one monitor, which has read nothing since it began."""

    def __init__(self, log: Log) -> None:
        clock, address = SystemClock(), KafkaAddress(bootstrap="nowhere")
        self.transactions = Transactions(address, Audit(address, log.ids, clock, "monitor"))
        self.redrives = Redrives(address, log.ids, clock, Story(), self.transactions, Event())  # type: ignore[arg-type]

    def run(self, chosen: list[Letter], rate: float = 10_000.0) -> RedriveRun:
        self.redrives.begin(chosen, Order({}, rate, ADA, ""))
        return self.wait()

    def wait(self) -> RedriveRun:
        until = time.monotonic() + 30
        while (run := self.redrives.run()) is not None and run.state == "running" and time.monotonic() < until:
            time.sleep(0.005)
        assert run is not None
        return run


def _letters(n: int) -> list[Letter]:
    return [Letter((DEAD, 0, i), 1, "k", "moderation", "poison", "", "task", "w", "o", 0, 0, "r", 1) for i in range(n)]


RETRY = "content-v1-moderation-retry-1s"


def test_a_letter_that_is_named_twice_is_sent_once(log: Log) -> None:
    some = _letters(130)
    desk = Desk(log)
    assert desk.redrives.plan([some[0], some[0]], {}).targets == {RETRY: 1}
    run = desk.run([some[0], *some[1:], some[0]])
    assert (run.done, run.n, run.state) == (130, 130, "done")
    assert len(log.on(RETRY)) == 130


def test_two_monitors_whose_plans_were_made_together_send_each_letter_once(log: Log) -> None:
    some = _letters(3)
    one, other = Desk(log), Desk(log)
    assert len(one.redrives.plan(some, {}).ready) == len(other.redrives.plan(some, {}).ready) == 3
    assert one.run(some).done == 3
    run = other.run(some)  # it has not read of it
    assert (run.done, run.state) == (0, "done")
    assert "another monitor" in run.words
    assert len(log.on(RETRY)) == 3


def test_what_is_fenced_is_not_written_again_unasked(log: Log) -> None:
    some = _letters(3)
    one, other = Desk(log), Desk(log)
    seen: list[RedriveRun] = []

    def meanwhile() -> None:
        log.before_commit = lambda: None  # the other one's own commit
        seen.append(other.run(some))

    log.before_commit = meanwhile
    run = one.run(some)
    assert (run.state, run.done) == ("failed", 0)
    assert "another monitor" in run.words
    assert seen[0].done == 3
    assert len(log.on(RETRY)) == 3
    log.before_commit = lambda: None
    assert one.run(some).done == 0  # asked again, it looks first
    assert len(log.on(RETRY)) == 3


def test_a_commit_whose_end_is_not_known_is_looked_up_before_the_letter_goes_again(log: Log) -> None:
    some, original = _letters(1), FakeSink.commit_records

    def commits_and_is_cut_off(sink: FakeSink, limit_s: float) -> None:
        original(sink, limit_s)
        raise TransactionAborted("no answer", indefinite=True)

    desk = Desk(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeSink, "commit_records", commits_and_is_cut_off)
        assert desk.run(some).state == "failed"
    assert desk.run(some).done == 0
    assert len(log.on(RETRY)) == 1


# --- the audit ----------------------------------------------------------------------------------------------------------


def _audit(log: Log) -> Audit:
    return Audit(KafkaAddress(bootstrap="nowhere"), log.ids, SystemClock(), "monitor")


def test_an_act_has_a_line_before_it_and_one_with_its_outcome(log: Log) -> None:
    found = _audit(log)
    seen: list[list[str]] = []
    entry = found.entry("ada", "releaser", "promote", "moderation-text", "2: better")

    def act() -> int:
        seen.append([one["outcome"] for one in log.entries()])
        return 7

    assert found.around(entry, act) == 7
    assert seen == [["begun"]]
    assert [one["outcome"] for one in log.entries()] == ["begun", "done"]
    assert len({one["audit_id"] for one in log.entries()}) == 1


@pytest.mark.parametrize("error", [InvalidRequest("no such version"), KeyboardInterrupt()])
def test_an_act_that_fails_says_so_and_never_ends_without_a_line(log: Log, error: BaseException) -> None:
    found = _audit(log)

    def act() -> None:
        raise error

    with pytest.raises(type(error)):
        found.around(found.entry("ada", "releaser", "promote", "m", "why"), act)
    assert [one["outcome"].partition(":")[0] for one in log.entries()] == ["begun", "failed"]


def test_an_act_whose_first_line_cannot_be_written_is_not_done(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    found, done = _audit(log), []

    def broken(sink: FakeSink, limit_s: float) -> None:
        raise TransactionAborted("no broker")

    monkeypatch.setattr(FakeSink, "flush", broken)
    with pytest.raises(TransactionAborted):
        found.around(found.entry("ada", "releaser", "promote", "m", "why"), lambda: done.append(1))
    assert done == []


@pytest.mark.parametrize(("code", "outcome"), [(0, "done"), (3, "failed: exit code 3")])
def test_the_command_lines_acts_are_in_the_audit_too(log: Log, monkeypatch: pytest.MonkeyPatch, code: int, outcome: str) -> None:
    monkeypatch.setattr(audit, "addresses", lambda settings: (KafkaAddress(bootstrap="nowhere"), log.ids))
    seen: list[str] = []

    def act() -> int:
        seen.extend(one["outcome"] for one in log.entries())
        return code

    words = "https://me:s3cret@h/model: better"
    assert audit.by_hand(StackSettings(home="/nowhere"), "promote", "moderation-text", words, act) == code
    assert seen == ["begun"]
    assert [one["outcome"] for one in log.entries()] == ["begun", outcome]
    assert {(one["role"], one["words"]) for one in log.entries()} == {("command line", "https://h/model: better")}


def test_two_lines_of_one_act_are_one_entry_with_its_outcome(log: Log) -> None:
    found, story = _audit(log), Story()
    entry = found.entry("ada", "releaser", "promote", "m", "why")
    with pytest.raises(InvalidRequest):
        found.around(entry, lambda: (_ for _ in ()).throw(InvalidRequest("no")), story.audited)
    lines = [one for one in log.records if one.topic == AUDIT.name]
    for number, line in enumerate(lines):  # and once more, as they are read from the topic
        story.take(Polled([(AUDIT.name, 0)], [number], [b""], [line.values[0]], [None], [1]), log.ids)
    (shown,) = story.of(AUDIT.name)
    assert (shown["outcome"], shown["actor"]) == ("failed: no", "ada")
    assert shown["begun_ms"] <= shown["at_ms"]


@pytest.mark.parametrize("text", ["", "a", "a/b/c", "a/1/x", "a/1/²", "a/-1/2", "/1/2", "a/1/2/3", "a/1/" + "9" * 30, "a//1"])
def test_a_position_that_is_none_is_passed_over(text: str) -> None:
    assert audit.position_of(text) is None
    line = {"action": "redrive", "outcome": "done", "positions": [text, "t/1/2", None, 7]}
    assert audit.redriven(line) == [("t", 1, 2)]


# --- secrets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("redis://user:s3cret@127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:s3cret@h/0", "redis://h/0"),
        ("at https://me:s3cret@h:8083/connectors: refused", "at https://h:8083/connectors: refused"),
        ("http://u:s3@cr/et@h/x", "http://h/x"),
        ("jdbc:postgresql://h/db?user=me&password=s3cret&x=1", "jdbc:postgresql://h/db?user=me&password=***&x=1"),
        ('sasl.jaas.config=X required username="a" password="s3cret";', 'sasl.jaas.config=X required username="a" password=***;'),
        ('{"note.password": "s3cret", "n": 1}', '{"note.password": ***, "n": 1}'),
        ("AWS_SECRET_ACCESS_KEY=s3cret", "AWS_SECRET_ACCESS_KEY=***"),
        ("this needs a token: `./millrace monitor --tokens`", "this needs a token: `./millrace monitor --tokens`"),
        ("http://127.0.0.1:8083", "http://127.0.0.1:8083"),
        ("models:/m@champion", "models:/m@champion"),
    ],
)
def test_secrets_are_taken_out_of_what_is_shown(words: str, shown: str) -> None:
    assert redact.text(words) == shown
    assert "s3cret" not in str(redact.tree({"a": [words], "password": "s3cret", "n": 1}))
