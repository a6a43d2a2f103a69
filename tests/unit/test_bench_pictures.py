"""The character error rate of the benchmark of drawn text, and what it draws."""

from __future__ import annotations

import pytest

from tests.benchmarks import pictures


def test_errors_are_counted_over_the_characters_that_were_drawn_without_blanks() -> None:
    drawn = [["ab c", "d"], ["xyz"]]
    assert pictures.characters_wrong(drawn, drawn) == 0.0
    assert pictures.characters_wrong(drawn, [["abc", "d"], ["xyz"]]) == 0.0
    assert pictures.characters_wrong(drawn, [["abX"], ["xyz", "w"]]) == pytest.approx(300 / 7)
    assert pictures.characters_wrong(drawn, [[], []]) == 100.0


def test_every_font_size_and_turn_is_drawn_and_nothing_is_cut_off() -> None:
    pytest.importorskip("matplotlib")
    drawn = pictures.pictures()
    assert len({kinds for _, _, kinds in drawn}) == len(drawn) == len(pictures.FONTS) * len(pictures.SIZES) * len(pictures.TURNS)
    for pixels, lines, _ in drawn:
        assert len(lines) == 3
        assert pixels.min() < 100
        edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
        assert min(int(edge.min()) for edge in edges) == 255
    upright, turned = (next(lines for _, lines, kinds in drawn if kinds[2] == f"turned by {turn}") for turn in (0, 180))
    assert upright[0] in pictures.TEXTS and turned[0] in pictures.TEXTS
