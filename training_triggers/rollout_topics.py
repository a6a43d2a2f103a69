"""The topics of the rollout controller on a real broker, behind `rollout.Topics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.codec import SchemaIds, read_any
from schemas.generated import ModelUpdate, SwapAck
from schemas.topics import LABELS, MODEL_UPDATES, PREDICTION_LOG, SWAP_ACKS
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from training_triggers.evidence import Evidence
from training_triggers.journal import Journal
from training_triggers.promotion import write

MOST_POLLS = 200  # of one topic at a look: what is left comes at the next
UNUSED_LOOKS = 5  # after so many others, a stretch that nobody asks for is let go


@dataclass
class _Stretch:
    evidence: Evidence
    log: KafkaBroadcast
    labels: KafkaBroadcast
    unused: int = 0

    def close(self) -> None:
        self.log.close()
        self.labels.close()


class KafkaTopics:
    def __init__(self, address: KafkaAddress, ids: SchemaIds, clock: Clock, worker: str) -> None:
        self._address, self._ids, self._clock, self._worker = address, ids, clock, worker
        self._updates = KafkaBroadcast(address, MODEL_UPDATES.name, clock)
        self._acks = KafkaBroadcast(address, SWAP_ACKS.name, clock)
        self._sink = KafkaSink(address, None)
        self._stretches: dict[int, _Stretch] = {}
        self._announced: set[tuple[str, int]] = set()
        self._first = [self._read(self._updates.read_to_end(30.0).values), self._read(self._acks.read_to_end(30.0).values)]

    def _read(self, values: Sequence[bytes | None]) -> list[dict[str, Any]]:
        return [read_any(value, self._ids) for value in values]

    def _new(self, number: int, reader: KafkaBroadcast) -> list[dict[str, Any]]:
        first, self._first[number] = self._first[number], []
        return first + self._read(reader.poll().values)

    def updates(self) -> Sequence[ModelUpdate]:
        for stretch in self._stretches.values():
            stretch.unused += 1
        for from_ms in [at for at, one in self._stretches.items() if one.unused > UNUSED_LOOKS]:
            self._stretches.pop(from_ms).close()
        found = [ModelUpdate.from_dict(one) for one in self._new(0, self._updates)]
        return [one for one in found if (one.model, one.decided_ms) not in self._announced]

    def refusals(self) -> Sequence[SwapAck]:
        return [ack for ack in map(SwapAck.from_dict, self._new(1, self._acks)) if not ack.accepted]

    def evidence(self, from_ms: int) -> Evidence:
        if from_ms not in self._stretches:
            log, labels = (self._from(topic.name, topic.partitions, from_ms) for topic in (PREDICTION_LOG, LABELS))
            self._stretches[from_ms] = _Stretch(Evidence(), log, labels)
        stretch = self._stretches[from_ms]
        stretch.unused = 0
        for reader, take in ((stretch.log, stretch.evidence.answers), (stretch.labels, stretch.evidence.label)):
            for _ in range(MOST_POLLS):
                values = reader.wait(0.02).values
                for record in self._read(values):
                    take(record)
                if not values:
                    break
        return stretch.evidence

    def _from(self, topic: str, partitions: int, from_ms: int) -> KafkaBroadcast:
        starts = KafkaAdmin(self._address).offsets_at([(topic, number) for number in range(partitions)], from_ms)
        return KafkaBroadcast(self._address, topic, self._clock, starts)

    def announce(self, update: ModelUpdate) -> None:
        write(update, self._sink, self._ids, self._worker)
        self._announced.add((update.model, update.decided_ms))

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None:
        journal = Journal(self._address, self._ids, self._clock, run_key, model, self._worker)
        try:
            journal.write(kind, words, facts=facts)
        finally:
            journal.close()

    def close(self) -> None:
        for stretch in self._stretches.values():
            stretch.close()
        self._updates.close()
        self._acks.close()
        self._sink.close()
