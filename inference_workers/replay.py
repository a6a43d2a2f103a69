"""Answers recorded requests again, by several versions of a model: `python -m inference_workers replay`.

The same records go through each version in the same batches, so that answers and times can be compared. Nothing is written to a
topic, and no group's offsets move.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_workers.media.reader import MediaReader
from inference_workers.replayed import Replayed
from inference_workers.settings import MediaSettings, WorkerSettings
from inference_workers.task import Task, Use, Version, Versions, find_task, loaded, optional_models, task_names
from processors.features.recorded_features import RecordedFeatures
from schemas.codec import Decoder, SchemaIds
from schemas.columns import Columns
from schemas.errors import BadSettings, MillraceError
from schemas.topics import PREDICTION_LOG
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import since, stretch
from streams.loop.admit import admit
from streams.process.arguments import whole
from streams.process.settings import load
from streams.readable import Readable, every
from streams.rows import Place, Rows
from streams.schema_registry import Registry

BATCH = 64
# The first batches are timed several times, the versions in turn, and the shortest time of each counts: a first call is slow, few
# batches must do for a comparison, and what disturbs the machine for a moment must not disturb all the times of one version.
WELL_TIMED, TIMES = 6, 5


def task_of(model: str) -> Task:
    """The task that has this model. Raises BadSettings if none has."""
    tasks = [find_task(name) for name in task_names()]
    for task in tasks:
        if model in (*task.models, *optional_models(task)):
            return task
    names = [name for task in tasks for name in (*task.models, *optional_models(task))]
    raise BadSettings(f"no task has a model {model!r}; models are: {', '.join(names)}")


def replay(
    task: Task,
    model: str,
    versions: Sequence[Version],
    batches: Iterator[Rows],
    registry: SchemaIds,
    with_seen: bool = False,
    served: RecordedFeatures | None = None,
) -> list[Replayed]:
    """The answers of each version to the same batches. Versions take turns in being first, so that none has warmer caches.

    served: the features that the task needs, as they were served; a request for which none are known is refused. Raises BadSettings
    if the model's outputs have no names, or if features are needed and none were given, ModelRefused, and RetryLater where a store
    does not answer."""
    if task.needs and served is None:
        raise BadSettings(f"{task.name} needs features, and none were given")
    media = load(MediaSettings, os.environ, task.name).reader()
    decoder = Decoder.of(task.consumption.topic, registry)
    others = _other_models(task, model)
    answers = [Replayed(version) for version in versions]
    try:
        for number, batch in enumerate(batches):
            columns, rows = _decoded(decoder, batch, served)
            for replayed in answers:
                replayed.refused += len(batch) - len(rows)
            if not len(rows):
                continue
            questions = [
                question
                for replayed in (answers if number % 2 == 0 else answers[::-1])
                if (question := _question(replayed, task, {**others, model: replayed.version}, columns, rows, media))
            ]
            turns = [[question.answer(task) for question in questions] for _ in range(TIMES if number < WELL_TIMED else 1)]
            for question, uses in zip(questions, zip(*turns, strict=True), strict=True):
                for same in zip(*uses, strict=True):  # one use of the model, in each turn
                    question.replayed.add(min(same, key=lambda use: use.compute_ms), question.rows, with_seen)
    finally:
        media.close()
    return answers


def _other_models(task: Task, model: str) -> Versions:
    """The task's other models, each at the version that is shipped. None of an optional model is, so it takes no part."""
    return {name: loaded(task, name, source) for name, source in task.models.items() if name != model}


def _decoded(decoder: Decoder, batch: Rows, served: RecordedFeatures | None) -> tuple[Columns, Rows]:
    """The columns and rows of a batch that can be answered: they decode, and their features are known."""
    columns, errors = decoder.decode(batch.values)
    rows = batch.without(errors)
    if served is None:
        return columns, rows
    known = [row for row, request_id in enumerate(rows.request_ids) if served.knows(request_id)]
    rows = rows.take(known)
    return served.beside(columns.take(known), rows.request_ids), rows


@dataclass(frozen=True)
class _Question:
    """A batch as one version is asked: what the task prepared of it, and the requests that are left."""

    replayed: Replayed
    versions: Versions
    inputs: Any
    rows: Rows

    def answer(self, task: Task) -> list[Use]:
        """The uses of the version that is compared."""
        return [use for use in task.predict(self.inputs, self.versions).uses if use.version is self.replayed.version]


def _question(
    replayed: Replayed, task: Task, versions: Versions, columns: Columns, rows: Rows, media: MediaReader
) -> _Question | None:
    """None where the task refuses each of the requests."""
    prepared = task.prepare(columns, versions, media)
    replayed.refused += len(prepared.refused)
    rows = rows.without(prepared.refused)
    return _Question(replayed, versions, prepared.inputs, rows) if len(rows) else None


def recorded(address: KafkaAddress, task: Task, starts: dict[Place, int], ends: dict[Place, int], limit: int) -> Iterator[Rows]:
    """At most `limit` requests in batches, as a worker would admit them. Raises BrokerUnavailable."""
    left = limit
    for polled in stretch(address, task.consumption.topic.name, starts, ends, SystemClock()):
        rows = admit(polled, task.consumption.topic.max_record_bytes, (), 0).rows
        for at in range(0, min(left, len(rows)), BATCH):
            yield rows.slice(at, min(at + BATCH, left))
        left -= len(rows)
        if left <= 0:
            return


def newest(starts: dict[Place, int], ends: dict[Place, int], limit: int) -> dict[Place, int]:
    """Start offsets such that about `limit` offsets are left before the ends, shared among partitions by their length. Pure."""
    lengths = {place: max(0, end - starts[place]) for place, end in ends.items()}
    total = sum(lengths.values())
    if total <= limit:
        return starts
    return {place: ends[place] - math.ceil(limit * length / total) for place, length in lengths.items()}


def served_before(address: KafkaAddress, task: Task, from_ms: int, registry: SchemaIds) -> RecordedFeatures | None:
    """The features with which the task's requests were answered since `from_ms`; None if the task needs none. Raises
    BrokerUnavailable and RetryLater."""
    if not task.needs:
        return None
    features = RecordedFeatures(task.needs)
    log = Readable(PREDICTION_LOG, registry, lambda record: features.take(record) if record["task"] == task.name else None)
    every(log, since(address, PREDICTION_LOG.name, range(PREDICTION_LOG.partitions), from_ms, SystemClock()))
    return features


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="inference_workers replay", description="Answer recorded requests again.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--source", required=True, action="append", help="address of a version; may be given more than once")
    parser.add_argument(
        "--from-ms",
        type=whole(0, 2**62),
        default=0,
        help="first time of a request: milliseconds since the epoch, by the broker's clock",
    )
    parser.add_argument("--to-ms", type=whole(0, 2**62), default=SystemClock().now_ms(), help="last time; now by default")
    parser.add_argument("--window", type=Path, help="window.json of an earlier replay: read the same offsets, instead of times")
    parser.add_argument("--seen", action="store_true", help="also write the texts or pictures that the model was shown")
    parser.add_argument("--limit", type=whole(), default=10_000, help="maximum number of requests")
    parser.add_argument("--out", type=Path, required=True, help="folder for the answers: 0.npz has those of the first source")
    options = parser.parse_args(arguments)
    try:
        settings, task = load(WorkerSettings, os.environ), task_of(options.model)
        address, registry = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry)
        topic, admin = task.consumption.topic, KafkaAdmin(address)
        places = [(topic.name, number) for number in range(topic.partitions)]
        starts, ends = admin.offsets_at(places, options.from_ms), admin.offsets_at(places, options.to_ms)
        starts = newest(starts, ends, options.limit)
        if options.window:
            window = json.loads(options.window.read_text())
            starts, ends = ({place: window[name][str(place[1])] for place in places} for name in ("from_offsets", "to_offsets"))
            options.limit = window["limit"]
        versions = [loaded(task, options.model, source) for source in options.source]
        answers = replay(
            task,
            options.model,
            versions,
            recorded(address, task, starts, ends, options.limit),
            registry,
            options.seen,
            served_before(address, task, options.from_ms, registry),
        )
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    window = {
        "topic": topic.name,
        "from_offsets": {str(n): offset for (_, n), offset in starts.items()},
        "to_offsets": {str(n): offset for (_, n), offset in ends.items()},
        "limit": options.limit,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for number, replayed in enumerate(answers):
        replayed.write(options.out / f"{number}.npz", window, options.seen)
    (options.out / "window.json").write_text(json.dumps(window, indent=2) + "\n")
    return 0
