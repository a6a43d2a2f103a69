"""Content items for moderation: what of a request's text, images and video is judged, decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inference_workers.media.formats import MAX_VIEWS, Views
from inference_workers.media.reader import MediaReader
from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.networks.visible_text import folded, visible, windows
from schemas.errors import MediaRefused


@dataclass(slots=True)
class ContentItem:
    """One content item, its media decoded.

    text: all of it, without invisible characters; None if nothing of it is visible. windows: part name and text of each stretch of
    a text that is too long to be judged as a whole only. pictures: part name and pixels, uint8 (height, width, channels), of each
    image and frame that could be read. unread: parts that could not. unseen: by part, what of it is not judged, as a sentence."""

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

    def add(self, part: str, named: list[tuple[str, Pixels]], unseen: str | None) -> None:
        """Pictures of one file, by name. unseen: what of the file, which is reported as `part`, they do not show."""
        self.pictures += named
        if unseen:
            self.unseen[part] = unseen


def content_item(content_id: str | None, author_id: str | None, text: str) -> ContentItem:
    """An item whose media are not read yet."""
    whole = folded(text)
    if not whole:
        return ContentItem(content_id, author_id, None)
    stretches, chars_left = windows(whole)
    named = [(f"text from {window.start + 1}", window.text) for window in stretches]
    item = ContentItem(content_id, author_id, visible(text), named)
    if chars_left:
        item.unseen["text"] = f"the last {chars_left} of its {len(whole)} characters"
    return item


def read_images(items: list[ContentItem], images: list[tuple[int, Any]], fit: Fit, media: MediaReader) -> None:
    """Add the images of a whole batch to their items. images: an item's row, and its media fields. Raises RetryLater."""
    if not images:
        return
    flat = [
        (row, f"image {number}", fields, MAX_VIEWS // len(of_item))
        for row, of_item in images
        for number, fields in enumerate(of_item, 1)
    ]
    decoded = media.pictures([fields for _, _, fields, _ in flat], fit, [max_views for _, _, _, max_views in flat])
    for (row, part, _, _), views in zip(flat, decoded, strict=True):
        if isinstance(views, MediaRefused):
            items[row].unread.append((part, views))
        else:
            items[row].add(part, _named(part, views), views.unseen)


def read_videos(items: list[ContentItem], videos: list[tuple[int, Any]], fit: Fit, media: MediaReader) -> None:
    """Add sampled frames of the videos of a whole batch to their items. videos: an item's row, and its media fields. Raises
    RetryLater."""
    if not videos:
        return
    decoded = media.frames([fields for _, fields in videos], fit)
    for (row, _), views in zip(videos, decoded, strict=True):
        if isinstance(views, MediaRefused):
            items[row].unread.append(("video", views))
            continue
        named = _named("video", views)
        items[row].add(named[0][0], named, views.unseen)


def _named(part: str, views: Views) -> list[tuple[str, Pixels]]:
    return [(f"{part} {where}".strip(), pixels) for where, pixels in views.views]


def unreadable(items: Sequence[ContentItem], rows: Sequence[int]) -> dict[int, MediaRefused]:
    """Of these rows, the items of which nothing can be judged, with all reasons."""
    return {
        row: MediaRefused("; ".join(f"{part}: {error}" for part, error in items[row].unread))
        for row in rows
        if items[row].text is None and not items[row].pictures
    }
