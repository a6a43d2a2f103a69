"""The whole stack, and on every topic that has a reader whatever a stranger may put there, by a fixed seed: every process lives on under
the pid that it had, every command ends without a traceback, and requests are answered. The steps alone: `unit/test_fuzz_topics.py`."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from infra.local import redis, run_state
from infra.local.processes import stop
from schemas import avro
from schemas.codec import head
from schemas.durations import DAY_MS, MINUTE_MS
from schemas.topics import CATALOGUE, CONSUMPTIONS, TASKS
from schemas.varints import varint
from streams.client import NoAnswer, connect
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from tests.support import hostile
from tests.support.hostile import Sent
from tests.support.stack import Stack
from tests.support.tiny_llama import tiny_llama
from tests.support.waiting import until

pytestmark = pytest.mark.real
SEED = 15
RECORDS = 40  # of each topic; as many again lie on retry and dead-letter topics
PROCESSES = (
    "moderation vision+translation+transcription+recommendation chat policy+decisions validate+timely+attribution "
    "user-sink+item-sink+recent-sink+archive"
)
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("topics",),
    ("models", "history", "moderation-text"),
    ("review", "list"),
    ("drift", "status"),
    ("training", "list"),
    ("features", "freshness"),
    ("request", "k"),
    ("request", "00000000-0000-7000-8000-000000000000"),
)
NOW_MS = SystemClock().now_ms()
TIMES_MS = (0, 1, NOW_MS - 10 * DAY_MS, NOW_MS + 30 * MINUTE_MS, NOW_MS + 4_000 * DAY_MS)  # 0: the client's own
FIELDS: dict[str, dict[str, Any]] = {
    "moderation": {"content_id": "c", "text": "a good text"},
    "recommendation": {"user_id": "u-1"},
    "translation": {"text": "Where is the station?", "source": "en", "target": "fr"},
    "chat": {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8},
}


def put(bootstrap: str, records: list[tuple[str, int, Sent]], random: Random) -> int:
    """Each record is a batch of its own, so that one that the broker refuses (a null key on a compacted topic) takes no other with it.
    How many were taken."""
    refused: list[str] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            refused.append(f"{message.topic()}: {error}")

    producer = Producer({"bootstrap.servers": bootstrap, "batch.num.messages": 1, "linger.ms": 0, "message.max.bytes": 2_000_000})
    by_hand: list[tuple[str, int, Sent]] = []
    for topic, partition, one in records:
        if any(name is hostile.BAD_NAME for name, _ in one.headers):
            by_hand.append((topic, partition, one))
            continue
        timestamp = random.choice(TIMES_MS)
        producer.produce(
            topic, one.value, one.key, partition, headers=list(one.headers), timestamp=timestamp, on_delivery=delivered
        )
        producer.poll(0)
    assert producer.flush(120) == 0
    print(f"refused by the broker: {Counter(words.partition(': ')[2] for words in refused)}")
    assert len(refused) < len(records) / 2, refused[:5]
    return len(records) - len(refused) - len(by_hand) + asyncio.run(put_by_hand(bootstrap, by_hand))


async def put_by_hand(bootstrap: str, records: list[tuple[str, int, Sent]]) -> int:
    """With header names that are no UTF-8, which no client writes: batches made and sent below the client."""
    from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
    from aiokafka.protocol.produce import ProduceRequest  # type: ignore[import-untyped]
    from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy  # type: ignore[import-untyped]

    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    (node,) = {broker.nodeId for broker in client.cluster.brokers()}
    taken = 0
    try:
        for topic, partition, one in records:
            builder = _DefaultRecordBatchBuilderPy(2, 0, False, -1, -1, -1, 2_000_000)
            headers = [(Name("x") if name is hostile.BAD_NAME else name, value) for name, value in one.headers]
            builder.append(0, 0, one.key, one.value, headers)
            request = ProduceRequest(None, -1, 30_000, [(topic, [(partition, bytes(builder.build()))])])
            answer = await client.send(node, request)
            ((_, ((_, code, *_),)),) = answer.topics
            taken += code == 0
    finally:
        await client.close()
    return taken


class Name(str):
    """A header's name as Kafka takes it: any bytes. The builder asks it for them."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        name: bytes = hostile.BAD_NAME
        return name


def pids(stack: Stack) -> dict[str, tuple[int, ...]]:
    """Of every keeper and of all that it keeps, but for children that decode media."""
    found = {}
    for one in run_state.read(stack.home / "run").processes:
        keeper = psutil.Process(one.pid)
        found[one.name] = (one.pid, *sorted(child.pid for child in keeper.children()))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of `up --with features --with training` but Flink, so that its topics are tried, too."""
    folder = tmp_path_factory.mktemp("hostile")
    store = redis.start_redis(folder / "redis", folder / "redis.log")
    model = f"file:{tiny_llama(folder / 'chat')}"
    env = {"MILLRACE_REDIS": store.address, "MILLRACE_CHAT_MODEL": model, "MILLRACE_ATTRIBUTION_WINDOW_S": "5"}
    made = Stack(folder, PROCESSES, MILLRACE_MLFLOW="http://127.0.0.1:9", **env)
    try:
        up = made.run("up", "--with", "training", limit_s=1200)
        assert up.returncode == 0, up.stdout + up.stderr
        made.connect()
        yield made
    finally:
        made.run("down")
        stop(store)


def everything(stack: Stack, random: Random) -> list[tuple[str, int, Sent]]:
    ids = {topic.name: stack.registry.newest(topic.subject) for topic in CATALOGUE if topic.record is not None}
    by_record = {topic.record_name: newest[1] for topic in CATALOGUE if (newest := ids.get(topic.name)) is not None}
    places: list[tuple[str, Any]] = [(topic.name, topic) for topic in CATALOGUE]
    for consumption in CONSUMPTIONS:
        for name in (*consumption.retry_topics(), consumption.dead_letter_topic):
            places.append((name, consumption.topic))
    found: list[tuple[str, int, Sent]] = []
    for name, topic in places:
        record = topic.record_name or "moderation-verdict"
        own = ids.get(topic.name)
        schema_ids = by_record | ({record: own[1]} if own is not None else {})
        found += [
            (name, random.randrange(topic.partitions), hostile.sent(topic, schema_ids, random, record)) for _ in range(RECORDS)
        ]
    random.shuffle(found)
    return found


def nested(stack: Stack) -> list[tuple[str, int, Sent]]:
    """Bodies that nest by a schema that the registry takes as compatible."""
    found = []
    for topic in CATALOGUE:
        if topic.record is None:
            continue
        record = topic.record_name
        schema = json.loads(json.dumps(avro.schema(record)))
        inner = {"type": "record", "name": "Nest", "fields": [{"name": "n", "type": ["null", "Nest"], "default": None}]}
        schema["fields"].insert(0, {"name": "nest", "type": ["null", inner], "default": None})
        for subject in (f"stranger-{topic.name}-value", topic.subject):
            try:
                schema_id = stack.registry.register(subject, schema)
            except Exception:  # then this way is closed
                continue
            found.append((topic.name, 0, Sent(b"k", head(schema_id) + varint(1) * 200_000, [])))
    return found


def test_nothing_on_any_topic_ends_a_process_a_command_or_a_client(whole: Stack) -> None:
    before = pids(whole)
    random = Random(SEED)
    print(
        f"seed {SEED}: {put(whole.address.bootstrap, [*everything(whole, random), *nested(whole)], random)} records of strangers"
    )
    _answered(whole)
    until(lambda: not unread(whole), 180, lambda: f"not read to the end: {unread(whole)}; {whole.log_tails()}")
    for words in COMMANDS:
        done = whole.run(*words)
        assert "Traceback" not in done.stderr + done.stdout, (words, done.stderr[-3000:])
        assert done.returncode == 0 or words[0] == "request", (words, done.returncode, done.stdout[-500:], done.stderr[-2000:])
    (retried, *_) = CONSUMPTIONS[0].retry_topics()
    for topic in ("model-updates-v1", "worker-status-v1", "content-v1", "replies-v1", "audit-v1", retried):
        done = whole.run("tail", topic, "--first", "-n", "20", limit_s=180)
        assert "Traceback" not in done.stderr + done.stdout, (topic, done.stderr[-3000:])
    _answered(whole)
    assert pids(whole) == before, _deaths(whole, before)


def unread(stack: Stack) -> dict[str, int]:
    """By group, committed records that it has not committed; markers of transactions are none."""
    admin, found = KafkaAdmin(stack.address), dict[str, int]()
    for consumption in CONSUMPTIONS:
        names = (consumption.topic.name, *consumption.retry_topics())
        ends = admin.ends([(name, n) for name in names for n in range(consumption.topic.partitions)])
        committed = admin.committed(consumption.group)
        starts = {place: committed.get(place, 0) for place, end in ends.items() if committed.get(place, 0) < end}
        if starts:
            others = {place: end for place, end in ends.items() if place not in starts}
            reader = KafkaBroadcast(stack.address, names, SystemClock(), starts | others)
            left = len(reader.read_to_end(60))
            reader.close()
            found |= {consumption.group: left} if left else {}
    return found


def _answered(stack: Stack) -> None:
    async def ask() -> None:
        async with connect(stack.address.bootstrap, stack.registry.url) as client:
            for _ in range(3):
                for task in TASKS:
                    if task.group in FIELDS:
                        answer = await client.request(task.group, FIELDS[task.group], deadline_ms=30_000)
                        assert answer["status"] == "ok", answer

    try:
        asyncio.run(ask())
    except NoAnswer as silence:
        pytest.fail(f"{silence}\n{stack.run('status').stdout}\n{stack.log_tails()}")


def _deaths(stack: Stack, before: dict[str, tuple[int, ...]]) -> str:
    now = pids(stack)
    changed = [name for name in before if now.get(name) != before[name]]
    return "\n".join(
        f"--- {name}: {before[name]} is {now.get(name)}\n{stack.run('logs', name).stdout[-4000:]}" for name in changed
    )
