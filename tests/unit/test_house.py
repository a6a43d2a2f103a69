"""How long modules and functions are, where they lie, what they import and whether they say the shapes of their arrays.

No bound has an exception. `pytest -rP` prints the measures."""

from __future__ import annotations

from collections import Counter
from statistics import median

import pytest

from infra.settings import ROOT
from tests.support import house

MODULE_MEDIAN, MODULE_P90, MODULE_MAX = 90, 200, 400
FUNCTION_MEDIAN, FUNCTION_P90, FUNCTION_MAX = 7, 20, 60
FOLDER_MAX = 20  # modules, without __init__
SHARED_NAMES = {"__init__", "__main__", "settings", "cli"}

# Tables that are read by columns, and three long test modules. Elsewhere the formatter owns the layout.
UNFORMATTED = {
    "schemas/topics.py",
    "training_triggers/trainers/moderation_image_drawings.py",
    "tests/benchmarks/monitor.py",
    "tests/support/hostile.py",
    "tests/unit/infra/test_monitor.py",
    "tests/unit/training_triggers/test_rollout.py",
    "tests/unit/training_triggers/test_runs.py",
}

MODULES = house.modules()
FUNCTIONS = [pair for module in MODULES for pair in module.functions()]


def spread(what: str, lengths: list[int]) -> tuple[float, int, int]:
    """Median, 90th percentile and maximum."""
    ordered = sorted(lengths)
    found = (median(ordered), ordered[int(len(ordered) * 0.9)], ordered[-1])
    print(f"{len(ordered)} {what}: median {found[0]:g}, p90 {found[1]}, max {found[2]} lines")
    return found


def test_the_formatter_owns_the_layout_but_for_tables() -> None:
    mark = "# fmt: " + "skip"
    files = (file for package in (*house.PACKAGES, "tests") for file in (ROOT / package).rglob("*.py"))
    assert {str(file.relative_to(ROOT)) for file in files if mark in file.read_text()} == UNFORMATTED


def test_modules_are_short() -> None:
    middle, p90, _ = spread("modules", [module.lines for module in MODULES])
    print(*sorted(((module.lines, module.name) for module in MODULES), reverse=True)[:10], sep="\n")
    assert middle <= MODULE_MEDIAN
    assert p90 <= MODULE_P90
    assert [module.name for module in MODULES if module.lines > MODULE_MAX] == []


def test_functions_are_short() -> None:
    middle, p90, _ = spread("functions", [lines for _, lines in FUNCTIONS])
    print(*sorted(((lines, name) for name, lines in FUNCTIONS), reverse=True)[:10], sep="\n")
    assert middle <= FUNCTION_MEDIAN
    assert p90 <= FUNCTION_P90
    assert [name for name, lines in FUNCTIONS if lines > FUNCTION_MAX] == []


def test_a_folder_is_read_at_a_glance() -> None:
    sizes = Counter(module.folder for module in MODULES if module.path.stem != "__init__")
    print(*sizes.most_common(5), sep="\n")
    assert [folder for folder, size in sizes.items() if size > FOLDER_MAX] == []


def test_a_module_name_is_used_once() -> None:
    folders: dict[str, list[str]] = {}
    for module in MODULES:
        folders.setdefault(module.path.stem, []).append(module.folder)
    assert {name: places for name, places in folders.items() if len(places) > 1 and name not in SHARED_NAMES} == {}


def test_modules_do_not_import_each_other_in_circles() -> None:
    assert house.circle(house.imports(MODULES)) == []


def test_public_functions_say_the_shape_or_dtype_of_their_arrays() -> None:
    assert house.silent_about_arrays(MODULES) == set(), "say shape or dtype in the docstring"


@pytest.mark.parametrize(
    ("graph", "group"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, set()),
        ({"a": {"b"}, "b": {"a"}, "c": {"a"}}, {"a", "b"}),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, {"a", "b", "c"}),
        ({"a": set(), "d": {"e"}, "e": {"d", "a"}}, {"d", "e"}),
    ],
)
def test_circles_of_imports(graph: dict[str, set[str]], group: set[str]) -> None:
    assert set(house.circle(graph)) == group
