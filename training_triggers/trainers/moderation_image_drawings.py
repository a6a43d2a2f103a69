"""Pictures that the trainer draws: pictures with promotion and pictures without, some of them intentionally similar.

Held-out pictures use fonts, phrases and a photo that training pictures never use. Photos: the two that scikit-learn includes (CC
BY); fonts: those that matplotlib includes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_sample_images

FONTS = {
    "train": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono-Bold", "DejaVuSans-Oblique"),
    "held out": ("STIXGeneral", "STIXGeneralBol", "cmss10", "cmb10"),
}
PROMOTION = {
    "train": (
        "{n}% OFF", "SALE ENDS TODAY", "BUY NOW", "CALL NOW", "FREE GIFT INSIDE", "WIN ${n}00", "LIMITED OFFER", "ORDER TODAY",
        "CLICK THE LINK", "BEST PRICE", "GET RICH FAST", "EARN ${n}0 A DAY", "ONLY ${n}.99", "BUY 1 GET 1 FREE", "HOT DEALS",
        "SUBSCRIBE NOW", "CASH PRIZES", "www.deals{n}.com", "NO FEES!", "GUARANTEED PROFIT", "Text WIN to 80{n}", "SAVE ${n}",
    ),
    "held out": (
        "SAVE {n}% NOW", "FREE PRIZE", "BUY TODAY", "DEALS FROM ${n}", "CLICK NOW", "WIN CASH", "OFFER ENDS SOON",
        "www.offer{n}.com", "CALL 0800 {n}{n}", "EARN ${n}00", "GET IT FREE", "BIG SALE",
    ),
}  # fmt: skip
ORDINARY = {
    "train": (
        "Lake in the morning", "Page {n}", "Team meeting notes", "Happy birthday Anna", "Chapter {n}", "Exit", "Platform {n}",
        "City Library", "Our holiday in {n}", "Keep left", "Thank you all", "Monday to Friday", "The old bridge", "Good night",
        "Figure {n}: rainfall", "Room {n}", "Graduation day", "Made with love", "NO PARKING", "WELCOME", "HAPPY NEW YEAR",
        "When the code works", "Me every Monday", "CAUTION WET FLOOR", "{n} km", "Score {n} : 2",
    ),
    "held out": (
        "Evening at the river", "Gate {n}", "Class of 20{n}", "Table {n}", "Do not enter", "Happy anniversary", "Museum",
        "Section {n}", "WET PAINT", "GOOD MORNING", "Nobody: / My cat", "Line {n} to the centre", "Lesson {n}", "MERRY CHRISTMAS",
    ),
}  # fmt: skip
KINDS = ("promotion", "picture", "caption", "alike")  # alike: ordinary words in the style of promotion


@dataclass(frozen=True)
class Drawn:
    picture: Image.Image
    kind: str

    @property
    def promotion(self) -> bool:
        return self.kind == "promotion"


@cache
def _photos() -> tuple[Image.Image, ...]:
    return tuple(Image.fromarray(pixels) for pixels in load_sample_images().images)


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size)


def draw(split: str, seed: int) -> Drawn:
    """One picture of `train` or `held out`, the same for the same seed; two in five are promotion."""
    random = np.random.default_rng([seed, 0 if split == "train" else 1])
    kind = str(random.choice(KINDS, p=(0.4, 0.2, 0.2, 0.2)))
    size = (int(random.integers(200, 420)), int(random.integers(200, 420)))
    picture = _background(split, size, random)
    if kind == "promotion":
        _promote(picture, PROMOTION[split], split, random)
    elif kind == "alike":
        _promote(picture, ORDINARY[split], split, random)
    elif kind == "caption":
        _caption(picture, ORDINARY[split], split, random)
    if random.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
    return Drawn(picture, kind)


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


def _background(split: str, size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    kind = random.integers(0, 4)
    if kind == 0:
        photo = _photos()[0 if split == "train" else 1]
        side = int(random.integers(120, 400))
        left, top = int(random.integers(0, 640 - side)), int(random.integers(0, 427 - min(side, 400)))
        return photo.crop((left, top, left + side, top + min(side, 400))).resize(size)
    if kind == 1:  # a gradient with shapes
        ramp = np.linspace(0, 1, size[1])[:, None, None]
        one, two = np.array(_colour(random)), np.array(_colour(random))
        pixels = np.broadcast_to(one * (1 - ramp) + two * ramp, (size[1], size[0], 3)).astype(np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        _shapes(picture, int(random.integers(0, 8)), random)
        return picture
    if kind == 2:  # cloud-like noise
        small = random.integers(0, 256, (int(random.integers(3, 24)), int(random.integers(3, 24)), 3)).astype(np.uint8)
        return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    picture = Image.new("RGB", size, _colour(random))
    _shapes(picture, int(random.integers(2, 14)), random)
    return picture


def _shapes(picture: Image.Image, count: int, random: np.random.Generator) -> None:
    pen = ImageDraw.Draw(picture)
    for _ in range(count):
        x, y = random.integers(-40, picture.width), random.integers(-40, picture.height)
        box = (x, y, x + random.integers(15, 200), y + random.integers(15, 200))
        shape = (pen.ellipse, pen.rectangle)[int(random.integers(0, 2))]
        shape([float(edge) for edge in box], fill=_colour(random))


def _promote(picture: Image.Image, phrases: Sequence[str], split: str, random: np.random.Generator) -> None:
    """Draw one to three phrases, large, in banners, in bursts or outlined."""
    pen = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(1, 4))):
        text = str(random.choice(phrases)).format(n=random.integers(2, 99))
        font = _fitting(str(random.choice(FONTS[split])), text, picture.width * random.uniform(0.5, 0.98), random)
        left, top, right, bottom = font.getbbox(text)
        width, height = right - left, bottom - top
        x = random.uniform(0, max(1, picture.width - width))
        y = random.uniform(0, max(1, picture.height - height - 8))
        dress = random.integers(0, 3)
        if dress == 0:
            pen.rectangle((0, y - 6, picture.width, y + height + 8), fill=_colour(random))
        elif dress == 1:
            _burst(pen, x + width / 2, y + height / 2, max(width, height) * 0.65, random)
        pen.text(
            (x - left, y - top), text, font=font, fill=_contrast(random), stroke_width=int(random.integers(0, 4)),
            stroke_fill=_contrast(random, dark=True),
        )  # fmt: skip


def _caption(picture: Image.Image, phrases: Sequence[str], split: str, random: np.random.Generator) -> None:
    pen = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(1, 6))):
        text = str(random.choice(phrases)).format(n=random.integers(2, 99))
        font = _fitting(str(random.choice(FONTS[split])), text, picture.width * random.uniform(0.2, 0.6), random)
        x, y = random.uniform(0, picture.width * 0.5), random.uniform(0, picture.height * 0.9)
        pen.text((x, y), text, font=font, fill=_contrast(random, dark=bool(random.integers(0, 2))))


def _fitting(name: str, text: str, width: float, random: np.random.Generator) -> ImageFont.FreeTypeFont:
    return _font(name, int(np.clip(1.7 * width / max(4, len(text)), 9, 72)))


def _contrast(random: np.random.Generator, dark: bool = False) -> tuple[int, int, int]:
    red, green, blue = (random.integers(0, 80, 3) if dark else random.integers(150, 256, 3)).tolist()
    return red, green, blue


def _burst(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, random: np.random.Generator) -> None:
    spikes = int(random.integers(8, 18))
    points = [
        (x + (size if i % 2 else size * 0.75) * np.cos(np.pi * i / spikes),
         y + (size if i % 2 else size * 0.75) * np.sin(np.pi * i / spikes))
        for i in range(2 * spikes)
    ]  # fmt: skip
    pen.polygon(points, fill=_colour(random))
