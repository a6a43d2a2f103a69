"""Moderation: one verdict on one content item, whatever it is made of, over the seven categories of `CATEGORIES`.

All texts of a micro-batch run as one batch, all images and sampled frames as another, whichever item they came from. The
verdict names the part that decided. A part that cannot be read does not lose the item, and what a model was not trained
to tell comes back as `not_covered`, never as a made-up number.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.backends.backend import Backend, ImageClassifier, Scores, TextClassifier
from inference_workers.backends.choose import image_classifier, text_classifier
from inference_workers.media.formats import MOST_VIEWS
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.pictures import Pixels
from inference_workers.networks.visible_text import folded, visible, windows
from inference_workers.task import Prediction, Prepared, Use, Version, Versions
from inference_workers.tasks.vision import brightness, warm_up
from processors.features.enrich import Need
from schemas.categories import CATEGORIES
from schemas.columns import Columns
from schemas.errors import InvalidRequest, MediaRefused, ModelRefused, RecordError
from schemas.topics import MODERATION_VERDICTS, consumption

DEFAULT_THRESHOLD = 0.7
MAX_IMAGES = 64
TEXT, IMAGE = "moderation-text", "moderation-image"


@dataclass(slots=True)
class Item:
    """One content item, its media decoded. text: whole, without what nobody sees. windows: part and text of each stretch of one that is
    too long to be judged by its whole alone. pictures: name and pixels of each image and frame that could be read. unseen: by part,
    what of it was not judged."""

    content_id: str | None
    author_id: str | None
    text: str | None
    windows: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[tuple[str, Pixels]] = field(default_factory=list)
    unread: list[tuple[str, MediaRefused]] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)

    @property
    def is_one_part(self) -> bool:
        return (self.text is not None) + len(self.windows) + len(self.pictures) + len(self.unread) == 1


@dataclass(frozen=True, slots=True)
class Scored:
    """All parts that one model judged. rows: the item of each part. margins: how far past its threshold, in logits."""

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
            raise ModelRefused(f"{folder.path}: coverage must name categories of moderation, not {sorted(unknown)}")
        if model == IMAGE:
            pictures = image_classifier(folder)
            warm_up(pictures, folder)
            return pictures
        texts = text_classifier(folder)
        logits = texts.score(["warm up", "a second text, so that the batch has more than one row"]).logits
        if logits.shape != (2, len(folder.coverage)) or not np.isfinite(logits).all():
            raise ModelRefused(f"{folder.path}: logits of shape {logits.shape} for {len(folder.coverage)} categories")
        return texts

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        items = [
            _item(content_id, author_id, text or "")
            for content_id, author_id, text in zip(
                columns.text("content_id"), columns.text("author_id"), columns.text("text"), strict=True
            )
        ]
        refused: dict[int, RecordError] = {}
        images, videos = columns.nested("images"), columns.nested("video")
        for row, (item, pictures, video) in enumerate(zip(items, images, videos, strict=True)):
            if item.text is None and not pictures and video is None:
                refused[row] = InvalidRequest("the content item has no text, image or video: there is nothing to judge")
            elif len(pictures) > MAX_IMAGES:
                refused[row] = InvalidRequest(f"the content item has {len(pictures)} images; at most {MAX_IMAGES} are judged")
        good = [row for row in range(len(items)) if row not in refused]
        _read_pictures(items, [(row, images[row]) for row in good if images[row]], versions, media)
        _read_videos(items, [(row, videos[row]) for row in good if videos[row] is not None], versions, media)
        for row in good:
            item = items[row]
            if item.text is None and not item.pictures:
                refused[row] = MediaRefused("; ".join(f"{part}: {error}" for part, error in item.unread))
        return Prepared([item for row, item in enumerate(items) if row not in refused], refused)

    def predict(self, inputs: Sequence[Item], versions: Versions) -> Prediction:
        scored = [*_score_texts(inputs, versions[TEXT]), *_score_pictures(inputs, versions[IMAGE])]
        verdicts = [_verdict(item, scored, places) for item, places in zip(inputs, _places(scored, len(inputs)), strict=True)]
        return Prediction(
            results={
                "content_id": [item.content_id for item in inputs],
                "author_id": [item.author_id for item in inputs],
                **{name: [verdict[name] for verdict in verdicts] for name in verdicts[0]},
            },
            uses=[one.use for one in scored],
        )


def _item(content_id: str | None, author_id: str | None, text: str) -> Item:
    """Nothing of its media is read yet. A text of which nothing is to be seen is none."""
    whole = folded(text)
    if not whole:
        return Item(content_id, author_id, None)
    stretches, behind = windows(whole)
    item = Item(content_id, author_id, visible(text), [(f"text from {one.start + 1}", one.text) for one in stretches])
    if behind:
        item.unseen["text"] = f"the last {behind} of its {len(whole)} characters"
    return item


def _read_pictures(items: list[Item], given: list[tuple[int, Any]], versions: Versions, media: MediaReader) -> None:
    """All images of the batch at once, each into its item."""
    if not given:
        return
    flat = [
        (row, f"image {number}", one, MOST_VIEWS // len(images)) for row, images in given for number, one in enumerate(images, 1)
    ]
    decoded = media.looks([one for _, _, one, _ in flat], versions[IMAGE].backend.fit, [most for _, _, _, most in flat])
    for (row, part, _, _), looks in zip(flat, decoded, strict=True):
        if isinstance(looks, MediaRefused):
            items[row].unread.append((part, looks))
            continue
        items[row].pictures += [(f"{part} {where}".strip(), pixels) for where, pixels in looks.views]
        if looks.unseen:
            items[row].unseen[part] = looks.unseen


def _read_videos(items: list[Item], given: list[tuple[int, Any]], versions: Versions, media: MediaReader) -> None:
    if not given:
        return
    decoded = media.frames([one for _, one in given], versions[IMAGE].backend.fit)
    for (row, _), looks in zip(given, decoded, strict=True):
        if isinstance(looks, MediaRefused):
            items[row].unread.append(("video", looks))
            continue
        named = [(f"video {where}", pixels) for where, pixels in looks.views]
        items[row].pictures += named
        if looks.unseen:
            items[row].unseen[named[0][0]] = looks.unseen


def _score_texts(items: Sequence[Item], version: Version) -> list[Scored]:
    """Wholes first, then stretches."""
    found = [(row, "text", item.text) for row, item in enumerate(items) if item.text is not None]
    found += [(row, part, text) for row, item in enumerate(items) for part, text in item.windows]
    if not found:
        return []
    rows, parts, texts = [row for row, _, _ in found], [part for _, part, _ in found], [text for _, _, text in found]
    scorer: TextClassifier = version.backend
    begun_s = time.perf_counter()
    scores = scorer.score(texts)
    compute_ms = (time.perf_counter() - begun_s) * 1000
    signals = {"text_chars": np.array([len(text) for text in texts], "<f4")}
    return [_scored(version, scorer.labels, scores, compute_ms, rows, parts, items, signals, texts)]


def _score_pictures(items: Sequence[Item], version: Version) -> list[Scored]:
    found = [(row, part, pixels) for row, item in enumerate(items) for part, pixels in item.pictures]
    if not found:
        return []
    pictures = [pixels for _, _, pixels in found]
    scorer: ImageClassifier = version.backend
    begun_s = time.perf_counter()
    scores = scorer.score(pictures)
    compute_ms = (time.perf_counter() - begun_s) * 1000
    rows, parts = [row for row, _, _ in found], [part for _, part, _ in found]
    return [_scored(version, scorer.labels, scores, compute_ms, rows, parts, items, brightness(pictures), pictures)]


def _scored(
    version: Version,
    labels: tuple[str, ...],
    scores: Scores,
    compute_ms: float,
    rows: list[int],
    parts: list[str],
    items: Sequence[Item],
    signals: Mapping[str, npt.NDArray[Any]],
    seen: Sequence[Any],
) -> Scored:
    """The log names a part unless it is all that its item has: a label of the item is one of that part then, and only then."""
    saved = version.folder.config.get("thresholds", {})
    thresholds = np.array([float(saved.get(label, DEFAULT_THRESHOLD)) for label in labels])
    probabilities = 1.0 / (1.0 + np.exp(-scores.logits))
    named = ["" if items[row].is_one_part else part for row, part in zip(rows, parts, strict=True)]
    use = Use(
        version, probabilities.astype("<f4"), compute_ms, None if rows == list(range(len(items))) else rows,
        named if any(named) else (), signals,
        thresholds, seen, scores.embedding,
    )  # fmt: skip
    margins = scores.logits - np.log(thresholds / (1.0 - thresholds))
    not_covered = [category for category in CATEGORIES if category not in labels]
    return Scored(use, labels, thresholds.tolist(), rows, parts, probabilities.tolist(), margins, not_covered)


def _places(scored: Sequence[Scored], n: int) -> list[list[tuple[int, int]]]:
    """For each item, where its parts are: the model's number in `scored`, and the entry there."""
    places: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for number, one in enumerate(scored):
        for entry, row in enumerate(one.rows):
            places[row].append((number, entry))
    return places


def _verdict(item: Item, scored: Sequence[Scored], places: list[tuple[int, int]]) -> dict[str, Any]:
    worst: dict[str, tuple[float, dict[str, Any]]] = {}  # category: margin, and what is said of it
    parts: list[dict[str, Any]] = []
    for number, entry in places:
        model = scored[number]
        margins, probabilities, part = model.margins[entry], model.probabilities[entry], model.parts[entry]
        best = int(margins.argmax())
        parts.append({
            "part": part, "category": model.labels[best], "probability": probabilities[best], "not_covered": model.not_covered,
            "unseen": item.unseen.get(part),
        })  # fmt: skip
        for k, category in enumerate(model.labels):
            if category not in worst or margins[k] > worst[category][0]:
                worst[category] = margins[k], {
                    "category": category, "probability": probabilities[k], "threshold": model.thresholds[k],
                    "flagged": bool(margins[k] > 0), "part": part,
                }  # fmt: skip
    _, decided = max(worst.values(), key=lambda found: found[0])
    named = {said["part"] for _, said in worst.values()}
    parts = [one for one in parts if one["part"] in named or not one["part"].startswith("text from ")]
    parts += [{"part": part, "error_code": error.code, "error_message": str(error)} for part, error in item.unread]
    return {
        "flagged": any(said["flagged"] for _, said in worst.values()),
        "deciding": {name: decided[name] for name in ("part", "category", "probability")},
        "categories": [worst[category][1] for category in CATEGORIES if category in worst],
        "not_covered": [category for category in CATEGORIES if category not in worst],
        "parts": parts,
    }


TASK = Moderation()
