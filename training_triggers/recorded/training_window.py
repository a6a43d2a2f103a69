"""The data of a training run: recorded requests with their labels, fixed by offsets so that the same data can be read again.

A third of the requests is never trained on (`held_back.py`): candidate and champion are compared on it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.codec import SchemaIds
from schemas.errors import BadSettings, Stop
from schemas.topics import LABELS
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import stretch
from streams.readable import Readable, every
from streams.rows import Place
from training_triggers.recorded import held_back as split
from training_triggers.recorded.pairing import has_label, one_of_all
from training_triggers.recorded.truth import OutputLabels, RequestLabels, labels_of, with_label

REPLAY_LIMIT_S = 1_800.0
Truth = dict[str, RequestLabels]  # by request id


class WindowRefused(Stop):
    """The recorded requests are not enough to train on."""

    code = "window-refused"


@dataclass(frozen=True)
class Examples:
    """Inputs of the model and their labels. seen: texts, or pixels uint8 (n, height, width, channels). truth: int8 (n, names), 1
    holds, 0 does not, -1 unknown."""

    request_ids: Sequence[str]
    seen: Any
    truth: npt.NDArray[np.int8]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.request_ids)

    def take(self, rows: npt.NDArray[np.bool_]) -> Examples:
        numbers: list[int] = np.flatnonzero(rows).tolist()
        seen = [self.seen[row] for row in numbers] if isinstance(self.seen, list) else self.seen[numbers]
        return Examples([self.request_ids[row] for row in numbers], seen, self.truth[numbers], self.names)


@dataclass(frozen=True)
class ReplayedRequests:
    """The entries of a replay: request id, the broker's time of the request, and a number that is equal for equal content."""

    request_ids: Sequence[str]
    at_ms: Sequence[int]
    contents: Sequence[int]

    def since(self, from_ms: int) -> set[str]:
        """Requests since then by the broker's time, not by their ids."""
        return {request_id for request_id, at_ms in zip(self.request_ids, self.at_ms, strict=True) if at_ms >= from_ms}


def replayed(file: Path) -> ReplayedRequests:
    with np.load(file, allow_pickle=False) as arrays:
        return ReplayedRequests(arrays["request_ids"].tolist(), arrays["at_ms"].tolist(), arrays["contents"].tolist())


def held_back(requests: ReplayedRequests, truth: Truth, salt: str) -> set[str]:
    return split.held_back(split.groups(requests.request_ids, requests.contents), truth.keys(), salt)


def independent(requests: ReplayedRequests, request_ids: Collection[str]) -> int:
    """The number of independent groups among these requests: requests with the same content count once."""
    groups = split.groups(requests.request_ids, requests.contents)
    return len({groups[request_id] for request_id in request_ids if request_id in groups})


def replay(model: str, sources: Sequence[str], out: Path, *arguments: str) -> None:
    """Run recorded requests through these versions with the workers' `replay` command. Raises BadSettings with the end of its
    error output."""
    command = [sys.executable, "-m", "inference_workers", "replay", "--model", model, "--out", str(out), *arguments]
    for source in sources:
        command += ["--source", source]
    try:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=REPLAY_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BadSettings(f"replaying the requests took longer than {REPLAY_LIMIT_S:.0f} s: use a shorter window") from error
    if finished.returncode:
        raise BadSettings(f"the requests could not be replayed: {' '.join(finished.stderr.strip().splitlines()[-2:])}")


def label_ends(address: KafkaAddress) -> dict[str, int]:
    """The end offset of the labels now, by partition."""
    places = [(LABELS.name, number) for number in range(LABELS.partitions)]
    return {str(number): end for (_, number), end in KafkaAdmin(address).ends(places).items()}


def truth(address: KafkaAddress, ids: SchemaIds, from_ms: int, ends: Mapping[str, int]) -> Truth:
    """The labels of each request, from the records since `from_ms` up to these offsets. A label is never older than its
    request."""
    places: list[Place] = [(LABELS.name, int(number)) for number in ends]
    limits = {place: ends[str(place[1])] for place in places}
    by_request: Truth = {}
    parts = stretch(address, LABELS.name, KafkaAdmin(address).offsets_at(places, from_ms), limits, SystemClock())
    for label in every(Readable(LABELS, ids, dict), parts):
        labels = with_label(by_request.get(label["request_id"]), label)
        if labels is not None:
            by_request[label["request_id"]] = labels
    return by_request


def read(file: Path, truth: Mapping[str, RequestLabels | OutputLabels]) -> Examples:
    """The labelled entries that `replay --seen` wrote. Raises WindowRefused if the file has no inputs."""
    with np.load(file, allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        request_ids: list[str] = arrays["request_ids"].tolist()
        names = tuple(about["names"])
        if "texts" in arrays:
            ends = np.cumsum(arrays["text_bytes"])
            raw = arrays["texts"].tobytes()
            seen: Any = [raw[start:end].decode() for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]
        elif "pixels" in arrays:
            seen = arrays["pixels"]
        else:
            raise WindowRefused("no request of the window reached the model")
        parts = arrays["parts"].tolist() if "parts" in arrays else [""] * len(request_ids)
    of_parts = [labels_of(truth.get(request_id)).of(part) for request_id, part in zip(request_ids, parts, strict=True)]
    labels = np.array([[int(of_part.get(name, -1)) for name in names] for of_part in of_parts], np.int8).reshape(-1, len(names))
    if about["thresholds"] is None:
        labels = one_of_all(labels)
    return Examples(request_ids, seen, labels, names).take(has_label(labels))


def check(examples: Examples, needed: int) -> None:
    """Raises WindowRefused if the examples are too few, or no output has both labels."""
    if len(examples) < needed:
        raise WindowRefused(
            f"only {len(examples)} labelled requests of the window can be trained on; at least {needed} are needed"
        )
    with_both = [
        name for name, column in zip(examples.names, examples.truth.T, strict=True) if {0, 1} <= set(np.unique(column).tolist())
    ]
    if not with_both:
        raise WindowRefused(
            "the labels of the window are all alike: no output has both a request where it holds and one where it does not"
        )
