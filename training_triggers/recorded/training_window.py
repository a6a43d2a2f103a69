"""What a run learns from: recorded requests with the labels that came for them, fixed by offsets so that it can be made again.

A third of the requests is never trained on (`held_back.py`): candidate and champion are compared on it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.codec import SchemaIds
from schemas.errors import BadSettings, Stop
from schemas.topics import LABELS, PREDICTION_LOG
from streams.clock import Clock, SystemClock
from streams.ids import time_ms_of
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import stretch
from streams.readable import Followed, Readable, every
from streams.rows import Place
from training_triggers.recorded import held_back as split
from training_triggers.recorded.compare import largest
from training_triggers.recorded.truth import Known, Said, known, with_label

REPLAY_LIMIT_S = 1_800.0
LOOK_EVERY_S = 1.0
Truth = dict[str, Known]  # by request id


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


@dataclass(frozen=True)
class Asked:
    """What a replay wrote of each entry: its request, the broker's time of it, and a number that is equal for equal content."""

    request_ids: Sequence[str]
    at_ms: Sequence[int]
    contents: Sequence[int]

    def since(self, from_ms: int) -> set[str]:
        """Requests that came since then, whatever their ids say."""
        return {one for one, at_ms in zip(self.request_ids, self.at_ms, strict=True) if at_ms >= from_ms}


def asked(file: Path) -> Asked:
    with np.load(file, allow_pickle=False) as found:
        return Asked(found["request_ids"].tolist(), found["at_ms"].tolist(), found["contents"].tolist())


def held_back(found: Asked, known: Truth, salt: str) -> set[str]:
    return split.held_back(split.groups(found.request_ids, found.contents), known.keys(), salt)


def independent(found: Asked, chosen: Collection[str]) -> int:
    """How many different contents these requests have."""
    of = split.groups(found.request_ids, found.contents)
    return len({of[one] for one in chosen if one in of})


class Labelled:
    """Labelled requests of a task since a time: by the time in their ids, or, where an id tells none, by the log of what was answered since."""

    def __init__(self, task: str, since_ms: int) -> None:
        self._task, self._since_ms = task, since_ms
        self._told, self._timeless, self._logged = set[str](), set[str](), set[str]()

    @property
    def needs_log(self) -> bool:
        return bool(self._timeless)

    def __len__(self) -> int:
        return len(self._told) + len(self._timeless & self._logged)

    def label(self, label: Mapping[str, Any]) -> None:
        if label["task"] != self._task or not (label["truth"] or label.get("parts")):
            return
        at_ms = time_ms_of(label["request_id"])
        if at_ms is None:
            self._timeless.add(label["request_id"])
        elif at_ms >= self._since_ms:
            self._told.add(label["request_id"])

    def answers(self, record: Mapping[str, Any]) -> None:
        """A record of the prediction log that was appended since then."""
        if record["task"] == self._task:
            self._logged.update(one for one in record["request_ids"] if time_ms_of(one) is None)


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
    reader, log = KafkaBroadcast(address, LABELS.name, clock), None
    labels = Followed(reader, Readable(LABELS, ids, dict))
    labelled = Labelled(task, since_ms)
    answers: Followed[dict[str, Any]] | None = None
    begun_s, told = clock.monotonic_s(), -1
    try:
        while True:
            for label in labels.take(reader.wait(LOOK_EVERY_S)):
                labelled.label(label)
            if labelled.needs_log:
                log = log or _log_since(address, since_ms, clock)
                answers = answers or Followed(log, Readable(PREDICTION_LOG, ids, dict))
                for record in answers.poll():
                    labelled.answers(record)
            is_late = clock.monotonic_s() - begun_s > limit_s
            if not is_late and not (reader.at_end() and (log is None or log.at_end())):
                continue
            if len(labelled) >= least:
                return
            if is_late:
                raise WindowRefused(
                    f"{len(labelled)} requests since the drift are labelled, {least} are the least, and {limit_s:.0f} s were waited"
                )
            if len(labelled) != told:
                told = len(labelled)
                say(f"{told} of {least} labels that are needed are there")
    finally:
        reader.close()
        if log is not None:
            log.close()


def _log_since(address: KafkaAddress, from_ms: int, clock: Clock) -> KafkaBroadcast:
    places = [(PREDICTION_LOG.name, number) for number in range(PREDICTION_LOG.partitions)]
    return KafkaBroadcast(address, PREDICTION_LOG.name, clock, KafkaAdmin(address).offsets_at(places, from_ms))


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
    """What all labels since then say of each request, the newest word first. A label is never older than its request."""
    places: list[Place] = [(LABELS.name, int(number)) for number in ends]
    limits = {place: ends[str(place[1])] for place in places}
    found: Truth = {}
    parts = stretch(address, LABELS.name, KafkaAdmin(address).offsets_at(places, from_ms), limits, SystemClock())
    for label in every(Readable(LABELS, ids, dict), parts):
        told = with_label(found.get(label["request_id"]), label)
        if told is not None:
            found[label["request_id"]] = told
    return found


def read(file: Path, truth: Mapping[str, Known | Said]) -> Examples:
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
        parts = found["parts"].tolist() if "parts" in found else [""] * len(request_ids)
    said = [known(truth.get(one)).of(part) for one, part in zip(request_ids, parts, strict=True)]
    told = np.array([[int(one.get(name, -1)) for name in names] for one in said], np.int8).reshape(-1, len(names))
    if about["thresholds"] is None:  # the largest output decides: what is one of them is none of the others
        told = largest(told)
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
