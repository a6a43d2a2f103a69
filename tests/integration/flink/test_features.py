"""Features end to end on the real stack: every process killed under load, then both stores beside one pass over the raw events."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_jobs.offline.feast_store import feature_store, names_of
from feature_jobs.offline.lake import values_at
from feature_jobs.traffic.event_sources import Sender
from feature_jobs.traffic.generator import World
from infra.local import run_state as state
from infra.local import tls
from processors.features.feature_blob import EntityValues, Freshness, pack, unpack
from processors.features.online_store import RedisStore
from processors.features.validate import Validation
from processors.processor_loops import plans
from processors.settings import ProcessorSettings
from schemas.codec import Encoder
from schemas.durations import DAY_MS
from schemas.features import ITEM, LATENESS_MS, USER, View
from schemas.generated import Item, UserEvent, UserProfile
from schemas.topics import CATALOGUE, LATE_EVENTS, USER_EVENTS, USER_EVENTS_VALID, USER_PROFILES, VALIDATE
from streams.broker import Commit
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.readback import first_times
from streams.kafka.sink import KafkaSink
from streams.loop.batching import CostLine
from streams.loop.step import BatchStep
from streams.metrics import Metrics
from streams.murmur2 import partition_of
from streams.process.wiring import Surroundings
from streams.rows import OutRecords
from tests.support.brute_features import differences, item_values, user_values
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
SETTLE_LIMIT_S = 180.0


def test_flink_adds_no_schema_to_the_registry(stack: Stack) -> None:
    """It posts its schema at each start of a job: what it posts is what provisioning registered."""
    wanted = {topic.subject for topic in CATALOGUE if topic.record is not None}
    assert set(stack.registry.subjects()) == wanted
    for subject in wanted:
        assert stack.registry._call("GET", f"/subjects/{subject}/versions") == [1], subject


class Traffic:
    """Events that hold, mixed with some that do not; and what must come of them."""

    def __init__(self, now_ms: int, seed: int = 3) -> None:
        chance, world = random.Random(seed), World(users=120, items=40, seed=seed)
        self.profiles, self.items = world.profiles(now_ms), world.catalogue(now_ms)
        good = list(world.events(now_ms - 6 * 3_600_000, now_ms, per_s=0.4))
        ancient = [replace(e, event_id=f"late-{i}", event_ms=e.event_ms - LATENESS_MS - DAY_MS) for i, e in enumerate(good[:40])]
        wrong = [replace(e, event_id=f"wrong-{i}", quantity=-1) for i, e in enumerate(good[40:70])]
        ahead = [replace(e, event_id=f"ahead-{i}", event_ms=now_ms + 2 * 3_600_000) for i, e in enumerate(good[70:90])]
        self.repeats = chance.sample(good, 60)
        self.valid, self.late, self.impossible = good, ancient, [*wrong, *ahead]
        self.sent = [*good, *ancient, *wrong, *ahead]
        chance.shuffle(self.sent)

    def by(self, key: str) -> dict[str, list[UserEvent]]:
        found: dict[str, list[UserEvent]] = defaultdict(list)
        for event in self.valid:
            if getattr(event, key) is not None:
                found[getattr(event, key)].append(event)
        return found


@pytest.fixture(scope="module")
def traffic(stack: Stack) -> Traffic:
    """Sent while every process is killed in turn; one partition is held back for longer than all of that, and comes last."""
    made = Traffic(SystemClock().now_ms())
    sink = KafkaSink(stack.address, None)
    sender = Sender(sink, stack.registry, SystemClock(), "test")
    sender.people_and_things(made.profiles[::2], made.items)
    profiles_of_another_rule(stack, sink, made.profiles[1::2])
    held = [e for e in made.sent if partition_of(e.user_id.encode(), USER_EVENTS.partitions) == 1]
    rest = [e for e in made.sent if partition_of(e.user_id.encode(), USER_EVENTS.partitions) != 1]
    abort_valid_events(stack, rest[:50])
    sink.produce(OutRecords(USER_EVENTS.name, [b"u-1"] * 3, [b"", b"\x00\x00\x00\x00\x07junk", b"text"], [[], [], []]))
    victims = [
        "taskmanager",
        "user-sink-0",
        "validate+timely-0",
        "jobmanager",
        "item-sink-0",
        "redis",
        "archive-0",
    ]
    size = len(rest) // (2 * len(victims)) + 1
    for number, at in enumerate(range(0, len(rest), size)):
        sender.send(USER_EVENTS, rest[at : at + size], "user_id")
        sender.flush()
        time.sleep(1.5)
        if number % 2 == 0 and number // 2 < len(victims):
            stack.kill(victims[number // 2])
    sender.send(USER_EVENTS, [*held, *made.repeats], "user_id")
    sender.flush()
    sink.close()
    until(
        lambda: counted(stack) >= len(made.valid),
        SETTLE_LIMIT_S,
        lambda: f"{counted(stack)} of {len(made.valid)} in tiles\n{stack.log_tails()}",
    )
    until(lambda: archived(stack) >= len(made.valid), 60, lambda: f"{archived(stack)} archived\n{stack.log_tails()}")
    return made


def profiles_of_another_rule(stack: Stack, sink: KafkaSink, profiles: list[UserProfile]) -> None:
    """From a client that parts keys by another rule than ours: never where the user's events lie."""
    encoder = Encoder.of(USER_PROFILES, stack.registry)
    keys = [profile.user_id.encode() for profile in profiles]
    elsewhere = [(partition_of(key, USER_PROFILES.partitions) + 1) % USER_PROFILES.partitions for key in keys]
    sink.produce(OutRecords(USER_PROFILES.name, keys, list(map(encoder.encode_one, profiles)), [[]] * len(keys), elsewhere))


def test_nobody_without_the_stacks_key_hands_code_to_the_cluster(stack: Stack) -> None:
    """A page of another site may send such a form to loopback, and every account of the machine may connect to it."""
    manager = state.read(stack.home / "run").find("jobmanager")
    assert manager is not None
    form = b'--b\r\nContent-Disposition: form-data; name="jarfile"; filename="x.jar"\r\n\r\nPK\r\n--b--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b", "Origin": "http://evil.example", "Host": "evil.example"}
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    for address in (manager.address, manager.address.replace("https", "http")):
        for path, body in (("/jars/upload", form), ("/jobs", form), ("/jobs/overview", None)):
            refused(urllib.request.Request(address + path, body, kind), anybody)  # not let in, in whatever words
    ours = tls.keys(stack.home / "run").context()
    refusal = refused(urllib.request.Request(f"{manager.address}/jars/upload", form, kind), ours)
    assert isinstance(refusal, urllib.error.HTTPError)  # nor with the key: jobs are submitted whole, by the supervisor
    assert refusal.code in (400, 404, 405, 500)  # the path is not there
    conf = stack.home / "run" / "flink" / "conf" / "config.yaml"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600


def refused(request: urllib.request.Request, keys: ssl.SSLContext) -> Exception:
    with pytest.raises((urllib.error.URLError, ConnectionError, ssl.SSLError, http.client.HTTPException)) as raised:
        urllib.request.urlopen(request, timeout=30, context=keys)
    if isinstance(raised.value, urllib.error.HTTPError):
        raised.value.close()
    return raised.value


def abort_valid_events(stack: Stack, events: list[UserEvent]) -> None:
    """Validated events of a transaction that is aborted: nobody may count them."""
    sink = KafkaSink(stack.address, f"test-{uuid7(1)}")
    sender = Sender(sink, stack.registry, SystemClock(), "test")
    sink.begin()
    sender.send(USER_EVENTS_VALID, [replace(e, event_id=f"aborted-{e.event_id}") for e in events], "user_id")
    sink.flush(20)
    sink.abort(20)
    sink.close()


def counted(stack: Stack) -> int:
    """Events in the newest version of every tile."""
    newest: dict[tuple[Any, ...], int] = {}
    for tile in stack.records("user-features-v1"):
        key = (tile["user_id"], tile["tile_start_ms"], tile["session_id"], tile["item_id"])
        newest[key] = max(newest.get(key, 0), tile["n"])
    return sum(newest.values())


def archived(stack: Stack) -> int:
    from feature_jobs.offline.archive import EVENTS
    from streams.archived.manifests import manifests

    return sum(manifest["rows"] for manifest in manifests(stack.lake / EVENTS))


def online(stack: Stack, view: View, ids: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Values, and the instants for which they were computed."""
    names = [f.name for f in view.features]
    store = RedisStore(stack.redis, 5.0)
    served = unpack(view, store.read(view, ids), names, SystemClock().now_ms(), 5_000)
    store.close()
    values = {
        one: {name: plain(served.values[name][row]) for name in names}
        for row, one in enumerate(ids)
        if served.state[row] == Freshness.FRESH
    }
    return values, {one: int(served.changed_ms[row]) for row, one in enumerate(ids)}


def plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def test_every_event_ended_in_one_place(stack: Stack, traffic: Traffic) -> None:
    valid = Counter(record["event_id"] for record in stack.records(USER_EVENTS_VALID.name))
    assert valid == Counter(e.event_id for e in traffic.valid)
    assert counted(stack) == len(traffic.valid), "as many in tiles as went on, none twice"
    assert Counter(r["event_id"] for r in stack.records(LATE_EVENTS.name)) == Counter(e.event_id for e in traffic.late)
    reader = KafkaBroadcast(stack.address, VALIDATE.dead_letter_topic, SystemClock())
    letters = reader.read_to_end(60)
    reader.close()
    codes = Counter(dict(headers or ())["error-code"].decode() for headers in letters.headers)
    assert codes == {"undecodable": 3, "impossible": len(traffic.impossible), "repeated": len(traffic.repeats)}


def test_the_dedupe_window_ends_at_the_next_record_not_now(stack: Stack, traffic: Traffic) -> None:
    """A process that stood still for longer than its window knows what came just before the record that it goes on with."""
    settings = ProcessorSettings(bootstrap=stack.address.bootstrap, registry=stack.registry.url, dedupe_window_s=1)
    begun, time_s = KafkaAdmin(stack.address).firsts([(USER_EVENTS.name, 0)]), SystemClock().now_ms() / 1000
    (first_ms,) = first_times(stack.address, begun, SystemClock()).values()
    assert time_s - first_ms / 1000 > 5
    side = KafkaSink(stack.address, None)
    given = Surroundings(stack.address, stack.registry, SystemClock(), "test", Metrics(), side, CostLine())
    step = plans(settings)["validate"].build(given)
    assert isinstance(step, BatchStep)
    validation = step.processor
    assert isinstance(validation, Validation)
    validation.restore({place: Commit(offset) for place, offset in begun.items()})
    assert len(validation._seen) > 10
    ends = KafkaAdmin(stack.address).ends(list(begun))
    assert first_times(stack.address, ends, SystemClock()) == {}, "nothing is to be read: the window ends now"


@pytest.mark.parametrize("view", [USER, ITEM], ids=lambda view: view.name)
def test_both_stores_hold_what_one_pass_over_the_raw_events_gives(stack: Stack, traffic: Traffic, view: View) -> None:
    events = traffic.by(f"{view.entity}_id")
    known: dict[str, Any] = {p.user_id: p for p in traffic.profiles} if view is USER else {i.item_id: i for i in traffic.items}
    expected = user_values if view is USER else item_values
    ids = sorted(events)

    def wrong() -> dict[str, Any]:
        values, at_ms = online(stack, view, ids)
        found = {
            one: "absent" if one not in values else differences(values[one], expected(events[one], at_ms[one], known.get(one)))
            for one in ids
        }
        return {one: what for one, what in found.items() if what}

    until(lambda: not wrong(), 60, lambda: str(dict(list(wrong().items())[:3])))
    at_ms = SystemClock().now_ms()
    attributes = {one: vars_of(record) for one, record in known.items()}
    offline = values_at(stack.lake, view, at_ms, attributes)
    assert {one: differences(offline[one], expected(events[one], at_ms, known.get(one))) for one in ids} == {
        one: {} for one in ids
    }
    assert set(offline) == set(ids)


def vars_of(record: UserProfile | Item) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def test_feast_reads_the_same_blobs(stack: Stack, traffic: Traffic) -> None:
    ids = sorted(traffic.by("user_id"))[:20]
    store = feature_store(stack.lake, stack.redis)
    rows = [*({"user_id": one} for one in ids), {"user_id": "nobody"}]
    found = store.get_online_features(features=names_of([USER]), entity_rows=rows).to_dict()
    values, _ = online(stack, USER, ids)
    for row, one in enumerate(ids):
        assert {f.name: found[f.name][row] for f in USER.features} == values[one]
    assert {found[f.name][-1] for f in USER.features} == {None}


def test_parity_says_that_both_stores_agree_and_sees_when_they_do_not(stack: Stack, traffic: Traffic) -> None:
    done = stack.run("features", "parity", "--sample", "1000", "--json")
    users, items = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, users["different"], items["different"]) == (0, {}, {}), done.stdout + done.stderr
    assert users["entities"] == users["sampled"] == len(traffic.by("user_id"))
    store, some = RedisStore(stack.redis, 5.0), sorted(traffic.by("user_id"))[0]
    (blob,) = store.read(USER, [some])
    assert blob is not None
    wrong: dict[str, Any] = {f.name: f.default for f in USER.features}
    served = unpack(USER, [blob], ["last_seen_ms", "events_7d"], 0, 0)
    wrong |= {name: plain(served.values[name][0]) for name in served.values}
    now_ms = SystemClock().now_ms()
    assert store.write(USER, {some: pack(USER, EntityValues((0, 0), now_ms, None, now_ms, wrong, 9_999))}) == []
    done = stack.run("features", "parity", "--sample", "1000", "--json")
    assert (done.returncode, json.loads(done.stdout.splitlines()[0])["agrees"]) == (1, False)
    done = stack.run("features", "clear", "user", "--json")
    assert json.loads(done.stdout)["removed"] >= len(traffic.by("user_id"))
    ids = sorted(traffic.by("user_id"))
    until(lambda: len(online(stack, USER, ids)[0]) == len(ids), 30, lambda: "the sink did not write the view anew")
    done = stack.run("features", "parity", "--sample", "1000")
    assert done.returncode == 0, done.stdout
    store.close()


def test_an_id_may_begin_with_a_hyphen(stack: Stack, traffic: Traffic) -> None:
    done = stack.run("features", "get", "user", "--json", "--", "-u", "--x")
    assert [json.loads(line)["entity"] for line in done.stdout.splitlines()] == ["-u", "--x"], done.stderr
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["missing", "missing"]


def test_backfilled_history_gives_labels_the_values_of_their_time(stack: Stack, traffic: Traffic, tmp_path: Path) -> None:
    now_ms = SystemClock().now_ms()

    def day(ms: int) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(ms / 1000))

    done = stack.run("features", "backfill", "--from", day(now_ms - DAY_MS), "--to", day(now_ms + DAY_MS), "--json")
    assert done.returncode == 0, done.stderr
    events = traffic.by("user_id")
    ids = sorted(events)
    asked = [(one, now_ms) for one in ids] + [("nobody", now_ms), (ids[0], now_ms - 3_600_000)]
    labels = pd.DataFrame(
        {
            "user_id": [one for one, _ in asked],
            "event_timestamp": pd.to_datetime([ms for _, ms in asked], unit="ms", utc=True),
            "bought": range(len(asked)),
        }
    )
    labels.to_parquet(tmp_path / "labels.parquet")
    done = stack.run(
        "features", "training-set", "--labels", str(tmp_path / "labels.parquet"), "--out", str(tmp_path / "set.parquet"), "--json"
    )
    assert done.returncode == 0, done.stderr
    found = pd.read_parquet(tmp_path / "set.parquet")
    assert found["bought"].tolist() == list(range(len(asked)))
    profiles = {p.user_id: p for p in traffic.profiles}
    for row, (one, at_ms) in enumerate(asked[:-2]):
        given = {f.name: plain(found[f"user_features__{f.name}"][row]) for f in USER.features}
        assert differences(given, user_values(events[one], at_ms, profiles[one])) == {}, one
    rest = found.filter(like="user_features__").iloc[-2:]
    assert rest.isna().all(axis=None), "a label without features keeps its row; an hour ago none of the events had come"
