"""Lines of text as the input of a reading network, and its output as text. numpy and Pillow only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

HEIGHT = 48
UPRIGHT_RATIO = 1.5  # a box of this height to its width holds a vertical line
Floats = npt.NDArray[np.float32]


def cut_out(picture: Image.Image, corners: npt.NDArray[np.float64]) -> Image.Image:
    """The line within a box, corners (4, 2) from the top left on, turned so that it runs to the right, HEIGHT pixels high. It is
    resized once: in two steps the network loses spaces between words."""
    top_left, top_right, bottom_right, bottom_left = corners
    width = max(1.0, np.hypot(*(top_right - top_left)), np.hypot(*(bottom_right - bottom_left)))
    height = max(1.0, np.hypot(*(bottom_left - top_left)), np.hypot(*(bottom_right - top_right)))
    upright = height >= UPRIGHT_RATIO * width
    scale = HEIGHT / (width if upright else height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    places = [float(number) for corner in (top_left, bottom_left, bottom_right, top_right) for number in corner]
    line = picture.transform(size, Image.Transform.QUAD, places, Image.Resampling.BICUBIC)
    return line.transpose(Image.Transpose.ROTATE_90) if upright else line


def normal(picture: Image.Image) -> Floats:
    """float32 (3, height, width) from -1 to 1, blue first: the networks were trained on pictures in OpenCV's order."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)[:, :, ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) / 127.5 - 1)


def batch(lines: Sequence[Image.Image], least_width: int, most_width: int) -> Floats:
    """float32 (n, 3, HEIGHT, width): each line resized to HEIGHT, with zeros at its right. width: that of the longest line, within the
    limits."""
    widths = [min(most_width, max(1, math.ceil(HEIGHT * line.width / line.height))) for line in lines]
    out = np.zeros((len(lines), 3, HEIGHT, max(least_width, *widths)), np.float32)
    for i, (line, width) in enumerate(zip(lines, widths, strict=True)):
        out[i, :, :, :width] = normal(line.resize((width, HEIGHT), Image.Resampling.BILINEAR))
    return out


def decoded(probabilities: npt.NDArray[Any], characters: Sequence[str]) -> tuple[str, float]:
    """Text, and the mean probability of its characters, by CTC's best path. probabilities: float (steps, classes); class 0
    is the blank, and class i the character i - 1."""
    best = probabilities.argmax(axis=1)
    starts = (best != 0) & (np.diff(best, prepend=0) != 0)
    if not starts.any():
        return "", 0.0
    return "".join(characters[i - 1] for i in best[starts]), float(probabilities.max(axis=1)[starts].mean())
