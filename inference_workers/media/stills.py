"""Picture files to pixels: the picture on each background that it may be seen on, and frames of an animation."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

from inference_workers.media.formats import Caps, Views, check_size, of_kind, words_of
from inference_workers.media.sampling import sampled
from inference_workers.networks.pictures import Fit, Pixels, fit
from schemas.errors import MediaRefused

ANIMATED = ("png", "gif", "webp")
_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"}


def views(data: bytes, to: Fit, caps: Caps) -> Views:
    """The picture on white and, if it is transparent, on black; of an animation, frames spread over its time. Pixels are
    uint8 (height, width, channels). Raises MediaRefused."""
    from PIL import Image

    kind = of_kind(data, ("png", "jpeg", "gif", "webp", "bmp"), "an image")
    Image.MAX_IMAGE_PIXELS = None  # our own cap is stricter and says more
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _views(displayed_chunks(data) if kind == "png" else data, kind, to, caps)
    except MediaRefused:
        raise
    except MemoryError as error:
        raise MediaRefused("the image needs more memory than the decoder has") from error
    except Exception as error:  # Pillow raises many kinds of errors on bytes that contradict their header
        raise MediaRefused(f"the {kind} image cannot be read: {words_of(error)}") from error


def picture(data: bytes, to: Fit, caps: Caps) -> Pixels:
    """The first view alone: uint8 (height, width, channels). Raises MediaRefused."""
    return views(data, to, caps).views[0][1]


def _views(data: bytes, kind: str, to: Fit, caps: Caps) -> Views:
    opened = _opened(data, kind, caps)
    if kind == "jpeg" and to.height:
        opened.draft(to.mode, (2 * to.width, 2 * to.height))  # decodes at down to an eighth of the size if that is enough
    opened.load()
    on_backgrounds = _on_backgrounds(opened, "", to)
    count = getattr(opened, "n_frames", 1) if kind in ANIMATED else 1
    if count == 1:
        return Views(on_backgrounds)
    width, height = opened.size
    budget = max(1, 8 * caps.pixels // (width * height))  # frames that are composed: each needs all before it
    starts_s, end_s, unseen = _times(data, kind, min(count, budget), caps)
    if not unseen and count > budget:
        unseen = f"only the first {budget} of its {count} frames were read"
    reopened = _opened(data, kind, caps)
    for index in sampled(starts_s, end_s, caps.frames):
        if index:
            reopened.seek(index)
            on_backgrounds += _on_backgrounds(reopened, f"frame {index + 1}", to)
    return Views(on_backgrounds, unseen or None)


def _opened(data: bytes, kind: str, caps: Caps) -> Any:
    from PIL import Image

    opened = Image.open(io.BytesIO(data), formats=[kind.upper()])
    check_size(*opened.size, caps)
    return opened


def _times(data: bytes, kind: str, count: int, caps: Caps) -> tuple[list[float], float, str]:
    """The time at which each frame appears, when the last one ends, and why not all could be read (empty if all could)."""
    starts_s: list[float] = []
    opened, at_s = _opened(data, kind, caps), 0.0
    for number in range(count):
        try:
            opened.seek(number)
            opened.load()
        except (EOFError, OSError, SyntaxError, ValueError) as error:
            if not starts_s:
                raise
            return starts_s, at_s, f"frames from number {number + 1} on cannot be read: {words_of(error)}"
        starts_s.append(at_s)
        at_s += max(0.01, float(opened.info.get("duration") or 100.0) / 1000)
    return starts_s, at_s, ""


def _on_backgrounds(opened: Any, where: str, to: Fit) -> list[tuple[str, Pixels]]:
    on_white = fit(opened, to)
    on_backgrounds = [(where, on_white)]
    if opened.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in opened.info:
        on_black = fit(opened, to, background="black")
        if (on_black != on_white).any():
            on_backgrounds.append((f"{where} on black".strip(), on_black))
    return on_backgrounds


def displayed_chunks(data: bytes) -> bytes:
    """A PNG without the chunks that change no pixel: texts and profiles, however large or broken, are no reason to refuse it."""
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name in _CHUNKS or at + 12 + length > len(data):
            kept.append(data[at : at + 12 + length])
        at += 12 + length
        if name == b"IEND":
            break
    return b"".join(kept)
