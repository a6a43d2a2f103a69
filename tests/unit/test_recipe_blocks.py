"""The blocks of CONTRIBUTING.md's recipes have their places in today's files; `tests/integration/test_recipes.py` follows them."""

from __future__ import annotations

import pytest

from infra.settings import ROOT
from tests.support.recipes import GOES_ON_FROM, RECIPES, blocks, changed


def test_the_recipes_that_are_followed_are_at_least_these() -> None:
    assert {"A new topic", "A new processor", "A new feature", "A new sum of events", "A new trigger"} <= RECIPES.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_block_of_a_recipe_has_its_place(recipe: str) -> None:
    texts: dict[str, str] = {}
    found = blocks(recipe)
    for block in found:
        match block.language:
            case "sh":
                copies = [line.split()[1:] for line in block.lines if line.startswith("cp ")]
                texts |= {target: (ROOT / source).read_text() for source, target in copies}
            case "diff":
                text = texts.get(block.path) or (ROOT / block.path).read_text()
                texts[block.path] = changed(text, block)
            case _:
                assert block.path
                assert not (ROOT / block.path).exists()
    assert len([b for b in found if b.language != "sh" and not b.path]) == 0
    assert any(line.startswith("./millrace test ") for block in found if block.language == "sh" for line in block.lines)
    assert RECIPES[recipe].count("```") // 2 == len(found) - (len(blocks(GOES_ON_FROM[recipe])) if recipe in GOES_ON_FROM else 0)
