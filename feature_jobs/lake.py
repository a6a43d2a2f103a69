"""The offline store: tiles and feature values from the archived events, by the same aggregate views and the same roll-up as
the stream. DuckDB runs the views' SQL over the Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_jobs.aggregates import item_tiles, user_tiles
from feature_jobs.archive import EVENTS, event_files
from feature_jobs.rollup import Entity, Tile
from schemas.errors import BadSettings
from schemas.features import DAY_MS, Kind, Value, View

_ARROW = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float64(), Kind.TEXT: pa.string()}
_VIEWS = {"user": user_tiles, "item": item_tiles}
Attributes = Mapping[str, Mapping[str, Any]]  # by entity: what the online store was told besides events


def tiles(lake: Path, view: View, until_ms: int, entities: Sequence[str] | None = None) -> Iterator[tuple[str, list[Tile]]]:
    """Each entity with its tiles of events up to and with until_ms, ordered by their last event. Raises BadSettings where
    nothing is archived."""
    import duckdb

    files = event_files(lake / EVENTS)
    if not files:
        raise BadSettings(f"no events are archived under {lake}: `./millrace up --with features` archives what flows")
    key = f"{view.entity}_id"
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE archived AS SELECT * FROM read_parquet(?) WHERE event_ms <= ?", [files, until_ms])
        if entities is not None:
            connection.execute(f"DELETE FROM archived WHERE {key} IS NULL OR NOT list_contains(?, {key})", [list(entities)])
        found = connection.execute(f"SELECT * FROM ({_VIEWS[view.entity]('archived')}) ORDER BY {key}, last_ms")
        yield from _by_entity(found, key)


def _by_entity(found: Any, key: str) -> Iterator[tuple[str, list[Tile]]]:
    names = [column[0] for column in found.description]
    entity, held = "", list[Tile]()
    while rows := found.fetchmany(10_000):
        for row in rows:
            record = dict(zip(names, row, strict=True))
            if record[key] != entity:
                if held:
                    yield entity, held
                entity, held = record[key], []
            held.append(Tile.of(record))
    if held:
        yield entity, held


def values_at(
    lake: Path, view: View, at_ms: int, attributes: Attributes, entities: Sequence[str] | None = None
) -> dict[str, dict[str, Value]]:
    """Of each entity the values as they were at a time: what the online store held then."""
    found = {}
    for name, held in tiles(lake, view, at_ms, entities):
        entity = Entity()
        for tile in held:
            entity.put(tile, tile.last_ms)
        entity.advance(at_ms)
        found[name] = entity.values(view, attributes.get(name))
    return found


def history(
    view: View, held: Sequence[Tile], until_ms: int, attributes: Mapping[str, Any] | None
) -> Iterator[tuple[int, dict[str, Value]]]:
    """The values of one entity at each time when they changed: at the last event of each tile, and where a tile leaves a
    window. A row holds from its time on, until the next. tiles: ordered by their last event."""
    entity = Entity()
    for at, tile in enumerate(held):
        yield from _until(entity, tile.last_ms - 1, view, attributes)
        entity.put(tile, tile.last_ms)
        entity.advance(tile.last_ms)
        if at + 1 == len(held) or held[at + 1].last_ms > tile.last_ms:
            yield tile.last_ms, entity.values(view, attributes)
    yield from _until(entity, until_ms, view, attributes)


def _until(
    entity: Entity, until_ms: int, view: View, attributes: Mapping[str, Any] | None
) -> Iterator[tuple[int, dict[str, Value]]]:
    while (due_ms := entity.next_change_ms()) is not None and due_ms <= until_ms:
        entity.advance(due_ms)
        yield due_ms, entity.values(view, attributes)


def backfill(lake: Path, view: View, from_ms: int, to_ms: int, attributes: Attributes) -> int:
    """Write the rows of `history` between two times, whole days, each day's file replaced at once; how many rows."""
    first, last = from_ms // DAY_MS, (to_ms - 1) // DAY_MS
    until_ms = (last + 1) * DAY_MS - 1
    columns: dict[int, dict[str, list[Any]]] = {}
    for name, held in tiles(lake, view, until_ms):
        for at_ms, values in history(view, held, until_ms, attributes.get(name)):
            day = at_ms // DAY_MS
            if not first <= day <= last:
                continue
            rows = columns.setdefault(day, {column: [] for column in schema(view).names})
            rows[f"{view.entity}_id"].append(name)
            rows["event_timestamp"].append(at_ms * 1000)
            for feature in view.features:
                rows[feature.name].append(values[feature.name])
    folder = lake / view.name
    folder.mkdir(parents=True, exist_ok=True)
    for day in range(first, last + 1):
        table = pa.table(columns.get(day, {column: [] for column in schema(view).names}), schema=schema(view))
        file = folder / f"{np.datetime64(day, 'D')}.parquet"
        draft = file.with_suffix(f".{os.getpid()}")
        pq.write_table(table, draft, compression="zstd")
        draft.rename(file)
    return sum(len(rows["event_timestamp"]) for rows in columns.values())


def schema(view: View) -> pa.Schema:
    return pa.schema(
        [
            (f"{view.entity}_id", pa.string()),
            ("event_timestamp", pa.timestamp("us", tz="UTC")),
            *((feature.name, _ARROW[feature.kind]) for feature in view.features),
        ]
    )
