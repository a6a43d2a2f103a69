"""Views in Faust, on a real broker: committed records only, each counted once, right again after kill -9 and after the group has
thrown the process out, and the same from each of two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_jobs.traffic.event_sources import Sender
from infra.local.processes import free_port
from infra.settings import ROOT
from schemas.codec import Encoder
from schemas.generated import ContentAction, UserEvent
from schemas.topics import CONTENT_ACTIONS, USER_EVENTS_VALID
from streams.clock import SystemClock
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.conftest import Servers
from tests.support.waiting import until

pytestmark = pytest.mark.real


class View:
    """One Faust process with its page."""

    def __init__(self, servers: Servers, folder: Path, number: int) -> None:
        self.port = free_port()
        env = {
            **os.environ,
            "MILLRACE_BOOTSTRAP": servers.bootstrap,
            "MILLRACE_REGISTRY": servers.registry,
            "MILLRACE_VIEWS_FOLDER": str(folder / f"view-{number}"),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-W", "ignore", "-m", "processors.views.faust_views", "worker", "--loglevel", "warn"]
        with (folder / "views.log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--web-port", str(self.port)], env=env, cwd=folder, stdout=log, stderr=log)

    def page(self, path: str) -> dict[str, Any] | None:
        """None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=3) as found:
                answer: dict[str, Any] = json.load(found)
                return answer
        except OSError:
            return None

    def strikes(self, author: str) -> list[str] | None:
        found = self.page(f"strikes/{author}")
        return None if found is None else found["content_ids"]

    def trends(self, ours: str) -> dict[str, int]:
        """Counts of the items whose names begin so."""
        found = self.page("trending?minutes=60&limit=1000") or {"items": []}
        return {one["name"]: one["count"] for one in found["items"] if one["name"].startswith(ours)}

    def counted(self, topic: str) -> int:
        found = self.page("counts") or {"counts": {}}
        return sum(found["counts"].get(topic, []))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(30)


class Actions:
    def __init__(self, servers: Servers) -> None:
        self._encoder = Encoder.of(CONTENT_ACTIONS, Registry(servers.registry))
        self._plain = KafkaSink(servers.address, None)
        self._transactional = KafkaSink(servers.address, f"test-{uuid.uuid4().hex[:8]}")

    def send(self, *said: tuple[str, str, str], aborted: bool = False) -> None:
        """(content, author, action), in one transaction: committed through no offsets, or aborted."""
        values = [
            self._encoder.encode_one(
                ContentAction(
                    content_id=content, author_id=author, action=action, decided_by="test", request_id="r", decided_ms=1
                )
            )
            for content, author, action in said
        ]
        records = OutRecords(CONTENT_ACTIONS.name, [content.encode() for content, _, _ in said], values, [[] for _ in said])
        if aborted:
            self._transactional.begin()
            self._transactional.produce(records)
            self._transactional.flush(20)
            self._transactional.abort(20)
        else:
            self._plain.produce(records)
            self._plain.flush(20)

    def close(self) -> None:
        self._plain.close()
        self._transactional.close()


@pytest.fixture
def views(servers: Servers, tmp_path: Path) -> Iterator[Any]:
    started: list[View] = []

    def start() -> View:
        started.append(View(servers, tmp_path, len(started)))
        return started[-1]

    yield start
    for view in started:
        view.stop()


def test_strikes_are_right_after_aborted_records_a_kill_and_with_two_processes(servers: Servers, views: Any) -> None:
    run = uuid.uuid4().hex[:6]
    authors = [f"{run}-{number}" for number in range(12)]
    actions = Actions(servers)
    try:
        first = views()
        actions.send(*((f"{a}-{i}", a, "remove") for a in authors for i in range(5)))
        actions.send(*((f"{a}-wrong", a, "remove") for a in authors), aborted=True)
        actions.send(*((f"{a}-0", a, "allow") for a in authors))
        expected = {a: sorted(f"{a}-{i}" for i in range(1, 5)) for a in authors}

        def right(view: View) -> bool:
            return all(view.strikes(author) == expected[author] for author in authors)

        until(lambda: right(first), 60, "strikes")

        first.process.kill()  # with what it had read and not yet committed
        actions.send(*((f"{a}-5", a, "remove") for a in authors))
        first.process.wait(30)
        second = views()
        actions.send(*((f"{a}-6", a, "remove") for a in authors))
        expected = {a: sorted(f"{a}-{i}" for i in range(1, 7)) for a in authors}
        until(lambda: right(second), 90, "strikes after kill -9")

        third = views()  # a second one beside it: each is whole, so nothing moves
        actions.send(*((f"{a}-1", a, "allow") for a in authors), *((f"{a}-7", a, "remove") for a in authors))
        expected = {a: sorted(f"{a}-{i}" for i in range(2, 8)) for a in authors}
        until(lambda: right(third) and right(second), 90, "strikes of two")
    finally:
        actions.close()


def test_trends_and_counts_are_right_after_aborted_records_a_kill_and_a_rebalance(servers: Servers, views: Any) -> None:
    run, clock = uuid.uuid4().hex[:6], SystemClock()
    plain, transactional = KafkaSink(servers.address, None), KafkaSink(servers.address, f"test-{run}")
    sent: Counter[str] = Counter()

    def send(n: int, sink: KafkaSink = plain, age_ms: int = 0) -> list[UserEvent]:
        now_ms = clock.now_ms()
        made = [
            UserEvent(
                event_id=uuid.uuid4().hex, user_id=f"u{i % 7}", item_id=f"{run}-{i % 5}", kind="view", event_ms=now_ms - age_ms
            )
            for i in range(n)
        ]
        Sender(sink, Registry(servers.registry), clock, "test").send(USER_EVENTS_VALID, made, "user_id")
        sink.flush(20)
        return made

    def expect(n: int) -> None:
        sent.update(str(event.item_id) for event in send(n))

    try:
        first = views()
        until(lambda: first.page("counts") is not None, 60, "the page")
        base = first.counted(USER_EVENTS_VALID.name)
        expect(40)
        send(30, age_ms=90 * 60_000)  # in the window before: counts as a record, and not as a trend
        transactional.begin()
        send(25, transactional)
        transactional.abort(20)
        until(lambda: first.trends(run) == sent, 60, "trends")
        first.process.send_signal(signal.SIGSTOP)  # until the group has gone on without it
        expect(35)
        time.sleep(14)
        first.process.send_signal(signal.SIGCONT)
        expect(20)
        until(lambda: first.trends(run) == sent, 90, "trends after a rebalance")
        first.process.kill()
        first.process.wait(30)
        expect(15)
        second = views()
        expect(10)
        until(lambda: second.trends(run) == sent, 90, "trends after kill -9")
        assert second.counted(USER_EVENTS_VALID.name) - base == sum(sent.values()) + 30
    finally:
        plain.close()
        transactional.close()
