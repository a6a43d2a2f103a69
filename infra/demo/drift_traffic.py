"""The traffic of the drift story: requests whose truth is known, and their change. The texts are defined here; the pictures
are MNIST's; the people who ask for recommendations are in `shoppers.py`."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from PIL import Image

from schemas.catalogue import consumption
from schemas.codec import SchemaIds
from schemas.errors import BadSettings
from schemas.topic_kinds import Consumption
from streams.broker import Sink
from streams.kafka.config import KafkaAddress

TEXTS = Path(__file__).with_name("drift_story_texts.tsv")
PLACES = ("Lyon", "Utrecht", "Porto", "Ghent", "Turku", "Graz", "Malmö", "Split", "Cork", "Bergen")
SCHEMES = 0.45  # share of the texts, after the change
TURNED = 40.0  # degrees
NOISE = 40.0  # standard deviation per pixel, of 255
HELD_OUT_EVERY = 4  # the shipped model never saw every fourth picture of the file: those are sent


class Traffic(Protocol):
    """changed: whether the next requests are of the new kind. baseline: number of requests before the change; a third of them
    are held back, and must be enough to show that the model still knows the old kind. labelled: whether the truth is sent as labels;
    otherwise labels come of what `answered` sends. good: a word for an answer that is right. about: what is asked and what changes, for people. settings: beside those of all
    stories."""

    model: str
    baseline: int
    taken: Consumption
    changed: bool
    labelled: bool
    good: str
    about: str
    settings: Mapping[str, str]

    def open(self, address: KafkaAddress, ids: SchemaIds, sink: Sink) -> None:
        """Send what must be there before the first request, and wait until it is."""
        ...

    def next(self, number: int) -> tuple[dict[str, Any], dict[str, bool]]:
        """The fields of a request, and its truth."""
        ...

    def right(self, result: Mapping[str, Any], truth: Mapping[str, bool]) -> bool: ...

    def answered(self, result: Mapping[str, Any], truth: Mapping[str, bool]) -> None:
        """Send what the asker does with an answer."""
        ...


class Labelled:
    """Traffic of which the truth is sent."""

    labelled = True
    good = "right"
    settings: Mapping[str, str] = MappingProxyType({})

    def open(self, address: KafkaAddress, ids: SchemaIds, sink: Sink) -> None: ...

    def answered(self, result: Mapping[str, Any], truth: Mapping[str, bool]) -> None: ...


class Texts(Labelled):
    """Talk, and offers that the shipped model knows, each composed of two lines; after the change also polite schemes, of
    three parts. So few texts are equal: the gate counts equal ones once."""

    model = "moderation-text"
    about = "Then polite schemes come, which the model does not know; everything after that it does by itself."
    baseline = 900

    def __init__(self, seed: int = 5) -> None:
        self.taken, self.changed = consumption("moderation"), False
        self._random, self._lines = random.Random(seed), dict[str, list[str]]()
        for line in TEXTS.read_text(encoding="utf-8").splitlines():
            kind, text = line.split("\t")
            self._lines.setdefault(kind, []).append(text)

    def next(self, number: int) -> tuple[dict[str, Any], dict[str, bool]]:
        pick = self._random.random()
        if self.changed and pick < SCHEMES:
            parts = [self._random.choice(self._lines[kind]) for kind in ("opener", "body", "closer")]
            text, spam = " ".join(map(self._filled, parts)), True
        else:
            spam = self._random.random() < 0.2
            text = " ".join(self._random.sample([self._filled(line) for line in self._lines["offer" if spam else "talk"]], 2))
        return {"content_id": f"story-{number}", "text": text, "kind": "message"}, {"spam": spam}

    def _filled(self, line: str) -> str:
        return line.format(n=self._random.randint(2, 99), place=self._random.choice(PLACES))

    def right(self, result: Mapping[str, Any], truth: Mapping[str, bool]) -> bool:
        return truth["spam"] == any(one["category"] == "spam" and one["flagged"] for one in result["categories"])


class Digits(Labelled):
    """Handwritten digits unchanged; after the change rotated, with noise. Raises BadSettings if the data folder has none."""

    model = "vision-digits"
    about = "Then the digits are turned and noisy, which the model does not know; everything after that it does by itself."
    baseline = 1_300  # training changes all weights: with only a hundred held back, two wrong answers would be too many

    def __init__(self, data: Path, seed: int = 5) -> None:
        self.taken, self.changed = consumption("vision"), False
        self._random = np.random.default_rng(seed)
        files = [data / "mnist" / name for name in ("images-8000-idx3-ubyte.gz", "labels-8000-idx1-ubyte.gz")]
        missing = [file for file in files if not file.exists()]
        if missing:
            raise BadSettings(f"{missing[0]} is missing: MILLRACE_DATA names the folder of the public data sets")
        pixels, labels = (
            np.frombuffer(gzip.decompress(f.read_bytes())[head:], np.uint8) for f, head in zip(files, (16, 8), strict=True)
        )
        self._pixels, self._labels = pixels.reshape(-1, 28, 28)[::HELD_OUT_EVERY], labels[::HELD_OUT_EVERY]

    def next(self, number: int) -> tuple[dict[str, Any], dict[str, bool]]:
        which = int(self._random.integers(len(self._labels)))
        picture = Image.fromarray(self._pixels[which])
        if self.changed:
            turned = np.asarray(picture.rotate(TURNED, resample=Image.Resampling.BILINEAR), np.float64)
            noisy = turned + self._random.normal(0, NOISE, turned.shape)
            picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        file = io.BytesIO()
        picture.save(file, "png")
        return {"image": {"data": file.getvalue()}, "top": 1}, {str(self._labels[which]): True}

    def right(self, result: Mapping[str, Any], truth: Mapping[str, bool]) -> bool:
        return any(one["label"] in truth for one in result["classes"][:1])
