"""Moderation: one verdict on one content item, over the seven categories of `CATEGORIES`.

What the model was not trained to tell comes back as `not_covered`, never as a made-up number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inference_workers.backends.backend import Backend
from inference_workers.backends.onnx import OnnxBackend
from inference_workers.networks.folder import ModelFolder
from inference_workers.networks.ngrams import words_and_chars
from inference_workers.task import Prediction, Version
from schemas.columns import Columns
from schemas.encoding import Constant
from schemas.errors import InvalidRequest, ModelRefused, RecordError
from schemas.topics import MODERATION_VERDICTS, consumption

CATEGORIES = ("hate_speech", "harassment", "violence", "sexual_content", "self_harm", "spam", "misinformation")
DEFAULT_THRESHOLD = 0.7


class Moderation:
    name = "moderation"
    consumption = consumption("moderation")
    results = MODERATION_VERDICTS
    model = "moderation-text"
    default_uri = "shipped:moderation-text"

    def load(self, folder: ModelFolder) -> Backend:
        unknown = set(folder.coverage) - set(CATEGORIES)
        if unknown or not folder.coverage:
            raise ModelRefused(f"{folder.path}: coverage must name categories of moderation, not {sorted(unknown)}")
        backend = OnnxBackend(folder)
        logits = backend.run(_inputs(["warm up", "a second text, so that the batch has more than one row"]))["logits"]
        if logits.shape != (2, len(folder.coverage)) or not np.isfinite(logits).all():
            raise ModelRefused(f"{folder.path}: logits of shape {logits.shape} for {len(folder.coverage)} categories")
        return backend

    def check(self, columns: Columns) -> dict[int, RecordError]:
        missing = InvalidRequest("the content item has no text: there is nothing that this worker can judge")
        return {row: missing for row, text in enumerate(columns.text("text")) if not (text and text.strip())}

    def predict(self, columns: Columns, version: Version) -> Prediction:
        texts = [text or "" for text in columns.text("text")]
        covered = version.folder.coverage
        logits = version.backend.run(_inputs(texts))["logits"].astype(np.float64)
        if not np.isfinite(logits).all():
            raise ValueError("the model's answer is not a number")
        probabilities = 1.0 / (1.0 + np.exp(-logits))
        saved = version.folder.config.get("thresholds", {})
        thresholds = np.array([float(saved.get(category, DEFAULT_THRESHOLD)) for category in covered])
        flagged = probabilities > thresholds
        weighed = np.argmax(logits - np.log(thresholds / (1.0 - thresholds)), axis=1)  # furthest past its threshold
        return Prediction(
            results={
                "content_id": columns.text("content_id"),
                "flagged": [any(hits) for hits in flagged.tolist()],
                "deciding": [
                    {"part": "text", "category": covered[best], "probability": row[best]}
                    for best, row in zip(weighed.tolist(), probabilities.tolist(), strict=True)
                ],
                "categories": [
                    [
                        {"category": name, "probability": p, "threshold": limit, "flagged": hit}
                        for name, p, limit, hit in zip(covered, row, thresholds.tolist(), hits, strict=True)
                    ]
                    for row, hits in zip(probabilities.tolist(), flagged.tolist(), strict=True)
                ],
                "not_covered": Constant([category for category in CATEGORIES if category not in covered]),
            },
            outputs=probabilities.astype("<f4"),
            signals={"text_chars": np.array([len(text) for text in texts], "<f4")},
        )


def _inputs(texts: list[str]) -> dict[str, Any]:
    words, chars = words_and_chars(texts)
    return {
        "word_buckets": words.buckets,
        "word_counts": words.counts,
        "char_buckets": chars.buckets,
        "char_counts": chars.counts,
    }


TASK = Moderation()
