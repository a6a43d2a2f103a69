"""The topics of the rollout controller on a real broker, behind `rollout.Topics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
MOST_POLLS = 200  # of one topic at a look: what is left comes at the next
UNUSED_LOOKS = 5  # after so many others, a stretch that nobody asks for is let go


@dataclass
class _Stretch:
    evidence: Evidence
    readers: list[tuple[KafkaBroadcast, Followed[None]]]  # of the log and the labels
    unused: int = 0

    def close(self) -> None:
        for reader, _ in self.readers:
            reader.close()


class KafkaTopics:
    def __init__(self, address: KafkaAddress, ids: SchemaIds, clock: Clock, worker: str) -> None:
        self._address, self._ids, self._clock, self._worker = address, ids, clock, worker
        self._updates = followed(KafkaBroadcast(address, MODEL_UPDATES.name, clock), ids)
        self._acks = Followed(KafkaBroadcast(address, SWAP_ACKS.name, clock), Readable(SWAP_ACKS, ids, SwapAck.from_dict))
        self._log = on_kafka(address, ids, clock, worker)
        self._stretches: dict[int, _Stretch] = {}
        self._first = self._updates.read_to_end(READ_LIMIT_S), self._acks.read_to_end(READ_LIMIT_S)

    def updates(self) -> Sequence[ModelUpdate]:
        for stretch in self._stretches.values():
            stretch.unused += 1
        for from_ms in [at for at, one in self._stretches.items() if one.unused > UNUSED_LOOKS]:
            self._stretches.pop(from_ms).close()
        found = [*self._first[0], *self._updates.poll()]
        self._first[0].clear()
        return found

    def refusals(self) -> Sequence[SwapAck]:
        found = [*self._first[1], *self._acks.poll()]
        self._first[1].clear()
        return [ack for ack in found if not ack.accepted]

    def evidence(self, from_ms: int) -> Evidence:
        if from_ms not in self._stretches:
            evidence = Evidence()
            takes = ((PREDICTION_LOG, evidence.answers), (LABELS, evidence.label))
            self._stretches[from_ms] = _Stretch(evidence, [self._from(topic, take, from_ms) for topic, take in takes])
        stretch = self._stretches[from_ms]
        stretch.unused = 0
        for reader, records in stretch.readers:
            for _ in range(MOST_POLLS):
                polled = reader.wait(0.02)
                records.take(polled)
                if not len(polled):
                    break
        return stretch.evidence

    def _from(
        self, topic: Topic[Record], take: Callable[[dict[str, Any]], None], from_ms: int
    ) -> tuple[KafkaBroadcast, Followed[None]]:
        starts = KafkaAdmin(self._address).offsets_at([(topic.name, number) for number in range(topic.partitions)], from_ms)
        reader = KafkaBroadcast(self._address, topic.name, self._clock, starts)
        return reader, Followed(reader, Readable(topic, self._ids, take))

    def announce(self, update: ModelUpdate, after: ModelUpdate | None) -> bool:
        def decide(written: list[ModelUpdate]) -> ModelUpdate | None:
            last = next((one for one in reversed(written) if one.model == update.model), None)
            return update if last == after else None

        return self._log.change(decide) is not None

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
