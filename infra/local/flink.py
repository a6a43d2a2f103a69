"""A Flink session cluster as two plain Java processes, without Flink's shell scripts. Its archives come from the Python
package `apache-flink`, which has an environment of its own, and from the lock of archives."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.local import jars, tls
from infra.local.java import QUICK_COMPILER, java, java_env
from infra.local.processes import free_port
from infra.settings import ROOT
from schemas.errors import Stop
from streams import local_http

START_LIMIT_S = 90.0
MAKE_LIMIT_S = 1_800.0
PROJECT = ROOT / "feature_jobs" / "jobs"
SLOTS = 8
JOBMANAGER_HEAP_MB = 384
TASK_HEAP_MB, OFF_HEAP_MB, NETWORK_MB, MANAGED_MB = 1_024, 64, 64, 64
_OPEN = (
    "java.base/java.lang",
    "java.base/java.net",
    "java.base/java.io",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "java.base/java.lang.reflect",
    "java.base/java.text",
    "java.base/java.time",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks",
)


def environment_folder(home: Path) -> Path:
    return home / "flink-env"


def is_there(home: Path) -> bool:
    stamp = environment_folder(home) / ".stamp"
    return stamp.exists() and stamp.read_text() == _lock_digest()


def make_environment(home: Path) -> None:
    """Install the environment from the lock of its own project. Raises Stop with uv's output."""
    uv = shutil.which("uv") or str(home / "uv" / "bin" / "uv")
    command = [uv, "sync", "--frozen", "--quiet", "--project", str(PROJECT), "--python", sys.executable]
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(environment_folder(home))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=MAKE_LIMIT_S, check=False)
    if done.returncode != 0:
        raise Stop(f"Flink's environment could not be installed in {environment_folder(home)}: {done.stderr.strip()[-1500:]}")
    (environment_folder(home) / ".stamp").write_text(_lock_digest())


def _lock_digest() -> str:
    return hashlib.sha256((PROJECT / "uv.lock").read_bytes()).hexdigest()


def python(home: Path) -> str:
    """The interpreter of Flink's environment. Raises Stop if it is not installed."""
    interpreter = environment_folder(home) / "bin" / "python"
    if not interpreter.exists():
        raise Stop("Flink's environment is not installed: `./millrace setup features` installs it")
    return str(interpreter)


def home_of(home: Path) -> Path:
    """The folder of the package `pyflink`: FLINK_HOME for Flink's tools."""
    (folder,) = environment_folder(home).glob("lib/python3.*/site-packages/pyflink")
    return folder


def _security(keys: tls.Keys) -> dict[str, object]:
    """REST and the connections between the processes require the stack's key: anybody who can submit a job runs code as this
    account, and the web page that accepts archives is only one of several ways to submit."""
    options: dict[str, object] = {
        "web.submit.enable": "false",
        "web.cancel.enable": "false",
        "security.ssl.algorithms": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    }
    for side in ("rest", "internal"):
        options[f"security.ssl.{side}.enabled"] = "true"
        for name, value in (("keystore", keys.store), ("truststore", keys.store)):
            options[f"security.ssl.{side}.{name}"] = value
            options[f"security.ssl.{side}.{name}-password"] = keys.password
        options[f"security.ssl.{side}.key-password"] = keys.password
    return options | {"security.ssl.rest.authentication-enabled": "true"}


def configure(folder: Path, keys: tls.Keys, rest_port: int, rpc_port: int) -> Path:
    """Write the cluster's configuration in Flink's format, one key per line; returns the folder that contains it."""
    conf = folder / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    values = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": rpc_port,
        "jobmanager.bind-host": "127.0.0.1",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": rest_port,
        "rest.bind-port": rest_port,
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": SLOTS,
        # without Flink's scripts, a task manager needs every memory size
        "taskmanager.cpu.cores": 2.0,
        "taskmanager.memory.task.heap.size": f"{TASK_HEAP_MB}m",
        "taskmanager.memory.task.off-heap.size": f"{OFF_HEAP_MB}m",
        "taskmanager.memory.network.min": f"{NETWORK_MB}m",
        "taskmanager.memory.network.max": f"{NETWORK_MB}m",
        "taskmanager.memory.managed.size": f"{MANAGED_MB}m",
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
        "io.tmp.dirs": str(temporary),
        "web.upload.dir": str(temporary),
        "blob.server.port": "0",
        "cluster.registration.error-delay": "500",  # a task manager that starts first tries again soon
        "heartbeat.interval": "1000",
        "heartbeat.timeout": "10000",  # a killed task manager is detected within ten seconds
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 2147483647,
        "restart-strategy.fixed-delay.delay": "1 s",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "classloader.resolve-order": "parent-first",  # the connectors are on the cluster's own class path
        **_security(keys),
    }
    tls.private(conf / "config.yaml", "".join(f"{name}: {value}\n" for name, value in values.items()).encode())
    (conf / "log4j.properties").write_text(
        "rootLogger.level = WARN\nrootLogger.appenderRef.out.ref = out\nappender.out.name = out\nappender.out.type = CONSOLE\n"
        "appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d{ISO8601} %-5p %c{1} - %m%n\n"
    )
    return conf


def gather(home: Path, jar_folder: Path, folder: Path) -> None:
    """Fill `folder`/lib with links to Flink's archives and the connectors: the class path of the cluster and of submitting processes."""
    lib = folder / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    archives = [*(home_of(home) / "lib").glob("*.jar"), *(jar_folder / "flink" / jar.file_name for jar in jars.locked("flink"))]
    for jar in archives:
        link = lib / jar.name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(jar)


def prepare(home: Path, jar_folder: Path, folder: Path, keys: tls.Keys, rest_port: int | None = None) -> str:
    """Write the files that both processes read into `folder`; returns the address of the REST server."""
    gather(home, jar_folder, folder)
    port = rest_port or free_port()
    configure(folder, keys, port, free_port())
    return f"https://127.0.0.1:{port}"


def jobmanager(folder: Path) -> list[str]:
    return _java(
        folder, JOBMANAGER_HEAP_MB, [QUICK_COMPILER], "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    )


def taskmanager(folder: Path) -> list[str]:
    return _java(folder, TASK_HEAP_MB + 128, [], "org.apache.flink.runtime.taskexecutor.TaskManagerRunner")


def _java(folder: Path, heap_mb: int, options: Sequence[str], main: str) -> list[str]:
    opens = [f"--add-opens={package}=ALL-UNNAMED" for package in _OPEN]
    return [
        java(),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:MaxMetaspaceSize=256m",
        *options,
        *opens,
        f"-Dlog4j2.configurationFile={folder / 'conf' / 'log4j.properties'}",
        "-cp",
        str(folder / "lib" / "*"),
        main,
        "--configDir",
        str(folder / "conf"),
    ]


def answers(address: str, keys: tls.Keys) -> bool:
    """Whether a task manager has registered its slots."""
    overview = local_http.json_of(f"{address}/overview", keys.context())
    return overview is not None and int(overview.get("slots-total", 0)) >= SLOTS


def submitter(home: Path, folder: Path) -> tuple[str, dict[str, str]]:
    """Interpreter and environment variables for a process that submits jobs to the cluster configured in `folder`."""
    return python(home), {
        **java_env(),
        "JVM_ARGS": f"{QUICK_COMPILER} -XX:+UseSerialGC",
        "FLINK_HOME": str(home_of(home)),
        "FLINK_LIB_DIR": str(folder / "lib"),
        "FLINK_CONF_DIR": str(folder / "conf"),
        "PYTHONPATH": str(ROOT),
    }
