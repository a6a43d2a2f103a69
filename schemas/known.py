"""Records of one kind among all that may lie on a topic: anybody who may write there may write a null, junk or another record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas import avro
from schemas.codec import HEAD_BYTES, SchemaIds, schema_id_of
from schemas.decoding import decode_one
from schemas.errors import UndecodableRecord
from schemas.writers import writer_of


def known(values: Iterable[bytes | None], record: str, ids: SchemaIds) -> list[tuple[int, dict[str, Any]]]:
    """Row and record of each value that is one of these, by our newest schema of it; all others are passed over. For commands and
    side streams, which must go on whatever lies there. Raises RetryLater where the registry does not answer."""
    reader = avro.schema(record)
    found = []
    for row, value in enumerate(values):
        try:
            writer = writer_of(ids.schema_of(schema_id_of(value))).plain
            if value is not None and str(writer.get("name")).rpartition(".")[2] == reader["name"]:
                found.append((row, decode_one(value[HEAD_BYTES:], writer, reader)))
        except UndecodableRecord:
            continue
    return found
