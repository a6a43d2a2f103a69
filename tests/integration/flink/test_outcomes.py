"""Predictions joined with labels in Flink, while its processes are killed: each pair once, whichever side came first."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from schemas.codec import Encoder
from schemas.encoding import Constant
from schemas.generated import Label
from schemas.topics import LABEL_HORIZON_MS, LABELS, LABELS_TIMELY, PREDICTION_LOG, PREDICTION_OUTCOMES
from streams.ids import uuid7
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from tests.support.stack import Stack
from tests.support.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
NAMES = ["ham", "spam"]
SETTLE_LIMIT_S = 150.0


class Said:
    """Predictions and labels in an order of their own, and the pairs that must come of them."""

    def __init__(self, seed: int) -> None:
        chance, now_ms = random.Random(seed), int(time.time() * 1000)
        self.outputs: dict[tuple[str, ...], list[float]] = {}
        self.batches: list[list[tuple[str, ...]]] = []
        self.labels: list[Label] = []
        old_ms = now_ms - LABEL_HORIZON_MS - 3_600_000
        for number in range(120):
            model, version, arm = f"model-{number % 3}", str(1 + number % 2), chance.choice(["live", "canary"])
            batch: list[tuple[str, ...]] = []
            for _ in range(chance.randint(1, 12)):
                request_id = uuid7(old_ms if chance.random() < 0.05 else now_ms)
                parts = ["text", "image 1"] if number % 5 == 0 else [""]
                batch += [(request_id, model, version, arm, part) for part in parts]
            for entry in batch:
                self.outputs[entry] = [round(chance.random(), 3), round(chance.random(), 3)]
            self.batches.append(batch)
        requests = sorted({entry[0] for entry in self.outputs})
        for request_id in [*chance.sample(requests, len(requests) * 2 // 3), *(uuid7(now_ms) for _ in range(20))]:
            for source in chance.sample(["review", "buyer"], chance.choice([1, 1, 2])):
                for repeat in range(chance.choice([1, 1, 3])):
                    self.labels.append(
                        Label(
                            request_id=request_id,
                            source=source,
                            task="test",
                            truth={"spam": chance.random() < 0.5},
                            note=str(repeat),
                            labelled_ms=now_ms + repeat,
                        )
                    )
        self.late = {label.request_id for label in self.labels if _is_old(label.request_id, now_ms)}

    def pairs(self, batches: int, labels: int) -> Counter[tuple[Any, ...]]:
        """What comes of so many of each."""
        first: dict[str, dict[str, Label]] = {}
        for label in self.labels[:labels]:
            if label.request_id not in self.late:
                first.setdefault(label.request_id, {}).setdefault(label.source, label)
        return Counter(
            (*entry, *np.array(self.outputs[entry], "<f4").tolist(), source, label.truth["spam"], label.labelled_ms)
            for batch in self.batches[:batches]
            for entry in batch
            for source, label in first.get(entry[0], {}).items()
        )


def _is_old(request_id: str, now_ms: int) -> bool:
    return int(request_id.replace("-", "")[:12], 16) < now_ms - LABEL_HORIZON_MS


class Writer:
    def __init__(self, stack: Stack) -> None:
        self._log = Encoder.of(PREDICTION_LOG, stack.registry)
        self._label = Encoder.of(LABELS, stack.registry)
        self._plain, self._transactional = KafkaSink(stack.address, None), KafkaSink(stack.address, f"test-{uuid7(1)}")

    def batch(
        self, said: Said, entries: list[tuple[str, ...]], *, aborted: bool = False, outputs: list[float] | None = None
    ) -> None:
        found = np.array([outputs or said.outputs[entry] for entry in entries], "<f4")
        n = len(entries)
        columns = {
            "worker": "w",
            "task": "test",
            "model": entries[0][1],
            "version": entries[0][2],
            "arm": entries[0][3],
            "started_ms": 5,
            "compute_ms": 1.0,
            "request_ids": [entry[0] for entry in entries],
            "origin_topic": "t",
            "origin_partitions": bytes(4 * n),
            "origin_offsets": bytes(8 * n),
            "outputs": found.tobytes(),
            "outputs_dtype": "<f4",
            "outputs_shape": [n, 2],
            "output_names": NAMES,
            "thresholds": np.array([0.5, 0.75], "<f4").tobytes(),
            "parts": [entry[4] for entry in entries] if any(entry[4] for entry in entries) else [],
        }
        (value,) = self._log.encode({name: Constant(value) for name, value in columns.items()}, 1)
        records = OutRecords(PREDICTION_LOG.name, [b"w"], [value], [[]])
        if not aborted:
            self._plain.produce(records)
            self._plain.flush(20)
            return
        self._transactional.begin()
        self._transactional.produce(records)
        self._transactional.flush(20)
        self._transactional.abort(20)

    def label(self, label: Label) -> None:
        value = self._label.encode_one(label)
        self._plain.produce(OutRecords(LABELS.name, [label.request_id.encode()], [value], [[]]))

    def flush(self) -> None:
        self._plain.flush(20)

    def close(self) -> None:
        self.flush()
        self._plain.close()
        self._transactional.close()


def test_each_prediction_meets_the_first_label_of_each_source_once_while_flink_is_killed(stack: Stack) -> None:
    said, writer = Said(11), Writer(stack)

    def found() -> Counter[tuple[Any, ...]]:
        return Counter(
            (
                r["request_id"],
                r["model"],
                r["version"],
                r["arm"],
                r["part"],
                *np.frombuffer(r["outputs"], r["outputs_dtype"]).tolist(),
                r["source"],
                r["truth"]["spam"],
                r["labelled_ms"],
            )
            for r in stack.records(PREDICTION_OUTCOMES.name)
            if r["task"] == "test"
        )

    def settled(batches: int, labels: int) -> None:
        expected = said.pairs(batches, labels)
        until(
            lambda: len(found()) >= len(expected),
            SETTLE_LIMIT_S,
            lambda: f"{len(found())} of {len(expected)}\n{stack.log_tails()}",
        )

    batches = labels = 0
    for victim in ("taskmanager", "validate+timely-0", "taskmanager", "jobmanager", "taskmanager"):
        settled(batches, labels)
        for batch in said.batches[batches : batches + 20]:
            writer.batch(said, batch, aborted=True, outputs=[9.0, 9.0])
            writer.batch(said, batch)
        writer.batch(said, batch, outputs=[8.0, 8.0])  # as an at-least-once worker repeats it: the first wins
        batches += 20
        more = len(said.labels) // 4  # ahead of their predictions at first; the last ones come behind
        for label in said.labels[labels : labels + more]:
            writer.label(label)
        writer.flush()
        labels += more
        time.sleep(2.5)  # pairs are out, and most likely no checkpoint is behind them
        stack.kill(victim)
    for batch in said.batches[batches:]:
        writer.batch(said, batch)
    for label in said.labels[labels:]:
        writer.label(label)
    writer.close()
    settled(len(said.batches), len(said.labels))
    time.sleep(8)  # a checkpoint later nothing more has come
    expected = said.pairs(len(said.batches), len(said.labels))
    assert len(expected) > 300
    assert found() == expected
    assert said.late
    timely = [r for r in stack.records(LABELS_TIMELY.name) if r["task"] == "test"]
    assert len(timely) == sum(label.request_id not in said.late for label in said.labels), "labels past the horizon go no further"
    (one, *_) = [r for r in stack.records(PREDICTION_OUTCOMES.name) if r["task"] == "test"]
    assert (one["output_names"], np.frombuffer(one["thresholds"], "<f4").tolist()) == (NAMES, [0.5, 0.75])
