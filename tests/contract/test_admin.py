"""What commands and the monitor ask of a broker, at the moment when it answers least."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import kafka, processes
from infra.settings import ROOT, StackSettings
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.kafka.config import KafkaAddress
from streams.process.settings import load

pytestmark = pytest.mark.real

ASK = """
import json, sys
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
admin = KafkaAdmin(KafkaAddress(bootstrap=sys.argv[1]))
print(json.dumps({group: len(positions) for group, positions in admin.committed_of(f"never-{i}" for i in range(12)).items()}))
"""


@pytest.fixture
def new_broker(tmp_path: Path) -> Iterator[str]:
    """In which no group ever was: it makes its topic of offsets at the first question."""
    started = kafka.start_kafka(tmp_path / "kafka", load(StackSettings, os.environ).jars, tmp_path / "kafka.log")
    try:
        processes.wait_until(lambda: kafka.answers(started.address), started, kafka.START_LIMIT_S)
        yield started.address
    finally:
        processes.stop(started)


def test_groups_that_never_were_have_no_offsets_on_a_broker_that_has_just_begun(new_broker: str) -> None:
    """In a process of its own: with the client's admin call it ended with SIGSEGV."""
    KafkaAdmin(KafkaAddress(bootstrap=new_broker)).create([TopicSpec("t", 2, {})])
    done = subprocess.run(
        [sys.executable, "-c", ASK, new_broker], cwd=ROOT, capture_output=True, text=True, check=False, timeout=360
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {f"never-{i}": 0 for i in range(12)}


def test_positions_that_were_set_for_a_group_are_those_that_it_has(new_broker: str) -> None:
    admin = KafkaAdmin(KafkaAddress(bootstrap=new_broker))
    admin.create([TopicSpec("t", 2, {})])
    admin.set_positions("g", {("t", 0): 0, ("t", 1): 0})
    assert admin.committed("g") == {("t", 0): 0, ("t", 1): 0}
