"""Reads text in pictures by PP-OCR (Du et al., 2020): a network that detects lines, one that tells which are upside down, one that
reads them.

On the CPU, in numpy and Pillow around ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from inference_workers.backends.backend import Network, TextLineRead
from inference_workers.models.folder import ModelFolder
from inference_workers.networks import text_boxes, text_lines
from inference_workers.networks.pictures import Fit, Pixels
from schemas.errors import ModelRefused

DETECT, DIRECTION, READ, CHARACTERS = "detect.onnx", "direction.onnx", "read.onnx", "characters.txt"
LINES_AT_ONCE = 6
STEP = 32  # the detecting network needs multiples of it


class PaddleReader:
    """config: `enlarged` (a small picture is enlarged until its shorter side has the first number of pixels or its longer side the
    second), `most_side` (of a picture when lines are detected), `boxes` (limits of `text_boxes.py`), `text_probability`, `turned_probability`
    (from which a line is taken as text, and as upside down) and `line_width` (least and most pixels of a line)."""

    def __init__(self, folder: ModelFolder, make: Callable[[ModelFolder, str], Network]) -> None:
        config = folder.config
        self._enlarged, self._most_side = tuple(map(int, config["enlarged"])), int(config["most_side"])
        self._text, self._turned = float(config["text_probability"]), float(config["turned_probability"])
        self._least_width, self._most_width = map(int, config["line_width"])
        self._limits = text_boxes.Limits(**config["boxes"])
        self._characters = (folder.path / CHARACTERS).read_text().split("\n")
        self.fit = Fit("RGB", max_side=self._most_side)
        self._detect, self._direction, self._read = make(folder, DETECT), make(folder, DIRECTION), make(folder, READ)
        classes = self._read_lines([Image.new("RGB", (text_lines.HEIGHT, text_lines.HEIGHT))]).shape[2]
        if classes != len(self._characters) + 1:
            raise ModelRefused(f"{folder.path}: {READ} knows {classes} characters, and {CHARACTERS} has {len(self._characters)}")

    def read(self, pictures: Sequence[Pixels]) -> list[list[TextLineRead]]:
        """pictures: uint8 (height, width, 3), of any size."""
        return [self._lines(Image.fromarray(pixels).convert("RGB")) for pixels in pictures]

    def _lines(self, picture: Image.Image) -> list[TextLineRead]:
        corners = self._corners(picture)
        lines = [text_lines.cut_out(picture, box) for box in corners]
        texts = self._texts(self._upright(lines))
        return [
            TextLineRead(text, probability, tuple((float(x), float(y)) for x, y in box))
            for box, (text, probability) in zip(corners, texts, strict=True)
            if text and probability >= self._text
        ]

    def _corners(self, picture: Image.Image) -> list[npt.NDArray[np.float64]]:
        """The corners of each line, (4, 2), in reading order."""
        width, height = self._detection_size(picture.size)
        pixels = text_lines.normal(picture.resize((width, height), Image.Resampling.BILINEAR))
        (probabilities,) = self._detect.run({"x": pixels[None]}).values()
        scale = np.array([picture.width / width, picture.height / height])
        boxes = [box.corners() * scale for box in text_boxes.boxes(probabilities[0, 0], self._limits)]
        within = [np.clip(corners, 0, picture.size) for corners in boxes]
        return [within[i] for i in text_boxes.reading_order(within)]

    def _detection_size(self, size: tuple[int, int]) -> tuple[int, int]:
        larger = max(1.0, min(self._enlarged[0] / min(size), self._enlarged[1] / max(size)))
        scale = min(larger, self._most_side / max(size))
        width, height = (max(STEP, round(side * scale / STEP) * STEP) for side in size)
        return width, height

    def _upright(self, lines: list[Image.Image]) -> list[Image.Image]:
        turned: set[int] = set()
        for at in range(0, len(lines), LINES_AT_ONCE):
            part = lines[at : at + LINES_AT_ONCE]
            (shares,) = self._direction.run({"x": text_lines.batch(part, 192, 192)}).values()
            turned |= {at + i for i, share in enumerate(shares[:, 1].tolist()) if share > self._turned}
        return [line.transpose(Image.Transpose.ROTATE_180) if i in turned else line for i, line in enumerate(lines)]

    def _texts(self, lines: list[Image.Image]) -> list[tuple[str, float]]:
        """Lines of similar shape go together, since all of a batch have the longest one's width."""
        texts: dict[int, tuple[str, float]] = {}
        order = sorted(range(len(lines)), key=lambda i: lines[i].width / lines[i].height)
        for at in range(0, len(order), LINES_AT_ONCE):
            group = order[at : at + LINES_AT_ONCE]
            for i, probabilities in zip(group, self._read_lines([lines[i] for i in group]), strict=True):
                texts[i] = text_lines.decoded(probabilities, self._characters)
        return [texts[i] for i in range(len(lines))]

    def _read_lines(self, lines: list[Image.Image]) -> npt.NDArray[Any]:
        """Probabilities of characters, (lines, steps, characters)."""
        (probabilities,) = self._read.run({"x": text_lines.batch(lines, self._least_width, self._most_width)}).values()
        return probabilities

    def close(self) -> None:
        for network in (self._detect, self._direction, self._read):
            network.close()
