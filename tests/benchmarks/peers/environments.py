"""A Python environment for each peer, in MILLRACE_HOME/peers, from the exact versions in `requirements/`. PyFlink runs in the
environment of our own Flink jobs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from infra.local import flink, jars
from infra.settings import StackSettings
from schemas.errors import Stop
from tests.benchmarks.worker import say

REQUIREMENTS = Path(__file__).parent / "requirements"
LIMIT_S = 900.0


def interpreter(settings: StackSettings, name: str) -> str:
    """The interpreter of an environment, which is made if it is not there. Raises Stop with the reason if that fails."""
    if not name:
        return sys.executable
    begun_s = time.perf_counter()
    if name == "flink":
        _fetch_flink(settings)
        return flink.python(settings.home_folder)
    folder = settings.home_folder.resolve() / "peers" / name
    requirements = REQUIREMENTS / f"{name}.txt"
    stamp, digest = folder / ".stamp", hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        packages = sum("==" in line for line in requirements.read_text().splitlines())
        say(f"  environment of {name}: {packages} packages …")
        _install(settings.home_folder, folder, requirements)
        stamp.write_text(digest)
        say(f"  environment of {name}: ready after {time.perf_counter() - begun_s:.0f} s")
    return str(folder / "bin" / "python")


def _install(home: Path, folder: Path, requirements: Path) -> None:
    uv = shutil.which("uv") or str(home / "uv" / "bin" / "uv")
    shutil.rmtree(folder, ignore_errors=True)
    for words in (
        ["venv", "--quiet", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "-r", str(requirements)],
    ):
        try:
            done = subprocess.run([uv, *words], capture_output=True, text=True, timeout=LIMIT_S, check=False, env={**os.environ})
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Stop(f"uv {words[0]} failed: {error}") from error
        if done.returncode != 0:
            raise Stop(f"uv {words[0]} failed: {done.stderr.strip()[-1500:]}")


def _fetch_flink(settings: StackSettings) -> None:
    if missing := jars.missing(settings.jars, ("flink",)):
        say(f"  Flink's connectors: {sum(jar.bytes for jar in missing) / 1e6:.0f} MB …")
        jars.fetch(settings.jars, lambda _: None, ("flink",))
    if not flink.is_there(settings.home_folder):
        say("  environment of flink: about 300 MB of packages …")
        flink.make_environment(settings.home_folder)


def connector(settings: StackSettings) -> Path:
    """Flink's Kafka connector."""
    (jar,) = [jar for jar in jars.locked("flink") if jar.artifact == "flink-sql-connector-kafka"]
    return settings.jars.resolve() / jar.component / jar.file_name
