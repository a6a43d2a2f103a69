"""Reads served features back from the prediction log, so that recorded requests can be answered again with the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from processors.features.enrich import READ_MS, Need
from schemas.columns import Column, Columns, Slices


class RecordedFeatures:
    """The features of each request, by request id. The first record of a request counts; later records are repeats."""

    def __init__(self, needs: Sequence[Need]) -> None:
        self._needs = needs
        self._names = [need.column(feature) for need in needs for feature in need.features]
        self._names += [name for need in needs for name in (need.state_column, need.event_ms_column)]
        self._names += [READ_MS] if needs else []
        self._values: dict[str, dict[str, Any]] = {}

    def take(self, record: Mapping[str, Any]) -> None:
        """Add the requests of one record of the prediction log; a record without these features adds none."""
        columns = {f"{feature['view']}.{feature['name']}": _values(feature) for feature in record["features"]}
        for need in self._needs:
            for feature in record["features"]:
                if feature["view"] == need.view.name:
                    columns[need.state_column] = np.frombuffer(feature["state"], np.int8)
                    columns[need.event_ms_column] = np.frombuffer(feature["event_ms"], "<i8")
        columns[READ_MS] = np.full(len(record["request_ids"]), record["started_ms"], np.int64)
        if not columns.keys() >= set(self._names):
            return
        for i, request_id in enumerate(record["request_ids"]):
            if request_id not in self._values:
                self._values[request_id] = {name: columns[name][i] for name in self._names}

    def __len__(self) -> int:
        return len(self._values)

    def knows(self, request_id: str) -> bool:
        return request_id in self._values

    def beside(self, columns: Columns, request_ids: Sequence[str]) -> Columns:
        """The requests' own columns, and one column per feature, as `Enrich` returns them. Raises KeyError for an unknown
        request."""
        fields: dict[str, Column] = dict(columns.fields)
        for name in self._names:
            values = [self._values[request_id][name] for request_id in request_ids]
            fields[name] = (
                Slices.of([text.encode() for text in values]) if values and isinstance(values[0], str) else np.array(values)
            )
        return Columns(columns.n, fields)


def _values(feature: Mapping[str, Any]) -> Any:
    return list(feature["texts"]) if feature["dtype"] == "utf8" else np.frombuffer(feature["values"], feature["dtype"])
