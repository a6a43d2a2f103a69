"""Recorded requests answered again, by versions side by side: `python -m inference_workers replay`.

The same records go through each version in the same batches, one version after the other by turns, so that answers and times
can be compared. Nothing is written to a topic, and nothing in any group moves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.models.addresses import open_source
from inference_workers.settings import MediaSettings, WorkerSettings
from inference_workers.task import Task, Version, find_task, task_names
from processors.features.recorded_features import RecordedFeatures
from schemas.codec import Decoder, SchemaIds
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


@dataclass
class Replayed:
    """What one version says. outputs: one row an entry, which is request `request_ids[i]`'s part `parts[i]`. contents: of each entry, equal
    numbers where the same was shown. at_ms: the broker's time of each request."""

    version: Version
    request_ids: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)
    contents: list[int] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    thresholds: Any = None
    compute_ms: float = 0.0
    refused: int = 0

    def write(self, file: Path, window: dict[str, Any], with_seen: bool) -> None:
        """Outputs float32 (entries, names), request ids, parts, contents, times; and what they are in `about`, JSON. with_seen: also what the model
        was shown of each entry, pixels as one array, texts as UTF-8 with their lengths in bytes."""
        folder = self.version.folder
        about = window | {
            "model": folder.name, "version": folder.version, "digest": folder.digest, "names": list(folder.coverage),
            "thresholds": None if self.thresholds is None else np.asarray(self.thresholds, float).tolist(),
            "compute_ms": self.compute_ms, "refused": self.refused, "bytes": sum(f.stat().st_size for f in folder.path.iterdir() if f.is_file()),
        }  # fmt: skip
        outputs = np.concatenate(self.outputs) if self.outputs else np.zeros((0, len(folder.coverage)), np.float32)
        np.savez(
            file, request_ids=np.array(self.request_ids, np.str_), parts=np.array(self.parts, np.str_),
            outputs=outputs.astype(np.float32), contents=np.array(self.contents, np.uint64), at_ms=np.array(self.at_ms, np.int64),
            about=np.array(json.dumps(about)), **(_arrays(self.seen) if with_seen else {}),
        )  # fmt: skip


def content_of(seen: Any, request_id: str, part: str) -> int:
    """A number that is equal for equal content: of a text its words, whatever their case, spaces and Unicode form, of a picture its pixels.
    What is neither is equal to itself alone."""
    if isinstance(seen, str):
        raw = " ".join(unicodedata.normalize("NFKC", seen).casefold().split()).encode()
    elif isinstance(seen, np.ndarray):
        raw = repr(seen.shape).encode() + np.ascontiguousarray(seen).tobytes()
    else:
        raw = f"{request_id}/{part}".encode()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())


def _arrays(seen: Sequence[Any]) -> dict[str, Any]:
    if seen and isinstance(seen[0], str):
        raw = [text.encode() for text in seen]
        return {"texts": np.frombuffer(b"".join(raw), np.uint8), "text_bytes": np.array([len(one) for one in raw], np.int64)}
    return {"pixels": np.stack(seen)} if seen else {}


def task_of(model: str) -> Task:
    """Raises BadSettings where no task has that model."""
    tasks = [find_task(name) for name in task_names()]
    for task in tasks:
        if model in task.models:
            return task
    raise BadSettings(f"no task has a model {model!r}; there are: {', '.join(name for task in tasks for name in task.models)}")


def replay(
    task: Task, model: str, versions: Sequence[Version], batches: Iterator[Rows], registry: SchemaIds, with_seen: bool = False,
    served: RecordedFeatures | None = None,
) -> list[Replayed]:  # fmt: skip
    """served: the features that the task needs, as they were; a request of which none are known is refused.

    Raises BadSettings where the model's outputs have no names, or features are needed and none were given."""
    if task.needs and served is None:
        raise BadSettings(f"{task.name} needs features, and none were given")
    media = load(MediaSettings, os.environ, task.name).reader()
    decoder = Decoder.of(task.consumption.topic, registry)
    others = {name: source for name, source in task.models.items() if name != model}
    beside = {name: Version(folder, task.load(folder, name)) for name, folder in ((n, open_source(s)) for n, s in others.items())}
    found = [Replayed(version) for version in versions]
    try:
        for number, rows in enumerate(batches):
            columns, bad = decoder.decode(rows.values)
            rows, asked_n = rows.take([row for row in range(len(rows)) if row not in bad]), len(rows)
            if served is not None:
                known = [row for row, request_id in enumerate(rows.request_ids) if served.knows(request_id)]
                rows, columns = rows.take(known), columns.take(known)
                columns = served.beside(columns, rows.request_ids)
            left_out = asked_n - len(rows)
            if not len(rows):
                for one in found:
                    one.refused += left_out
                continue
            for one in found if number % 2 == 0 else reversed(found):
                held = {**beside, model: one.version}
                prepared = task.prepare(columns, held, media)
                good = [row for row in range(len(rows)) if row not in prepared.refused]
                asked = [rows.request_ids[row] for row in good]
                one.refused += left_out + len(prepared.refused)
                for use in task.predict(prepared.inputs, held).uses if asked else ():
                    if use.version is not one.version:
                        continue
                    if not use.names:
                        raise BadSettings(f"the outputs of {model} have no names, so two versions cannot be compared by them")
                    which = range(len(asked)) if use.rows is None else use.rows
                    entries, parts = [asked[row] for row in which], list(use.parts) or [""] * len(use.outputs)
                    one.request_ids += entries
                    one.parts += parts
                    one.outputs.append(use.outputs)
                    one.at_ms += [rows.timestamps_ms[good[row]] for row in which]
                    shown = use.seen if len(use.seen) else [None] * len(entries)
                    one.contents += map(content_of, shown, entries, parts)
                    one.seen += use.seen if with_seen else ()
                    one.thresholds, one.compute_ms = use.thresholds, one.compute_ms + use.compute_ms
    finally:
        media.close()
    return found


def recorded(address: KafkaAddress, task: Task, starts: dict[Place, int], ends: dict[Place, int], limit: int) -> Iterator[Rows]:
    """Requests as the worker admits them, in batches, at most `limit`."""
    left = limit
    for polled in stretch(address, task.consumption.topic.name, starts, ends, SystemClock()):
        rows = admit(polled, task.consumption.topic.max_record_bytes, (), 0).rows
        for at in range(0, min(left, len(rows)), BATCH):
            yield rows.slice(at, min(at + BATCH, left))
        left -= len(rows)
        if left <= 0:
            return


def newest(starts: dict[Place, int], ends: dict[Place, int], limit: int) -> dict[Place, int]:
    """Starts so late that about `limit` offsets lie before the ends, of each partition its share. Pure."""
    lengths = {place: max(0, end - starts[place]) for place, end in ends.items()}
    whole = sum(lengths.values())
    if whole <= limit:
        return starts
    return {place: ends[place] - math.ceil(limit * length / whole) for place, length in lengths.items()}


def served_before(address: KafkaAddress, task: Task, from_ms: int, registry: SchemaIds) -> RecordedFeatures | None:
    """The features that the task's requests were answered with since then; None where it needs none."""
    if not task.needs:
        return None
    found = RecordedFeatures(task.needs)
    log = Readable(PREDICTION_LOG, registry, lambda record: found.take(record) if record["task"] == task.name else None)
    every(log, since(address, PREDICTION_LOG.name, range(PREDICTION_LOG.partitions), from_ms, SystemClock()))
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="inference_workers replay", description="Answer recorded requests again.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--source", required=True, action="append", help="a version; may be given more than once")
    parser.add_argument("--from-ms", type=whole(0, 2**62), default=0, help="by the broker's clock, epoch")
    parser.add_argument("--to-ms", type=whole(0, 2**62), default=SystemClock().now_ms())
    parser.add_argument("--window", type=Path, help="offsets of an earlier replay, instead of times: its window.json")
    parser.add_argument("--seen", action="store_true", help="also write what the model was shown")
    parser.add_argument("--limit", type=whole(), default=10_000, help="requests, at most")
    parser.add_argument("--out", type=Path, required=True, help="folder; 0.npz is what the first source says")
    chosen = parser.parse_args(arguments)
    try:
        settings, task = load(WorkerSettings, os.environ), task_of(chosen.model)
        address, registry = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry)
        topic, admin = task.consumption.topic, KafkaAdmin(address)
        places = [(topic.name, number) for number in range(topic.partitions)]
        starts, ends = admin.offsets_at(places, chosen.from_ms), admin.offsets_at(places, chosen.to_ms)
        starts = newest(starts, ends, chosen.limit)
        if chosen.window:
            kept = json.loads(chosen.window.read_text())
            starts, ends = ({place: kept[name][str(place[1])] for place in places} for name in ("from_offsets", "to_offsets"))
            chosen.limit = kept["limit"]
        folders = [open_source(source) for source in chosen.source]
        versions = [Version(folder, task.load(folder, chosen.model)) for folder in folders]
        found = replay(task, chosen.model, versions, recorded(address, task, starts, ends, chosen.limit), registry, chosen.seen,
                       served_before(address, task, chosen.from_ms, registry))  # fmt: skip
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    window = {
        "topic": topic.name, "from_offsets": {str(n): offset for (_, n), offset in starts.items()},
        "to_offsets": {str(n): offset for (_, n), offset in ends.items()}, "limit": chosen.limit,
    }  # fmt: skip
    chosen.out.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(found):
        one.write(chosen.out / f"{number}.npz", window, chosen.seen)
    (chosen.out / "window.json").write_text(json.dumps(window, indent=2) + "\n")
    return 0
