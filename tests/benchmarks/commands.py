"""Command lines of the programs in `runners.py`."""

from __future__ import annotations

import sys

EXACTLY_ONCE = "exactly-once"


def runner(
    which: str,
    bootstrap: str = "",
    registry: str = "",
    group: str = "",
    *,
    count: int = 0,
    heavy: int = 0,
    delivery: str = EXACTLY_ONCE,
    slot: int = 0,
    python: str = sys.executable,
) -> list[str]:
    """which: of `runners.main`; `raw` needs no servers. count: requests until it ends; 0, it runs until it is stopped. heavy: middle
    layers of the network. slot: of a worker among those of its group."""
    words = [which, bootstrap, registry, group, str(count), str(heavy), delivery, str(slot)]
    return [python, "-m", "tests.benchmarks.runners", *words]
