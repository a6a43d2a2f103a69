"""The two lanes of `./millrace test`: a failure in either is a failure, and both are printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from infra.cli import checks, lanes
from infra.local import stack
from infra.settings import ROOT, StackSettings

# Stands for pytest: which lane it is, and its exit code.
FAKE = "import os, sys; busy = sys.argv[1] == 'busy'; print('lane', 'busy' if busy else 'other', 'ä'); sys.exit(int(os.environ[('BUSY' if busy else 'OTHER')]))"


def test_every_path_of_the_busy_lane_is_there() -> None:
    assert [path for path in lanes.BUSY if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("check", "busy", "other", "code"), [(0, 0, 0, 0), (1, 0, 0, 1), (0, 2, 0, 2), (0, 0, 3, 3)])
def test_a_failure_in_either_lane_is_a_failure(
    check: int,
    busy: int,
    other: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(lanes, "PYTEST", (sys.executable, "-c", FAKE))
    monkeypatch.setattr(lanes, "BUSY", ("busy",))
    monkeypatch.setattr(stack, "fetch", lambda *args, **kwargs: None)
    monkeypatch.setattr(checks, "check", lambda: check)
    monkeypatch.setitem(os.environ, "BUSY", str(busy))
    monkeypatch.setitem(os.environ, "OTHER", str(other))
    assert lanes.test(StackSettings(home=str(tmp_path)), []) == code
    printed = capfdbinary.readouterr().out.decode()
    assert "lane other ä" in printed
    assert printed.index("the other lane") < printed.index("lane busy ä")
