"""The ledger: every request has exactly one end. It judges by the records that readers can see, and relies on no worker's
report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.rows import Origin

Key = tuple[Origin, int]  # origin and redrive


@dataclass(frozen=True)
class End:
    """A result record, as a read_committed reader saw it."""

    origin: Origin
    redrive: int
    status: str


def end_of(result: Mapping[str, Any]) -> End:
    """result: a decoded record of a result topic."""
    return End((result["origin_topic"], result["origin_partition"], result["origin_offset"]), result["redrive"], result["status"])


def dead_key(headers: Mapping[str, str]) -> Key:
    """headers: of a dead letter."""
    origin = headers["origin-topic"], int(headers["origin-partition"]), int(headers["origin-offset"])
    return origin, int(headers["redrive"])


def problems(asked: Iterable[Key], ends: Iterable[End], dead: Iterable[Key], *, may_repeat: bool = False) -> list[str]:
    """The problems in words; empty if each request has one result, and one dead letter if that result is `failed`.

    may_repeat: at least once; then a request may have several results, but none may be missing.
    """
    wanted = set(asked)
    ends = list(ends)
    results = Counter((end.origin, end.redrive) for end in ends)
    failed = {(end.origin, end.redrive) for end in ends if end.status == "failed"}
    letters = Counter(dead)
    found = [f"missing: {_words(key)} has no result" for key in sorted(wanted - results.keys())]
    found += [f"stranger: {_words(key)} was never asked" for key in sorted(results.keys() - wanted)]
    if not may_repeat:
        found += [f"doubled: {_words(key)} has {n} results" for key, n in sorted(results.items()) if n > 1]
        found += [f"doubled: {_words(key)} has {n} dead letters" for key, n in sorted(letters.items()) if n > 1]
    found += [f"unexplained: {_words(key)} failed without a dead letter" for key in sorted(failed - letters.keys())]
    found += [f"unanswered: {_words(key)} is a dead letter without an answer" for key in sorted(letters.keys() - failed)]
    return found


def _words(key: Key) -> str:
    (topic, partition, offset), redrive = key
    return f"{topic}/{partition}@{offset}" + (f" redrive {redrive}" if redrive else "")
