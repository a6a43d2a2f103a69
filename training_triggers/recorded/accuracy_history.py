"""A model's accuracy over time: the prediction log joined with the labels, by the time of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from schemas.topic_kinds import Record, Topic
from schemas.topics import LABELS, PREDICTION_LOG
from schemas.vocabulary import Arm
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import since
from streams.readable import Readable
from streams.schema_registry import Registry
from training_triggers.recorded.judgement import decided, is_right
from training_triggers.recorded.truth import RequestLabels, labels_of, with_label
from training_triggers.settings import TriggerSettings

BINS = 60


def over_time(settings: TriggerSettings, model: str, hours: float) -> dict[str, Any]:
    """at_ms, n, right: for each of BINS equal parts of that time, its start, its labelled answers to callers, and how many were
    right; versions: those that gave the answers, separated by commas. Raises BrokerUnavailable."""
    address, ids, now_ms = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry), SystemClock().now_ms()
    from_ms = now_ms - int(hours * 3_600_000)

    def records(topic: Topic[Record]) -> Iterator[dict[str, Any]]:
        readable = Readable(topic, ids, dict)
        for part in since(address, topic.name, range(topic.partitions), from_ms, SystemClock()):
            yield from readable.of(part)

    truth: dict[str, RequestLabels] = {}
    for label in records(LABELS):
        told = with_label(truth.get(label["request_id"]), label)
        if told is not None:
            truth[label["request_id"]] = told
    n, right = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    versions: list[set[str]] = [set() for _ in range(BINS)]
    wide_ms = (now_ms - from_ms) / BINS
    for batch in records(PREDICTION_LOG):
        if batch["model"] != model or batch["arm"] == Arm.SHADOW or not batch["output_names"]:
            continue
        bin_ = min(BINS - 1, max(0, int((batch["started_ms"] - from_ms) / wide_ms)))
        try:
            told = decided(batch, len(batch["request_ids"])).tolist()
            parts = batch["parts"] or [""] * len(told)
        except (ValueError, TypeError):
            continue  # no worker writes such a record
        for request_id, part, said in zip(batch["request_ids"], parts, told, strict=False):
            found = is_right(said, batch["output_names"], labels_of(truth.get(request_id)).of(part))
            if found is not None:
                n[bin_] += 1
                right[bin_] += found
                versions[bin_].add(batch["version"])
    return {
        "model": model,
        "at_ms": [int(from_ms + i * wide_ms) for i in range(BINS)],
        "n": n.tolist(),
        "right": right.tolist(),
        "versions": [", ".join(sorted(one)) for one in versions],
    }
