"""The recipes of CONTRIBUTING.md, followed as they stand: their blocks change a copy of the repository, their commands must pass there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.settings import ROOT

RECIPES = {
    name: body
    for name, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
    if "```" in body
}
GOES_ON_FROM = {"A new processor": "A new topic"}
PROVISIONS = {
    "A new topic": {"content-appeals-v1"},
    "A new processor": {"content-appeals-v1", "content-appeals-v1-appeals-retry-1s", "content-appeals-v1-appeals-dlq"},
}
COPIED = (
    "schemas",
    "streams",
    "processors",
    "inference_workers",
    "feature_jobs",
    "training_triggers",
    "infra",
    "tests",
    "docs",
)
LIMIT_S = 240

# Stands for a stack that runs: what `topics --provision` makes, on the broker and the registry in memory.
PROVISION = """
from infra.provision import specs
from schemas import avro
from schemas.codec import Encoder, decoder_of
from schemas.topics import CATALOGUE
from streams.clock import ManualClock
from streams.memory.cluster import MemoryBroker
from streams.rows import OutRecords
from streams.schema_registry import MemoryRegistry

broker, ids = MemoryBroker(ManualClock()), MemoryRegistry()
for spec in specs():
    broker.create(spec.name, spec.partitions)
for topic in CATALOGUE:
    if topic.record is None:
        continue
    record = topic.record.RECORD
    ids.register(topic.subject, avro.schema(record))
    for example in avro.examples(record).values():
        made = topic.record.from_dict(avro.from_json(example, avro.schema(record)))
        value = Encoder(record, topic.subject, ids).encode_one(made)
        broker.append(OutRecords(topic.name, [b"k"], [value], [[]]), None)
        columns, errors = decoder_of(topic, ids).decode([value])
        assert not errors, errors
print(" ".join(sorted(broker.partitions)))
"""


@dataclass(frozen=True)
class Block:
    """language: json or python for a whole new file, diff for a change of one, sh for commands. path: named in the line before."""

    language: str
    path: str
    lines: tuple[str, ...]


def blocks(body: str) -> list[Block]:
    found = []
    for before, language, text in re.findall(r"((?:^[^\n`]*`[^\n]*\n\n)?)^```(\w+)\n(.*?)^```$", body, re.DOTALL | re.MULTILINE):
        named = re.findall(r"`([^`]+)`(?:, a new file)?:$", before.strip())
        found.append(Block(language, named[-1] if named else "", tuple(text.splitlines())))
    return found


@dataclass
class Copy:
    """The repository in a folder of its own. topics: what was provisioned last."""

    folder: Path
    topics: frozenset[str] = frozenset()

    def apply(self, recipe: str) -> None:
        for block in blocks(RECIPES[recipe]):
            match block.language:
                case "sh":
                    for line in block.lines:
                        self.command(line)
                case "diff":
                    self.change(block)
                case _:
                    file = self.folder / block.path
                    assert block.path, f"no file is named before {block.lines[0]}"
                    assert not file.exists(), f"{block.path} is there already"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text("\n".join(block.lines) + "\n")

    def change(self, block: Block) -> None:
        file = self.folder / block.path
        text = file.read_text()
        for hunk in "\n".join(block.lines).split("\n@@\n"):
            lines = hunk.split("\n")
            before = "".join(line[1:] + "\n" for line in lines if not line.startswith("+"))
            after = "".join(line[1:] + "\n" for line in lines if not line.startswith("-"))
            assert text.count(before) == 1, f"{block.path} has {text.count(before)} places like\n{before}"
            text = text.replace(before, after)
        file.write_text(text)

    def command(self, line: str) -> None:
        match line.split():
            case ["./millrace", "fix"]:
                self.run(sys.executable, "-m", "infra", "fix")
                self.run(str(Path(sys.executable).parent / "ruff"), "check", "--quiet", ".")
                self.run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
            case ["./millrace", "test", *words]:
                self.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words)
            case ["./millrace", "topics", "--provision"]:
                self.topics = frozenset(self.run(sys.executable, "-c", PROVISION).split())
            case ["cp", source, target]:
                shutil.copy(self.folder / source, self.folder / target)
            case _:
                raise AssertionError(f"a recipe has a command that this test does not know: {line}")

    def run(self, *command: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
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


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    ignored = shutil.ignore_patterns("__pycache__", "node_modules", "dist", "shipped", "*.png")
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for file in (*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "LICENSE", ROOT / "millrace"):
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "inference_workers" / "shipped").symlink_to(ROOT / "inference_workers" / "shipped")
    for picture in (ROOT / "docs").rglob("*.png"):
        (tmp_path / picture.relative_to(ROOT)).symlink_to(picture)
    return Copy(tmp_path)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_leads_to_what_it_promises(recipe: str, copy: Copy) -> None:
    if recipe in GOES_ON_FROM:
        copy.apply(GOES_ON_FROM[recipe])
    copy.apply(recipe)
    assert PROVISIONS.get(recipe, set()) <= copy.topics


def test_the_recipes_that_are_followed_are_at_least_these() -> None:
    assert {"A new topic", "A new processor", "A new feature", "A new sum of events", "A new trigger"} <= RECIPES.keys()
    for name, body in RECIPES.items():
        assert len(blocks(body)) == body.count("```") // 2, name
        assert any(block.language == "sh" and "test" in " ".join(block.lines) for block in blocks(body)), f"{name} checks nothing"
