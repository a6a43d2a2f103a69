"""Requests of every task, identical for the same seed: the input of `bench tasks` and `bench swap`."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inference_workers.networks.speech import RATE_HZ
from tests.support import media

SENTENCES = (
    "Where is the station?",
    "I would like a cup of coffee, please.",
    "She has never been to Paris.",
    "It is raining again.",
    "Can you help me find my keys?",
    "He works in a small bank near the river.",
    "We will see each other tomorrow.",
    "Thank you.",
)


def requests(record: str, distinct: int = 32) -> list[dict[str, Any]]:
    """record: the name of the request's record."""
    random = np.random.default_rng(5)
    match record:
        case "content":
            return [
                {"content_id": f"c-{i}", "text": SENTENCES[i % 8] * (1 + i % 4), "images": [{"data": _photo(random)}]}
                for i in range(distinct)
            ]
        case "vision-request":
            return [{"image": {"data": _photo(random)}, "top": 3} for _ in range(distinct)]
        case "ocr-request":
            return [{"image": {"data": _sign(SENTENCES[i % 8])}} for i in range(distinct)]
        case "text-request":
            return [{"text": SENTENCES[i % 8] * (1 + i % 4)} for i in range(distinct)]
        case "tabular-request":
            return [{"numbers": {"amount": float(i), "hour": i % 24.0}, "categories": {}} for i in range(distinct)]
        case "translation-request":
            return [{"text": f"{SENTENCES[i % 8]}", "source": "en", "target": "fr"} for i in range(distinct)]
        case _:
            return [{"audio": {"data": _speech(random)}} for _ in range(distinct)]


def _photo(random: np.random.Generator) -> bytes:
    """A JPEG of 320 × 240, smooth like a photo."""
    small = random.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return media.encoded(Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC), "JPEG")


def _sign(text: str) -> bytes:
    """A PNG of 320 × 64 with one line of text."""
    picture = Image.new("RGB", (320, 64), "white")
    ImageDraw.Draw(picture).text((10, 16), text, "black", ImageFont.load_default(20))
    return media.encoded(picture, "PNG")


def _speech(random: np.random.Generator) -> bytes:
    seconds = random.uniform(1.0, 3.0)
    samples = random.standard_normal(int(seconds * RATE_HZ)) * np.sin(np.arange(int(seconds * RATE_HZ)) / 800) * 0.1
    return media.sound_of(samples.astype(np.float32), RATE_HZ)
