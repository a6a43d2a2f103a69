"""Converts decoded pictures to a network's input, by the same steps in training, in a worker and in the decoding child."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Pixels = npt.NDArray[np.uint8]


class Rule(StrEnum):
    """How a picture gets the shape of the network's input."""

    BARS = "bars"  # it stays whole, centred and unstretched; bars have the median colour of its edge
    CROP = "crop"  # a square of its middle, whose side is `keep` times its shorter side
    STRETCH = "stretch"  # it stays whole, and height and width are scaled each by itself


@dataclass(frozen=True)
class Fit:
    """How a picture is resized.

    mode: RGB or L. height, width: in pixels; 0 keeps the size, with at most `max_side` pixels on the longer side.
    """

    mode: str = "RGB"
    height: int = 0
    width: int = 0
    max_side: int = 1024
    rule: Rule = Rule.BARS
    keep: float = 1.0
    smooth: bool = False  # bicubic instead of bilinear

    @classmethod
    def of(cls, config: dict[str, Any]) -> Fit:
        pixels = config["pixels"]
        return cls(
            str(pixels["mode"]),
            int(pixels["height"]),
            int(pixels["width"]),
            rule=Rule(pixels.get("rule", Rule.BARS)),
            keep=float(pixels.get("keep", 1.0)),
            smooth=bool(pixels.get("smooth", False)),
        )


def fit(picture: Image.Image, to: Fit, background: str = "white") -> Pixels:
    """uint8 of shape (height, width, channels). Rotates the picture by its EXIF orientation, and puts a transparent picture on
    the background colour."""
    turned = _eight_bit(ImageOps.exif_transpose(picture))
    if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
        over = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", over.size, background), over)
    plain = turned.convert(to.mode)
    if not to.height:
        plain.thumbnail((to.max_side, to.max_side), Image.Resampling.BILINEAR)
        return _with_channels(np.asarray(plain, np.uint8))
    if to.rule is not Rule.BARS:
        box = _middle(plain, to.keep) if to.rule is Rule.CROP else None
        resampling = Image.Resampling.BICUBIC if to.smooth else Image.Resampling.BILINEAR
        return _with_channels(np.asarray(plain.resize((to.width, to.height), resampling, box), np.uint8))
    scale = min(to.width / plain.width, to.height / plain.height)
    size = max(1, round(plain.width * scale)), max(1, round(plain.height * scale))
    small = _with_channels(np.asarray(plain.resize(size, Image.Resampling.BILINEAR), np.uint8))
    if size == (to.width, to.height):
        return small
    edge = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    out = np.empty((to.height, to.width, small.shape[2]), np.uint8)
    out[:] = np.median(edge, axis=0).astype(np.uint8)
    top, left = (to.height - size[1]) // 2, (to.width - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out


def _middle(picture: Image.Image, keep: float) -> tuple[float, float, float, float]:
    side = min(picture.width, picture.height) * keep
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    return left, top, left + side, top + side


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Scales pixels of 16 bits and more to 0-255; Pillow itself would clip them at 255."""
    if not picture.mode.startswith("I") and picture.mode != "F":
        return picture
    numbers = np.nan_to_num(np.asarray(picture).astype(np.float64), nan=0.0)
    full = 65_535.0 if picture.mode != "F" else max(255.0, float(numbers.max()))
    grey = Image.fromarray(np.floor(np.clip(numbers / full, 0.0, 1.0) * 255.999).astype(np.uint8))
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(numbers == clear, 0, 255).astype(np.uint8)))
    return grey


def _with_channels(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
