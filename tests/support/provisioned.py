"""`python -m tests.support.provisioned`: does the same as `./millrace topics --provision`, on a broker and a registry in
memory. Each example is written to its topic and read back; prints the topics."""

from __future__ import annotations

from infra.provision import specs
from schemas import avro
from schemas.codec import Decoder, write_any
from schemas.topics import CATALOGUE
from streams.clock import ManualClock
from streams.memory.cluster import MemoryBroker
from streams.rows import OutRecords
from streams.schema_registry import MemoryRegistry


def main() -> None:
    broker, ids = MemoryBroker(ManualClock()), MemoryRegistry()
    for spec in specs():
        broker.create(spec.name, spec.partitions)
    for topic in CATALOGUE:
        if topic.record is None:
            continue
        schema = avro.schema(topic.record.RECORD)
        schema_id = ids.register(topic.subject, schema)
        for example in avro.examples(topic.record.RECORD).values():
            value = write_any(avro.from_json(example, schema), schema, schema_id)
            broker.append(OutRecords(topic.name, [b"key"], [value], [[]]), None)
            _, errors = Decoder.of(topic, ids).decode([value])
            assert not errors, errors
    print(" ".join(sorted(broker.partitions)))


if __name__ == "__main__":
    main()
