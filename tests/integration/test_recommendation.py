"""Recommendation on real servers: a user's events change the next answer within seconds, items come and go, and no answer is lost
or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from feature_jobs.traffic.event_sources import Sender
from feature_jobs.traffic.generator import World
from infra.local import processes, redis
from infra.local.started import Started
from infra.settings import ROOT, StackSettings
from schemas.codec import Encoder, read_any
from schemas.generated import Item, RecommendationRequest, UserEvent, UserProfile
from schemas.topics import ITEMS, LABELS, RECOMMENDATION_REQUESTS, RECOMMENDATION_RESULTS, USER_EVENTS, USER_PROFILES
from streams import headers as h
from streams.client import connect
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from tests.chaos.stage import Worker
from tests.conftest import Servers
from tests.support.monitors import monitor
from tests.support.waiting import until
from training_triggers.trainers.recommending.event_log import read_log

pytestmark = pytest.mark.real
CLOCK = SystemClock()
CATALOGUE = World().catalogue(0)


class Shop:
    """The worker, what writes users' recent events, and the loop of labels, on the session's broker."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.servers, self._folder = servers, folder
        self.redis = redis.start_redis(folder, folder / "redis.log")
        self.sink = KafkaSink(servers.address, None)
        self.ids = self.registry()
        self.sender = Sender(self.sink, self.ids, CLOCK, "test")
        self.env = {
            "MILLRACE_REDIS": self.redis.address,
            "MILLRACE_RECOMMENDATION__EXPLORE_SHARE": "0",
            "MILLRACE_ATTRIBUTION_WINDOW_S": "2",
        }
        self.sender.send(ITEMS, CATALOGUE, "item_id")  # as the generator does: the topic is the catalogue
        self.sender.flush()
        self.loops: list[Started] = []
        self.worker = self.start_worker()
        for name, words in (("processors", ["validate", "attribution"]), ("feature_jobs", ["serve", "recent-sink"])):
            self.loops.append(self._start(name, words))
        self.worker.wait_assigned()
        for loop in self.loops:
            processes.wait_until(lambda loop=loop: b'"event": "assigned"' in Path(loop.log).read_bytes(), loop, 40)  # type: ignore[misc]

    def registry(self) -> Any:
        from streams.schema_registry import Registry

        return Registry(self.servers.registry)

    def _start(self, module: str, words: list[str]) -> Started:
        command = [sys.executable, "-m", module, *words, "--slot", "7"]
        addresses = {"MILLRACE_BOOTSTRAP": self.servers.bootstrap, "MILLRACE_REGISTRY": self.servers.registry}
        return processes.start(
            module, command, self._folder / f"{module}.log", {**addresses, "PYTHONPATH": str(ROOT), **self.env}
        )

    def start_worker(self) -> Worker:
        log = self._folder / "worker.log"
        return Worker(self.servers.bootstrap, self.servers.registry, log, 7, ("recommendation",), **self.env)

    def ask(self, user: str, **fields: Any) -> dict[str, Any]:
        async def go() -> dict[str, Any]:
            async with connect(self.servers.bootstrap, self.servers.registry) as client:
                return await client.request("recommendation", {"user_id": user, **fields}, deadline_ms=30_000)

        return asyncio.run(go())

    def did(self, user: str, *items: str, kind: str = "view") -> None:
        now_ms = CLOCK.now_ms()
        events = [UserEvent(event_id=uuid7(now_ms), user_id=user, kind=kind, item_id=item, event_ms=now_ms) for item in items]
        self.sender.send(USER_EVENTS, events, "user_id")
        self.sender.flush()

    def item(self, item_id: str, record: Item | None) -> None:
        value = None if record is None else Encoder.of(ITEMS, self.ids).encode_one(record)
        self.sink.produce(OutRecords(ITEMS.name, [item_id.encode()], [value], [[]]))
        self.sink.flush(20)

    def until_answer(self, user: str, holds: Callable[[dict[str, Any]], object], **fields: Any) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []

        def asked() -> bool:
            answers.append(self.ask(user, **fields))
            return bool(holds(answers[-1]))

        until(asked, 20, lambda: f"{answers[-1]}\n{self.worker.log_tail()}")
        return answers[-1]

    def results(self) -> list[dict[str, Any]]:
        reader = KafkaBroadcast(self.servers.address, RECOMMENDATION_RESULTS.name, CLOCK)
        values = reader.read_to_end(20).values
        reader.close()
        return [read_any(value, self.ids) for value in values]

    def close(self) -> None:
        self.worker.stop()
        for process in (*self.loops, self.redis):
            processes.stop(process)
        self.sink.close()


@pytest.fixture(scope="module")
def shop(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(servers, tmp_path_factory.mktemp("recommendation"))
    try:
        yield made
    finally:
        made.close()


def items_of(result: dict[str, Any]) -> list[str]:
    assert result["status"] == "ok", result
    return [item["item_id"] for item in result["items"]]


def share(result: dict[str, Any], category: str) -> float:
    return float(np.mean([item["category"] == category for item in result["items"]]))


def test_what_a_user_did_seconds_ago_is_left_out_and_what_is_like_it_rises(shop: Shop) -> None:
    before = shop.ask("ada", limit=20)
    assert (before["basis"], before["seen"], len(items_of(before))) == ("popular", 0, 20)
    assert before["models"][0]["name"] == "recommendation" and before["index_items"] >= 500
    rare = min({item.category for item in CATALOGUE}, key=lambda category: share(before, category))
    liked = [item.item_id for item in CATALOGUE if item.category == rare][:6]
    shop.did("ada", *liked)
    after = shop.until_answer("ada", lambda answer: answer["seen"] == len(liked), limit=20)
    assert after["basis"] == "history"
    assert not set(liked) & set(items_of(after))
    assert share(after, rare) > share(before, rare) + 0.2
    assert any("lately" in item["reason"] for item in after["items"])
    (recent,) = [value for value in after["feature_values"] if value["name"] == "user_recent.events"]
    assert recent["value"] == "6 events" and CLOCK.now_ms() - recent["event_time_ms"] < 60_000


def test_an_item_that_is_new_appears_and_one_that_is_removed_vanishes(shop: Shop) -> None:
    new = Item(item_id="i-new", title="Enamel kettle", category="a new category", price_cents=2_499, updated_ms=CLOCK.now_ms())
    shop.item("i-new", new)
    wanted = {"categories": ["a new category"], "limit": 5}
    found = shop.until_answer("bob", items_of, **wanted)
    assert items_of(found) == ["i-new"] and found["items"][0]["title"] == "Enamel kettle"
    shop.item("i-new", None)
    shop.until_answer("bob", lambda answer: not items_of(answer), **wanted)


def test_a_worker_that_is_killed_leaves_one_result_for_each_request(shop: Shop) -> None:
    encoder, n = Encoder.of(RECOMMENDATION_REQUESTS, shop.ids), 60
    users = [f"many-{i}" for i in range(n)]
    values = [encoder.encode_one(RecommendationRequest(user_id=user, limit=5)) for user in users]
    headers = h.cloud_event([uuid7(CLOCK.now_ms()) for _ in users], "recommendation-request", "test")
    for at in range(0, n, 20):
        out = OutRecords(
            RECOMMENDATION_REQUESTS.name,
            [user.encode() for user in users[at : at + 20]],
            values[at : at + 20],
            headers[at : at + 20],
        )
        shop.sink.produce(out)
        shop.sink.flush(20)
        if at == 20:
            os.kill(shop.worker.process.pid, signal.SIGKILL)
            shop.worker.wait_dead()
            shop.worker = shop.start_worker()
    counted: Counter[str] = Counter()

    def all_there() -> bool:
        counted.clear()
        counted.update(result["user_id"] for result in shop.results() if result["user_id"] in users)
        return len(counted) == n

    until(all_there, 60, lambda: f"{len(counted)} of {n}\n{shop.worker.log_tail()}")
    assert set(counted.values()) == {1}


def test_what_comes_of_a_recommendation_is_its_label_and_on_the_users_page(shop: Shop, tmp_path: Path) -> None:
    answer = shop.ask("cleo", limit=5)
    shown = items_of(answer)
    shop.did("cleo", shown[1], "i-499")
    labels: dict[str, dict[str, Any]] = {}

    def labelled() -> bool:
        reader = KafkaBroadcast(shop.servers.address, LABELS.name, CLOCK)
        for value in reader.read_to_end(20).values:
            label = read_any(value, shop.ids)
            labels[label["request_id"]] = label
        reader.close()
        return answer["request_id"] in labels

    until(labelled, 30, lambda: f"{len(labels)} labels\n{processes.log_tail(Path(shop.loops[0].log))}")
    label = labels[answer["request_id"]]
    assert (label["task"], label["truth"], label["source"]) == ("recommendation", {"engaged": True}, "user events")
    assert label["parts"] == {shown[1]: {"engaged": True, "purchased": False}}
    known = StackSettings(home=str(tmp_path), bootstrap=shop.servers.bootstrap, registry=shop.servers.registry)
    with monitor(known, shop.servers.address, shop.ids) as (site, _):
        (seen,) = site.get("/api/users/cleo/recommendations")["answers"]
        assert site.get(f"/api/users/{quote('<b>', safe='')}/recommendations") == {"answers": [], "cut": ""}
    assert (seen["request_id"], seen["engaged"], seen["note"]) == (answer["request_id"], True, f"{shown[1]}: view")
    assert [item["item_id"] for item in seen["items"] if item["followed"]] == [shown[1]]


def test_a_trainer_reads_the_log_with_catalogue_and_profiles(shop: Shop) -> None:
    shop.sender.send(USER_PROFILES, [UserProfile(user_id="dora", age=33, country="PT", updated_ms=CLOCK.now_ms())], "user_id")
    shop.did("dora", "i-7", "i-no-longer-there")
    shop.did("dora", "i-8", kind="cart")
    shop.until_answer("dora", lambda answer: answer["seen"] == 3)
    found = read_log(shop.servers.address, shop.ids)
    number = found.users.index("dora")
    part = slice(found.starts[number], found.starts[number + 1])
    assert [found.items.ids[row] for row in found.item[part]] == ["i-7", "i-8"], "the catalogue does not have the other one"
    assert found.profiles[number] == {"age": 33, "country": "PT"} and len(found.items.ids) >= len(CATALOGUE)
    assert abs(found.time_s[part][-1] - CLOCK.now_ms() / 1000) < 120


def test_requests_that_cannot_be_answered_say_why(shop: Shop) -> None:
    for limit in (0, 10_000):
        result = shop.ask("ada", limit=limit)
        assert (result["status"], result["error_code"]) == ("failed", "invalid")
        assert result["error_message"] == f"limit is {limit}; it must be from 1 to 500"


def test_send_prints_a_table(shop: Shop, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra", "send", "recommendation", "--user", "ada", "--limit", "3"]
    env = {
        "MILLRACE_BOOTSTRAP": shop.servers.bootstrap,
        "MILLRACE_REGISTRY": shop.servers.registry,
        "MILLRACE_HOME": str(tmp_path),
    }
    done = subprocess.run(command, env={**os.environ, **env}, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 items for ada" in done.stdout and "why" in done.stdout and "recommendation 1" in done.stdout


def test_without_the_store_the_answer_is_by_popularity_and_says_so(shop: Shop) -> None:
    os.kill(shop.redis.pid, signal.SIGSTOP)
    try:
        found = shop.ask("ada", limit=5)
    finally:
        os.kill(shop.redis.pid, signal.SIGCONT)
    assert (found["basis"], len(items_of(found))) == ("popular", 5)
    assert found["notes"][0].startswith("the online store did not answer: user_features and user_recent are unknown")
    shop.until_answer("ada", lambda answer: answer["basis"] == "history" and not answer["notes"])
