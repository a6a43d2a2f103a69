"""What a run learns from: recorded requests with the labels that came for them, fixed by offsets so that it can be made again.

A third of the requests is never trained on: candidate and champion are compared on it. Which ones is told by their ids, so that it is
the same third whenever the window is read.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.codec import SchemaIds
from schemas.errors import BadSettings, Stop
from schemas.topics import LABELS
from streams.clock import Clock, SystemClock
from streams.ids import time_ms_of
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import stretch
from streams.readable import Followed, Readable, every
from streams.rows import Place

REPLAY_LIMIT_S = 1_800.0
LOOK_EVERY_S = 1.0
HELD_BACK_ONE_IN = 3
Truth = dict[str, dict[str, bool]]  # by request id: by output name, what holds


class WindowRefused(Stop):
    """Nothing can be learnt from what was recorded."""

    code = "window-refused"


@dataclass(frozen=True)
class Examples:
    """What the model was shown, and what is true of it. seen: texts, or pixels uint8 (n, height, width, channels).
    truth: int8 (n, names), 1 holds, 0 does not, -1 is not known."""

    request_ids: Sequence[str]
    seen: Any
    truth: npt.NDArray[np.int8]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.request_ids)

    def take(self, rows: npt.NDArray[np.bool_]) -> Examples:
        chosen: list[int] = np.flatnonzero(rows).tolist()
        seen = [self.seen[i] for i in chosen] if isinstance(self.seen, list) else self.seen[chosen]
        return Examples([self.request_ids[i] for i in chosen], seen, self.truth[chosen], self.names)


def held_back(request_id: str) -> bool:
    return hashlib.sha256(request_id.encode()).digest()[0] % HELD_BACK_ONE_IN == 0


def after(request_ids: Sequence[str], since_ms: int) -> npt.NDArray[np.bool_]:
    """bool (n,): which requests were made since then, by the time in their ids."""
    return np.array([(time_ms_of(one) or 0) >= since_ms for one in request_ids], np.bool_)


def wait_for_labels(
    address: KafkaAddress,
    ids: SchemaIds,
    task: str,
    since_ms: int,
    least: int,
    limit_s: float,
    clock: Clock,
    say: Callable[[str], None],
) -> None:
    """Until so many requests made since `since_ms` are labelled. Raises WindowRefused after the limit."""
    reader = KafkaBroadcast(address, LABELS.name, clock)
    labels = Followed(reader, Readable(LABELS, ids, dict))
    labelled: set[str] = set()
    begun_s, told = clock.monotonic_s(), -1
    try:
        while True:
            for label in labels.take(reader.wait(LOOK_EVERY_S)):
                if label["task"] == task and label["truth"] and (time_ms_of(label["request_id"]) or 0) >= since_ms:
                    labelled.add(label["request_id"])
            if not reader.at_end():
                continue
            if len(labelled) >= least:
                return
            if clock.monotonic_s() - begun_s > limit_s:
                raise WindowRefused(
                    f"{len(labelled)} requests since the drift are labelled, {least} are the least, and {limit_s:.0f} s were waited"
                )
            if len(labelled) != told:
                told = len(labelled)
                say(f"{told} of {least} labels that are needed are there")
    finally:
        reader.close()


def replay(model: str, sources: Sequence[str], out: Path, *words: str) -> None:
    """Recorded requests through these versions, by the workers' own command. Raises BadSettings with its last words."""
    command = [sys.executable, "-m", "inference_workers", "replay", "--model", model, "--out", str(out), *words]
    for source in sources:
        command += ["--source", source]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=REPLAY_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadSettings(f"the requests were not replayed in {REPLAY_LIMIT_S:.0f} s: ask for a shorter window") from error
    if done.returncode:
        raise BadSettings(f"the requests could not be replayed: {' '.join(done.stderr.strip().splitlines()[-2:])}")


def label_ends(address: KafkaAddress) -> dict[str, int]:
    """By partition, where the labels end now."""
    places = [(LABELS.name, number) for number in range(LABELS.partitions)]
    return {str(number): end for (_, number), end in KafkaAdmin(address).ends(places).items()}


def truth(address: KafkaAddress, ids: SchemaIds, from_ms: int, ends: Mapping[str, int]) -> Truth:
    """Of each request, its first label in the order of its partition. A label is never older than its request."""
    places: list[Place] = [(LABELS.name, int(number)) for number in ends]
    limits = {place: ends[str(place[1])] for place in places}
    found: Truth = {}
    parts = stretch(address, LABELS.name, KafkaAdmin(address).offsets_at(places, from_ms), limits, SystemClock())
    for label in every(Readable(LABELS, ids, dict), parts):
        if label["truth"]:
            found.setdefault(label["request_id"], label["truth"])
    return found


def read(file: Path, known: Truth) -> Examples:
    """What `replay --seen` wrote, those of it that are labelled. Raises WindowRefused where the model cannot be trained on it."""
    with np.load(file, allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        request_ids: list[str] = found["request_ids"].tolist()
        names = tuple(about["names"])
        if "texts" in found:
            ends = np.cumsum(found["text_bytes"])
            raw = found["texts"].tobytes()
            seen: Any = [raw[start:end].decode() for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]
        elif "pixels" in found:
            seen = found["pixels"]
        else:
            raise WindowRefused("no request of the window reached the model")
    told = np.array(
        [[int(known.get(one, {}).get(name, -1)) for name in names] for one in request_ids], np.int8
    ).reshape(-1, len(names))  # fmt: skip
    if about["thresholds"] is None:  # the largest output decides: what is one of them is none of the others
        told[(told == 1).any(axis=1, keepdims=True) & (told < 0)] = 0
    return Examples(request_ids, seen, told, names).take(np.asarray((told >= 0).any(axis=1)))


def check(examples: Examples, least: int) -> None:
    """Raises WindowRefused where nothing can be learnt."""
    if len(examples) < least:
        raise WindowRefused(f"{len(examples)} labelled requests of the window can be learnt from, {least} are the least")
    several = [
        name for name, column in zip(examples.names, examples.truth.T, strict=True) if {0, 1} <= set(np.unique(column).tolist())
    ]
    if not several:
        raise WindowRefused(
            "the labels of the window are all alike: of no output is there a request where it holds and one where not"
        )
