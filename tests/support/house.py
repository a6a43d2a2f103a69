"""Measures of the source code itself: lengths, imports, classes of settings, and functions that take or return arrays."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import Any

from infra.settings import ROOT

PACKAGES = ("schemas", "streams", "processors", "inference_workers", "feature_jobs", "training_triggers", "infra")
GENERATED = "schemas/generated.py"
# The name of a dtype, the word shape, or a shape in parentheses: (n,), (n, names), (entries, any width).
_ARRAY_WORDS = re.compile(r"\b(shape|dtype|bool|u?int(8|16|32|64)|float(16|32|64)?)\b|\((?:[\w ]+,)+[\w ]*\)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def folder(self) -> str:
        return str(self.path.parent.relative_to(ROOT))

    @cached_property
    def lines(self) -> int:
        return len(self.path.read_text().splitlines())

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    def functions(self) -> Iterator[tuple[str, int]]:
        """Each function, including nested ones: module:name, and its lines from `def` to its end."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                yield f"{self.name}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


@cache
def modules() -> list[Module]:
    """Every module of the product, without tests and generated code; read once a process."""
    found = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")) if "node_modules" not in file.parts)
    return [Module(file) for file in found if file != ROOT / GENERATED]


def settings_classes() -> list[type[Any]]:
    """Settings classes of all packages: those whose fields carry a help text."""
    named = (import_module(module.name) for module in modules() if "setting(" in module.path.read_text())
    kinds = {kind for module in named for kind in vars(module).values() if isinstance(kind, type) and is_dataclass(kind)}
    return sorted((kind for kind in kinds if any("help" in f.metadata for f in fields(kind))), key=lambda kind: kind.__name__)


def imports(all_modules: list[Module]) -> dict[str, set[str]]:
    """The modules of this repository that each module imports, including imports inside functions and for types only."""
    names = {module.name for module in all_modules}
    return {module.name: set(_imported(module.tree, names)) - {module.name} for module in all_modules}


def _imported(tree: ast.Module, names: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from members & names
            if node.module in names and members - names:
                yield node.module


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty if there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        nodes: list[str] = error.args[1]
        return nodes
    return []


def silent_about_arrays(all_modules: list[Module]) -> set[str]:
    """Public functions with numpy arrays in their signature for which no docstring states a shape or a dtype: not their own,
    not that of their class, and not that of a protocol with a method of the same name; as module:Class.name."""
    aliases = _array_aliases(all_modules)
    told, silent = set(), set()
    for module in all_modules:
        for owner, function in _public(module.tree):
            if not _has_array(function, aliases[module.name]):
                continue
            says = any(_ARRAY_WORDS.search(ast.get_docstring(node) or "") for node in (function, owner) if node is not None)
            if says and owner is not None and any(getattr(base, "id", "") == "Protocol" for base in owner.bases):
                told.add(function.name)
            if not says:
                silent.add((module.name, owner.name if owner is not None else None, function.name))
    return {f"{name}:{owner + '.' if owner else ''}{each}" for name, owner, each in silent if owner is None or each not in told}


def _public(tree: ast.Module) -> Iterator[tuple[ast.ClassDef | None, Function]]:
    owners = [None, *(node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))]
    for owner in owners:
        for node in owner.body if owner is not None else tree.body:
            if isinstance(node, Function) and not node.name.startswith("_"):
                yield owner, node


def _has_array(function: Function, aliases: set[str]) -> bool:
    arguments = function.args
    annotated = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    annotations = [argument.annotation for argument in annotated] + [function.returns]
    return any(annotation is not None and _names_array(annotation, aliases) for annotation in annotations)


def _names_array(annotation: ast.expr, aliases: set[str]) -> bool:
    return any(
        (isinstance(node, ast.Name) and node.id in aliases)
        or (isinstance(node, ast.Attribute) and node.attr in ("NDArray", "ndarray"))
        for node in ast.walk(annotation)
    )


def _array_aliases(all_modules: list[Module]) -> dict[str, set[str]]:
    """By module, the names that stand for array types: `Ints = npt.NDArray[np.int64]`, and imported ones."""
    aliases: dict[str, set[str]] = {module.name: set() for module in all_modules}
    grown = True
    while grown:
        before = sum(map(len, aliases.values()))
        for module in all_modules:
            for node in module.tree.body:
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
                    if _names_array(node.value, aliases[module.name]):
                        aliases[module.name] |= {name.id for name in node.targets if isinstance(name, ast.Name)}
                elif isinstance(node, ast.ImportFrom) and node.module in aliases:
                    aliases[module.name] |= {
                        alias.asname or alias.name for alias in node.names if alias.name in aliases[node.module]
                    }
        grown = sum(map(len, aliases.values())) > before
    return aliases
