"""Judges all parts of a batch by one model: texts by a text classifier, pictures by an image classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.backends.backend import ImageClassifier, Scores, TextClassifier
from inference_workers.content_items import ContentItem, stretches
from inference_workers.judging import sexual_content
from inference_workers.kinds.image_classification import brightness, softmax
from inference_workers.task import Use, Version
from schemas.categories import CATEGORIES
from streams.clock import timed

DEFAULT_THRESHOLD = 0.7

Named = tuple[int, str, Any]  # an item's row, the name of its part, and a text or pixels
Signals = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Scored:
    """All n parts that one model judged. rows: the item of each part. probabilities: (n, labels). margins: float64 (n, labels), how far
    past its threshold each label is, in logits."""

    use: Use
    labels: tuple[str, ...]
    thresholds: list[float]
    rows: list[int]
    parts: list[str]
    probabilities: list[list[float]]
    margins: npt.NDArray[np.float64]
    not_covered: list[str]


def score_texts(items: Sequence[ContentItem], version: Version) -> list[Scored]:
    """Whole texts first, then their stretches, then texts that were read in pictures and theirs."""
    parts = [(row, "text", item.text) for row, item in enumerate(items) if item.text is not None]
    parts += [(row, part, text) for row, item in enumerate(items) for part, text in item.windows]
    parts += [(row, part, text) for row, item in enumerate(items) for part, text in _read(item)]
    if not parts:
        return []
    texts = [text for _, _, text in parts]
    classifier: TextClassifier = version.backend
    scores, compute_ms = timed(lambda: classifier.classify(texts))
    signals = {"text_chars": np.array([len(text) for text in texts], "<f4")}
    return [_scored(version, classifier.labels, scores, compute_ms, parts, items, signals)]


def _read(item: ContentItem) -> list[tuple[str, str]]:
    named = [(f"text in {reading.part}", reading.text) for reading in item.readings if reading.text]
    return named + [stretch for part, text in named for stretch in stretches(part, text)[0]]


def score_pictures(items: Sequence[ContentItem], version: Version) -> list[Scored]:
    looked_at = _looked_at([(row, part, pixels) for row, item in enumerate(items) for part, pixels in item.pictures], version)
    if looked_at is None:
        return []
    return [
        _scored(
            version, version.backend.labels, looked_at.scores, looked_at.compute_ms, looked_at.parts, items, looked_at.signals
        )
    ]


def score_scenes(items: Sequence[ContentItem], version: Version) -> list[Scored]:
    """Sexual content of pictures. The probability of each class of the model is a signal."""
    looked_at = _looked_at([(row, part, pixels) for row, item in enumerate(items) for part, pixels in item.scenes], version)
    if looked_at is None:
        return []
    classes = version.backend.labels
    shares = dict(zip(classes, softmax(looked_at.scores.logits).astype("<f4").T, strict=True))
    merged, labels = sexual_content.merged(classes, looked_at.scores), (sexual_content.CATEGORY,)
    return [_scored(version, labels, merged, looked_at.compute_ms, looked_at.parts, items, {**looked_at.signals, **shares})]


@dataclass(frozen=True, slots=True)
class _LookedAt:
    """Pictures that a model looked at, and its scores of them. signals: of the pictures."""

    parts: list[Named]
    scores: Scores
    compute_ms: float
    signals: Signals


def _looked_at(parts: list[Named], version: Version) -> _LookedAt | None:
    """None if there are no pictures."""
    if not parts:
        return None
    classifier: ImageClassifier = version.backend
    pictures = [pixels for _, _, pixels in parts]
    scores, compute_ms = timed(lambda: classifier.classify(pictures))
    return _LookedAt(parts, scores, compute_ms, brightness(pictures))


def _scored(
    version: Version,
    labels: tuple[str, ...],
    scores: Scores,
    compute_ms: float,
    parts: Sequence[Named],
    items: Sequence[ContentItem],
    signals: Signals,
) -> Scored:
    """The log names a part unless its item has no other: only then is a label of the item also a label of the part."""
    saved = version.folder.config.get("thresholds", {})
    thresholds = np.array([float(saved.get(label, DEFAULT_THRESHOLD)) for label in labels])
    probabilities = 1.0 / (1.0 + np.exp(-scores.logits))
    rows, names = [row for row, _, _ in parts], [part for _, part, _ in parts]
    is_alone = [item.is_one_part for item in items]
    named = ["" if is_alone[row] else part for row, part in zip(rows, names, strict=True)]
    use = Use(
        version,
        probabilities.astype("<f4"),
        compute_ms,
        None if rows == list(range(len(items))) else rows,
        named if any(named) else (),
        signals,
        thresholds,
        [seen for _, _, seen in parts],
        scores.embedding,
        labels,
    )
    margins = scores.logits - np.log(thresholds / (1.0 - thresholds))
    not_covered = [category for category in CATEGORIES if category not in labels]
    return Scored(use, labels, thresholds.tolist(), rows, names, probabilities.tolist(), margins, not_covered)
