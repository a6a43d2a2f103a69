"""The recipes of CONTRIBUTING.md, followed as they stand: their blocks change a copy of the repository, their commands must pass there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.settings import ROOT
from tests.support import house
from tests.support.recipes import GOES_ON_FROM, RECIPES, Block, blocks, changed

# All that a command of a recipe reads.
FOLDERS = (*house.PACKAGES, "tests", "docs")
PROVISIONS = {
    "A new topic": {"content-appeals-v1"},
    "A new processor": {"content-appeals-v1", "content-appeals-v1-appeals-retry-1s", "content-appeals-v1-appeals-dlq"},
}
LIMIT_S = 240


@dataclass
class Copy:
    """The repository in a folder of its own. topics: what was provisioned last."""

    folder: Path
    topics: frozenset[str] = frozenset()

    def apply(self, block: Block) -> None:
        file = self.folder / block.path
        match block.language:
            case "sh":
                for line in block.lines:
                    self.command(line)
            case "diff":
                file.write_text(changed(file.read_text(), block))
            case _:
                assert not file.exists(), f"{block.path} is there already"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("\n".join(block.lines) + "\n")

    def command(self, line: str) -> None:
        match line.split():
            case ["./millrace", "fix"]:
                self.run(sys.executable, "-m", "infra", "fix")
            case ["./millrace", "test", *words]:
                self.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words)
            case ["./millrace", "topics", "--provision"]:
                self.topics = frozenset(self.run(sys.executable, "-m", "tests.support.provisioned").split())
            case ["cp", source, target]:
                shutil.copy(self.folder / source, self.folder / target)
            case _:
                raise AssertionError(f"a recipe has a command that this test does not know: {line}")

    def check(self) -> None:
        """Of `./millrace check` lint and import order; types would take a minute each."""
        tools = Path(sys.executable).parent
        self.run(str(tools / "ruff"), "check", "--quiet", ".")
        self.run(str(tools / "lint-imports"), "--no-cache")

    def run(self, *command: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{' '.join(command[:6])}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of every copy, one after the other: what one of them compiled, the next need not compile again."""
    folder = tmp_path_factory.mktemp("recipes") / "copy"
    yield folder
    if sys.pycache_prefix:  # then the copy's compiled modules do not lie in the copy
        shutil.rmtree(Path(sys.pycache_prefix) / folder.relative_to(folder.anchor), ignore_errors=True)


@pytest.fixture
def copy(place: Path) -> Copy:
    shutil.rmtree(place, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "node_modules", "dist", "shipped", "*.png")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for file in (*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "LICENSE", ROOT / "millrace"):
        shutil.copy(file, place / file.name)
    for large in (ROOT / "inference_workers" / "shipped", *(ROOT / "docs").rglob("*.png")):
        (place / large.relative_to(ROOT)).symlink_to(large)
    return Copy(place)


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in GOES_ON_FROM.values()])
def test_a_recipe_leads_to_what_it_promises(recipe: str, copy: Copy) -> None:
    """A recipe that another goes on from is followed as its beginning."""
    done = 0
    for part in (GOES_ON_FROM.get(recipe), recipe):
        if part is not None:
            for block in blocks(part)[done:]:
                copy.apply(block)
            done = len(blocks(part))
            copy.check()
            assert PROVISIONS.get(part, set()) <= copy.topics
