"""Converts bytes on a topic to columns and back, in the Confluent wire format: a zero byte, the schema's id in four bytes,
Avro.

This module only looks up schema ids. Only provisioning (`infra`) registers schemas.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from typing import Any, Protocol

import fastavro

from schemas import avro
from schemas.columns import Columns
from schemas.decoding import decode, decode_one
from schemas.encoding import Constant, Input, encode
from schemas.errors import UndecodableRecord
from schemas.topic_kinds import Record, Topic
from schemas.writer_schemas import MOST_VALUES, writer_of

_HEAD = struct.Struct(">bI")
HEAD_BYTES = _HEAD.size


class SchemaIds(Protocol):
    """The part of the schema registry that the codec needs. Every call has a time limit; answers are cached."""

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        """Raises UndecodableRecord if the id does not exist, RetryLater if the registry does not answer."""
        ...

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        """Raises SchemaRefused if the schema is not provisioned under the subject."""
        ...

    def ids_under(self, subject: str, *, anew: bool) -> Collection[int]:
        """The ids of a subject's versions that are cached. anew: ask the registry for versions that were added since the last
        call. Raises RetryLater if the registry does not answer."""
        ...


def head(schema_id: int) -> bytes:
    return _HEAD.pack(0, schema_id)


def schema_id_of(value: bytes | None) -> int:
    """Raises UndecodableRecord if the value does not start as the wire format requires."""
    if value is None:
        raise UndecodableRecord("the value is null")
    if len(value) < HEAD_BYTES:
        raise UndecodableRecord(f"the value has {len(value)} bytes; the wire format starts with {HEAD_BYTES}")
    magic, schema_id = _HEAD.unpack_from(value)
    if magic != 0:
        raise UndecodableRecord(f"the value starts with byte {value[0]:#04x}, not with the wire format's zero")
    return int(schema_id)


class Decoder:
    """Values of one topic as columns of the record's newest schema, whichever version wrote them.

    subject: that of the topic. Values written with a schema of another subject are refused, because nobody checked that schema
    for compatibility; all unregistered ids of a batch cost one call to the registry. Without a subject every schema is
    accepted.
    most_values: limit for one record, see `schemas.writer_schemas`."""

    def __init__(self, record: str, registry: SchemaIds, subject: str = "", most_values: int = MOST_VALUES) -> None:
        self._reader = avro.schema(record)
        self._registry, self._subject, self._most_values = registry, subject, most_values

    @classmethod
    def of(cls, topic: Topic[Record], registry: SchemaIds, most_values: int = MOST_VALUES) -> Decoder:
        """A decoder for a topic of the catalogue."""
        return cls(topic.record_name, registry, topic.subject, most_values)

    def decode(self, values: Sequence[bytes | None]) -> tuple[Columns, dict[int, UndecodableRecord]]:
        """Columns of the decodable rows, in order, and the error of every other row by its index.

        Raises RetryLater if an id is not cached and the registry does not answer.
        """
        heads = {value[:HEAD_BYTES] for value in values if value is not None}
        if len(heads) == 1:
            (common,), bodies = heads, [value[HEAD_BYTES:] for value in values if value is not None]
            if len(common) == HEAD_BYTES and common[0] == 0 and len(bodies) == len(values):
                return self._decode_all(schema_id_of(common), bodies)
        rows: dict[int, list[int]] = {}
        failures: dict[int, UndecodableRecord] = {}
        for row, value in enumerate(values):
            try:
                rows.setdefault(schema_id_of(value), []).append(row)
            except UndecodableRecord as error:
                failures[row] = error
        return self._decode_mixed(values, rows, failures)

    def _writers(self, schema_ids: Collection[int]) -> dict[int, dict[str, Any] | UndecodableRecord]:
        """The schema of each id without its logical types, or the reason why it is not accepted."""
        writers: dict[int, dict[str, Any] | UndecodableRecord] = {}
        foreign: set[int] = set()
        if self._subject:
            foreign = set(schema_ids).difference(self._registry.ids_under(self._subject, anew=False))
            if foreign:
                foreign.difference_update(self._registry.ids_under(self._subject, anew=True))
        for schema_id in schema_ids:
            try:
                if schema_id in foreign:
                    raise UndecodableRecord(f"schema {schema_id} is not a version of {self._subject}")
                writers[schema_id] = writer_of(self._registry.schema_of(schema_id)).plain
            except UndecodableRecord as error:
                writers[schema_id] = error
        return writers

    def _decode_all(self, schema_id: int, bodies: list[bytes]) -> tuple[Columns, dict[int, UndecodableRecord]]:
        (writer,) = self._writers([schema_id]).values()
        if isinstance(writer, UndecodableRecord):
            return Columns(0, {}), dict.fromkeys(range(len(bodies)), writer)
        return decode(bodies, writer, self._reader, self._most_values)

    def _decode_mixed(
        self, values: Sequence[bytes | None], rows: dict[int, list[int]], failures: dict[int, UndecodableRecord]
    ) -> tuple[Columns, dict[int, UndecodableRecord]]:
        """For several versions in one batch: finds the bad rows, then reads the good ones as one version."""
        records: dict[int, dict[str, Any]] = {}
        for schema_id, writer in self._writers(rows).items():
            for row in rows[schema_id]:
                value = values[row]
                assert value is not None
                try:
                    if isinstance(writer, UndecodableRecord):
                        raise writer
                    records[row] = decode_one(value[HEAD_BYTES:], writer, self._reader, self._most_values)
                except UndecodableRecord as error:
                    failures[row] = error
        ordered = [records[row] for row in sorted(records)]
        names = [field["name"] for field in self._reader["fields"]]
        bodies = encode({name: [record[name] for record in ordered] for name in names}, len(ordered), self._reader)
        return decode(bodies, self._reader, self._reader)[0], failures


class Encoder:
    """Encodes columns as values of one topic."""

    def __init__(self, record: str, subject: str, registry: SchemaIds) -> None:
        self._schema = avro.schema(record)
        self._head = head(registry.id_of(subject, self._schema))

    @classmethod
    def of(cls, topic: Topic[Record], registry: SchemaIds) -> Encoder:
        """An encoder for a topic of the catalogue. Raises SchemaRefused if its schema is not provisioned."""
        return cls(topic.record_name, topic.subject, registry)

    def encode(self, columns: Mapping[str, Input], n: int) -> list[bytes]:
        """n values of the topic. columns: by field, of shape (n,) each. See `schemas.encoding.encode`."""
        return encode(columns, n, self._schema, self._head)

    def encode_one(self, record: Any) -> bytes:
        """One generated dataclass, for side streams and clients."""
        return self.encode({name: Constant(value) for name, value in asdict(record).items()}, 1)[0]


def read_any(value: bytes | None, registry: SchemaIds) -> dict[str, Any]:
    """One value, decoded with the schema that wrote it: for people and side streams. Raises UndecodableRecord, RetryLater."""
    schema_id = schema_id_of(value)
    assert value is not None
    writer = registry.schema_of(schema_id)
    return decode_one(value[HEAD_BYTES:], writer, writer)


def write_any(record: Mapping[str, Any], schema: dict[str, Any], schema_id: int) -> bytes:
    """One value, written with any schema: for people. Written as a whole, because a field may refer to a type that another
    field defines. Raises ValueError if it does not fit."""
    out = BytesIO()
    try:
        fastavro.schemaless_writer(out, avro.parsed(schema), record, strict=True)
    except Exception as error:  # fastavro raises many kinds of errors for values that do not fit
        raise ValueError(f"not a {schema['name']}: {type(error).__name__} {error}") from error
    return head(schema_id) + out.getvalue()
