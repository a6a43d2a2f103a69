"""Do both stores agree? Sampled entities, each feature: what the online store holds beside what the archive says of the same
instant. Integers and texts exactly, floats within a relative 1e-9."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from feature_jobs.attributes import attributes_now
from feature_jobs.lake import tiles
from feature_jobs.rollup import Entity
from feature_jobs.settings import FeatureSettings
from processors.blobs import GRACE_MS, unpack
from processors.online_features import RedisStore
from schemas.features import Value, View
from streams.clock import SystemClock

TOLERANCE = 1e-9
FAR_MS = 2**60


@dataclass
class Parity:
    """different: by feature, how many entities differ. not_compared: what the archive does not have yet, or has newer."""

    entities: int = 0
    not_compared: int = 0
    different: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


def parity(view: View, lake: Path, settings: FeatureSettings, sample: int, seed: int = 0) -> Parity:
    """Entities whose last event is not the same in both stores were changed while we looked, or wait for the archive's next
    flush: they are counted apart."""
    attributes, found = attributes_now(view, settings), Parity()
    everything = dict(tiles(lake, view, FAR_MS))
    names = sorted(everything)
    chosen = names if len(names) <= sample else random.Random(seed).sample(names, sample)
    store = RedisStore(settings.redis, 5.0)
    served = unpack(view, store.read(view, chosen), [f.name for f in view.features], SystemClock().now_ms(), GRACE_MS)
    for row, name in enumerate(chosen):
        entity = Entity()
        for tile in everything[name]:
            entity.put(tile, tile.last_ms)
        entity.advance(int(served.changed_ms[row]))  # the instant for which the online values were computed
        offline = entity.values(view, attributes.get(name))
        if int(served.event_ms[row]) != entity.last_ms:
            found.not_compared += 1
            continue
        found.entities += 1
        for feature in view.features:
            online = _plain(served.values[feature.name][row])
            if not same(online, offline[feature.name]):
                found.different[feature.name] += 1
                found.examples.setdefault(feature.name, f"{name}: online {online}, offline {offline[feature.name]}")
    return found


def same(one: Value, other: Value) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(float(one), float(other), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return one == other


def _plain(value: Any) -> Value:
    found: Value = value.item() if hasattr(value, "item") else value
    return found
