"""`python -m tests.support.provisioned`: what `./millrace topics --provision` makes, on a broker and a registry in memory. Each example is written to
its topic and read back; prints the topics."""

from __future__ import annotations

from infra.provision import specs
from schemas import avro
from schemas.codec import Decoder, Encoder
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
        record = topic.record.RECORD
        ids.register(topic.subject, avro.schema(record))
        for example in avro.examples(record).values():
            written = topic.record.from_dict(avro.from_json(example, avro.schema(record)))
            value = Encoder.of(topic, ids).encode_one(written)
            broker.append(OutRecords(topic.name, [b"key"], [value], [[]]), None)
            _, errors = Decoder.of(topic, ids).decode([value])
            assert not errors, errors
    print(" ".join(sorted(broker.partitions)))


if __name__ == "__main__":
    main()
