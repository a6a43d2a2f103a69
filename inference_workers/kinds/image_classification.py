"""Image classification: classes of a picture, with probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference_workers.backends.backend import Backend, ImageClassifier, Logits
from inference_workers.backends.choose import image_classifier
from inference_workers.kinds.one_model import OneModel
from inference_workers.media.formats import Views
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.pictures import Pixels
from inference_workers.task import Prediction, Prepared, Use, Versions
from schemas.columns import Columns
from schemas.errors import InvalidRequest, MediaRefused, ModelRefused, RecordError
from streams.clock import timed

MAX_CLASSES = 100


@dataclass(frozen=True, slots=True)
class ImageInput:
    """pixels: uint8 (height, width, channels). top: how many classes to return. notes: what of the file is not in the pixels."""

    pixels: Pixels
    top: int
    notes: Sequence[str] = ()


class ImageClassification(OneModel):
    reads_media = True

    def load(self, folder: ModelFolder, model: str) -> Backend:
        classifier = image_classifier(folder)
        warm_up(classifier, folder)
        return classifier

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        classifier: ImageClassifier = versions[self.model].backend
        pictures = media.pictures(columns.nested("image"), classifier.fit)
        inputs: list[ImageInput] = []
        refused: dict[int, RecordError] = {}
        for row, (views, top) in enumerate(zip(pictures, columns.numbers("top"), strict=True)):
            if isinstance(views, MediaRefused):
                refused[row] = views
            elif not 1 <= top <= MAX_CLASSES:
                refused[row] = InvalidRequest(f"top is {top}; it must be from 1 to {MAX_CLASSES}")
            else:
                inputs.append(ImageInput(views.views[0][1], top, notes_of(views)))
        return Prepared(inputs, refused)

    def predict(self, inputs: Sequence[ImageInput], versions: Versions) -> Prediction:
        version = versions[self.model]
        classifier: ImageClassifier = version.backend
        pictures = [picture.pixels for picture in inputs]
        scores, compute_ms = timed(lambda: classifier.classify(pictures))
        probabilities = softmax(scores.logits)
        order = np.argsort(-probabilities, axis=1)
        return Prediction(
            results={
                "classes": [
                    [{"label": classifier.labels[k], "probability": float(row[k])} for k in best[: picture.top]]
                    for picture, row, best in zip(inputs, probabilities, order.tolist(), strict=True)
                ],
                "notes": [list(picture.notes) for picture in inputs],
            },
            uses=[
                Use(
                    version,
                    probabilities.astype("<f4"),
                    compute_ms,
                    signals=brightness(pictures),
                    seen=pictures,
                    embedding=scores.embedding,
                )
            ],
        )


def notes_of(views: Views) -> list[str]:
    """What of a picture its first view does not show, as sentences."""
    wheres = [where for where, _ in views.views]
    notes = ["it is transparent: it was put on white"] if "on black" in wheres else []
    if views.unseen or any(where.startswith("frame ") for where in wheres):
        notes.append("it is animated: only its first frame was used")
    return notes


def softmax(logits: Logits) -> Logits:
    """Probabilities, float64 (n, labels), each row with sum 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Logits = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def brightness(pictures: Sequence[Pixels]) -> Mapping[str, Any]:
    """The drift signals of n pictures: mean and deviation of their pixels, 0 to 255, each float32 (n,)."""
    return {
        "pixel_mean": np.array([pixels.mean() for pixels in pictures], "<f4"),
        "pixel_deviation": np.array([pixels.std() for pixels in pictures], "<f4"),
    }


def warm_up(classifier: ImageClassifier, folder: ModelFolder) -> None:
    """Classify two blank pictures. Raises ModelRefused if the logits do not have the shape that the folder promises."""
    height, width = classifier.fit.height or 64, classifier.fit.width or 64
    blank = np.zeros((height, width, 1 if classifier.fit.mode == "L" else 3), np.uint8)
    logits = classifier.classify([blank, blank]).logits
    if not folder.coverage or logits.shape != (2, len(folder.coverage)) or not np.isfinite(logits).all():
        raise ModelRefused(f"{folder.path}: logits of shape {logits.shape} for {len(folder.coverage)} classes")


KIND = ImageClassification
