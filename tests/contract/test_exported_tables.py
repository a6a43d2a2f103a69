"""Models of tables as scikit-learn, XGBoost and LightGBM export them: each answers as its library does, as a declared task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.check import CHECKS, Subject, columns_of, examples, fitting
from inference_workers.kinds.tabular import Tabular
from inference_workers.media.reader import MediaReader
from inference_workers.task import loaded
from schemas.declared.declarations import Declaration
from schemas.declared.task_kinds import TaskKind
from schemas.errors import ModelRefused
from streams.claim_checks import ClaimChecks

FOLDER = Path(__file__).parents[1] / "support" / "exported_tables"
GIVEN: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())
MATRIX, NAMES = ("amount", "hour"), ("fine", "fraud")
CASES: dict[str, tuple[dict[str, tuple[str, ...]], tuple[str, ...]]] = {  # options, and the labels of its answers
    "sklearn_zipmap_true": ({"columns": MATRIX}, NAMES),
    "sklearn_zipmap_false": ({"columns": MATRIX, "labels": NAMES}, NAMES),
    "sklearn_zipmap_columns": ({"columns": MATRIX}, NAMES),
    "sklearn_numbered_columns": ({"columns": MATRIX}, ("0", "1")),
    "sklearn_unknown_ignore": ({}, NAMES),
    "sklearn_unknown_error": ({"labels": NAMES}, NAMES),
    "sklearn_regression": ({"columns": MATRIX}, ()),
    "sklearn_one_column": ({"columns": ("amount",)}, ()),
    "xgboost_classifier": ({"columns": MATRIX, "labels": NAMES}, NAMES),
    "xgboost_regressor": ({"columns": MATRIX}, ()),
    "lightgbm_classifier": ({"columns": MATRIX}, ("0", "1")),
    "lightgbm_named": ({"columns": MATRIX}, NAMES),
    "lightgbm_regressor": ({"columns": MATRIX}, ()),
}
REFUSED = {
    "sklearn_two_numbers": ({"columns": MATRIX}, "one number is taken"),
    "sklearn_zipmap_false": ({"columns": MATRIX}, r"calls an answer 'f\w+', but not which of its 2 probabilities"),
    "sklearn_regression": ({"columns": MATRIX, "labels": NAMES}, "predicts numbers"),
}


def subject(name: str, options: Mapping[str, tuple[str, ...]], media: MediaReader) -> Subject:
    made = Declaration(name="mine", kind=TaskKind.TABULAR, model=f"file:{FOLDER / name}.onnx", options=options)
    task = Tabular(made.consumption(), "mine", made.model, options)
    versions = {"mine": loaded(task, "mine", made.model)}
    return Subject(task, versions, media, fitting(task, versions, examples(task)))


@pytest.fixture(scope="module")
def media() -> Iterator[MediaReader]:
    reader = MediaReader(ClaimChecks(()))
    yield reader
    reader.close()


@pytest.mark.parametrize("name", CASES)
def test_an_exported_model_answers_as_its_library_does(name: str, media: MediaReader) -> None:
    options, labels = CASES[name]
    tried = subject(name, options, media)
    table: Any = tried.versions["mine"].backend
    assert table.labels == labels
    if table.answers_examples:
        for check in CHECKS:
            check(tried)
    requests = [
        {"numbers": {key: row[key] for key in table.numbers}, "categories": {key: row[key] for key in table.categories}}
        for row in GIVEN["rows"]
    ]
    prepared = tried.task.prepare(columns_of(tried.task, requests), tried.versions, media)
    prediction = tried.task.predict(prepared.inputs, tried.versions)
    np.testing.assert_allclose(prediction.uses[0].outputs, GIVEN["expected"][name], rtol=1e-4, atol=1e-5)
    if labels:
        best = [answer[0]["label"] for answer in prediction.results["labels"]]  # type: ignore[union-attr]
        assert best == [labels[int(np.argmax(row))] for row in GIVEN["expected"][name]]


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_whose_answers_could_be_misread_is_refused(name: str, media: MediaReader) -> None:
    options, reason = REFUSED[name]
    with pytest.raises(ModelRefused, match=reason):
        subject(name, options, media)


def test_labels_in_another_order_than_the_models_own_are_refused(media: MediaReader) -> None:
    with pytest.raises(ModelRefused, match="labels calls it"):
        subject("sklearn_zipmap_false", {"columns": MATRIX, "labels": NAMES[::-1]}, media)


def test_every_file_is_tried() -> None:
    assert {file.stem for file in FOLDER.glob("*.onnx")} == GIVEN["expected"].keys() == CASES.keys() | REFUSED.keys()
