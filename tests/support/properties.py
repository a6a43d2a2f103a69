"""Checks that property tests are not vacuous: each assertion runs for at least one input; in a test without assertions, each
statement does.

Without this check a property test passes even if its condition, `assume` or filter lets no input through."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

_EXITS = (ast.Return, ast.Continue, ast.Break, ast.Pass, ast.Raise)  # leaving early is for inputs that may be rare
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Vacuous(AssertionError):
    pass


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    inner = getattr(getattr(getattr(item, "obj", None), "hypothesis", None), "inner_test", None)
    if inner is None:
        yield
        return
    with assertions_run(inner):
        yield


@contextmanager
def assertions_run(inner: Callable[..., Any]) -> Iterator[None]:
    """inner: the function under `given`. Raises Vacuous, after all inputs ran without an error, with the first assertion that
    never ran.

    Tracing ends as soon as each statement ran. If a debugger or a coverage tool traces already, it is not disturbed."""
    code = inspect.unwrap(inner).__code__
    left = _statements(code)
    if sys.gettrace() is not None:
        yield
        return

    def on_call(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        return on_line if frame.f_code is code else None

    def on_line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        left.difference_update([span for span in left if frame.f_lineno in span])
        if not left:
            sys.settrace(None)
        return on_line

    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(None)
    if left:
        line = min(span.start for span in left)
        words = Path(code.co_filename).read_text().splitlines()[line - 1].strip()
        raise Vacuous(f"{Path(code.co_filename).name}:{line} never ran, whatever the input: {words}")


def _statements(code: CodeType) -> set[range]:
    """Lines of each assertion of a function; if it has none, of each simple statement."""
    nodes = ast.walk(ast.parse(Path(code.co_filename).read_text()))
    (function,) = [node for node in nodes if isinstance(node, ast.FunctionDef) and _first_line(node) == code.co_firstlineno]
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    simple = [each for statement in body for each in _simple(statement)]
    assertions: list[ast.stmt] = [each for each in simple if isinstance(each, ast.Assert)]
    wanted = assertions or [each for each in simple if not isinstance(each, _EXITS)]
    return {range(each.lineno, (each.end_lineno or each.lineno) + 1) for each in wanted}


def _first_line(function: ast.FunctionDef) -> int:
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


def _simple(node: ast.AST) -> Iterator[ast.stmt]:
    """Statements without inner statements; the statements of nested functions do not count."""
    inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)]
    if isinstance(node, _SCOPES) or not inner:
        if isinstance(node, ast.stmt):
            yield node
        return
    for child in inner:
        yield from _simple(child)
