"""Tabular: the classes or the number that a model predicts for one row of a table.

A column comes from the request, or from the online store: the features that the declaration names are read for the request's
user or item. The prediction log keeps the values that were served, so that a row can be answered again with the same values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inference_workers.backends.backend import Backend, TableModel
from inference_workers.backends.choose import table_model
from inference_workers.kinds.one_model import OneModel
from inference_workers.kinds.text_classification import ranked
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.task import Prediction, Prepared, Use, Versions
from processors.features.enrich import Need
from schemas.columns import Columns, Slices
from schemas.declared.task_kinds import OptionValue
from schemas.errors import InvalidRequest, RecordError
from schemas.features import view_of
from schemas.topic_kinds import Consumption
from streams.clock import timed

Row = dict[str, float | str]


class Tabular(OneModel):
    def __init__(
        self, consumption: Consumption, model: str, source: str, options: Mapping[str, OptionValue] | None = None
    ) -> None:
        super().__init__(consumption, model, source, options)
        self.needs = needs_of(self._names("features"))

    def _names(self, option: str) -> tuple[str, ...]:
        names = self.options.get(option, ())
        assert isinstance(names, tuple)
        return names

    def load(self, folder: ModelFolder, model: str) -> Backend:
        return table_model(folder, self._names("columns"), self._names("labels"))

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        table: TableModel = versions[self.model].backend
        features = {name: _values(columns, column) for name, column in _columns_of(self.needs).items()}
        inputs: list[Row] = []
        refused: dict[int, RecordError] = {}
        for row, (numbers, categories) in enumerate(zip(columns.nested("numbers"), columns.nested("categories"), strict=True)):
            cells: Row = {**{name: values[row] for name, values in features.items()}, **numbers, **categories}
            problem = misfit(cells, table)
            if problem:
                refused[row] = InvalidRequest(problem)
            else:
                inputs.append({name: cells[name] for name in (*table.numbers, *table.categories)})
        return Prepared(inputs, refused)

    def predict(self, inputs: Sequence[Row], versions: Versions) -> Prediction:
        version = versions[self.model]
        table: TableModel = version.backend
        scores, compute_ms = timed(lambda: table.scores(inputs))
        results: dict[str, Any] = {"value": scores[:, 0].tolist()}
        if table.labels:
            positive = scores == scores.max(axis=1, keepdims=True)
            results = {"labels": ranked(table.labels, scores.astype(np.float64), positive)}
        signals = {name: np.array([row[name] for row in inputs], "<f4") for name in table.numbers}
        return Prediction(results, [Use(version, scores, compute_ms, signals=signals, labels=table.labels)])


def needs_of(names: Sequence[str]) -> list[Need]:
    """Features such as user:total_purchases, one need per entity. The request's field user_id or item_id names the entity."""
    by_entity: dict[str, list[str]] = {}
    for name in names:
        entity, _, feature = name.partition(":")
        by_entity.setdefault(entity, []).append(feature)
    return [Need(view_of(entity), f"{entity}_id", tuple(features)) for entity, features in by_entity.items()]


def _columns_of(needs: Sequence[Need]) -> dict[str, str]:
    """The column of each feature by the names that the model may know it by: user:total_purchases, user_total_purchases, and
    total_purchases unless both entities have it."""
    columns: dict[str, str] = {}
    for need in needs:
        for feature in need.features:
            columns |= dict.fromkeys((f"{need.view.entity}:{feature}", f"{need.view.entity}_{feature}"), need.column(feature))
    short = Counter(feature for need in needs for feature in need.features)
    columns |= {feature: need.column(feature) for need in needs for feature in need.features if short[feature] == 1}
    return columns


def _values(columns: Columns, name: str) -> list[Any]:
    column = columns.fields[name]
    return column.to_text() if isinstance(column, Slices) else np.asarray(column).tolist()


def misfit(cells: Mapping[str, float | str], table: TableModel) -> str:
    """What is wrong with a row, as a sentence; empty if the model can read it."""
    missing = [name for name in (*table.numbers, *table.categories) if name not in cells]
    if missing:
        return f"the row lacks {', '.join(missing)}; the model reads {', '.join((*table.numbers, *table.categories))}"
    for name in table.numbers:
        value = cells[name]
        if isinstance(value, str):
            return f"{name} is a text; the model takes a number: put it under numbers"
        if problem := _number_problem(value, table.number_types[name]):
            return f"{name} is {value}; it must be {problem}"
    for name in table.categories:
        if not isinstance(cells[name], str):
            return f"{name} is a number; the model takes a text: put it under categories"
    return ""


def _number_problem(value: float, dtype: np.dtype[Any]) -> str:
    """What a column of this dtype needs instead of the value; empty if the value fits."""
    if not np.isfinite(value):
        return "a finite number"
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        whole = float(value).is_integer() and limits.min <= int(value) <= limits.max
        return "" if whole else f"a whole number of {dtype.itemsize * 8} bits"
    largest = float(np.finfo(dtype).max)
    return "" if abs(value) <= largest else f"at most {largest:.3g} in size, since the model reads {dtype.name}"


KIND = Tabular
