"""Media formats, the limits of decoding, and its results. Files come from strangers, so they are decoded only in the child process
(`decoding_child.py`).

A format is recognised by the first bytes, never by a name. Only the formats below are opened. Sizes are read from the header and
checked before anything is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inference_workers.networks.pictures import Pixels
from schemas.errors import MediaRefused

Samples = npt.NDArray[np.float32]
MAX_VIEWS = 128  # per content item


@dataclass(frozen=True)
class Caps:
    """Limits of decoding. bytes: per file. pixels: per picture or frame. frames: sampled from one video or animation. read: pictures and
    frames of a content item whose text is read."""

    image_bytes: int = 20 * 1024 * 1024
    video_bytes: int = 64 * 1024 * 1024
    sound_bytes: int = 32 * 1024 * 1024
    pixels: int = 40_000_000
    frames: int = 8
    read: int = 8
    video_s: float = 600.0
    sound_s: float = 120.0


@dataclass(frozen=True)
class Views:
    """The pictures that a model gets of one picture or video file. views: at least one, each with where it comes from ("" for a picture
    as it is, `on black`, `at 4.2 s`) and its pixels, uint8 (height, width, channels). unseen: which part of the file they do not
    show, as a sentence; None if they show all of it."""

    views: list[tuple[str, Pixels]]
    unseen: str | None = None

    def first(self, max_views: int) -> Views:
        """At most `max_views` of the views."""
        left_out = len(self.views) - max_views
        if left_out <= 0:
            return self
        return Views(
            self.views[:max_views], self.unseen or f"{left_out} further views of it were left out: the item has too many"
        )


@dataclass(frozen=True)
class Sound:
    """samples: mono, float32 (t,). notes: what was changed before a model heard them, as sentences."""

    samples: Samples
    notes: list[str] = field(default_factory=list)


def kind_of(data: bytes) -> str:
    """The format: png, jpeg, gif, webp, bmp, mp4, matroska, avi, wav, flac, ogg; also avif and heic, which no decoder here reads. Raises
    MediaRefused for anything else."""
    for start, kind in (
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"BM", "bmp"),
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
    ):
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b"AVI ", b"WAVE"):
        return {b"WEBP": "webp", b"AVI ": "avi", b"WAVE": "wav"}[data[8:12]]
    if data[4:8] == b"ftyp":
        pictures = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"msf1": "heic"}
        return pictures.get(data[8:12], "mp4")
    raise MediaRefused("the file is empty" if not data else "the file has an unknown format")


def of_kind(data: bytes, kinds: tuple[str, ...], medium: str) -> str:
    """The format, if it is one of `kinds`. Raises MediaRefused otherwise."""
    kind = kind_of(data)
    if kind not in kinds:
        raise MediaRefused(f"{kind} is not supported for {medium}: use {', '.join(kinds)}")
    return kind


def check_size(width: int, height: int, caps: Caps) -> None:
    """Raises MediaRefused if a picture or frame is empty or too large."""
    if width < 1 or height < 1:
        raise MediaRefused(f"the picture has {width} × {height} pixels")
    if width * height > caps.pixels:
        raise MediaRefused(f"the picture has {width} × {height} pixels; at most {caps.pixels:,} are allowed")


def words_of(error: Exception) -> str:
    """A library's message, without memory addresses of objects."""
    return re.sub(r"\s*<[\w.]+ object at 0x[0-9a-fA-F]+>", "", str(error)).strip()
