"""Parity proves that both stores agree, or says why it proves nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pytest

from feature_jobs.offline.lake import values_of
from feature_jobs.offline.parity import SETTLING_MS, Parity, compared
from feature_jobs.online.rollup import Tile
from processors.features.feature_blob import EntityValues, pack, unpack
from schemas.durations import DAY_MS, HOUR_MS
from schemas.features import TILE_MS, USER

NOW_MS = 1_795_000_200_000
NAMES = [f"u-{i}" for i in range(10)]


def tile(came_ms: int, n: int = 1) -> Tile:
    start_ms = came_ms - came_ms % TILE_MS
    return Tile(start_ms, "s", came_ms, came_ms, (n, n, 0, 0, 0, 0, 0, 0), "i", came_ms, came_ms)


OLD = {name: [tile(NOW_MS - HOUR_MS)] for name in NAMES}


def look(
    online: Mapping[str, Sequence[Tile]],
    archive: Mapping[str, Sequence[Tile]] = OLD,
    computed_ms: int = NOW_MS - HOUR_MS // 2,
    **wrong: Any,
) -> Parity:
    """online: what the sink had of each when it computed its values."""
    blobs: list[bytes | None] = []
    for name in archive:
        held = online.get(name)
        values = None if held is None else {**values_of(held, computed_ms, USER, None), **wrong}
        blobs.append(
            None if values is None else pack(USER, EntityValues((1, 1), computed_ms, None, int(values["last_seen_ms"]), values))
        )
    served = unpack(USER, blobs, [f.name for f in USER.features], NOW_MS, 0)
    return compared(USER, list(archive), archive, {}, served, NOW_MS)


def test_stores_that_agree() -> None:
    found = look(OLD)
    assert (found.agrees(), found.entities, found.problems()) == (True, 10, [])


def test_a_value_that_differs() -> None:
    found = look(OLD, bought_7d=7)
    assert (found.agrees(), dict(found.different), found.problems()) == (False, {"bought_7d": 10}, [])
    assert json.loads(json.dumps(asdict(found)))["different"] == {"bought_7d": 10}, "as the command prints it"
    just_now = look(OLD, computed_ms=NOW_MS, bought_7d=7)
    assert just_now.different == {"bought_7d": 10}, "of the same events the same is expected, also just now"


@pytest.mark.parametrize(
    ("online", "archive", "computed_ms", "word"),
    [
        ({}, OLD, NOW_MS, "10 of 10 are not in the online store"),
        (dict(list(OLD.items())[:9]), OLD, NOW_MS - 1, "1 of 10 are not in the online store"),
        (OLD, {name: [*OLD[name], tile(NOW_MS - SETTLING_MS - 1)] for name in NAMES}, NOW_MS - HOUR_MS, "stands still"),
        (OLD, {name: [*OLD[name], tile(NOW_MS - 5)] for name in NAMES}, NOW_MS - HOUR_MS, "only 0 of 10 could be compared"),
        ({name: [*OLD[name], tile(NOW_MS - HOUR_MS // 2)] for name in NAMES}, OLD, NOW_MS - SETTLING_MS, "stands still"),
        (OLD, OLD, NOW_MS - DAY_MS, "10 of 10 are stale online"),
        ({}, {}, NOW_MS, "no entity to compare"),
    ],
    ids=["emptied", "one gone", "sink behind", "all just changed", "archive behind", "sink stands still", "nothing archived"],
)
def test_what_could_not_be_compared_is_no_agreement(
    online: Mapping[str, Sequence[Tile]], archive: Mapping[str, Sequence[Tile]], computed_ms: int, word: str
) -> None:
    found = look(online, archive, computed_ms)
    assert not found.agrees()
    assert word in " ".join(found.problems())


def test_a_few_that_change_meanwhile_are_no_matter() -> None:
    archive = {**OLD, "u-0": [*OLD["u-0"], tile(NOW_MS - 5)], "u-new": [tile(NOW_MS - 5)]}
    found = look(OLD, archive)
    assert (found.agrees(), found.entities, found.not_compared, found.sampled) == (True, 9, 2, 11)
