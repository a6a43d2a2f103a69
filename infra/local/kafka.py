"""One Kafka broker (KRaft, broker and controller in one process) as a child process: plain Java, jars from the lock."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from infra.local import jars
from infra.local.java import QUICK_COMPILER, java, java_env, shared_classes
from infra.local.processes import ProcessFailed, free_port, start
from infra.local.started import Started
from schemas.catalogue import catalogue
from schemas.durations import DAY_MS
from schemas.errors import BrokerUnavailable
from schemas.topic_kinds import FOREVER_MS
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress

HEAP_MB = 512
# The serial collector's pauses make the 99th percentile of a benchmark; those of ZGC are under a millisecond.
LONG_LIVED = (f"-Xms{HEAP_MB}m", "-XX:+UseZGC", "-XX:TieredStopAtLevel=4")
SHORT_LIVED = ("-Xms256m", "-XX:+UseSerialGC", QUICK_COMPILER)
MAX_MINUTES = 2**31 - 1
START_LIMIT_S = 90.0

LOG4J = """
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


def offsets_retention_minutes(retentions_ms: Sequence[int]) -> int:
    """One day more than the longest retention; the maximum (4,085 years) if a topic is kept forever.

    A group that is stopped for a while must find its offsets as long as its records are kept; otherwise it answers all of them
    again. The broker's own default is a week."""
    if FOREVER_MS in retentions_ms:
        return MAX_MINUTES
    return int(min(MAX_MINUTES, (max(retentions_ms) + DAY_MS) // 60_000))


def _properties(port: int, controller_port: int, data: Path) -> str:
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
offsets.retention.minutes={offsets_retention_minutes([topic.retention_ms for topic in catalogue().topics])}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.session.timeout.ms=10000
group.consumer.min.session.timeout.ms=3000
group.min.session.timeout.ms=1000
message.max.bytes=2097152
log.message.timestamp.type=LogAppendTime
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
"""


def start_kafka(
    folder: Path,
    jar_folder: Path,
    log: Path,
    port: int | None = None,
    long_lived: bool = False,
) -> Started:
    """Start a broker with its data in `folder`, which is formatted the first time. Returns before the broker is ready.

    long_lived: let the JVM compile for peak speed, and collect garbage beside its work. Both take a core or two for the first minute,
    so a demo would not gain from it.
    """
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    properties, log4j = folder / "server.properties", folder / "log4j2.properties"
    properties.write_text(_properties(port, free_port(), data))
    log4j.write_text(LOG4J)
    base = [java(), f"-Dlog4j2.configurationFile={log4j}", "-cp", jars.class_path(jar_folder)]
    if not (data / "meta.properties").exists():
        cluster = uuid.uuid4().hex[:22]
        formatted = subprocess.run(
            [
                base[0],
                "-Xmx128m",
                QUICK_COMPILER,
                *shared_classes(jar_folder / "classes" / "format.jsa"),
                *base[1:],
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster,
                "-c",
                str(properties),
            ],
            capture_output=True,
            text=True,
            env=java_env(),
            timeout=60,
            check=False,
        )
        if formatted.returncode != 0:
            raise ProcessFailed(f"Kafka's storage in {data} could not be formatted: {formatted.stdout}{formatted.stderr}")
    command = [
        base[0],
        f"-Xmx{HEAP_MB}m",
        *(LONG_LIVED if long_lived else (*SHORT_LIVED, *shared_classes(jar_folder / "classes" / "kafka.jsa"))),
        *base[1:],
    ]
    return start("kafka", [*command, "kafka.Kafka", str(properties)], log, java_env(), f"127.0.0.1:{port}")


def answers(address: str) -> bool:
    try:
        return KafkaAdmin(KafkaAddress(bootstrap=address)).brokers(1.0) > 0
    except BrokerUnavailable:
        return False
