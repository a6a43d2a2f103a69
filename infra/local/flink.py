"""A Flink session cluster as two plain Java processes: its archives come in the Python package `apache-flink`, which has an
environment of its own, and from the lock of archives. Nothing of Flink's own shell scripts is used."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.local import jars, processes, tls
from infra.local.java import java, java_env
from infra.local.processes import free_port
from infra.settings import ROOT
from schemas.errors import Stop

START_LIMIT_S = 90.0
MAKE_LIMIT_S = 1_800.0
PROJECT = ROOT / "feature_jobs" / "jobs"
SLOTS = 8
JOBMANAGER_HEAP_MB = 384
TASK_HEAP_MB, OFF_HEAP_MB, NETWORK_MB, MANAGED_MB = 1_024, 64, 64, 64
_OPEN = ("java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio", "java.base/sun.nio.ch",
         "java.base/java.lang.reflect", "java.base/java.text", "java.base/java.time", "java.base/java.util",
         "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks")  # fmt: skip


def environment(home: Path) -> Path:
    return home / "flink-env"


def is_there(home: Path) -> bool:
    stamp = environment(home) / ".stamp"
    return stamp.exists() and stamp.read_text() == _lock_digest()


def make_environment(home: Path) -> None:
    """From the lock of its own project, with the uv that made ours. Raises Stop with uv's words."""
    uv = shutil.which("uv") or str(home / "uv" / "bin" / "uv")
    command = [uv, "sync", "--frozen", "--quiet", "--project", str(PROJECT), "--python", sys.executable]
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment(home))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=MAKE_LIMIT_S, check=False)
    if done.returncode != 0:
        raise Stop(f"Flink's environment could not be made: {done.stderr.strip()[-1500:]}")
    (environment(home) / ".stamp").write_text(_lock_digest())


def _lock_digest() -> str:
    return hashlib.sha256((PROJECT / "uv.lock").read_bytes()).hexdigest()


def python(home: Path) -> str:
    """Flink's own interpreter. Raises Stop where its environment was not made."""
    found = environment(home) / "bin" / "python"
    if not found.exists():
        raise Stop("Flink's environment is not here: `./millrace setup features` fetches it")
    return str(found)


def home_of(home: Path) -> Path:
    """The folder of the package `pyflink`, which Flink's tools call FLINK_HOME."""
    (found,) = environment(home).glob("lib/python3.*/site-packages/pyflink")
    return found


def _guarded(keys: tls.Keys) -> dict[str, object]:
    """REST and the processes' own connections want the stack's key: who can submit a job runs code in the operator's name, and the
    page that takes archives is only one of the ways to."""
    found: dict[str, object] = {
        "web.submit.enable": "false", "web.cancel.enable": "false",
        "security.ssl.algorithms": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    }  # fmt: skip
    for side in ("rest", "internal"):
        found[f"security.ssl.{side}.enabled"] = "true"
        for name, value in (("keystore", keys.store), ("truststore", keys.store)):
            found[f"security.ssl.{side}.{name}"] = value
            found[f"security.ssl.{side}.{name}-password"] = keys.password
        found[f"security.ssl.{side}.key-password"] = keys.password
    return found | {"security.ssl.rest.authentication-enabled": "true"}


def configure(folder: Path, keys: tls.Keys, rest_port: int, rpc_port: int) -> Path:
    """Write the cluster's configuration; the folder that holds it. Flink's own file format: one key a line."""
    conf = folder / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    values = {
        "jobmanager.rpc.address": "127.0.0.1", "jobmanager.rpc.port": rpc_port, "jobmanager.bind-host": "127.0.0.1",
        "rest.address": "127.0.0.1", "rest.bind-address": "127.0.0.1", "rest.port": rest_port, "rest.bind-port": rest_port,
        "taskmanager.host": "127.0.0.1", "taskmanager.bind-host": "127.0.0.1", "taskmanager.numberOfTaskSlots": SLOTS,
        # a task manager that is started without Flink's scripts wants every size said
        "taskmanager.cpu.cores": 2.0,
        "taskmanager.memory.task.heap.size": f"{TASK_HEAP_MB}m", "taskmanager.memory.task.off-heap.size": f"{OFF_HEAP_MB}m",
        "taskmanager.memory.network.min": f"{NETWORK_MB}m", "taskmanager.memory.network.max": f"{NETWORK_MB}m",
        "taskmanager.memory.managed.size": f"{MANAGED_MB}m",
        "taskmanager.memory.framework.heap.size": "128m", "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m", "taskmanager.memory.jvm-overhead.max": "192m",
        "io.tmp.dirs": str(temporary), "web.upload.dir": str(temporary), "blob.server.port": "0",
        "cluster.registration.error-delay": "500",  # a task manager that is up first asks again soon
        "heartbeat.interval": "1000", "heartbeat.timeout": "10000",  # a killed task manager is noticed in ten seconds
        "restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.attempts": 2147483647,
        "restart-strategy.fixed-delay.delay": "1 s",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "classloader.resolve-order": "parent-first",  # the connectors lie on the cluster's own class path
        **_guarded(keys),
    }  # fmt: skip
    tls.private(conf / "config.yaml", "".join(f"{name}: {value}\n" for name, value in values.items()).encode())
    (conf / "log4j.properties").write_text(
        "rootLogger.level = WARN\nrootLogger.appenderRef.out.ref = out\nappender.out.name = out\nappender.out.type = CONSOLE\n"
        "appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d{ISO8601} %-5p %c{1} - %m%n\n"
    )
    return conf


def gather(home: Path, jar_folder: Path, folder: Path) -> None:
    """One folder of links to Flink's archives and the connectors: the class path of the cluster and of those who submit."""
    lib = folder / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    wanted = [*(home_of(home) / "lib").glob("*.jar"), *(jar_folder / "flink" / jar.file_name for jar in jars.locked("flink"))]
    for jar in wanted:
        link = lib / jar.name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(jar)


def prepare(home: Path, jar_folder: Path, folder: Path, keys: tls.Keys, rest_port: int | None = None) -> str:
    """Write what both processes read into `folder`; the address of the REST server."""
    gather(home, jar_folder, folder)
    port = rest_port or free_port()
    configure(folder, keys, port, free_port())
    return f"https://127.0.0.1:{port}"


def jobmanager(folder: Path) -> list[str]:
    return _java(folder, JOBMANAGER_HEAP_MB, "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint")


def taskmanager(folder: Path) -> list[str]:
    return _java(folder, TASK_HEAP_MB + 128, "org.apache.flink.runtime.taskexecutor.TaskManagerRunner")


def _java(folder: Path, heap_mb: int, main: str) -> list[str]:
    opens = [f"--add-opens={package}=ALL-UNNAMED" for package in _OPEN]
    return [
        java(), f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:MaxMetaspaceSize=256m", *opens,
        f"-Dlog4j2.configurationFile={folder / 'conf' / 'log4j.properties'}",
        "-cp", str(folder / "lib" / "*"), main, "--configDir", str(folder / "conf"),
    ]  # fmt: skip


def answers(address: str, keys: tls.Keys) -> bool:
    """Whether a task manager has registered its slots."""
    found = processes.json_of(f"{address}/overview", keys.context())
    return found is not None and int(found.get("slots-total", 0)) >= SLOTS


def submitter(home: Path, folder: Path) -> tuple[str, dict[str, str]]:
    """Interpreter and environment of a process that submits jobs to the cluster whose configuration is in `folder`."""
    return python(home), {
        **java_env(), "FLINK_HOME": str(home_of(home)), "FLINK_LIB_DIR": str(folder / "lib"),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
