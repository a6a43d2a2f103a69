"""Text classification: the labels of a text, of which one holds, or several at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_workers.backends.backend import Backend, Logits, Scores, TextClassifier
from inference_workers.backends.choose import text_classifier
from inference_workers.kinds.image_classification import softmax
from inference_workers.kinds.one_model import OneModel, text_chars, texts_of
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.task import Prediction, Prepared, Use, Versions
from schemas.columns import Columns
from schemas.errors import ModelRefused
from streams.clock import timed

DEFAULT_THRESHOLD = 0.5


class TextClassification(OneModel):
    def load(self, folder: ModelFolder, model: str) -> Backend:
        classifier = text_classifier(folder)
        logits = classifier.classify(["Hello.", "A second text, so that there is a batch."]).logits
        if not classifier.labels or logits.shape != (2, len(classifier.labels)):
            raise ModelRefused(f"{folder.path}: logits of shape {logits.shape} for {len(classifier.labels)} labels")
        return classifier

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        return texts_of(columns)

    def predict(self, inputs: Sequence[str], versions: Versions) -> Prediction:
        version = versions[self.model]
        classifier: TextClassifier = version.backend
        scores, compute_ms = timed(lambda: classifier.classify(inputs))
        several = self._several(version.folder)
        probabilities = sigmoid(scores.logits) if several else softmax(scores.logits)
        thresholds = self._thresholds(version.folder, classifier.labels) if several else None
        positive = (
            probabilities == probabilities.max(axis=1, keepdims=True) if thresholds is None else probabilities >= thresholds
        )
        return Prediction(
            results={"labels": ranked(classifier.labels, probabilities, positive), "chunks": _chunks(scores)},
            uses=[
                Use(
                    version,
                    probabilities.astype("<f4"),
                    compute_ms,
                    signals={"text_chars": text_chars(inputs)},
                    thresholds=None if thresholds is None else thresholds.astype("<f4"),
                    seen=inputs,
                    embedding=scores.embedding,
                )
            ],
        )

    def _several(self, folder: ModelFolder) -> bool:
        """Whether several labels can hold at once: as declared, else as the model says."""
        declared = self.options.get("multi_label")
        if declared is not None:
            return bool(declared)
        return folder.config.get("problem_type") == "multi_label_classification" or "thresholds" in folder.config

    def _thresholds(self, folder: ModelFolder, labels: Sequence[str]) -> Logits:
        """The probability from which each label holds, float64 (labels,): as declared, else as the model says, else a half."""
        declared, saved = self.options.get("threshold"), folder.config.get("thresholds", {})
        return np.array([saved.get(label, DEFAULT_THRESHOLD) if declared is None else declared for label in labels], np.float64)


def sigmoid(logits: Logits) -> Logits:
    """Probabilities, float64 (n, labels), each of its own."""
    probabilities: Logits = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
    return probabilities


def ranked(labels: Sequence[str], probabilities: Logits, positive: Any) -> list[list[dict[str, Any]]]:
    """The labels of n rows as fields of their results, likeliest first. probabilities, positive: (n, labels)."""
    order = np.argsort(-probabilities, axis=1, kind="stable").tolist()
    return [
        [{"label": labels[k], "probability": row[k], "positive": holds[k]} for k in best]
        for best, row, holds in zip(order, probabilities.tolist(), np.asarray(positive).tolist(), strict=True)
    ]


def _chunks(scores: Scores) -> Any:
    return np.ones(len(scores.logits), np.int64) if scores.chunks is None else scores.chunks


KIND = TextClassification
