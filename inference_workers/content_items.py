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

Part = tuple[str, str]  # name of a part, and its text


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in one picture or frame. part: its name. text: the lines that are sure enough, joined by blanks. lines: their number.
    probability: their mean; 1 if there are none. signals: of the picture, for drift detectors."""

    part: str
    text: str
    lines: int
    probability: float
    signals: dict[str, float]
    compute_ms: float


@dataclass(slots=True)
class ContentItem:
    """One content item, its media decoded.

    text: all of it, without invisible characters; None if nothing of it is visible. windows: part name and text of each stretch of
    a text that is too long to be judged as a whole only. pictures: part name and pixels, uint8 (height, width, channels), of each
    image and frame that could be read. scenes: the same pictures and frames at the size for another model. readings: what was read
    in them. unread: parts that could not be judged. unseen: by part, what of it is not judged, as a sentence."""

    content_id: str | None
    author_id: str | None
    text: str | None
    windows: list[Part] = field(default_factory=list)
    pictures: list[tuple[str, Pixels]] = field(default_factory=list)
    scenes: list[tuple[str, Pixels]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    unread: list[tuple[str, MediaRefused]] = field(default_factory=list)
    unseen: dict[str, str] = field(default_factory=dict)

    @property
    def is_one_part(self) -> bool:
        texts = (self.text is not None) + len(self.windows) + sum(bool(reading.text) for reading in self.readings)
        return texts + len(dict(self.pictures) | dict(self.scenes)) + len(self.unread) == 1

    def add(self, named: list[tuple[str, Pixels]], unseen: str | None) -> None:
        """Pictures of one file, by name. unseen: what of the file they do not show; it is reported with the first of them."""
        self.pictures += named
        if unseen:
            self.unseen[named[0][0]] = unseen

    def leave_out(self, part: str, sentence: str) -> None:
        """Report what of a part is not judged, after what is reported already."""
        self.unseen[part] = "; ".join([*filter(None, [self.unseen.get(part)]), sentence])

    def first_of(self, file: str) -> str:
        """The part as which an image or the video is reported: the first of its pictures."""
        return next((part for part, _ in self.pictures if part == file or part.startswith(f"{file} ")), file)


def content_item(content_id: str | None, author_id: str | None, text: str) -> ContentItem:
    """An item whose media are not read yet."""
    whole = folded(text)
    if not whole:
        return ContentItem(content_id, author_id, None)
    named, unseen = stretches("text", whole)
    item = ContentItem(content_id, author_id, visible(text), named)
    if unseen:
        item.unseen["text"] = unseen
    return item


def stretches(part: str, whole: str) -> tuple[list[Part], str]:
    """Parts of a folded text that is too long to be judged as a whole only, and what of it none of them has, as a sentence."""
    found, chars_left = windows(whole)
    named = [(f"{part} from {window.start + 1}", window.text) for window in found]
    return named, f"the last {chars_left} of its {len(whole)} characters" if chars_left else ""


def is_stretch(part: str) -> bool:
    return " from " in part


Images = list[tuple[int, Any]]  # an item's row, and the media fields of its images
Videos = list[tuple[int, Any]]  # an item's row, and the media fields of its video


def read_media(items: list[ContentItem], images: Images, videos: Videos, fit: Fit, media: MediaReader) -> None:
    """Add the images and the sampled frames of a whole batch to their items. Raises RetryLater."""
    for row, file, views in _decoded(items, images, videos, fit, media):
        if isinstance(views, MediaRefused):
            items[row].unread.append((file, views))
        else:
            items[row].add(named_views(file, views), views.unseen)


def read_scenes(items: list[ContentItem], images: Images, videos: Videos, fit: Fit, media: MediaReader, of: str) -> None:
    """Add the pictures and frames that the items have once more, for another model. of: what it looks for, as reports name it. Raises
    RetryLater."""
    for row, file, views in _decoded(items, images, videos, fit, media):
        if isinstance(views, MediaRefused):
            items[row].leave_out(items[row].first_of(file), f"{of} was not looked for: {views}")
        else:
            items[row].scenes += named_views(file, views)


Decoded = tuple[int, str, Views | MediaRefused]  # an item's row, the name of an image or of the video, and what it shows


def readable_images(item: ContentItem, images: Sequence[Any]) -> list[tuple[str, Any]]:
    """Name and media fields of each image of an item that is not known to be unreadable."""
    unread = {part for part, _ in item.unread}
    named = [(f"image {number}", fields) for number, fields in enumerate(images, 1)]
    return [(part, fields) for part, fields in named if part not in unread]


def is_video_readable(item: ContentItem) -> bool:
    return all(part != "video" for part, _ in item.unread)


def _decoded(items: list[ContentItem], images: Images, videos: Videos, fit: Fit, media: MediaReader) -> list[Decoded]:
    return [*_images(items, images, fit, media), *_videos(items, videos, fit, media)]


def _images(items: list[ContentItem], images: Images, fit: Fit, media: MediaReader) -> list[Decoded]:
    flat = [
        (row, part, fields, MAX_VIEWS // len(of_item))
        for row, of_item in images
        for part, fields in readable_images(items[row], of_item)
    ]
    if not flat:
        return []
    decoded = media.pictures([fields for _, _, fields, _ in flat], fit, [max_views for _, _, _, max_views in flat])
    return [(row, part, views) for (row, part, _, _), views in zip(flat, decoded, strict=True)]


def _videos(items: list[ContentItem], videos: Videos, fit: Fit, media: MediaReader) -> list[Decoded]:
    readable = [(row, fields) for row, fields in videos if is_video_readable(items[row])]
    if not readable:
        return []
    decoded = media.frames([fields for _, fields in readable], fit)
    return [(row, "video", views) for (row, _), views in zip(readable, decoded, strict=True)]


def named_views(part: str, views: Views) -> list[tuple[str, Pixels]]:
    """The pictures of one file by name: uint8 (height, width, channels) each."""
    return [(f"{part} {where}".strip(), pixels) for where, pixels in views.views]


def unreadable(items: Sequence[ContentItem], rows: Sequence[int]) -> dict[int, MediaRefused]:
    """Of these rows, the items of which nothing can be judged, with all reasons."""
    return {
        row: MediaRefused("; ".join(f"{part}: {error}" for part, error in items[row].unread))
        for row in rows
        if items[row].text is None and not items[row].pictures
    }
