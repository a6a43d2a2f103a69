"""Reads the text in pictures and sampled frames of content items, so that the text model can judge it.

It is read while requests are prepared: pictures of a size at which text is legible are large, so they are decoded, read and dropped
one after the other, and a shadow of another model does not read them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from inference_workers.backends.backend import OcrReader, TextLineRead
from inference_workers.content_items import ContentItem, Reading, is_video_readable, named_views, readable_images, stretches
from inference_workers.kinds.image_classification import brightness
from inference_workers.media.formats import Views
from inference_workers.media.reader import Media, MediaReader
from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.networks.visible_text import folded
from inference_workers.task import Use, Version
from schemas.errors import BatchTooLarge, MediaRefused, RetryLater, Stop
from schemas.vocabulary import Arm
from streams.clock import timed

READ_SIDE = 1_280  # pixels of the longer side: reading takes a time that grows with the area
LEAST_PROBABILITY = 0.8  # of a line's characters: below, lines were textures or cut words in pictures that were looked at
MOST_AT_ONCE = 64  # pictures that are read for one batch, so that a batch never takes minutes

Images = Mapping[int, Sequence[Media]]  # media fields, by an item's row
Videos = Mapping[int, Media]


def check_number(items: Sequence[ContentItem], most: int) -> None:
    """items: with their pictures and frames, of which at most `most` each are read. Raises BatchTooLarge if several items together have
    so many to read that reading takes too long."""
    counts = [min(most, len(item.pictures)) for item in items if item.pictures]
    if len(counts) > 1 and sum(counts) > MOST_AT_ONCE:
        raise BatchTooLarge(f"{sum(counts)} pictures and frames are to be read; at most {MOST_AT_ONCE} are read at once")


def read_pictures(items: Sequence[ContentItem], images: Images, videos: Videos, version: Version, media: MediaReader) -> None:
    """Add the readings of pictures and frames to their items: of each item at most `media.caps.read`, images first. A picture that
    cannot be read is reported, and loses nothing else; of a challenger the error is raised, so that the live version answers instead.
    Raises RetryLater."""
    fit = replace(version.backend.fit, max_side=min(READ_SIDE, version.backend.fit.max_side))
    for row, of_item in images.items():
        _read_images(items[row], of_item, fit, version, media)
    for row, video in videos.items():
        _read_video(items[row], video, fit, version, media)


def _read_images(item: ContentItem, images: Sequence[Media], fit: Fit, version: Version, media: MediaReader) -> None:
    most, readable = media.caps.read, readable_images(item, images)
    chosen, left = readable[:most], readable[most:]
    if left:
        more = f" and in those after it, {len(left)} images in all," if len(left) > 1 else ""
        item.leave_out(item.first_of(left[0][0]), f"the text in it{more} was not read: {_limit(most)}")
    if not chosen:
        return
    decoded = media.pictures([fields for _, fields in chosen], fit, [most // len(chosen)] * len(chosen))
    for (file, _), views in zip(chosen, decoded, strict=True):
        _read(item, file, views, version)


def _read_video(item: ContentItem, video: Media, fit: Fit, version: Version, media: MediaReader) -> None:
    if not is_video_readable(item):
        return
    left = media.caps.read - len(item.readings)
    if left <= 0:
        item.leave_out(item.first_of("video"), f"the text in it was not read: {_limit(media.caps.read)}")
        return
    (views,) = media.frames([video], fit)
    if isinstance(views, Views) and len(views.views) > left:
        chosen = np.linspace(0, len(views.views) - 1, left).round().astype(int).tolist()
        words = f"the text in {len(views.views) - left} of its frames was not read: {_limit(media.caps.read)}"
        item.leave_out(item.first_of("video"), words)
        views = Views([views.views[i] for i in chosen], views.unseen)
    _read(item, "video", views, version)


def _limit(most: int) -> str:
    return f"at most {most} pictures and frames of an item are read"


def _read(item: ContentItem, file: str, views: Views | MediaRefused, version: Version) -> None:
    """file: an image or the video."""
    if isinstance(views, MediaRefused):
        item.unread.append((f"text in {file}", views))
        return
    if views.unseen and item.first_of(file) not in item.unseen:
        item.unseen[item.first_of(file)] = f"of the text in it: {views.unseen}"
    reader: OcrReader = version.backend
    for part, pixels in named_views(file, views):
        try:
            (lines,), compute_ms = timed(partial(reader.read, [pixels]))
        except (RetryLater, Stop):
            raise
        except Exception as error:  # whatever a network or the steps around it raise: the other parts are judged
            if version.arm != Arm.LIVE:
                raise
            item.unread.append((f"text in {part}", MediaRefused(f"it cannot be read: {type(error).__name__}: {error}")))
            continue
        _keep(item, _reading(part, lines, pixels, compute_ms))


def _reading(part: str, lines: Sequence[TextLineRead], pixels: Pixels, compute_ms: float) -> Reading:
    sure = [line for line in lines if line.probability >= LEAST_PROBABILITY]
    probability = float(np.mean([line.probability for line in sure])) if sure else 1.0
    signals = {name: float(values[0]) for name, values in brightness([pixels]).items()}
    return Reading(part, folded(" ".join(line.text for line in sure)), len(sure), probability, signals, compute_ms)


def _keep(item: ContentItem, reading: Reading) -> None:
    part = f"text in {reading.part}"
    _, unseen = stretches(part, reading.text)
    if unseen:
        item.unseen[part] = unseen
    item.readings.append(reading)


def use_of(items: Sequence[ContentItem], version: Version) -> list[Use]:
    """What the prediction log keeps of the readings: for each picture the mean probability of its lines, and signals."""
    entries = [(row, reading) for row, item in enumerate(items) for reading in item.readings]
    if not entries:
        return []
    rows, readings = [row for row, _ in entries], [reading for _, reading in entries]
    signals = {name: np.array([reading.signals[name] for reading in readings], "<f4") for name in readings[0].signals}
    signals["lines"] = np.array([reading.lines for reading in readings], "<f4")
    signals["text_chars"] = np.array([len(reading.text) for reading in readings], "<f4")
    named = ["" if items[row].is_one_part else reading.part for row, reading in entries]
    return [
        Use(
            version,
            np.array([[reading.probability] for reading in readings], "<f4"),
            sum(reading.compute_ms for reading in readings),
            None if rows == list(range(len(items))) else rows,
            named if any(named) else (),
            signals,
        )
    ]
