"""One of the two lanes in which `./millrace test` runs all tests: `python -m tests.support.lanes NAME FOLDER …`.

Each lane is a pytest with servers of its own, and both know all tests. The heavy lane alone takes the stories, which keep both cores
busy, one after the other, so two of them never meet. Everything else is taken a file at a time, by the light lane from its
beginning and by the heavy lane once its stories are done: so both end at about the same time.

A file is taken by creating its name in FOLDER. Standard error gets a line for each file that is done, standard output pytest's
report. Further arguments go to pytest. A lane whose threads do not end is ended by force, and fails.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

HEAVY = "heavy"
# What computes all the time. The first two leave a part of the machine to the first tests of LONG; the others keep both cores busy.
# A folder stays in one piece, as its tests share a stack.
STORIES = (
    "tests/integration/test_recipes.py",
    "tests/integration/test_monitor_pages.py",
    "tests/integration/test_retraining.py",
    "tests/integration/flink",
    "tests/training",
    "tests/integration/test_hostile_topics.py",
)
# Of the rest, what takes longest: it comes first, because a long file that begins last is waited for. The first four kill and
# freeze processes within limits of time.
LONG = (
    "tests/chaos",
    "tests/integration/test_exactly_once.py",
    "tests/integration/test_membership.py",
    "tests/integration/test_chat.py",
    "tests/integration/test_model_registry.py",
    "tests/integration/test_monitor.py",
    "tests/integration/test_views.py",
)
ORDER = STORIES + LONG
_QUIET = ("-q", "--no-header", "-p", "no:cacheprovider")
TEST_LIMIT_S = 1_200.0  # more than pytest's own limits, which a native library that holds Python's lock does not let through
LEAVE_LIMIT_S = float(os.environ.get("LANE_LEAVE_LIMIT_S", "60"))  # how long this process may take to end after its last test


def part_of(path: str) -> str:
    """What is taken together with a test file: the folder or file of ORDER, or the file alone."""
    return next((part for part in ORDER if path == part or path.startswith(part + "/")), path)


def ordered(parts: list[str]) -> list[str]:
    places = {part: place for place, part in enumerate(ORDER)}
    return sorted(parts, key=lambda part: places.get(part, len(ORDER)))


class Lane:
    """A plugin. told: the descriptor of a file that gets a line for each part that is done and for each failure, as it happens, and
    the stacks of all threads if a test hangs."""

    def __init__(self, name: str, folder: Path, told: int) -> None:
        self._name, self._folder, self._told = name, folder, told
        self._parent = os.getppid()
        self._counts: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """As pytest's own loop, over the parts that this lane takes."""
        if session.testsfailed:
            raise session.Interrupted(f"{session.testsfailed} errors during collection")
        for part, items in self._taken(session):
            begun = time.monotonic()
            if part in ORDER:
                self._tell(f"{self._name}  {part} …")
            # After its last test a part leaves the fixtures of the session, and no other: which part is next is not known yet.
            for item, following in pairwise([*items, session]):
                faulthandler.dump_traceback_later(TEST_LIMIT_S, exit=True, file=self._told)
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if os.getppid() != self._parent:
                    session.shouldstop = "the command that started this lane is gone"
                if session.shouldfail:  # by -x or --maxfail
                    raise session.Failed(session.shouldfail)
                if session.shouldstop:
                    raise session.Interrupted(session.shouldstop)
            self._done(part, time.monotonic() - begun)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._tell(f"{self._name}  FAILED {report.nodeid}")
        if report.when == "call" or not report.passed:
            self._counts[report.outcome] += 1

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No letters: a line says what became of a file."""
        if hasattr(report, "wasxfail") or (report.failed and report.when != "call"):
            return None
        return (report.outcome, "", report.outcome.upper()) if report.when == "call" or report.skipped else ("", "", "")

    def _taken(self, session: pytest.Session) -> Iterator[tuple[str, list[pytest.Item]]]:
        parts: dict[str, list[pytest.Item]] = {}
        for item in session.items:
            parts.setdefault(part_of(item.path.relative_to(session.config.rootpath).as_posix()), []).append(item)
        for part in ordered(list(parts)):
            if (part not in STORIES or self._name == HEAVY) and self._take(part):
                yield part, parts[part]

    def _take(self, part: str) -> bool:
        with suppress(FileExistsError):
            (self._folder / part.replace("/", "+")).touch(exist_ok=False)
            return True
        return False

    def _tell(self, line: str) -> None:
        os.write(self._told, f"{line}\n".encode())

    def _done(self, part: str, seconds: float) -> None:
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._counts.items()))
        self._counts.clear()
        self._tell(f"{self._name}  {part:<58} {words:<32}{seconds:6.1f} s")


def main() -> int:
    name, folder, *more = sys.argv[1:]
    told = os.dup(sys.stderr.fileno())  # pytest captures the other
    code = pytest.main([*_QUIET, *more], plugins=[Lane(name, Path(folder), told)])
    # A thread that a test left behind would be waited for without end: then its stack is printed, and the exit code is 1.
    faulthandler.dump_traceback_later(LEAVE_LIMIT_S, exit=True, file=told)
    return code


if __name__ == "__main__":
    sys.exit(main())
