"""Entities from tags of tokens."""

from __future__ import annotations

import pytest

from inference_workers.networks.entities import entities_of

TEXT = "Ada Lovelace saw London"
CASES = [
    (["B-PER", "I-PER", "O", "B-LOC"], ["PER Ada Lovelace", "LOC London"]),
    (["I-PER", "I-PER", "O", "I-LOC"], ["PER Ada Lovelace", "LOC London"]),
    (["B-PER", "B-PER", "O", "O"], ["PER Ada", "PER Lovelace"]),
    (["B-PER", "E-PER", "O", "S-LOC"], ["PER Ada Lovelace", "LOC London"]),
    (["S-PER", "S-PER", "O", "S-LOC"], ["PER Ada", "PER Lovelace", "LOC London"]),
    (["PER", "PER", "O", "LOC"], ["PER Ada Lovelace", "LOC London"]),
    (["B-PER", "I-LOC", "O", "O"], ["PER Ada", "LOC Lovelace"]),
    (["O", "O", "O", "O"], []),
]


@pytest.mark.parametrize(("tags", "expected"), CASES, ids=[" ".join(tags) for tags, _ in CASES])
def test_tags_of_every_scheme_become_entities(tags: list[str], expected: list[str]) -> None:
    places = [(0, 3), (4, 12), (13, 16), (17, 23)]
    found = entities_of(TEXT, [(*place, tag, 0.9) for place, tag in zip(places, tags, strict=True)])
    assert [f"{entity.label} {TEXT[entity.start : entity.end]}" for entity in found] == expected


def test_the_pieces_of_a_word_have_the_label_of_its_first_piece() -> None:
    pieces = [
        (0, 3, "B-PER", 0.9),
        (4, 8, "I-PER", 0.8),
        (8, 12, "O", 0.5),
        (13, 16, "O", 0.9),
        (17, 20, "O", 0.9),
        (20, 23, "B-LOC", 0.9),
    ]
    (found,) = entities_of(TEXT, pieces)
    assert (found.start, found.end, found.probability) == (0, 12, 0.5)
