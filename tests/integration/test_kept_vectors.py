"""The vectors of an embedding task on the local stack: kept once whatever is killed, searched, and never those of two versions together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from streams.archived.manifests import committed_files
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords, Polled
from tests.support.checkpoints import sentences
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = pytest.mark.real

TASK, RESULTS = "sentences", "sentences-results-v1"
DOCUMENTS = 400
WORDS = ["hello", "there", "how", "are", "you", "today", "my", "friend"]
LETTERS = f"{RESULTS}-{TASK}.vectors-dlq"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("vectors")
    for name, seed in (("first", 1), ("second", 2)):
        (made / name).mkdir()
        sentences(made / name, seed)
    return made


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    (folder / "home").mkdir()
    made = Stack(
        folder / "home",
        MILLRACE_DECLARATIONS=str(folder / "millrace.toml"),
        MILLRACE_VECTORS_FLUSH_S="0.5",
        MILLRACE_VECTORS_INDEX_S="0.5",
    )
    try:
        assert made.run("up").returncode == 0
        words = ("--kind", "embedding", "--model", f"folder:{folder / 'first'}", "--option", "sink=faiss")
        added = made.run("tasks", "add", TASK, *words)
        assert added.returncode == 0, added.stdout + added.stderr
        made.connect()
        yield made
    finally:
        made.run("down")


def text(number: int) -> str:
    """The numbers from 0 to 4095 have texts of their own, out of the words that the model knows."""
    return " ".join(WORDS[(number >> (3 * place)) % 8] for place in range(4))


def send(stack: Stack, folder: Path, texts: dict[str, str]) -> None:
    file = folder / "documents.jsonl"
    file.write_text("".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in texts.items()))
    sent = stack.run("send", TASK, "--jsonl", str(file), "--key-field", "id", "--deadline-ms", "60000")
    assert sent.returncode == 0, sent.stdout[-500:] + sent.stderr


def near(stack: Stack, text: str, limit: int = 3) -> list[dict[str, Any]]:
    found = stack.run("nearest", TASK, "--text", text, "--limit", str(limit), "--json")
    assert found.returncode in (0, 1), found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


def table(stack: Stack) -> list[dict[str, Any]]:
    (topic,) = (stack.home / "vectors" / TASK).iterdir()
    return [row for file in committed_files(topic) for row in pq.read_table(file, partitioning=None).to_pylist()]


def read(stack: Stack, topic: str) -> Polled:
    reader = KafkaBroadcast(stack.address, topic, SystemClock())
    try:
        return reader.read_to_end(20)
    finally:
        reader.close()


def results(stack: Stack) -> set[tuple[int, int]]:
    """Partition and offset of each result that has a key: all are from this test, and well."""
    polled = read(stack, RESULTS)
    rows = zip(polled.places, polled.offsets, polled.keys, polled.values, strict=True)
    return {(place[1], at) for place, at, key, value in rows if key is not None and value and value != b"junk"}


def test_each_vector_is_kept_once_whoever_is_killed_and_whatever_lies_on_the_topic(stack: Stack, folder: Path) -> None:
    plain = KafkaSink(stack.address, None)
    for part in range(4):
        send(stack, folder, {f"doc {n}": text(n) for n in range(DOCUMENTS)[part::4]})
        plain.produce(OutRecords(RESULTS, [b"k", b"k", None], [b"junk", None, b""], [[], [], []]))
        plain.flush(10)
        stack.kill(f"{TASK}.vectors-0")
    send(stack, folder, {"doc 3": text(4000)})
    expected = results(stack)
    assert len(expected) == DOCUMENTS + 1
    until(lambda: len(table(stack)) >= len(expected), 60, "not all vectors were written")
    rows = table(stack)
    assert {(row["partition"], row["offset"]) for row in rows} == expected
    assert len(rows) == len(expected), "none twice"
    until(lambda: len(read(stack, LETTERS)) >= 12, 60, "what cannot be read becomes a dead letter")
    (first, *_) = near(stack, text(4000))
    assert first["key"] == "doc 3"
    assert first["cosine"] == pytest.approx(1.0, abs=1e-4)
    found = near(stack, text(3), DOCUMENTS + 10)
    assert len(found) == DOCUMENTS
    assert len({row["key"] for row in found}) == DOCUMENTS, "the last vector of each key"
    assert max(row["cosine"] for row in found if row["key"] == "doc 3") < 0.999
    until(lambda: bool(list((stack.home / "vectors").glob("*/*/_index/*/*/index.faiss"))), 60, "no index was written")
    assert len(table(stack)) == len(rows), "questions are kept nowhere"


def test_a_promoted_version_begins_an_index_of_its_own(stack: Stack, folder: Path) -> None:
    before = near(stack, text(9), DOCUMENTS)
    stack.training(["promote", TASK, f"folder:{folder / 'second'}", "--reason", "a test"])
    until(lambda: near(stack, text(9)) == [], 60, "the new version has no vectors yet")
    refused = stack.run("nearest", TASK, "--text", text(9))
    assert refused.returncode == 1
    assert "Each version has its own" in refused.stderr
    send(stack, folder, {"new": text(9), "newer": text(10)})
    until(lambda: len(near(stack, text(9), DOCUMENTS)) == 2, 60, "only its own vectors")
    assert near(stack, text(9))[0]["key"] == "new"
    assert len(before) == DOCUMENTS


def test_a_task_that_is_removed_keeps_its_vectors_unless_told(stack: Stack) -> None:
    kept = stack.home / "vectors" / TASK
    assert stack.run("tasks", "remove", TASK).returncode == 0
    assert kept.exists()
    assert not [line for line in stack.run("status").stdout.splitlines() if f"{TASK}.vectors-0" in line and "running" in line]
    assert stack.run("tasks", "remove", TASK, "--delete-data").returncode == 0
    assert not kept.exists()
    assert not [name for name in KafkaAdmin(stack.address).partitions() if name.startswith(TASK)]
    refused = stack.run("nearest", TASK, "--text", "x")
    assert (refused.returncode, "keeps no vectors" in refused.stderr) == (1, True), refused.stderr
