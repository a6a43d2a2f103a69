"""A Kafka Connect worker as a child process: plain Java, jars from the lock. People add plug-ins in a folder and create connectors through
its REST server, which requires the stack's key. No connector comes with it: Kafka's file connectors could read any file of this account."""

from __future__ import annotations

from pathlib import Path

from infra.local import jars, tls
from infra.local.java import QUICK_COMPILER, java, java_env, shared_classes
from infra.local.kafka import LOG4J
from infra.local.processes import free_port, start
from infra.local.started import Started
from streams import local_http

HEAP_MB = 256
START_LIMIT_S = 90.0


def _properties(bootstrap: str, port: int, plugins: Path, keys: tls.Keys) -> str:
    return f"""
bootstrap.servers={bootstrap}
group.id=millrace-connect
listeners=https://127.0.0.1:{port}
rest.advertised.listener=https
rest.advertised.host.name=127.0.0.1
listeners.https.ssl.client.auth=required
listeners.https.ssl.keystore.type=PKCS12
listeners.https.ssl.keystore.location={keys.store}
listeners.https.ssl.keystore.password={keys.password}
listeners.https.ssl.key.password={keys.password}
listeners.https.ssl.truststore.type=PKCS12
listeners.https.ssl.truststore.location={keys.store}
listeners.https.ssl.truststore.password={keys.password}
plugin.path={plugins}
plugin.discovery=hybrid_warn
key.converter=org.apache.kafka.connect.converters.ByteArrayConverter
value.converter=org.apache.kafka.connect.converters.ByteArrayConverter
header.converter=org.apache.kafka.connect.converters.ByteArrayConverter
consumer.isolation.level=read_committed
config.storage.topic=connect-configs
config.storage.replication.factor=1
offset.storage.topic=connect-offsets
offset.storage.replication.factor=1
offset.storage.partitions=4
status.storage.topic=connect-status
status.storage.replication.factor=1
status.storage.partitions=1
"""


def start_connect(folder: Path, jar_folder: Path, log: Path, bootstrap: str, keys: tls.Keys, port: int | None = None) -> Started:
    """Returns before the worker is ready. Plug-ins are loaded from `folder`/plugins only."""
    port, plugins = port or free_port(), folder.resolve() / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    properties, log4j = folder / "connect.properties", folder / "log4j2.properties"
    tls.private(properties, _properties(bootstrap, port, plugins, keys).encode())
    log4j.write_text(LOG4J)
    command = [
        java(),
        f"-Xmx{HEAP_MB}m",
        "-XX:+UseSerialGC",
        QUICK_COMPILER,
        *shared_classes(jar_folder / "classes" / "connect.jsa"),
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        f"{jars.connect_path(jar_folder)}:{jars.class_path(jar_folder)}",
        "org.apache.kafka.connect.cli.ConnectDistributed",
        str(properties),
    ]
    return start("connect", command, log, java_env(), f"https://127.0.0.1:{port}")


def answers(address: str, keys: tls.Keys) -> bool:
    return local_http.page_answers(f"{address}/connectors", keys.context())
