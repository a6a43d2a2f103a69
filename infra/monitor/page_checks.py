"""The checks of the monitor's pages: `python -m infra.monitor.page_checks format|types|tests`; `fix` formats the sources and
corrects lint."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import web
from infra.settings import StackSettings
from streams.process.settings import load

BIOME = "node_modules/@biomejs/biome/bin/biome"
CHECKS: dict[str, tuple[str, ...]] = {
    "format": (BIOME, "check", "--error-on-warnings"),
    "types": ("node_modules/typescript/bin/tsc", "--noEmit"),
    "tests": ("node_modules/vitest/vitest.mjs", "run", "--reporter=verbose"),
}


@contextmanager
def packages() -> Iterator[Path]:
    """A copy of the sources with all packages, including those of the checks. One at a time uses it; the next waits. Raises
    PagesNotBuilt if Node is missing or npm fails."""
    work = load(StackSettings, os.environ).home_folder.resolve() / "monitor" / "tests"
    work.mkdir(parents=True, exist_ok=True)
    with (work.parent / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        web.packages(work, with_tests=True)
        yield work


def run(check: str) -> str:
    """The output of the check. Raises PagesNotBuilt with that output if it fails."""
    with packages() as work:
        return web.run(work, *CHECKS[check])


def fix() -> None:
    """Raises PagesNotBuilt."""
    with packages() as work:
        web.run(web.SOURCE, str(work / BIOME), "check", "--write")


def main() -> int:
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    if what not in (*CHECKS, "fix"):
        print(f"what must be one of {', '.join(CHECKS)}, fix", file=sys.stderr)
        return 2
    try:
        if what == "fix":
            fix()
        else:
            run(what)
    except web.PagesNotBuilt as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
