"""The features' stack, started once for this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.local.java import QUICK_COMPILER
from tests.support.stack import Stack


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # No JVM lives long enough here to earn what compiling for peak speed costs.
    made = Stack(tmp_path_factory.mktemp("features"), JDK_JAVA_OPTIONS=QUICK_COMPILER)
    try:
        up = made.run("up", "--with", "features")
        assert up.returncode == 0, up.stdout + up.stderr
        made.connect()
        yield made
    finally:
        made.run("down")
