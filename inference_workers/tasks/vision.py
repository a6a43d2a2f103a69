"""Vision: what a picture shows, as classes with probabilities."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference_workers.backends.backend import Backend, ImageClassifier, Logits
from inference_workers.backends.choose import image_classifier
from inference_workers.media.formats import Looks
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.pictures import Pixels
from inference_workers.task import Prediction, Prepared, Use, Versions
from processors.features.enrich import Need
from schemas.columns import Columns
from schemas.errors import InvalidRequest, MediaRefused, ModelRefused, RecordError
from schemas.topics import VISION_RESULTS, consumption

MODEL = "vision-digits"
MOST_CLASSES = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """notes: what of the file is not in the pixels, in words."""

    pixels: Pixels
    top: int
    notes: Sequence[str] = ()


class Vision:
    name = "vision"
    consumption = consumption("vision")
    results = VISION_RESULTS
    reads_media = True
    needs: Sequence[Need] = ()
    models: Mapping[str, str] = {MODEL: f"shipped:{MODEL}"}

    def load(self, folder: ModelFolder, model: str) -> Backend:
        scorer = image_classifier(folder)
        warm_up(scorer, folder)
        return scorer

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        scorer: ImageClassifier = versions[MODEL].backend
        pictures = media.looks(columns.nested("image"), scorer.fit)
        inputs: list[Asked] = []
        refused: dict[int, RecordError] = {}
        for row, (looks, top) in enumerate(zip(pictures, columns.numbers("top"), strict=True)):
            if isinstance(looks, MediaRefused):
                refused[row] = looks
            elif not 1 <= top <= MOST_CLASSES:
                refused[row] = InvalidRequest(f"top is {top}; it takes 1 to {MOST_CLASSES}")
            else:
                inputs.append(Asked(looks.views[0][1], top, notes_of(looks)))
        return Prepared(inputs, refused)

    def predict(self, inputs: Sequence[Asked], versions: Versions) -> Prediction:
        version = versions[MODEL]
        scorer: ImageClassifier = version.backend
        begun_s = time.perf_counter()
        pictures = [one.pixels for one in inputs]
        scores = scorer.score(pictures)
        compute_ms = (time.perf_counter() - begun_s) * 1000
        probabilities = softmax(scores.logits)
        order = np.argsort(-probabilities, axis=1)
        return Prediction(
            results={
                "classes": [
                    [{"label": scorer.labels[k], "probability": float(row[k])} for k in best[: one.top]]
                    for one, row, best in zip(inputs, probabilities, order.tolist(), strict=True)
                ],
                "notes": [list(one.notes) for one in inputs],
            },
            uses=[Use(
                version, probabilities.astype("<f4"), compute_ms, signals=brightness(pictures), seen=pictures,
                embedding=scores.embedding,
            )],
        )  # fmt: skip


def notes_of(looks: Looks) -> list[str]:
    """What of a picture the first view does not show, in words."""
    wheres = [where for where, _ in looks.views]
    notes = ["it lets its ground through: it was put on white"] if "on black" in wheres else []
    if looks.unseen or any(where.startswith("frame ") for where in wheres):
        notes.append("it moves: only its first frame was looked at")
    return notes


def softmax(logits: Logits) -> Logits:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Logits = powers / powers.sum(axis=1, keepdims=True)
    return found


def brightness(pictures: Sequence[Pixels]) -> Mapping[str, Any]:
    """The drift signal of pictures: mean and spread of their pixels, 0 to 255."""
    return {
        "pixel_mean": np.array([pixels.mean() for pixels in pictures], "<f4"),
        "pixel_deviation": np.array([pixels.std() for pixels in pictures], "<f4"),
    }


def warm_up(scorer: ImageClassifier, folder: ModelFolder) -> None:
    """Two pictures through it. Raises ModelRefused where what comes out is not what the folder says."""
    height, width = scorer.fit.height or 64, scorer.fit.width or 64
    blank = np.zeros((height, width, 1 if scorer.fit.mode == "L" else 3), np.uint8)
    logits = scorer.score([blank, blank]).logits
    if not folder.coverage or logits.shape != (2, len(folder.coverage)) or not np.isfinite(logits).all():
        raise ModelRefused(f"{folder.path}: logits of shape {logits.shape} for {len(folder.coverage)} classes")


TASK = Vision()
