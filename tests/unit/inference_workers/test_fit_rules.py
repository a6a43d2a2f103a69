"""How a picture gets the shape of a network's input: with bars, cropped or stretched."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from inference_workers.networks.pictures import Fit, Rule, fit

# Left to right: 100 red, 200 green, 100 blue columns of 200 rows.
WIDE = Image.fromarray(
    np.concatenate(
        [np.full((200, n, 3), colour, np.uint8) for n, colour in ((100, (255, 0, 0)), (200, (0, 255, 0)), (100, (0, 0, 255)))], 1
    )
)
PIXELS = {"mode": "RGB", "height": 40, "width": 40}


def columns(pixels: np.ndarray) -> list[str]:
    """The colour of each column of the middle row."""
    return ["rgb"[colour] for colour in pixels[20].argmax(axis=1)]


def test_a_crop_keeps_the_middle_square() -> None:
    cropped = fit(WIDE, Fit.of({"pixels": {**PIXELS, "rule": "crop", "smooth": True}}))
    assert cropped.shape == (40, 40, 3)
    assert columns(cropped) == ["g"] * 40
    assert fit(WIDE.rotate(90, expand=True), Fit("RGB", 40, 40, rule=Rule.CROP))[:, 20].argmax(axis=1).tolist() == [1] * 40


def test_a_crop_may_keep_a_part_of_the_shorter_side() -> None:
    half = Image.new("RGB", (200, 200), "white")
    half.paste("black", (50, 50, 150, 150))
    kept = fit(half, Fit("RGB", 40, 40, rule=Rule.CROP, keep=0.5))
    assert kept[1:-1, 1:-1].max() == 0


def test_a_stretched_picture_stays_whole() -> None:
    stretched = fit(WIDE, Fit.of({"pixels": {**PIXELS, "rule": "stretch"}}))
    assert "".join(columns(stretched)) == "r" * 10 + "g" * 20 + "b" * 10


def test_bars_are_the_rule_if_none_is_named() -> None:
    barred = fit(WIDE, Fit.of({"pixels": PIXELS}))
    assert np.array_equal(barred, fit(WIDE, Fit("RGB", 40, 40, rule=Rule.BARS)))
    assert "".join(columns(barred)) == "r" * 10 + "g" * 20 + "b" * 10
    assert barred[2].std(axis=0).max() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 3_000), (3_000, 1), (7, 5)])
@pytest.mark.parametrize("rule", list(Rule))
def test_no_shape_of_picture_is_too_odd(size: tuple[int, int], rule: Rule) -> None:
    to = Fit("RGB", 40, 40, rule=rule, keep=0.875 if rule is Rule.CROP else 1.0, smooth=True)
    assert fit(Image.new("RGB", size, "red"), to).shape == (40, 40, 3)


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="tile"):
        Fit.of({"pixels": {**PIXELS, "rule": "tile"}})
