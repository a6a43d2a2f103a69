"""`TopicAccess` of the rollout controller on a real broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from schemas.codec import SchemaIds
from schemas.generated import ModelUpdate, SwapAck
from schemas.topic_kinds import Record, Topic
from schemas.topics import LABELS, MODEL_UPDATES, PREDICTION_LOG, SWAP_ACKS
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.readable import Followed, Readable
from training_triggers.journal import Journal
from training_triggers.recorded.evidence import Evidence
from training_triggers.versions.compare_and_set import followed, on_kafka

READ_LIMIT_S = 30.0
MAX_POLLS = 200  # of one topic per look; the next look continues
MAX_UNUSED_LOOKS = 5  # then evidence that nobody requests is closed


@dataclass
class _EvidenceReader:
    evidence: Evidence
    readers: list[tuple[KafkaBroadcast, Followed[None]]]  # of the log and the labels
    unused_looks: int = 0

    def close(self) -> None:
        for reader, _ in self.readers:
            reader.close()


class KafkaTopics:
    def __init__(self, address: KafkaAddress, ids: SchemaIds, clock: Clock, worker: str) -> None:
        self._address, self._ids, self._clock, self._worker = address, ids, clock, worker
        self._updates = followed(KafkaBroadcast(address, MODEL_UPDATES.name, clock), ids)
        self._acks = Followed(KafkaBroadcast(address, SWAP_ACKS.name, clock), Readable(SWAP_ACKS, ids, SwapAck.from_dict))
        self._log = on_kafka(address, ids, clock, worker)
        self._evidence: dict[int, _EvidenceReader] = {}
        self._first_updates = self._updates.read_to_end(READ_LIMIT_S)
        self._first_acks = self._acks.read_to_end(READ_LIMIT_S)

    def updates(self) -> Sequence[ModelUpdate]:
        first, self._first_updates = self._first_updates, []
        return [*first, *self._updates.poll()]

    def refusals(self) -> Sequence[SwapAck]:
        first, self._first_acks = self._first_acks, []
        return [ack for ack in (*first, *self._acks.poll()) if not ack.accepted]

    def close_unused(self) -> None:
        for reader in self._evidence.values():
            reader.unused_looks += 1
        for from_ms in [at_ms for at_ms, reader in self._evidence.items() if reader.unused_looks > MAX_UNUSED_LOOKS]:
            self._evidence.pop(from_ms).close()

    def evidence(self, from_ms: int) -> Evidence:
        if from_ms not in self._evidence:
            evidence = Evidence()
            takes = ((PREDICTION_LOG, evidence.answers), (LABELS, evidence.label))
            self._evidence[from_ms] = _EvidenceReader(evidence, [self._from(topic, take, from_ms) for topic, take in takes])
        held = self._evidence[from_ms]
        held.unused_looks = 0
        for reader, records in held.readers:
            for _ in range(MAX_POLLS):
                polled = reader.wait(0.02)
                records.take(polled)
                if not len(polled):
                    break
        return held.evidence

    def _from(
        self, topic: Topic[Record], take: Callable[[dict[str, Any]], None], from_ms: int
    ) -> tuple[KafkaBroadcast, Followed[None]]:
        starts = KafkaAdmin(self._address).offsets_at([(topic.name, number) for number in range(topic.partitions)], from_ms)
        reader = KafkaBroadcast(self._address, topic.name, self._clock, starts)
        return reader, Followed(reader, Readable(topic, self._ids, take))

    def announce(self, update: ModelUpdate, after: ModelUpdate | None) -> bool:
        def decide(written: list[ModelUpdate]) -> ModelUpdate | None:
            last = next((other for other in reversed(written) if other.model == update.model), None)
            return update if last == after else None

        return self._log.change(decide) is not None

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None:
        with closing(Journal.on_kafka(self._address, self._ids, self._clock, self._worker)) as journal:
            journal.write(run_key, model, kind, words, facts)

    def close(self) -> None:
        for reader in self._evidence.values():
            reader.close()
        self._updates.close()
        self._acks.close()
