"""Every metric: name with its unit, kind, help. Processes serve them for Prometheus; the dashboards are generated from this catalogue.

Each loop has its own `Metrics` (no globals), so several can run in one process; labels distinguish them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    kind: Kind
    exported: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

CATALOGUE: Final[dict[str, Metric]] = {
    "records_in": Metric(Kind.COUNTER, "millrace_records_in_total", "Records polled from request and retry topics."),
    "records_out": Metric(Kind.COUNTER, "millrace_records_out_total", "Records committed: results, logs, dead letters."),
    "batches": Metric(Kind.COUNTER, "millrace_batches_total", "Batches given to the step."),
    "dead_letters": Metric(Kind.COUNTER, "millrace_dead_letters_total", "Records written to the dead-letter topic.", ("code",)),
    "retries": Metric(Kind.COUNTER, "millrace_retries_total", "Records that failed and will be tried again."),
    "expired": Metric(Kind.COUNTER, "millrace_expired_total", "Requests whose deadline passed before they were computed."),
    "passed_over": Metric(
        Kind.COUNTER,
        "millrace_passed_over_total",
        "Records of internal topics that were skipped because they cannot be read.",
        ("topic",),
    ),
    "no_vector": Metric(
        Kind.COUNTER, "millrace_no_vector_total", "Results that the sink of an embedding task passed over, by cause.", ("cause",)
    ),
    "late_labels": Metric(Kind.COUNTER, "millrace_late_labels_total", "Labels that came too late for the join with predictions."),
    "late_events": Metric(Kind.COUNTER, "millrace_late_events_total", "Events older than the allowed lateness."),
    "features_amiss": Metric(
        Kind.COUNTER, "millrace_features_amiss_total", "Requests whose features were stale, missing or unreachable.", ("state",)
    ),
    "blobs_written": Metric(Kind.COUNTER, "millrace_feature_blobs_written_total", "Feature blobs written to the online store."),
    "blobs_refused": Metric(
        Kind.COUNTER,
        "millrace_feature_blobs_refused_total",
        "Feature blobs that the online store refused because it has a newer one.",
    ),
    "blobs_impossible": Metric(
        Kind.COUNTER,
        "millrace_feature_blobs_impossible_total",
        "Entities that were not written because their values do not fit a blob.",
    ),
    "blobs_waiting": Metric(Kind.GAUGE, "millrace_feature_blobs_waiting", "Entities whose newest values are not written yet."),
    "freshness_seconds": Metric(
        Kind.HISTOGRAM,
        "millrace_feature_freshness_seconds",
        "Time from the append of a tile to the write of its blob.",
        buckets=_SECONDS,
    ),
    "aborts": Metric(Kind.COUNTER, "millrace_aborts_total", "Transactions that were aborted."),
    "rebalances": Metric(Kind.COUNTER, "millrace_rebalances_total", "Partition assignments received from the group."),
    "standing_partitions": Metric(
        Kind.GAUGE,
        "millrace_standing_partitions",
        "Partitions whose committed offset does not move although there are records to read.",
    ),
    "healings": Metric(
        Kind.COUNTER,
        "millrace_healings_total",
        "Times that a partition stood still and was read again from its committed offset.",
    ),
    "lost_records": Metric(Kind.COUNTER, "millrace_lost_records_total", "Records that retention deleted before they were read."),
    "swaps": Metric(Kind.COUNTER, "millrace_model_swaps_total", "Model versions swapped in or refused.", ("outcome",)),
    "updates_unreadable": Metric(
        Kind.COUNTER, "millrace_model_updates_unreadable_total", "Model updates that were skipped because they can never be read."
    ),
    "batch_size": Metric(Kind.HISTOGRAM, "millrace_batch_rows", "Number of records in a batch.", buckets=_SIZES),
    "step_seconds": Metric(Kind.HISTOGRAM, "millrace_step_seconds", "Time that the step takes for a batch.", buckets=_SECONDS),
    "commit_seconds": Metric(Kind.HISTOGRAM, "millrace_commit_seconds", "Time that a commit takes.", buckets=_SECONDS),
    "queue_seconds": Metric(
        Kind.HISTOGRAM,
        "millrace_queue_seconds",
        "Time from the broker's timestamp of a request to the start of its batch.",
        buckets=_SECONDS,
    ),
    "chat_running": Metric(Kind.GAUGE, "millrace_chat_running", "Answers that are being made."),
    "chat_waiting": Metric(Kind.GAUGE, "millrace_chat_waiting", "Chat requests in the engine's queue."),
    "chat_kv_tokens": Metric(Kind.GAUGE, "millrace_chat_kv_tokens", "Positions of the KV cache that answers hold."),
    "chat_kv_cached_tokens": Metric(
        Kind.GAUGE, "millrace_chat_kv_cached_tokens", "Positions of the KV cache kept for later prompts alone."
    ),
    "chat_kv_limit_tokens": Metric(Kind.GAUGE, "millrace_chat_kv_limit_tokens", "Positions of the KV cache, all."),
    "chat_tokens": Metric(Kind.COUNTER, "millrace_chat_tokens_total", "Tokens that were made."),
    "chat_prompt_tokens": Metric(Kind.COUNTER, "millrace_chat_prompt_tokens_total", "Tokens of prompts."),
    "chat_prefix_hit_tokens": Metric(
        Kind.COUNTER, "millrace_chat_prefix_hit_tokens_total", "Tokens of prompts that the prefix cache held."
    ),
    "chat_preemptions": Metric(
        Kind.COUNTER, "millrace_chat_preemptions_total", "Answers that gave up their KV cache to others, and went on later."
    ),
    "chat_first_token_seconds": Metric(
        Kind.HISTOGRAM,
        "millrace_chat_first_token_seconds",
        "Time from the broker's timestamp of a request to the first token of its answer.",
        buckets=_SECONDS,
    ),
    "held_partitions": Metric(
        Kind.GAUGE, "millrace_held_partitions", "Partitions that are paused by a failure, stopped, or stand still."
    ),
    "in_flight": Metric(
        Kind.GAUGE, "millrace_in_flight_records", "Records that were polled and not yet written to a transaction."
    ),
}


class _Histogram:
    __slots__ = ("buckets", "counts", "edges", "sum")

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets, self.edges = buckets, np.array(buckets)
        self.counts = np.zeros(len(buckets) + 1, np.int64)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.buckets, value)] += 1
        self.sum += value

    def observe_all(self, values: Sequence[float] | npt.NDArray[Any]) -> None:
        self.counts += np.bincount(np.searchsorted(self.edges, values), minlength=len(self.counts))
        self.sum += float(np.sum(values))


class Metrics:
    """Counters, gauges and histograms of one loop; a Prometheus collector. Only names of the catalogue are allowed."""

    def __init__(self, **labels: str) -> None:
        self._labels = labels
        self._numbers: dict[tuple[str, tuple[str, ...]], float] = {}
        self._histograms: dict[str, _Histogram] = {}
        self._lock = Lock()

    def add(self, name: str, amount: float, **labels: str) -> None:
        key = (name, tuple(labels[label] for label in CATALOGUE[name].labels))
        with self._lock:
            self._numbers[key] = self._numbers.get(key, 0.0) + amount

    def set(self, name: str, value: float) -> None:
        with self._lock:
            self._numbers[name, ()] = value

    def observe(self, name: str, value: float) -> None:
        with self._lock:
            self._histogram(name).observe(value)

    def observe_all(self, name: str, values: Sequence[float] | npt.NDArray[Any]) -> None:
        """values: any number of observations, shape (n,)."""
        with self._lock:
            self._histogram(name).observe_all(values)

    def _histogram(self, name: str) -> _Histogram:
        histogram = self._histograms.get(name)
        if histogram is None:
            histogram = self._histograms[name] = _Histogram(CATALOGUE[name].buckets)
        return histogram

    def total(self, name: str) -> float:
        """Sum over all labels."""
        with self._lock:
            return sum(value for (counted, _), value in self._numbers.items() if counted == name)

    def sum_of(self, name: str) -> float:
        """Sum of all values that a histogram observed."""
        with self._lock:
            histogram = self._histograms.get(name)
            return 0.0 if histogram is None else histogram.sum

    def collect(self) -> Iterator[Any]:
        """All metrics, as prometheus_client reads a collector."""
        names, values = tuple(self._labels), tuple(self._labels.values())
        with self._lock:
            numbers = dict(self._numbers)
            histograms = {name: (h.counts.copy(), h.edges, h.sum) for name, h in self._histograms.items()}
        for name, metric in CATALOGUE.items():
            if metric.kind is Kind.HISTOGRAM:
                if name in histograms:
                    counts, edges, total = histograms[name]
                    histogram = HistogramMetricFamily(metric.exported, metric.help, labels=names)
                    histogram.add_metric(values, _cumulative(counts, edges), total)
                    yield histogram
                continue
            numbered: Any = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            family = numbered(metric.exported.removesuffix("_total"), metric.help, labels=(*names, *metric.labels))
            for (counted, labels), value in numbers.items():
                if counted == name:
                    family.add_metric((*values, *labels), value)
            yield family


def _cumulative(counts: Any, edges: Iterable[float]) -> list[tuple[str, float]]:
    sums = np.cumsum(counts).tolist()
    return [(str(edge), total) for edge, total in zip([*edges, "+Inf"], sums, strict=True)]
