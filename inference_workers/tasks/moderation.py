"""Moderation: one verdict per content item, whatever it consists of, over the seven categories of `CATEGORIES`.

All texts of a micro-batch run as one batch, all images and sampled frames as another, whichever item they belong to. The
verdict names the part that decided. A part that cannot be read does not lose the item. A category that a model was not
trained on comes back as `not_covered`, never as a made-up number.

Two more models take part if versions of them are named: one reads text in pictures, which the text model then judges, and one
tells sexual content of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inference_workers.backends.backend import Backend
from inference_workers.backends.choose import image_classifier, ocr_reader, text_classifier
from inference_workers.content_items import ContentItem, content_item, read_media, read_scenes, unreadable
from inference_workers.judging import reading, sexual_content
from inference_workers.judging.scores import score_pictures, score_scenes, score_texts
from inference_workers.judging.verdicts import places, verdict
from inference_workers.kinds.image_classification import warm_up
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.models.unshipped import MODERATION_NSFW as NSFW
from inference_workers.models.unshipped import MODERATION_OCR as OCR
from inference_workers.task import Prediction, Prepared, Versions
from processors.features.enrich import Need
from schemas.catalogue import consumption
from schemas.categories import CATEGORIES
from schemas.columns import Columns
from schemas.errors import InvalidRequest, ModelRefused, RecordError
from schemas.topics import MODERATION_VERDICTS
from schemas.vocabulary import Arm

MAX_IMAGES = 64
TEXT, IMAGE = "moderation-text", "moderation-image"


class Moderation:
    name = "moderation"
    consumption = consumption("moderation")
    results = MODERATION_VERDICTS
    reads_media = True
    needs: Sequence[Need] = ()
    models: Mapping[str, str] = {TEXT: f"shipped:{TEXT}", IMAGE: f"shipped:{IMAGE}"}
    optional_models: Sequence[str] = (OCR, NSFW)

    def load(self, folder: ModelFolder, model: str) -> Backend:
        if model == OCR:
            reader = ocr_reader(folder)
            reader.read([np.full((64, 256, 3), 255, np.uint8)])
            return reader
        if model == NSFW:
            sexual_content.check(folder)
        elif not folder.coverage or not set(folder.coverage) <= set(CATEGORIES):
            unknown = sorted(set(folder.coverage) - set(CATEGORIES))
            raise ModelRefused(f"{folder.path}: coverage must list moderation categories; unknown are {unknown}")
        if model in (IMAGE, NSFW):
            pictures = image_classifier(folder)
            warm_up(pictures, folder)
            return pictures
        texts = text_classifier(folder)
        logits = texts.classify(["warm up", "a second text, so that the batch has more than one row"]).logits
        if logits.shape != (2, len(folder.coverage)) or not np.isfinite(logits).all():
            raise ModelRefused(f"{folder.path}: logits of shape {logits.shape} for {len(folder.coverage)} categories")
        return texts

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        """Content items with their media decoded, and the text in pictures read. An item is refused if it has nothing to judge, too
        many images, or no part that can be read; a part that cannot be read is reported in the verdict. Raises RetryLater if a
        claim-check store does not answer, BatchTooLarge if reading would take too long."""
        items, refused = _items(columns)
        images, videos = columns.nested("images"), columns.nested("video")
        valid = [row for row in range(len(items)) if row not in refused]
        with_images = {row: images[row] for row in valid if images[row]}
        with_video = {row: videos[row] for row in valid if videos[row] is not None}
        fit = versions[IMAGE].backend.fit
        read_media(items, [*with_images.items()], [*with_video.items()], fit, media)
        refused |= unreadable(items, valid)
        if OCR in versions:
            reading.check_number(items, media.caps.read)
        if NSFW in versions:
            fit = versions[NSFW].backend.fit
            read_scenes(items, [*with_images.items()], [*with_video.items()], fit, media, sexual_content.CATEGORY)
        if OCR in versions:
            reading.read_pictures(items, with_images, with_video, versions[OCR], media)
        return Prepared([item for row, item in enumerate(items) if row not in refused], refused)

    def predict(self, inputs: Sequence[ContentItem], versions: Versions) -> Prediction:
        if OCR in versions and versions[OCR].arm == Arm.SHADOW:
            raise ValueError("text is read before a shadow takes part: let this version answer as a canary")
        scored = [*score_texts(inputs, versions[TEXT]), *score_pictures(inputs, versions[IMAGE])]
        scored += score_scenes(inputs, versions[NSFW]) if NSFW in versions else []
        verdicts: list[dict[str, Any]] = [
            verdict(item, scored, its_places) for item, its_places in zip(inputs, places(scored, len(inputs)), strict=True)
        ]
        return Prediction(
            results={
                "content_id": [item.content_id for item in inputs],
                "author_id": [item.author_id for item in inputs],
                **{name: [fields[name] for fields in verdicts] for name in verdicts[0]},
            },
            uses=[*(model.use for model in scored), *(reading.use_of(inputs, versions[OCR]) if OCR in versions else [])],
        )


def _items(columns: Columns) -> tuple[list[ContentItem], dict[int, RecordError]]:
    """All items, their media not read yet, and the errors of those that are refused, by row."""
    texts = zip(columns.text("content_id"), columns.text("author_id"), columns.text("text"), strict=True)
    items = [content_item(content_id, author_id, text or "") for content_id, author_id, text in texts]
    refused: dict[int, RecordError] = {}
    for row, (item, images, video) in enumerate(zip(items, columns.nested("images"), columns.nested("video"), strict=True)):
        if item.text is None and not images and video is None:
            refused[row] = InvalidRequest("the content item has no text, image or video: there is nothing to judge")
        elif len(images) > MAX_IMAGES:
            refused[row] = InvalidRequest(f"the content item has {len(images)} images; at most {MAX_IMAGES} are allowed")
    return items, refused


TASK = Moderation()
