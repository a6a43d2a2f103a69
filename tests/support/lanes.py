"""`./millrace test` runs two lanes side by side (pytest-xdist, `--dist loadgroup`): two cores are idle half of the time otherwise.

In the first lane are the tests that compute for minutes, so that no two of them meet. The other lane takes the rest, a module at
a time, and both share what is left in the end. Each lane has its own servers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.settings import ROOT

COMPUTES = (
    "tests/integration/test_retraining.py",
    "tests/integration/flink/",
    "tests/training/",
    "tests/integration/test_hostile_topics.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the first lane come first, in the order of COMPUTES."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT).as_posix()
        return next((number for number, start in enumerate(COMPUTES) if path.startswith(start)), len(COMPUTES))

    items.sort(key=place)
    for item in items:
        lane = "computes" if place(item) < len(COMPUTES) else Path(item.path).stem
        item.add_marker(pytest.mark.xdist_group(lane))
