"""The schema registry (Apicurio, with Confluent's API) as a child process. Its schemas survive kill -9."""

from __future__ import annotations

from pathlib import Path

from infra.local import jars
from infra.local.java import QUICK_COMPILER, java, java_env, shared_classes
from infra.local.processes import free_port, start
from infra.local.started import Started
from schemas.errors import MillraceError
from streams.schema_registry import Registry

HEAP_MB = 384
START_LIMIT_S = 120.0
API = "apis/ccompat/v7"


def start_registry(folder: Path, jar_folder: Path, log: Path, port: int | None = None) -> Started:
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    # Without WRITE_DELAY=0 a schema registered just before kill -9 was lost.
    url = f"jdbc:h2:file:{folder / 'registry'};WRITE_DELAY=0"
    command = [
        java(),
        f"-Xmx{HEAP_MB}m",
        "-XX:+UseSerialGC",
        QUICK_COMPILER,
        *shared_classes(jar_folder / "classes" / "registry.jsa"),
        "-Dquarkus.http.host=127.0.0.1",
        f"-Dquarkus.http.port={port}",
        "-Dquarkus.management.host=127.0.0.1",
        f"-Dquarkus.management.port={free_port()}",
        "-Dapicurio.storage.kind=sql",
        "-Dapicurio.storage.sql.kind=h2",
        f"-Dapicurio.datasource.url={url}",
        "-Dapicurio.datasource.username=sa",
        "-Dapicurio.datasource.password=sa",
        "-Dquarkus.log.level=WARN",
        "-jar",
        str(jars.registry_home(jar_folder) / "quarkus-run.jar"),
    ]
    return start("registry", command, log, java_env(), f"http://127.0.0.1:{port}/{API}", cwd=folder)


def answers(url: str) -> bool:
    try:
        Registry(url, limit_s=2.0, tries=1).subjects()
    except MillraceError:
        return False
    return True
