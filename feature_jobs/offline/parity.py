"""Checks whether both stores agree. For sampled entities and each feature, it compares the online store's value with the
archive's value at the same instant. Integers and texts must be equal, floats equal within a relative 1e-9. An entity that could
not be compared does not count as agreement."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feature_jobs.offline.lake import Attributes, entities_of, tiles, values_of
from feature_jobs.online.attributes import attributes_now
from feature_jobs.online.rollup import Tile
from feature_jobs.settings import FeatureSettings
from processors.features.feature_blob import Freshness, ServedFeatures, unpack
from processors.features.online_store import RedisStore
from schemas.features import Value, View
from streams.clock import SystemClock

TOLERANCE = 1e-9
FAR_MS = 2**62
SETTLING_MS = 120_000  # for the sink to write, and for the archive's next flush
LEAST_SHARE = 0.5  # of the sample, that must have been compared


@dataclass
class Parity:
    """entities: number compared. not_compared: one store has events that the other may not have yet, within SETTLING_MS. missing:
    absent online. stale: the sink no longer renews the blob. behind: a store lacks events that arrived earlier than that.
    different: by feature, how many entities differ."""

    sampled: int = 0
    seed: int = 0
    entities: int = 0
    not_compared: int = 0
    missing: int = 0
    stale: int = 0
    behind: int = 0
    different: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Why the comparison proves nothing, in sentences; empty if it is valid."""
        found = []
        if not self.sampled:
            return ["the archive has no entity to compare"]
        if self.missing:
            found.append(
                f"{self.missing} of {self.sampled} are not in the online store: it was emptied, or the sink does not write"
            )
        if self.stale:
            found.append(f"{self.stale} of {self.sampled} are stale online: the sink stands still")
        if self.behind:
            found.append(
                f"{self.behind} of {self.sampled} have events in one store that came more than {SETTLING_MS // 1000} s ago and are not "
                "in the other: the sink or the archive stands still"
            )
        if self.entities < LEAST_SHARE * self.sampled:
            found.append(f"only {self.entities} of {self.sampled} could be compared: ask again when less changes")
        return found

    def agrees(self) -> bool:
        return not self.different and not self.problems()


def parity(view: View, lake: Path, settings: FeatureSettings, sample: int, seed: int | None = None) -> Parity:
    """seed: of the sample; without it, a different one each time. Raises BadSettings if nothing is archived, RetryLater if the
    online store does not answer."""
    attributes, everyone = attributes_now(view, settings), entities_of(lake, view)
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    chosen = everyone if len(everyone) <= sample else sorted(random.Random(seed).sample(everyone, sample))
    store = RedisStore(settings.redis, 5.0)
    blobs = store.read(view, chosen)
    held = dict(tiles(lake, view, FAR_MS, chosen))
    now_ms = SystemClock().now_ms()
    served = unpack(view, blobs, [f.name for f in view.features], now_ms, SETTLING_MS)  # a sink may be busy
    found = compared(view, chosen, held, attributes, served, now_ms)
    found.seed = seed
    return found


def compared(
    view: View,
    chosen: Sequence[str],
    held: Mapping[str, Sequence[Tile]],
    attributes: Attributes,
    served: ServedFeatures,
    now_ms: int,
) -> Parity:
    """held: by entity, the tiles of the archive. served: entry i belongs to the i-th of `chosen`."""
    found = Parity(sampled=len(chosen))
    for row, name in enumerate(chosen):
        newest_ms = max(tile.appended_ms for tile in held[name])
        recent = max(newest_ms, int(served.changed_ms[row])) > now_ms - SETTLING_MS
        if served.state[row] == Freshness.MISSING:
            found.not_compared += recent
            found.missing += not recent
            continue
        found.stale += int(served.state[row] == Freshness.STALE)
        online = {feature.name: _plain(served.values[feature.name][row]) for feature in view.features}
        # At the time when the online values were computed.
        offline = values_of(held[name], int(served.changed_ms[row]), view, attributes.get(name))
        # If the two sides have different events, their values cannot agree.
        if any(online[told] != offline[told] for told in ("last_seen_ms", "events_7d")):
            found.not_compared += recent
            found.behind += not recent
            continue
        found.entities += 1
        for feature in view.features:
            if not same(online[feature.name], offline[feature.name]):
                found.different[feature.name] = found.different.get(feature.name, 0) + 1
                example = f"{name}: online {online[feature.name]}, offline {offline[feature.name]}"
                found.examples.setdefault(feature.name, example)
    return found


def same(one: Value, other: Value) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(float(one), float(other), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return one == other


def _plain(value: Any) -> Value:
    found: Value = value.item() if hasattr(value, "item") else value
    return found
