"""Results of an embedding task as rows of a table: each with the record's key, its vector, and what made it.

Each space, which is a model with the options that change its vectors, has a folder of its own, and so has each width: vectors that
cannot be compared never lie in one file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.codec import Decoder, SchemaIds
from schemas.errors import InvalidRequest
from schemas.topic_kinds import Record, Topic
from streams.archived.parquet_step import Read
from streams.loop.outcome import Emit, Reject, rejects
from streams.metrics import Metrics
from streams.rows import Rows

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("model", pa.string()),
        ("version", pa.string()),
        ("space", pa.string()),
        ("request_id", pa.string()),
        ("appended_ms", pa.int64()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)
SPACE = re.compile(r"[0-9a-f]{16}")
MOST_WIDTH = 65_536


def folder_of(root: Path, task: str, topic_id: str) -> Path:
    """The files of one topic of results. topic_id: a topic that is made again counts its offsets from 0 again, so its files lie apart."""
    return root / task / topic_id.replace("/", "_")  # it is base64


def space_folder(space: str, width: int) -> str:
    return f"space={space}-{width}"


class ResultVectors:
    """Reads batches of results. What has no vector is passed over and counted by its cause; a vector that cannot be one is refused."""

    def __init__(self, topic: Topic[Record], ids: SchemaIds, metrics: Metrics) -> None:
        self._decoder, self._metrics = Decoder.of(topic, ids), metrics

    def read(self, batch: Rows) -> Read:
        columns, errors = self._decoder.decode(batch.values)
        ended = rejects(batch, errors, "decode")
        rows = batch.without(errors)
        records = columns.records()
        good, passed = [], []
        for row, (record, key) in enumerate(zip(records, rows.keys, strict=True)):
            if cause := _no_vector(record, key):
                self._metrics.add("no_vector", 1, cause=cause)
                passed.append(row)
            elif problem := misfit(record, key):
                ended.append(Reject(rows.take([row]), InvalidRequest(problem), "vector"))
            else:
                good.append(row)
        if passed:
            ended.append(Emit(rows.take(passed)))
        kept, records = rows.take(good), [records[row] for row in good]
        return Read(ended, kept, _columns(records, kept.keys), [_folder(record) for record in records])


def _no_vector(record: Mapping[str, Any], key: bytes | None) -> str:
    """Why a result is passed over; empty if it is not."""
    if record["status"] != "ok":
        return str(record["status"]) if record["status"] in ("refused", "expired", "failed", "busy") else "other"
    if key is None:
        return "no key"
    return "" if record["space"] else "no space"  # its worker was older than spaces


def misfit(record: Mapping[str, Any], key: bytes | None) -> str:
    """What keeps a result from being a vector with a key, as a sentence; empty if nothing does."""
    try:
        (key or b"").decode()
    except UnicodeDecodeError:
        return "its key is not UTF-8"
    if not SPACE.fullmatch(record["space"]):
        return f"its space is {record['space'][:40]!r}; a space is 16 hexadecimal digits"
    vector = record["embedding"]
    if not 0 < len(vector) <= MOST_WIDTH:
        return f"its vector has {len(vector)} numbers; 1 to {MOST_WIDTH} are taken"
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        return f"its vector has length {length}, so it has no direction"
    return ""


def _columns(records: Sequence[Mapping[str, Any]], keys: Sequence[bytes | None]) -> dict[str, list[Any]]:
    models = [record["models"][0] if record["models"] else {"name": "", "version": ""} for record in records]
    return {
        "key": [(key or b"").decode() for key in keys],
        "vector": [record["embedding"] for record in records],
        "model": [model["name"] for model in models],
        "version": [model["version"] for model in models],
        "space": [record["space"] for record in records],
        "request_id": [record["request_id"] for record in records],
    }


def _folder(record: Mapping[str, Any]) -> str:
    return space_folder(record["space"], len(record["embedding"]))
