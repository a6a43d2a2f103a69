"""Files by their first bytes, what is decoded of them at most, and what comes out. Decoding runs only in the decoding child
(`decoding_child.py`): what comes in is hostile.

Each file is told by its first bytes, never by its name; only the formats below are opened; sizes are read from the header
and checked before anything is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inference_workers.networks.pictures import Pixels
from schemas.errors import MediaRefused

Samples = npt.NDArray[np.float32]
MOST_VIEWS = 128  # of one item


@dataclass(frozen=True)
class Caps:
    """What is decoded at most. bytes: of one file. pixels: of a picture or frame. frames: sampled from one video or animation."""

    image_bytes: int = 20 * 1024 * 1024
    video_bytes: int = 64 * 1024 * 1024
    sound_bytes: int = 32 * 1024 * 1024
    pixels: int = 40_000_000
    frames: int = 8
    video_s: float = 600.0
    sound_s: float = 120.0


@dataclass(frozen=True)
class Looks:
    """What is looked at of one picture or video. views: where each is from ("" for a picture as it is, `on black`, `at 4.2 s`) and its
    pixels, at least one. unseen: what of it nobody looked at, in words; None where nothing was passed over."""

    views: list[tuple[str, Pixels]]
    unseen: str | None = None

    def first(self, most: int) -> Looks:
        """At most so many of the views."""
        left_out = len(self.views) - most
        if left_out <= 0:
            return self
        return Looks(self.views[:most], self.unseen or f"{left_out} further views of it were left out: the item has too many")


@dataclass(frozen=True)
class Sound:
    """samples: mono. notes: what was changed before they were heard, in words."""

    samples: Samples
    notes: list[str] = field(default_factory=list)


def kind_of(data: bytes) -> str:
    """png, jpeg, gif, webp, bmp, mp4, matroska, avi, wav, flac, ogg; avif and heic, which nothing here reads. Raises MediaRefused for
    anything else."""
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
    raise MediaRefused("the file is empty" if not data else "the file is of no format that is read")


def of_kind(data: bytes, kinds: tuple[str, ...], what: str) -> str:
    found = kind_of(data)
    if found not in kinds:
        raise MediaRefused(f"{found} is not read as {what}: use {', '.join(kinds)}")
    return found


def check_size(width: int, height: int, caps: Caps) -> None:
    if width < 1 or height < 1:
        raise MediaRefused(f"the picture has {width} × {height} pixels")
    if width * height > caps.pixels:
        raise MediaRefused(f"the picture has {width} × {height} pixels; at most {caps.pixels:,} are decoded")


def words_of(error: Exception) -> str:
    """A library's message, without the addresses of our objects."""
    return re.sub(r"\s*<[\w.]+ object at 0x[0-9a-fA-F]+>", "", str(error)).strip()
