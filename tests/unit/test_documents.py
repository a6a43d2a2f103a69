"""Documents against code: paths and links exist, the table of processes is the catalogue's, folders are the contracts'."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from infra.settings import ROOT
from schemas import catalogue
from schemas.topic_kinds import Guarantee
from schemas.topics import CATALOGUE, CONSUMPTIONS, TASKS
from tests.support import house

PACKAGES = (*house.PACKAGES, "tests")
DOCUMENTS = sorted(
    file.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", *(f"{package}/**/*.md" for package in PACKAGES))
    for file in ROOT.glob(pattern)
    if "node_modules" not in file.parts
)
# The changelog tells of paths as they were; a shipped card is part of its version's digest, and tells of the tree that it was made in.
AS_IT_WAS = {document for document in DOCUMENTS if document.name in ("CHANGELOG.md", "MODEL_CARD.md")}
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of ARCHITECTURE.md, without its head."""
    section = ARCHITECTURE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


PROCESSES = {code(row[0])[0]: row for row in rows("Every process and what it does")}


# --- paths and links ----------------------------------------------------------------------------------------------


def paths(text: str) -> set[str]:
    """Paths of this repository in backticks; a pattern such as `<name>.py` is not one."""
    found = set(re.findall(r"`((?:" + "|".join((*PACKAGES, "docs")) + r")/[^`\s]*)`", text))
    return {path for path in found if not re.search(r"[<>*…{]", path)}


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d not in AS_IT_WAS], ids=str)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    """But for those that a recipe makes (tests/integration/test_recipes.py follows it)."""
    text = (ROOT / document).read_text()
    made = {*re.findall(r"`([^`]+)`, a new file:$", text, re.MULTILINE), *re.findall(r"^cp \S+ (\S+)$", text, re.MULTILINE)}
    assert [path for path in sorted(paths(without_blocks(text)) - made) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    text = without_blocks((ROOT / document).read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ROOT / document if not path else (ROOT / document).parent / path
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_the_index_of_decisions_lists_each_with_its_title() -> None:
    index = (ROOT / "docs/adr/0000-index.md").read_text()
    listed = dict(re.findall(r"^\| \[(\d{4})\]\(\1-[a-z0-9-]+\.md\) \| (.*?) \|", index, flags=re.MULTILINE))
    files = {file.name[:4]: file for file in (ROOT / "docs/adr").glob("*.md") if not file.name.startswith("0000")}
    assert listed.keys() == files.keys()
    for number, file in files.items():
        assert file.read_text().splitlines()[0] == f"# {number} {listed[number]}"


@pytest.mark.parametrize(
    "file", [d for d in DOCUMENTS if d.parent.name == "adr" and d.name != "0000-index.md"], ids=lambda d: d.stem
)
def test_each_decision_has_one_form(file: Path) -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    assert headings == ["Status", "Context", "Decision", "Why", "Consequences"]


# --- settings -----------------------------------------------------------------------------------------------------

OF_TESTS = {"MILLRACE_CHROMIUM", catalogue.VARIABLE}


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d not in AS_IT_WAS], ids=str)
def test_every_setting_that_a_document_names_is_one(document: Path) -> None:
    """The tasks' own variables (`MILLRACE_MODERATION__MAX_BATCH`) are not written out in documents."""
    known = {f"MILLRACE_{field.name.upper()}" for kind in house.settings_classes() for field in fields(kind)} | OF_TESTS
    named = re.findall(r"\bMILLRACE_[A-Z][A-Z_]*[A-Z]\b(?![<_])", (ROOT / document).read_text())
    assert set(named) - known == set()


# --- the table of processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", CONSUMPTIONS, ids=lambda taken: taken.group)
def test_the_table_of_processes_has_each_group_of_the_catalogue(taken) -> None:  # type: ignore[no-untyped-def]
    _, reads, writes, _, guarantee, _ = PROCESSES[taken.group]
    assert code(reads)[0] == taken.topic.name
    if taken.results is not None:
        assert code(writes)[0] == taken.results.name
        assert guarantee.split(";")[0] == taken.results.guarantee.value


@pytest.mark.parametrize("name", PROCESSES)
def test_each_row_names_an_existing_file_and_topics_of_the_catalogue(name: str) -> None:
    _, reads, writes, file, _, started_by = PROCESSES[name]
    (path,) = code(file)
    assert (ROOT / path).is_file()
    assert started_by
    named = {word for word in code(reads) + code(writes) if re.search(r"-v\d+$", word)}
    assert named <= {topic.name for topic in CATALOGUE}


def test_each_writer_in_the_catalogue_has_the_topic_in_its_row() -> None:
    """Writers outside of the table: people's programs, commands, and `workers`, whose further topics stand below it."""
    tasks = {taken.group for taken in TASKS}
    rows_of = {f"{name} worker" if name in tasks else name: code(row[2]) for name, row in PROCESSES.items()}
    rows_of |= {f"{name} job": code(row[2]) for name, row in PROCESSES.items() if "(Flink)" in row[0]}
    processes = {"producers", "generator", "workers"}
    for topic in CATALOGUE:
        if topic.name == "worker-status-v1":
            continue  # every loop
        for writer in topic.writers:
            if writer not in processes and not writer.endswith(" command"):
                assert topic.name in rows_of[writer], f"{writer} writes {topic.name}"
    below = ARCHITECTURE.split("Every worker also writes ")[1].split("\n\n")[0]
    for topic in CATALOGUE:
        if "workers" in topic.writers:
            assert f"`{topic.name}`" in below


def test_exactly_once_in_the_table_is_said_of_topics_that_promise_it() -> None:
    promise = {topic.name: topic.guarantee for topic in CATALOGUE}
    for name, row in PROCESSES.items():
        if row[4] == Guarantee.EXACTLY_ONCE.value:
            assert {promise[topic] for topic in code(row[2])} == {Guarantee.EXACTLY_ONCE}, name


# --- folders ------------------------------------------------------------------------------------------------------


def contracts() -> list[dict[str, object]]:
    found: list[dict[str, object]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return found


def test_the_table_of_folders_has_the_packages_in_their_order() -> None:
    (layers,) = [c["layers"] for c in contracts() if c["name"] == "packages import downwards only"]
    assert isinstance(layers, list)
    order = [name.strip() for layer in layers for name in layer.split("|")]
    listed = [code(row[0])[0] for row in rows("Folders and imports")]
    assert sorted(listed) == sorted(order)
    places = {name.strip(): i for i, layer in enumerate(layers) for name in layer.split("|")}
    assert [places[name] for name in listed] == sorted(places.values())


@pytest.mark.parametrize("row", rows("Folders and imports"), ids=lambda row: row[0])
def test_the_table_of_folders_has_the_layers_of_each_package(row: list[str]) -> None:
    (package,) = code(row[0])
    layers = [c["layers"] for c in contracts() if c.get("containers") == [package]]
    found = [
        {f"{name.strip()}/" for name in layer.split("|") if (ROOT / package / name.strip()).is_dir()}
        for layer in (layers[0] if layers else [])  # type: ignore[attr-defined]
    ]
    assert [set(code(layer)) for layer in row[3].split(";") if layer.strip()] == [layer for layer in found if layer]


FOLDERS = sorted(
    {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py") if "node_modules" not in file.parts}
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_each_folder_says_what_lies_in_it(folder: Path) -> None:
    """One screen, in README.md or in the docstring of the package."""
    readme = folder / "README.md"
    text = readme.read_text() if readme.exists() else (folder / "__init__.py").read_text()
    assert text.startswith(("#", '"""')), "neither a README.md nor a docstring"
    assert len(text) >= 60
    assert len(text.splitlines()) <= 50


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_names_all_that_lies_in_it(package: str) -> None:
    named = {name.rstrip("/") for name in code((ROOT / package / "README.md").read_text())}
    modules = {file.name for file in (ROOT / package).glob("*.py") if not file.stem.startswith("__") and file.stem != "conftest"}
    folders = {folder.name for folder in (ROOT / package).iterdir() if (folder / "__init__.py").exists()}
    assert modules | folders <= named


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_what_a_folder_says_of_its_files_is_there(folder: Path) -> None:
    """Names in backticks that end in .py, .md or a slash: beside it, in a folder above, or in a folder that the text names."""
    text = "".join(file.read_text() for file in (folder / "README.md", folder / "__init__.py") if file.exists())
    above = [folder, *(parent for parent in folder.parents if parent.is_relative_to(ROOT))]
    places = [*above, *(place / near for place in above for near in re.findall(r"`([\w/]+/)`", text))]
    names = re.findall(r"`([\w/.-]+(?:\.py|\.md|/))`", text)
    assert [name for name in names if not any((place / name).exists() for place in places)] == []


# --- language -----------------------------------------------------------------------------------------------------

MOST_WORDS = 40  # of a sentence
# Patterns that read like another language, and what to write instead.
STUMBLES = {
    r"\bso many\b": "the number, or its name",
    r"\b(?:is|are) the (?:least|most)\b": "at least, at most",
    r"\b(?:records|requests|events|tiles|texts|rows|times|bytes) a (?:second|minute|batch|partition)\b": "per second",
    r"\bwhat is (?:so|there)\b": "the thing's name",
    r"\b(?:is|are) none\b": "is not a …, is invalid",
    r"\bspelt\b": "written",
    r"\banew\b": "again",
    r"\bno news\b": "already known",
}


def sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|\n(?=[|#])", without_blocks(text)):
        parts = paragraph.split("|") if paragraph.startswith("|") else [paragraph]
        for part in parts:
            plain = re.sub(r"\]\([^)]*\)", "]", " ".join(part.split()))
            yield from re.split(r"(?<=[.!?:;])\**\)? (?=[A-Z`*\[(0-9a-z])", plain)


def stumbles(text: str) -> list[str]:
    found = []
    for sentence in sentences(text):
        if len(sentence.split()) > MOST_WORDS:
            found.append(f"{len(sentence.split())} words: {sentence}")
        found += [f"{better}: {sentence}" for pattern, better in STUMBLES.items() if re.search(pattern, sentence)]
    return found


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d not in AS_IT_WAS], ids=str)
def test_sentences_are_short_and_in_usual_english(document: Path) -> None:
    assert stumbles((ROOT / document).read_text()) == []
