"""`bench peers` with the two of its programs that need no environment of their own: a change of the worker must not break it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import ROOT

PROGRAMS = ("millrace", "bare-loop")


@pytest.mark.real
def test_our_worker_and_the_plain_loop_answer_each_request_once(tmp_path: Path) -> None:
    chosen = [word for name in PROGRAMS for word in ("--only", name)]
    command = [sys.executable, "-m", "tests.benchmarks.peers", "--json", "--rounds", "1", "--count", "10000", *chosen]
    chart = tmp_path / "peers.svg"
    done = subprocess.run([*command, "--svg", str(chart)], cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rates = {one["program"]: one for one in json.loads(done.stdout)["figures"] if "program" in one}
    assert set(rates) == set(PROGRAMS)
    for one in rates.values():
        assert (one["lost"], one["doubled"]) == ([0], [0])
        assert one["value"] > 0
    assert chart.read_text().startswith("<svg")
