"""Models of the moderation task that judge by rules which a test can read: words of a text, grey levels of a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inference_workers.backends.backend import Scores, TextLineRead
from inference_workers.media.formats import Caps
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.networks.pictures import Fit, Pixels
from inference_workers.task import Prepared, Version, Versions
from inference_workers.tasks.moderation import TASK
from streams.claim_checks import ClaimChecks
from tests.contract.test_tasks import columns_of
from tests.support import media

OCR, NSFW = "moderation-ocr", "moderation-nsfw"
Item = dict[str, Any]


class Texts:
    """Spam names a prize, hate speech names vermin."""

    labels = ("hate_speech", "spam")

    def classify(self, texts: Sequence[str]) -> Scores:
        said = [[4.0 if word in text else -4.0 - len(text) / 1e6 for word in ("vermin", "prize")] for text in texts]
        return Scores(np.array(said))


class Pictures:
    """A dark picture is spam."""

    labels = ("spam",)
    fit = Fit("RGB", 24, 32)

    def classify(self, pictures: Sequence[Pixels]) -> Scores:
        return Scores(np.array([[2.0 if pixels.mean() < 50 else -2.0] for pixels in pictures]), np.ones((len(pictures), 3), "f4"))


class Scenes:
    """Classes by the grey level: porn about 200, sexy about 150, hentai about 100, else neutral."""

    labels = ("drawing", "hentai", "neutral", "porn", "sexy")
    fit = Fit("RGB", 16, 16)
    classes: Mapping[int, str] = {200: "porn", 150: "sexy", 100: "hentai"}

    def classify(self, pictures: Sequence[Pixels]) -> Scores:
        assert all(pixels.shape == (16, 16, 3) for pixels in pictures)
        found = [self.classes.get(level(pixels), "neutral") for pixels in pictures]
        return Scores(np.array([[4.0 if label == name else 0.0 for label in self.labels] for name in found]))


@dataclass
class Reader:
    """Reads in a picture what `lines` has for its grey level, with the probability of each line. read: the pictures' shapes."""

    lines: Mapping[int, Sequence[tuple[str, float]]] = field(default_factory=dict)
    read_shapes: list[tuple[int, ...]] = field(default_factory=list)
    fit: Fit = field(default_factory=lambda: Fit("RGB", max_side=2_000))
    broken_at: int = -1

    def read(self, pictures: Sequence[Pixels]) -> list[list[TextLineRead]]:
        self.read_shapes += [pixels.shape for pixels in pictures]
        if any(level(pixels) == self.broken_at for pixels in pictures):
            raise RuntimeError("no memory")
        return [[TextLineRead(text, sure, ()) for text, sure in self.lines.get(level(pixels), ())] for pixels in pictures]


def level(pixels: Pixels) -> int:
    """The mean grey level to the nearest ten. pixels: uint8 (height, width, channels)."""
    return int(round(float(pixels.mean()), -1))


def version(model: str, backend: Any, arm: str = "live") -> Version:
    config = {"coverage": list(getattr(backend, "labels", ()))}
    return Version(ModelFolder(Path(), model, "1", model.encode().hex().ljust(64, "0"), config, {}), backend, arm)


def versions(**optional: Any) -> Versions:
    """ocr, nsfw: backends of the optional models."""
    backends = {"moderation-text": Texts(), "moderation-image": Pictures()}
    return {model: version(model, backend) for model, backend in (backends | _named(optional)).items()}


def _named(optional: Mapping[str, Any]) -> dict[str, Any]:
    return {f"moderation-{name}": backend for name, backend in optional.items()}


def grey(shade: int, size: tuple[int, int] = (40, 30)) -> dict[str, Any]:
    return media.inline(media.encoded(Image.new("RGB", size, (shade, shade, shade))))


def item(number: int, text: str | None = None, images: Sequence[Any] = (), video: Any = None) -> Item:
    return {
        "content_id": f"c-{number}",
        "text": text,
        "author_id": None,
        "kind": None,
        "images": list(images),
        "video": video,
    }


@contextmanager
def reader_of(caps: Caps | None = None) -> Iterator[MediaReader]:
    reader = MediaReader(ClaimChecks(()), caps)
    try:
        yield reader
    finally:
        reader.close()


def prepared(items: Sequence[Item], by: Versions, caps: Caps | None = None) -> Prepared:
    with reader_of(caps) as reader:
        return TASK.prepare(columns_of(TASK, list(items)), by, reader)


def verdicts(items: Sequence[Item], by: Versions, caps: Caps | None = None) -> list[dict[str, Any]]:
    """The verdict on each item. None of them may be refused."""
    made = prepared(items, by, caps)
    assert made.refused == {}
    results: Mapping[str, Any] = TASK.predict(made.inputs, by).results
    return [{name: column[row] for name, column in results.items()} for row in range(len(items))]


def part_of(verdict: Mapping[str, Any], name: str) -> dict[str, Any]:
    (part,) = [one for one in verdict["parts"] if one["part"] == name]
    return dict(part)
