"""Moderation: one verdict per content item, whatever it consists of, over the seven categories of `CATEGORIES`.

All texts of a micro-batch run as one batch, all images and sampled frames as another, whichever item they belong to. The
verdict names the part that decided. A part that cannot be read does not lose the item. A category that a model was not
trained on comes back as `not_covered`, never as a made-up number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.backends.backend import Backend, ImageClassifier, Scores, TextClassifier
from inference_workers.backends.choose import image_classifier, text_classifier
from inference_workers.content_items import ContentItem, content_item, read_images, read_videos, unreadable
from inference_workers.kinds.image_classification import brightness, warm_up
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.task import Prediction, Prepared, Use, Version, Versions
from processors.features.enrich import Need
from schemas.catalogue import consumption
from schemas.categories import CATEGORIES
from schemas.columns import Columns
from schemas.errors import InvalidRequest, ModelRefused, RecordError
from schemas.topics import MODERATION_VERDICTS
from streams.clock import timed

DEFAULT_THRESHOLD = 0.7
MAX_IMAGES = 64
TEXT, IMAGE = "moderation-text", "moderation-image"


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


class Moderation:
    name = "moderation"
    consumption = consumption("moderation")
    results = MODERATION_VERDICTS
    reads_media = True
    needs: Sequence[Need] = ()
    models: Mapping[str, str] = {TEXT: f"shipped:{TEXT}", IMAGE: f"shipped:{IMAGE}"}

    def load(self, folder: ModelFolder, model: str) -> Backend:
        unknown = set(folder.coverage) - set(CATEGORIES)
        if unknown or not folder.coverage:
            raise ModelRefused(f"{folder.path}: coverage must list moderation categories; unknown are {sorted(unknown)}")
        if model == IMAGE:
            pictures = image_classifier(folder)
            warm_up(pictures, folder)
            return pictures
        texts = text_classifier(folder)
        logits = texts.classify(["warm up", "a second text, so that the batch has more than one row"]).logits
        if logits.shape != (2, len(folder.coverage)) or not np.isfinite(logits).all():
            raise ModelRefused(f"{folder.path}: logits of shape {logits.shape} for {len(folder.coverage)} categories")
        return texts

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        """Content items with their media decoded. An item is refused if it has nothing to judge, too many images, or no part that can
        be read; a part that cannot be read is reported in the verdict. Raises RetryLater if a claim-check store does not answer."""
        items = [
            content_item(content_id, author_id, text or "")
            for content_id, author_id, text in zip(
                columns.text("content_id"), columns.text("author_id"), columns.text("text"), strict=True
            )
        ]
        images, videos = columns.nested("images"), columns.nested("video")
        refused: dict[int, RecordError] = {}
        for row, (item, item_images, video) in enumerate(zip(items, images, videos, strict=True)):
            if item.text is None and not item_images and video is None:
                refused[row] = InvalidRequest("the content item has no text, image or video: there is nothing to judge")
            elif len(item_images) > MAX_IMAGES:
                refused[row] = InvalidRequest(f"the content item has {len(item_images)} images; at most {MAX_IMAGES} are allowed")
        valid = [row for row in range(len(items)) if row not in refused]
        fit = versions[IMAGE].backend.fit
        read_images(items, [(row, images[row]) for row in valid if images[row]], fit, media)
        read_videos(items, [(row, videos[row]) for row in valid if videos[row] is not None], fit, media)
        refused |= unreadable(items, valid)
        return Prepared([item for row, item in enumerate(items) if row not in refused], refused)

    def predict(self, inputs: Sequence[ContentItem], versions: Versions) -> Prediction:
        scored = [*_score_texts(inputs, versions[TEXT]), *_score_pictures(inputs, versions[IMAGE])]
        verdicts = [_verdict(item, scored, places) for item, places in zip(inputs, _places(scored, len(inputs)), strict=True)]
        return Prediction(
            results={
                "content_id": [item.content_id for item in inputs],
                "author_id": [item.author_id for item in inputs],
                **{name: [verdict[name] for verdict in verdicts] for name in verdicts[0]},
            },
            uses=[model.use for model in scored],
        )


def _score_texts(items: Sequence[ContentItem], version: Version) -> list[Scored]:
    """Whole texts first, then their windows."""
    parts = [(row, "text", item.text) for row, item in enumerate(items) if item.text is not None]
    parts += [(row, part, text) for row, item in enumerate(items) for part, text in item.windows]
    if not parts:
        return []
    texts = [text for _, _, text in parts]
    classifier: TextClassifier = version.backend
    scores, compute_ms = timed(lambda: classifier.classify(texts))
    signals = {"text_chars": np.array([len(text) for text in texts], "<f4")}
    rows, names = [row for row, _, _ in parts], [part for _, part, _ in parts]
    return [_scored(version, classifier.labels, scores, compute_ms, rows, names, items, signals, texts)]


def _score_pictures(items: Sequence[ContentItem], version: Version) -> list[Scored]:
    parts = [(row, part, pixels) for row, item in enumerate(items) for part, pixels in item.pictures]
    if not parts:
        return []
    pictures = [pixels for _, _, pixels in parts]
    classifier: ImageClassifier = version.backend
    scores, compute_ms = timed(lambda: classifier.classify(pictures))
    rows, names = [row for row, _, _ in parts], [part for _, part, _ in parts]
    return [_scored(version, classifier.labels, scores, compute_ms, rows, names, items, brightness(pictures), pictures)]


def _scored(
    version: Version,
    labels: tuple[str, ...],
    scores: Scores,
    compute_ms: float,
    rows: list[int],
    parts: list[str],
    items: Sequence[ContentItem],
    signals: Mapping[str, npt.NDArray[Any]],
    seen: Sequence[Any],
) -> Scored:
    """The log names a part unless its item has no other: only then is a label of the item also a label of the part."""
    saved = version.folder.config.get("thresholds", {})
    thresholds = np.array([float(saved.get(label, DEFAULT_THRESHOLD)) for label in labels])
    probabilities = 1.0 / (1.0 + np.exp(-scores.logits))
    named = ["" if items[row].is_one_part else part for row, part in zip(rows, parts, strict=True)]
    use = Use(
        version,
        probabilities.astype("<f4"),
        compute_ms,
        None if rows == list(range(len(items))) else rows,
        named if any(named) else (),
        signals,
        thresholds,
        seen,
        scores.embedding,
    )
    margins = scores.logits - np.log(thresholds / (1.0 - thresholds))
    not_covered = [category for category in CATEGORIES if category not in labels]
    return Scored(use, labels, thresholds.tolist(), rows, parts, probabilities.tolist(), margins, not_covered)


def _places(scored: Sequence[Scored], n: int) -> list[list[tuple[int, int]]]:
    """For each of n items, where its parts are: the model's index in `scored`, and the entry there."""
    places: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for number, model in enumerate(scored):
        for entry, row in enumerate(model.rows):
            places[row].append((number, entry))
    return places


def _verdict(item: ContentItem, scored: Sequence[Scored], places: list[tuple[int, int]]) -> dict[str, Any]:
    worst: dict[str, tuple[float, dict[str, Any]]] = {}  # by category: margin, and its fields in the verdict
    parts: list[dict[str, Any]] = []
    for number, entry in places:
        model = scored[number]
        margins, probabilities, part = model.margins[entry], model.probabilities[entry], model.parts[entry]
        best = int(margins.argmax())
        parts.append(
            {
                "part": part,
                "category": model.labels[best],
                "probability": probabilities[best],
                "not_covered": model.not_covered,
                "unseen": item.unseen.get(part),
            }
        )
        for k, category in enumerate(model.labels):
            if category not in worst or margins[k] > worst[category][0]:
                worst[category] = (
                    margins[k],
                    {
                        "category": category,
                        "probability": probabilities[k],
                        "threshold": model.thresholds[k],
                        "flagged": bool(margins[k] > 0),
                        "part": part,
                    },
                )
    _, decided = max(worst.values(), key=lambda margin_and_fields: margin_and_fields[0])
    named = {fields["part"] for _, fields in worst.values()}
    parts = [part for part in parts if part["part"] in named or not part["part"].startswith("text from ")]
    parts += [{"part": part, "error_code": error.code, "error_message": str(error)} for part, error in item.unread]
    return {
        "flagged": any(fields["flagged"] for _, fields in worst.values()),
        "deciding": {name: decided[name] for name in ("part", "category", "probability")},
        "categories": [worst[category][1] for category in CATEGORIES if category in worst],
        "not_covered": [category for category in CATEGORIES if category not in worst],
        "parts": parts,
    }


TASK = Moderation()
