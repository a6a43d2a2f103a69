"""The task of docs/tasks/declare.md, written out as the page says."""

from __future__ import annotations

import re
from pathlib import Path

from infra.settings import ROOT

PAGE = ROOT / "docs" / "tasks" / "declare.md"
FILES = ("mine/request.avsc", "mine/result.avsc", "mine/examples/short.json", "mine/task.py")


def section() -> str:
    return PAGE.read_text().split("## Your own code\n")[1].split("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section(), re.DOTALL | re.MULTILINE)


def write(folder: Path) -> list[str]:
    """Write the files that the page shows, and its declaration; returns the page's commands."""
    shown = iter([*blocks("json"), *blocks("python")])
    for name in FILES:
        assert f"`{name}`" in section()
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(next(shown))
    (declaration,) = blocks("toml")
    (folder / "millrace.toml").write_text(declaration)
    return [line for block in blocks("sh") for line in block.splitlines()]
