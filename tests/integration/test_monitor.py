"""The monitor's interface on a real broker and registry: what it shows, what a token unlocks, what it refuses."""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from inference_workers.models.folder import SHIPPED, write_manifest
from infra.local import connect, jars, processes, run_state, tls
from infra.monitor import letters
from infra.settings import StackSettings
from schemas.codec import Encoder
from schemas.errors import RecordTooLarge
from schemas.topics import AUDIT, CONTENT, MODEL_UPDATES, TRANSLATION_REQUESTS
from streams import headers as h
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.readback import records
from streams.kafka.sink import KafkaSink
from streams.loop.deadletter import dead_letters
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.conftest import Servers, start_servers
from tests.support.monitors import OPENER, Site, monitor
from tests.support.rows import rows_at
from tests.support.waiting import until

pytestmark = pytest.mark.real
DEAD = "content-v1-moderation-dlq"
RETRY = "content-v1-moderation-retry-1s"
MARKED = "user-events-valid-v1"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Of this file's own: what it redrives and writes by hand must not reach the workers of other tests."""
    yield from start_servers()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monitor")


@pytest.fixture(scope="module")
def settings_(servers: Servers, home: Path) -> StackSettings:
    return StackSettings(home=str(home), bootstrap=servers.bootstrap, registry=servers.registry, monitor=True)


@pytest.fixture(scope="module")
def site(servers: Servers, settings_: StackSettings) -> Iterator[Site]:
    with monitor(settings_, servers.address, Registry(servers.registry)) as (found, _):
        yield found


def _send(
    servers: Servers, topic: str, values: list[bytes | None], headers: list[tuple[str, bytes]] | None = None, partition: int = 0
) -> None:
    sink = KafkaSink(servers.address, None)
    n = len(values)
    own = [[(h.CE_ID, uuid7(1).encode()), *(headers or [])] for _ in range(n)]
    sink.produce(OutRecords(topic, [b"k"] * n, values, own, [partition] * n))
    sink.close()


def _texts(servers: Servers, n: int, words: str = "hello") -> list[bytes]:
    encoder = Encoder.of(CONTENT, Registry(servers.registry))
    return list(encoder.encode({"content_id": [f"c-{i}" for i in range(n)], "text": [f"{words} {i}" for i in range(n)]}, n))


def _letter(servers: Servers, value: bytes, offset: int, step: str, redrives: int = 0) -> None:
    """A dead letter as a loop writes it. step: it and the key tell those of one test from all others on the topic."""
    rows = rows_at(("content-v1", 1), [value], offset, keys=[step.encode()], request_ids=[uuid7(1)], redrives=[redrives])
    sink = KafkaSink(servers.address, None)
    sink.produce(dead_letters(DEAD, rows, RecordTooLarge(HOSTILE), step, "moderation-0"))
    sink.close()


def _waiting(site: Site, step: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.get(f"/api/deadletters/{DEAD}?waiting=true&step={step}")["letters"]
    return found


def _wait_for_letters(site: Site, step: str, n: int) -> list[dict[str, Any]]:
    until(lambda: len(_waiting(site, step)) >= n, 20, lambda: f"{len(_waiting(site, step))} letters wait")
    return _waiting(site, step)


def test_lag_is_shown_in_records_and_seconds(servers: Servers, site: Site) -> None:
    topic = TRANSLATION_REQUESTS.name
    admin = KafkaAdmin(servers.address)
    places = [(topic, number) for number in range(4)]
    admin.set_positions("translation", admin.ends(places))
    _send(servers, topic, [b"x"] * 50, partition=3)

    def edge() -> dict[str, float]:
        found: dict[str, float] = site.get("/api/snapshot")["groups"]["translation"]["edges"].get(topic, {"lag": 0, "lag_s": 0})
        return found

    until(lambda: edge()["lag"] == 50 and edge()["lag_s"] > 1, 30, lambda: f"{edge()}")
    page = OPENER.open(f"{site.base}/metrics", timeout=30).read().decode()
    assert f'millrace_group_lag_records{{group="translation",topic="{topic}"}} 50' in page
    admin.set_positions("translation", admin.ends(places))
    until(lambda: edge()["lag"] == 0, 20, lambda: f"{edge()}")
    history = site.get(f"/api/history?series=edge/translation/{topic}/lag&series=topic/*/rate")
    assert 50.0 in history["series"][f"edge/translation/{topic}/lag"]
    assert f"topic/{topic}/rate" in history["series"]


def test_a_group_that_has_read_everything_is_not_behind_the_markers_of_transactions(servers: Servers, site: Site) -> None:
    sink = KafkaSink(servers.address, "marks")
    for _ in range(3):
        sink.begin()
        sink.produce(OutRecords(MARKED, [b"k"], [b"x"], [[]], [0]))
        sink.commit_records(10)
    sink.close()
    admin = KafkaAdmin(servers.address)
    places = [(MARKED, number) for number in range(4)]
    ends = admin.ends(places)
    admin.set_positions("archive", {**ends, places[0]: ends[places[0]] - 1})  # behind the last record stands only its marker

    def lag() -> float:
        found: float = site.get("/api/snapshot")["groups"]["archive"]["edges"].get(MARKED, {"lag": -1})["lag"]
        return found

    until(lambda: lag() == 0, 20, lambda: f"{lag()}")


def test_pages_of_messages_cover_each_record_once_in_both_directions(servers: Servers, site: Site) -> None:
    for partition in range(3):
        _send(servers, "late-events-v1", [f"{partition}-{i}".encode() for i in range(40)], partition=partition)
    for first in ("", "&oldest=true"):
        seen: list[tuple[int, int]] = []
        path = f"/api/topics/late-events-v1/records?limit=35{first}"
        page = site.get(path)
        for _ in range(10):
            seen += [(one["partition"], one["offset"]) for one in page["records"]]
            if not page["next"]:
                break
            at = ",".join(f"{p}:{o}" for p, o in page["next"].items())
            page = site.get(f"{path}&{'after' if first else 'before'}={at}")
        assert len(seen) == len(set(seen)) == 120
    one = site.get("/api/topics/late-events-v1/records?limit=10&match=offset%3E%3D37")
    assert {record["offset"] for record in one["records"]} == {37, 38, 39}
    (whole,) = site.get("/api/topics/late-events-v1/records?partition=2&offset=39&limit=5")["records"]
    assert "not_decoded" in whole["value"]
    assert OPENER.open(f"{site.base}/api/topics/late-events-v1/records/2/39/raw", timeout=30).read() == b"2-39"


def test_a_record_is_checked_produced_and_seen_live(servers: Servers, site: Site) -> None:
    seen: list[dict[str, Any]] = []
    stopping = threading.Event()

    def listen() -> None:
        with OPENER.open(f"{site.base}/api/topics/content-v1/tail?match=live", timeout=180) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    seen.append(json.loads(line[5:]))
                if stopping.is_set() or seen:
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    form = site.get("/api/topics/content-v1/form")
    assert form["example"]["content_id"] == "text"
    status, said = site.ask("/api/topics/content-v1/records", {"value": {"content_id": 7, "colour": "red"}}, "operator")
    assert status == 400, said
    assert "content_id: expected a text, not 7" in said["message"]
    assert "colour: there is no such field" in said["message"]
    until(lambda: bool(site.get("/api/snapshot")), 5, lambda: "")
    deadline = time.monotonic() + 30
    while not seen and time.monotonic() < deadline:
        status, said = site.ask(
            "/api/topics/content-v1/records", {"key": "c", "value": {"content_id": "c", "text": f"live {HOSTILE}"}}, "operator"
        )
        assert status == 200, said
        thread.join(1.0)
    stopping.set()
    assert seen[0]["record"]["value"]["text"] == f"live {HOSTILE}"
    way = site.get(f"/api/requests/{said['request_id']}")["records"]
    assert [record["topic"] for record in way] == ["content-v1"]
    for topic in (DEAD, RETRY, MODEL_UPDATES.name, AUDIT.name):  # what processes write is no token's to write
        status, said = site.ask(f"/api/topics/{topic}/records", {"value": {}}, "operator")
        assert (status, said["code"]) == (403, "not-allowed"), topic


def test_a_dead_letter_is_redriven_once_by_whoever_may(servers: Servers, settings_: StackSettings, site: Site) -> None:
    _letter(servers, _texts(servers, 1)[0], 1, "one")
    _letter(servers, b"\x00broken", 2, "one")
    _letter(servers, _texts(servers, 1)[0], 3, "one", redrives=5)
    found = {one["origin"]: one for one in _wait_for_letters(site, "one", 3)}
    (group,) = [one for one in site.get("/api/deadletters")["groups"] if one["step"] == "one"]
    assert (group["waiting"], group["code"], group["message"]) == (3, "too-large", HOSTILE)

    def chosen(origin: str, **more: Any) -> dict[str, Any]:
        topic, partition, offset = found[origin]["position"]
        return {"topic": topic, "partition": partition, "offset": offset, **more}

    good, broken, often = (f"content-v1/1/{n}" for n in (1, 2, 3))
    body = {"letters": [chosen(good), chosen(often)], "dry_run": True}
    assert site.ask("/api/deadletters/redrive", body)[0] == 403
    status, said = site.ask("/api/deadletters/redrive", body, "releaser")
    assert (status, said["code"]) == (403, "not-allowed")
    _, plan = site.ask("/api/deadletters/redrive", body, "operator")
    assert (len(plan["ready"]), plan["targets"]) == (1, {RETRY: 1})
    assert "redriven 5 times" in plan["refused"][0]["why"]
    assert len(_waiting(site, "one")) == 3  # a dry run changes nothing

    def run(letters_: list[dict[str, Any]]) -> dict[str, Any]:
        status, said = site.ask(
            "/api/deadletters/redrive", {"letters": letters_, "dry_run": False, "reason": "try again"}, "operator"
        )
        assert status == 200, said
        until(lambda: site.get("/api/deadletters")["run"]["state"] != "running", 30, lambda: "it does not end")
        done: dict[str, Any] = site.get("/api/deadletters")["run"]
        return done

    assert run([chosen(good)])["done"] == 1
    assert run([chosen(good)])["n"] == 0  # it was redriven already
    status, said = site.ask(
        "/api/deadletters/redrive", {"letters": [chosen(broken, value={"text": 1})], "dry_run": True}, "operator"
    )
    assert "content_id: missing" in said["refused"][0]["why"]
    assert (
        run([chosen(broken, value={"content_id": "mended", "text": "good"}), chosen(often, value={"content_id": "m2"})])["done"]
        == 2
    )
    sent = site.get(f"/api/topics/{RETRY}/records?oldest=true&limit=500&match=key%3Done")["records"]
    assert [
        (one["headers"]["redrive"], one["headers"]["origin-offset"])
        for one in sorted(sent, key=lambda r: r["headers"]["origin-offset"])
    ] == [
        ("1", "1"),
        ("1", "2"),
        ("6", "3"),
    ]
    assert {one["value"].get("content_id") for one in sent} == {"c-0", "mended", "m2"}
    audit = [one for one in records(servers.address, AUDIT, Registry(servers.registry)) if one["action"] == "redrive"]
    assert [(one["actor"], one["role"], len(one["positions"])) for one in audit] == [
        ("ada", "operator", 1),
        ("ada", "operator", 2),
    ]
    with monitor(settings_, servers.address, Registry(servers.registry)) as (other, _):  # another one knows it from the topic
        assert site.tokens == other.tokens
        assert _waiting(other, "one") == []


def test_all_of_a_cause_are_redriven_at_a_rate_and_an_end_in_the_middle_repeats_none(
    servers: Servers, settings_: StackSettings
) -> None:
    for n in range(30):
        _letter(servers, b"\x00", 100 + n, "all")
    body = {"all_of": DEAD, "step": "all", "error_code": "too-large", "dry_run": False, "rate_per_s": 5}
    with monitor(settings_, servers.address, Registry(servers.registry)) as (first, _):
        n = len(_wait_for_letters(first, "all", 30))
        assert first.ask("/api/deadletters/redrive", body, "operator")[0] == 200
        status, said = first.ask("/api/deadletters/redrive", body, "operator")
        assert (status, said["code"]) == (409, "busy")
        until(lambda: first.get("/api/deadletters")["run"]["done"] >= 5, 20, lambda: "nothing is sent")
    with monitor(settings_, servers.address, Registry(servers.registry)) as (second, made):
        assert 0 < len(_waiting(second, "all")) < n
        assert second.ask("/api/deadletters/redrive", body | {"rate_per_s": 1_000}, "operator")[0] == 200
        run = made.actions.redrives.run
        until(lambda: (found := run()) is not None and found.state == "done", 30, lambda: f"{run()}")
        assert _waiting(second, "all") == []
    sent = _sent(servers, b"all")
    origins = [dict(one)[h.ORIGIN_OFFSET] for one in sent]
    assert len(origins) == len(set(origins)) == n


def _sent(servers: Servers, key: bytes) -> list[Any]:
    """Headers of what lies on the retry topic with a key."""
    from streams.clock import SystemClock
    from streams.kafka.broadcast import KafkaBroadcast

    reader = KafkaBroadcast(servers.address, RETRY, SystemClock())
    try:
        polled = reader.read_to_end(20)
        return [headers for key_, headers in zip(polled.keys, polled.headers, strict=True) if key_ == key]
    finally:
        reader.close()


def test_two_monitors_may_act_in_turn_and_nothing_is_written_twice(
    servers: Servers, settings_: StackSettings, site: Site
) -> None:
    body = {"key": "c", "value": {"content_id": "fence"}}
    with monitor(settings_, servers.address, Registry(servers.registry)) as (other, _):
        for one in (site, other, site, other):
            status, said = one.ask("/api/topics/content-v1/records", body, "operator")
            assert status == 200, said
    fenced = site.get("/api/topics/content-v1/records?match=content_id%3Dfence&limit=100")["records"]
    assert len(fenced) == 4


def test_models_of_any_name_are_shown_as_they_are(servers: Servers, site: Site) -> None:
    from schemas.generated import ModelUpdate

    update = ModelUpdate(model=HOSTILE, version=HOSTILE, uri="u", digest="d", reason=HOSTILE, actor="x", decided_ms=5)
    value = Encoder.of(MODEL_UPDATES, Registry(servers.registry)).encode_one(update)
    _send(servers, MODEL_UPDATES.name, [value])
    until(lambda: any(one["name"] == HOSTILE for one in site.get("/api/models")["models"]), 20, lambda: "not seen")
    status, _ = site.ask(f"/api/models/{quote(HOSTILE, safe='')}/rollback", {"reason": "x"}, "releaser")
    assert status in (405, 422)  # such a name is shown, and never given to a command


def test_a_command_that_fails_says_why_and_is_audited(servers: Servers, site: Site) -> None:
    status, said = site.ask("/api/models/moderation-text/promote", {"source": "/nowhere", "reason": "no"}, "releaser")
    assert status == 400, said
    assert "nowhere" in said["message"]

    def lines() -> list[dict[str, Any]]:
        return [one for one in site.get("/api/audit")["entries"] if one["action"] == "promote"]

    until(lambda: len(lines()) == 1, 20, lambda: f"{lines()}")
    (line,) = lines()
    assert line["outcome"].startswith("failed: ")
    assert site.ask("/api/models/moderation-text/promote", {"source": "--help", "reason": "no"}, "releaser")[0] == 422
    assert site.ask("/api/models/moderation-text/promote", {"source": "/x", "reason": "no"}, "operator")[0] == 403


def test_a_version_stands_beside_the_live_one_until_it_is_ended(servers: Servers, site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "beside"
    shutil.copytree(SHIPPED / "vision-digits", folder)
    write_manifest(folder, "vision-digits", "beside")
    path = "/api/models/vision-digits/challenge"

    def last() -> dict[str, Any]:
        mine = [
            one for one in records(servers.address, MODEL_UPDATES, Registry(servers.registry)) if one["model"] == "vision-digits"
        ]
        return mine[-1] if mine else {"challengers": []}

    for arm, share in (("shadow", 1.0), ("canary", 0.25)):
        status, said = site.ask(path, {"arm": arm, "source": str(folder), "share": share, "reason": "to see it"}, "releaser")
        assert status == 200, said
    assert {(one["arm"], one["version"], one["share"]) for one in last()["challengers"]} == {
        ("shadow", "beside", 1.0),
        ("canary", "beside", 0.25),
    }
    assert (last()["version"], last()["actor"]) == ("1", "ada")
    assert site.ask(path, {"arm": "canary", "reason": "seen"}, "releaser")[0] == 200
    assert [one["arm"] for one in last()["challengers"]] == ["shadow"]
    assert site.ask(path, {"arm": "shadow", "reason": "seen"}, "releaser")[0] == 200
    assert last()["challengers"] == []
    status, said = site.ask(path, {"arm": "canary", "reason": "again"}, "releaser")
    assert (status, "no canary to end" in said["message"]) == (400, True)
    assert site.ask(path, {"arm": "canary", "source": "shipped:vision-digits", "reason": "x"}, "releaser")[0] == 400
    assert site.ask(path, {"arm": "canary", "source": str(folder), "share": 1.5, "reason": "x"}, "releaser")[0] == 422


def test_connectors_are_shown_with_their_failures_and_started_again(
    servers: Servers, settings_: StackSettings, tmp_path: Path
) -> None:
    jars.fetch(servers.jars, lambda n: None, ("connect", "connect-file"))
    plugins, keys = tmp_path / "connect" / "plugins", tls.keys(settings_.run_folder)
    plugins.mkdir(parents=True)
    started = connect.start_connect(tmp_path / "connect", servers.jars, tmp_path / "connect.log", servers.bootstrap, keys)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=keys.context()))
    out, secret = tmp_path / "later" / "out.txt", tmp_path / "secret"
    secret.write_text("s3cret")

    def put(opener: urllib.request.OpenerDirector, name: str, config: dict[str, str], **headers: str) -> int:
        kind = {"Content-Type": "application/json", **headers}
        wanted = urllib.request.Request(
            f"{started.address}/connectors/{name}/config", json.dumps(config).encode(), kind, method="PUT"
        )
        with opener.open(wanted, timeout=90) as answer:
            return int(answer.status)

    reads = {"connector.class": "FileStreamSource", "topic": "late-events-v1", "file": str(secret)}
    try:
        processes.wait_until(lambda: connect.answers(started.address, keys), started, connect.START_LIMIT_S)
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        stranger = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody))
        with pytest.raises(
            (urllib.error.URLError, ConnectionError, ssl.SSLError)
        ):  # another account of the machine, or a page that was rebound
            put(stranger, "theft", reads, Host="evil.example")
        with pytest.raises(urllib.error.HTTPError):  # and nothing that reads files is there
            put(opener, "theft", reads)
        processes.stop(started)
        shutil.copy(next((servers.jars / "connect-file").glob("*.jar")), plugins)
        started = connect.start_connect(tmp_path / "connect", servers.jars, tmp_path / "connect.log", servers.bootstrap, keys)
        processes.wait_until(lambda: connect.answers(started.address, keys), started, connect.START_LIMIT_S)
        config = {"connector.class": "FileStreamSink", "topics": "late-events-v1", "file": str(out), "note.password": "s3cret"}
        assert put(opener, "to-file", config) == 201
        running = run_state.State(processes=[started])
        run_state.write(settings_.run_folder, running)
        with monitor(settings_, servers.address, Registry(servers.registry)) as (site, _):

            def states() -> list[str]:
                return [task["state"] for one in site.get("/api/connectors")["connectors"] for task in one["tasks"]]

            until(lambda: states() == ["FAILED"], 40, lambda: f"{states()}")
            said = site.get("/api/connectors")
            assert "Couldn't find or create file" in said["connectors"][0]["tasks"][0]["trace"]
            assert "s3cret" not in json.dumps(said)
            out.parent.mkdir()
            assert site.ask("/api/connectors/to-file/restart", {})[0] == 403
            status, refused = site.ask("/api/connectors/nobody/restart", {}, "operator")
            assert status == 400, refused
            assert site.ask("/api/connectors/to-file/restart", {}, "operator")[0] == 200
            until(lambda: states() == ["RUNNING"], 40, lambda: f"{states()}")
            _send(servers, "late-events-v1", [b"a sink got this"])
            until(lambda: out.exists() and bool(out.read_bytes()), 40, lambda: "the sink wrote nothing")
            assert any(one["action"] == "restart" for one in site.get("/api/audit")["entries"])
    finally:
        processes.stop(started)


def test_other_hosts_sites_and_floods_are_refused(site: Site) -> None:
    assert site.ask("/api/snapshot", headers={"Host": "evil.example"})[0] == 403
    body = {"value": {"content_id": "x"}}
    path = "/api/topics/content-v1/records"
    assert site.ask(path, body, "operator", headers={"Origin": "http://evil.example"})[0] == 403
    assert site.ask(path, body, "operator", headers={"Content-Type": "text/plain"})[0] == 403
    connection = http.client.HTTPConnection(site.base.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", path)
    for name, value in (("Content-Type", "application/json"), ("Content-Length", "5000000")):
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 403  # before any of it was read
    connection.close()
    assert site.ask(path, body, headers={"Authorization": "Bearer wrong"})[0] == 403
    with OPENER.open(f"{site.base}/api/catalogue", timeout=30) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    status, page = site.ask("/")
    assert status == 503
    assert b"built by nobody" in page
    text = json.dumps([site.get(path) for path in ("/api/snapshot", "/api/catalogue", "/api/audit")])
    assert not any(token in text for token in site.tokens.values())


def test_a_broker_that_goes_is_said_and_the_look_goes_on_when_it_is_back(servers: Servers, settings_: StackSettings) -> None:
    with monitor(settings_, servers.address, Registry(servers.registry)) as (site, _):
        servers.restart_kafka(kill=True)
        until(lambda: site.get("/api/snapshot")["trouble"] == "", 60, lambda: site.get("/api/snapshot")["trouble"])
        before = site.get("/api/snapshot")["at_ms"]
        until(lambda: site.get("/api/snapshot")["at_ms"] > before, 20, lambda: "it stands still")


def test_the_letters_module_knows_every_dead_letter_topic(site: Site) -> None:
    assert set(letters.by_topic()) <= site.get("/api/snapshot")["topics"].keys()
