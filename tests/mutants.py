"""Small faults in a module's source: a comparison flipped, a number off by one, a statement removed, a condition negated, arguments
swapped. Logging, annotations, docstrings and `strict=` of zip are left alone: no test has to see them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FLIPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_SKIPPED = ("annotation", "returns", "decorator_list", "type_params")


@dataclass(frozen=True)
class Mutant:
    """path: relative to the root. before, after: the statement or expression that is changed."""

    path: Path
    line: int
    kind: str
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.kind}:  {self.before}  ->  {self.after}"


@dataclass(frozen=True)
class _Change:
    """Of one field of a node. removed: the statement that is left out by it."""

    kind: str
    node: ast.AST
    name: str
    value: object
    removed: ast.stmt | None = None

    def make(self) -> tuple[int, str, str]:
        """Changes the tree; line, and what stood and stands there."""
        shown = self.removed or (self.node.test if isinstance(self.node, ast.If | ast.While) else self.node)
        line, before = getattr(shown, "lineno", 0), _short(shown)
        setattr(self.node, self.name, self.value)
        after = "pass" if self.removed else f"not ({before})" if shown is not self.node else _short(shown)
        return line, before, after


def mutants(root: Path, path: Path) -> list[Mutant]:
    """Every mutant of a module, in the order of its source; the same for the same source."""
    text = (root / path).read_text()
    made = []
    for index, site in enumerate(_sites(ast.parse(text))):
        for which in range(len(_changes(site))):
            tree = ast.parse(text)
            change = _changes(next(node for at, node in enumerate(_sites(tree)) if at == index))[which]
            line, before, after = change.make()
            made.append(Mutant(path, line, change.kind, before, after, ast.unparse(tree)))
    return made


def _short(node: ast.AST) -> str:
    first, _, rest = ast.unparse(node).partition("\n")
    return first[:100] + (" …" if rest or len(first) > 100 else "")


def _sites(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that may be changed, parents first."""
    if isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _logs(node.value)):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip: a net under the code
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name not in _SKIPPED:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _sites(child)


def _logs(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and any(part in ("_log", "log") for part in ast.unparse(value.func).split("."))


def _changes(node: ast.AST) -> list[_Change]:
    found: list[_Change] = []
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        found.append(_Change("comparison", node, "ops", [_FLIPS[type(node.ops[0])]()]))
    if isinstance(node, ast.BoolOp):
        found.append(_Change("and/or", node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And()))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        found.append(_Change("sign", node, "op", ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()))
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        found.append(_Change("value", node, "value", not node.value if isinstance(node.value, bool) else node.value + 1))
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        found.append(_Change("condition", node, "test", ast.UnaryOp(ast.Not(), node.test)))
    if isinstance(node, ast.Call) and len(node.args) > 1 and not any(isinstance(each, ast.Starred) for each in node.args[:2]):
        found.append(_Change("arguments", node, "args", [node.args[1], node.args[0], *node.args[2:]]))
    for name, block in ast.iter_fields(node):
        for at, statement in enumerate(block if isinstance(block, list) else ()):
            if isinstance(statement, ast.stmt) and _removable(node, statement):
                found.append(_Change("statement", node, name, [*block[:at], ast.Pass(), *block[at + 1 :]], statement))
    return found


def _removable(parent: ast.AST, statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call) and not _logs(statement.value)
    if isinstance(statement, ast.Assign):  # what a constructor sets is missed at once
        inner = isinstance(statement.targets[0], ast.Attribute | ast.Subscript)
        return inner and not (isinstance(parent, ast.FunctionDef) and parent.name == "__init__")
    return isinstance(statement, ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete)
