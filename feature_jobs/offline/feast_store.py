"""Feast on our stores: the repository is generated from `schemas/features.py`, and an online store reads the sink's blobs.

Feast's own `get_online_features` reads the same data as the hot path. Only the sink writes: a write by Feast would have no
version, so it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.infra.offline_stores.duckdb import DuckDBOfflineStoreConfig
from feast.infra.online_stores.online_store import OnlineStore as FeastOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RegistryConfig
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from pydantic import StrictStr

from processors.features.feature_blob import GRACE_MS, Freshness, unpack
from processors.features.online_store import RedisStore
from schemas.features import VIEWS, Kind, View
from streams.clock import SystemClock

_TYPES: dict[Kind, Any] = {Kind.INT: Int64, Kind.FLOAT: Float64, Kind.TEXT: String}
_VALUES: dict[Kind, Callable[[Any], Value]] = {
    Kind.INT: lambda value: Value(int64_val=int(value)),
    Kind.FLOAT: lambda value: Value(double_val=float(value)),
    Kind.TEXT: lambda value: Value(string_val=value),
}


class BlobStoreConfig(FeastConfigBaseModel):
    type: Literal["feature_jobs.offline.feast_store.BlobStore"] = "feature_jobs.offline.feast_store.BlobStore"
    url: StrictStr = "redis://127.0.0.1:6379/0"


class BlobStore(FeastOnlineStore):
    """Reads the blobs of `feature_jobs/online/feature_sink.py`. A value that is stale by its `valid_until` or its view's ttl
    reads as absent."""

    _store: RedisStore | None = None

    def online_read(
        self, config: RepoConfig, table: FeatureView, entity_keys: list[EntityKey], requested_features: list[str] | None = None
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        if self._store is None:
            self._store = RedisStore(config.online_store.url)
        view = next(view for view in VIEWS if view.name == table.name)
        names = requested_features or [feature.name for feature in view.features]
        entities = [key.entity_values[0].string_val for key in entity_keys]
        served = unpack(view, self._store.read(view, entities), names, SystemClock().now_ms(), GRACE_MS)
        columns = {name: (_VALUES[view.feature(name).kind], served.values[name]) for name in names}
        found: list[tuple[datetime | None, dict[str, Value] | None]] = []
        for row, state in enumerate(served.state.tolist()):
            if state != Freshness.FRESH:
                found.append((None, None))
                continue
            at = datetime.fromtimestamp(int(served.changed_ms[row]) / 1000, UTC)
            found.append((at, {name: made(column[row]) for name, (made, column) in columns.items()}))
        return found

    def online_write_batch(self, *given: Any, **named: Any) -> None:
        raise NotImplementedError("features are written by the sink (`python -m feature_jobs serve user-sink`), not by Feast")

    def update(self, *given: Any, **named: Any) -> None:
        return  # no setup is needed: the sink creates the keys

    def teardown(self, *given: Any, **named: Any) -> None:
        return


def entity_of(view: View) -> Entity:
    return Entity(name=view.entity, join_keys=[f"{view.entity}_id"], value_type=ValueType.STRING)


def feature_view(view: View, lake: Path) -> FeatureView:
    source = FileSource(name=f"{view.name}_history", path=str(lake / view.name / "*.parquet"), timestamp_field="event_timestamp")
    return FeatureView(
        name=view.name,
        entities=[entity_of(view)],
        ttl=timedelta(milliseconds=view.ttl_ms),
        schema=[
            Field(name=f"{view.entity}_id", dtype=String),
            *(Field(name=f.name, dtype=_TYPES[f.kind], description=f.meaning) for f in view.features),
        ],
        source=source,
        online=True,
    )


def feature_store(lake: Path, redis_url: str) -> FeatureStore:
    """A Feast store whose registry is a file in the lake, applied anew: the repository is the code."""
    lake.mkdir(parents=True, exist_ok=True)
    store = FeatureStore(
        config=RepoConfig(
            project="millrace",
            provider="local",
            registry=RegistryConfig(path=str(lake / "registry.db")),
            online_store=BlobStoreConfig(url=redis_url),
            offline_store=DuckDBOfflineStoreConfig(),
            entity_key_serialization_version=3,
        )
    )
    store.apply([*map(entity_of, VIEWS), *(feature_view(view, lake) for view in VIEWS)])
    return store


def names_of(views: Sequence[View] = VIEWS) -> list[str]:
    return [f"{view.name}:{feature.name}" for view in views for feature in view.features]
