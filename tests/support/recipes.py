"""The recipes of CONTRIBUTING.md, and the blocks that they are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.settings import ROOT

RECIPES = {
    name: body
    for name, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
    if "```" in body
}
GOES_ON_FROM = {"A new processor": "A new topic"}


@dataclass(frozen=True)
class Block:
    """language: json or python for a whole new file, diff for a change of one, sh for commands. path: the last one that the line before names."""

    language: str
    path: str
    lines: tuple[str, ...]


def blocks(recipe: str) -> list[Block]:
    """Those of the recipe that it goes on from come first."""
    found = blocks(GOES_ON_FROM[recipe]) if recipe in GOES_ON_FROM else []
    pattern = r"((?:^[^\n`]*`[^\n]*\n\n)?)^```(\w+)\n(.*?)^```$"
    for before, language, text in re.findall(pattern, RECIPES[recipe], re.DOTALL | re.MULTILINE):
        named = re.findall(r"`([^`]+)`(?:, a new file)?:$", before.strip())
        found.append(Block(language, named[-1] if named else "", tuple(text.splitlines())))
    return found


def changed(text: str, block: Block) -> str:
    """The text after a diff block, whose hunks `@@` parts. Raises AssertionError where a hunk does not have exactly one place."""
    for hunk in "\n".join(block.lines).split("\n@@\n"):
        lines = hunk.split("\n")
        before = "".join(line[1:] + "\n" for line in lines if not line.startswith("+"))
        after = "".join(line[1:] + "\n" for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, f"{block.path} has {text.count(before)} places like\n{before}"
        text = text.replace(before, after)
    return text
