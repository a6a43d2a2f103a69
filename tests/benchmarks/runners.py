"""The compared programs, each in a process of its own: our worker, a plain loop, and the best plain-Python loop.

All three write the same records: a result with the five CloudEvents headers for each request, one prediction-log record per
batch, offsets in the same transaction, one commit every 100 ms, `flush()` before it. Prints one JSON line.

`python -m tests.benchmarks.runners WHICH BOOTSTRAP REGISTRY GROUP COUNT HEAVY DELIVERY SLOT` (`commands.py`)
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from functools import partial
from io import BytesIO
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fastavro
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from inference_workers.media.reader import MediaReader
from inference_workers.worker import TaskProcessor
from processors.features.enrich import Enrich
from schemas import avro
from schemas.codec import head
from schemas.topics import PREDICTION_LOG
from streams.claim_checks import ClaimChecks
from streams.clock import SystemClock
from streams.daemon_thread import DaemonThread
from streams.ids import uuid7
from streams.kafka.config import KafkaAddress, consumer_config, producer_config
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.limits import Delivery, LoopLimits
from streams.loop.loop import Loop
from streams.loop.step import BatchStep
from streams.metrics import Metrics
from streams.process.shell import configure_logging, spare_the_collector
from streams.schema_registry import Registry
from streams.sinks_in_turn import sink_of_loop
from tests.benchmarks.mlp import REQUESTS, RESULTS, TensorTask, fixed
from tests.benchmarks.network import WIDTH, Mlp

BATCH = 256
COMMIT_S = 0.1
LIMIT_S = 300.0


class Timer:
    """Wall and CPU time from the first record to the last commit."""

    def __init__(self) -> None:
        self.started: tuple[float, float] | None = None

    def first(self) -> None:
        if self.started is None:
            self.started = (time.perf_counter(), _cpu_s())

    def report(self, count: int, parts: dict[str, float] | None = None) -> None:
        assert self.started is not None
        wall_s, cpu_s = time.perf_counter() - self.started[0], _cpu_s() - self.started[1]
        figures = {"records_s": count / wall_s, "cpu_us": cpu_s / count * 1e6, "wall_s": wall_s, "parts": parts or {}}
        print(json.dumps(figures), flush=True)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- ours ---------------------------------------------------------------------------------------------------------


def make_loop(bootstrap: str, registry: str, group: str, heavy: int, delivery: Delivery, slot: int) -> Loop:
    """The worker as `inference_workers.worker_loops` wires it, with the benchmark's task and a fixed model."""
    address, ids, clock, metrics, line = (
        KafkaAddress(bootstrap=bootstrap),
        Registry(registry),
        SystemClock(),
        Metrics(),
        CostLine(),
    )
    task = TensorTask(group)
    models, media = fixed(Mlp(heavy)), MediaReader(ClaimChecks(()))
    processor = TaskProcessor(task, models, media, Enrich((), None, clock, metrics), ids, clock, f"bench-{slot}", metrics)
    exactly_once = delivery is Delivery.EXACTLY_ONCE
    return Loop(
        consumption=task.consumption,
        source=KafkaSource(address, group, metrics),
        sink=sink_of_loop(partial(KafkaSink, address), f"{group}-{slot}" if exactly_once else None),
        step=BatchStep(processor, clock, line),
        batcher=Batcher(BatchLimits(max_rows=BATCH), line),
        clock=clock,
        limits=LoopLimits(delivery=delivery, commit_interval_ms=COMMIT_S * 1000),
        worker=f"bench-{slot}",
        metrics=metrics,
        background=DaemonThread("commit"),
    )


def ours(loop: Loop, count: int, profiled: bool) -> None:
    timer = Timer()
    parts = _profile(loop) if profiled else {}
    done = [0]
    committed = loop.assignment.committed

    def on_commit(positions: Any) -> None:
        committed(positions)
        done[0] = int(loop.metrics.total("records_in")) - loop.assignment.in_flight_records

    loop.assignment.committed = on_commit  # type: ignore[method-assign]
    until = time.perf_counter() + LIMIT_S

    def stopping() -> bool:
        if loop.metrics.total("records_in"):
            timer.first()
        if count and done[0] >= count:
            timer.report(count, parts)
            return True
        if loop.held_back:
            raise SystemExit(f"the worker holds back: {loop.held_back}")
        return time.perf_counter() > until

    loop.run(stopping)


def _profile(loop: Loop) -> dict[str, float]:
    """Seconds by stage, measured by wrapping the functions that each stage calls."""
    from schemas import codec

    parts = dict.fromkeys(("poll", "decode", "model", "encode", "produce", "commit"), 0.0)

    def timed(owner: Any, name: str, part: str) -> None:
        inner = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                parts[part] += time.perf_counter() - begun

        setattr(owner, name, wrapped)

    timed(loop.source, "poll", "poll")
    timed(codec.Decoder, "decode", "decode")
    timed(Mlp, "run", "model")
    timed(codec.Encoder, "encode", "encode")
    timed(loop.sink, "produce", "produce")
    timed(loop.sink, "commit", "commit")
    return parts


# --- the references -----------------------------------------------------------------------------------------------


def reference(bootstrap: str, registry: str, group: str, count: int, heavy: int, best: bool) -> None:
    """A consume-process-produce loop as a careful user of the client would write it; `best` reads and writes each batch in one
    codec call. `produce_batch` cannot carry headers."""
    address, ids = KafkaAddress(bootstrap=bootstrap), Registry(registry)
    request, result, log = avro.schema("tensor-request"), avro.schema("tensor-result"), avro.schema("prediction-log")
    heads = [head(ids.id_of(s, x)) for s, x in ((RESULTS.subject, result), (PREDICTION_LOG.subject, log))]
    reader, many = fastavro.parse_schema(request), fastavro.parse_schema({"type": "array", "items": request})
    writer, log_writer = fastavro.parse_schema(result), fastavro.parse_schema(log)
    consumer = Consumer({**consumer_config(address, group), "auto.offset.reset": "earliest", "enable.partition.eof": False})
    producer = Producer(producer_config(address, group))
    producer.init_transactions(30)
    consumer.subscribe([REQUESTS.name])
    model, timer = Mlp(heavy), Timer()
    fixed = [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"bench-0"),
        ("ce_type", b"millrace.tensor-result"),
        ("content-type", b"application/vnd.confluent.avro"),
    ]
    done, opened, batch_rows = 0, None, BATCH
    metadata = None
    while done < count:
        messages: list[Any] = consumer.consume(batch_rows, 0.05)
        if not messages:
            continue
        timer.first()
        started = time.perf_counter()
        if opened is None:
            producer.begin_transaction()
            opened, metadata = started, consumer.consumer_group_metadata()
        records: Any
        if best:
            joined = BytesIO(_varint(len(messages)) + b"".join([m.value()[5:] for m in messages]) + b"\0")
            records = fastavro.schemaless_reader(joined, many)
        else:
            records = [fastavro.schemaless_reader(BytesIO(m.value()[5:]), reader) for m in messages]
        x = np.frombuffer(b"".join([r["tensor"] for r in records]), "<f4").reshape(-1, WIDTH)
        before = time.perf_counter()
        logits = model(x).astype("<f4")
        compute_ms = (time.perf_counter() - before) * 1000
        request_ids = [dict(m.headers())["ce_id"].decode() for m in messages]
        now_ms = time.time() * 1000
        models = [{"name": "mlp", "version": "1", "arm": "live", "compute_ms": compute_ms}]
        buffer, ends = BytesIO(), []
        values: list[bytes] = []
        for i, (message, request_id) in enumerate(zip(messages, request_ids, strict=True)):
            answer = {
                "request_id": request_id,
                "status": "ok",
                "error_code": None,
                "error_message": None,
                "origin_topic": REQUESTS.name,
                "origin_partition": message.partition(),
                "origin_offset": message.offset(),
                "redrive": 0,
                "batch_size": len(messages),
                "queue_ms": max(0.0, now_ms - message.timestamp()[1]),
                "compute_ms": compute_ms,
                "models": models,
                "features": [],
                "logits": logits[i].tobytes(),
            }
            if best:
                buffer.write(heads[0])
                fastavro.schemaless_writer(buffer, writer, answer)
                ends.append(buffer.tell())
            else:
                out = BytesIO()
                out.write(heads[0])
                fastavro.schemaless_writer(out, writer, answer)
                values.append(out.getvalue())
        if best:
            whole = buffer.getvalue()
            values = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        for message, request_id, value in zip(messages, request_ids, values, strict=True):
            producer.produce(RESULTS.name, value, message.key(), headers=[("ce_id", request_id.encode()), *fixed])
        out = BytesIO()
        out.write(heads[1])
        fastavro.schemaless_writer(
            out,
            log_writer,
            {
                "worker": "bench-0",
                "task": "tensor",
                "model": "mlp",
                "version": "1",
                "arm": "live",
                "started_ms": int(now_ms),
                "compute_ms": compute_ms,
                "request_ids": request_ids,
                "origin_topic": REQUESTS.name,
                "origin_partitions": np.array([m.partition() for m in messages], "<i4").tobytes(),
                "origin_offsets": np.array([m.offset() for m in messages], "<i8").tobytes(),
                "outputs": logits.tobytes(),
                "outputs_dtype": "<f4",
                "outputs_shape": list(logits.shape),
                "signals": [],
                "thresholds": b"",
                "embeddings": b"",
                "digest": "",
            },
        )
        producer.produce(
            PREDICTION_LOG.name, out.getvalue(), b"bench-0", headers=[("ce_id", uuid7(int(now_ms)).encode()), *fixed]
        )
        done += len(messages)
        if time.perf_counter() - opened >= COMMIT_S or done >= count:
            producer.flush()
            positions = [TopicPartition(REQUESTS.name, messages[-1].partition(), messages[-1].offset() + 1)]
            producer.send_offsets_to_transaction(positions, metadata, 30)
            producer.commit_transaction(30)
            opened = None
    timer.report(count)
    consumer.close()


def _varint(n: int) -> bytes:
    from schemas.varints import varint

    return varint(n)


def raw(heavy: int) -> None:
    """The model alone, at its best batch size."""
    model, best = Mlp(heavy), 0.0
    for batch in (32, 64, 128, 256):
        x = np.random.default_rng(2).standard_normal((batch, WIDTH)).astype(np.float32)
        model(x)
        begun, n = time.perf_counter(), 0
        while time.perf_counter() - begun < 1.5:
            model(x)
            n += batch
        best = max(best, n / (time.perf_counter() - begun))
    print(json.dumps({"records_s": best, "cpu_us": 1e6 / best, "wall_s": 6.0, "parts": {}}), flush=True)


def main() -> None:
    configure_logging(json_lines=True)
    which, bootstrap, registry, group, count, heavy, delivery, slot = sys.argv[1:]
    spare_the_collector()  # in all three, so that only the loops are compared
    match which:
        case "ours" | "profiled":
            loop = make_loop(bootstrap, registry, group, int(heavy), Delivery(delivery), int(slot))
            ours(loop, int(count), which == "profiled")
        case "plain" | "best":
            reference(bootstrap, registry, group, int(count), int(heavy), which == "best")
        case "raw":
            raw(int(heavy))


if __name__ == "__main__":
    main()
