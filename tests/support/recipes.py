"""The recipes of CONTRIBUTING.md, and the blocks of which they consist."""

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
    """language: json or python for a complete new file, diff for a change of one, sh for commands. path: the last path in the
    line before the block."""

    language: str
    path: str
    lines: tuple[str, ...]


def blocks(recipe: str) -> list[Block]:
    """The blocks of a recipe; those of the recipe that it continues come first."""
    found = blocks(GOES_ON_FROM[recipe]) if recipe in GOES_ON_FROM else []
    pattern = r"((?:^[^\n`]*`[^\n]*\n\n)?)^```(\w+)\n(.*?)^```$"
    for before, language, text in re.findall(pattern, RECIPES[recipe], re.DOTALL | re.MULTILINE):
        named = re.findall(r"`([^`]+)`(?:, a new file)?:$", before.strip())
        found.append(Block(language, named[-1] if named else "", tuple(text.splitlines())))
    return found


def changed(text: str, block: Block) -> str:
    """The text after a diff block, whose hunks are separated by `@@`. Raises AssertionError if a hunk does not match in
    exactly one place."""
    for hunk in "\n".join(block.lines).split("\n@@\n"):
        lines = hunk.split("\n")
        before = "".join(line[1:] + "\n" for line in lines if not line.startswith("+"))
        after = "".join(line[1:] + "\n" for line in lines if not line.startswith("-"))
        assert text.count(before) == 1, f"{block.path} has {text.count(before)} places like\n{before}"
        text = text.replace(before, after)
    return text
