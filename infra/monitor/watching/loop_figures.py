"""The figures that each loop reports on its metrics page: rates, durations of the last seconds, batch sizes, and the use of
its process."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra import metrics_page
from infra.monitor.watching.figures_history import EVERY_S

WINDOW = 5  # number of samples for quantiles
SHAPE = 30  # number of samples for the histogram of batch sizes
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
COUNTED = ("records_in", "records_out", "batches", "dead_letters")
TIMED = {
    "queue_seconds": "queue",
    "step_seconds": "compute",
    "commit_seconds": "commit",
    "chat_first_token_seconds": "chat_first_token",
}
CHAT_COUNTED = ("chat_tokens", "chat_prompt_tokens", "chat_prefix_hit_tokens")  # of the chat worker alone
CHAT_GAUGES = ("chat_running", "chat_waiting", "chat_kv_tokens", "chat_kv_limit_tokens")


@dataclass
class LoopFigures:
    """Figures of one loop. pages: the last pages with their times, oldest first. now: figures by name. batch_rows: number of
    batches by the upper edge of their rows."""

    pages: deque[tuple[float, metrics_page.Page]] = field(default_factory=lambda: deque(maxlen=SHAPE + 1))
    pid: int = 0
    now: dict[str, float] = field(default_factory=dict)
    batch_rows: list[tuple[float, float]] = field(default_factory=list)

    def look(self, page: metrics_page.Page, pid: int, now_s: float) -> bool:
        """Take a page; returns whether the group reassigned its partitions since the previous one."""
        if self.pid != pid:
            self.pages.clear()
            self.pid = pid
        rebalanced = bool(self.pages) and page.numbers.get("rebalances", 0) > self.pages[-1][1].numbers.get("rebalances", 0)
        self.pages.append((now_s, page))
        then_s, before = self.pages[-2] if len(self.pages) > 1 else (now_s - EVERY_S, page)
        rates = metrics_page.rates(before, page, now_s - then_s)
        old = self.pages[max(0, len(self.pages) - 1 - WINDOW)][1]
        self.now = {f"{counter}_per_s": rates.get(counter, 0.0) for counter in COUNTED} | _times(old, page)
        self.now |= {f"{counter}_per_s": rates[counter] for counter in CHAT_COUNTED if counter in rates}
        self.now |= {gauge: page.numbers[gauge] for gauge in CHAT_GAUGES if gauge in page.numbers}
        self.batch_rows = metrics_page.between(self.pages[0][1], page, "batch_size")
        return rebalanced


def _times(old: metrics_page.Page, page: metrics_page.Page) -> dict[str, float]:
    found = {}
    for metric, word in TIMED.items():
        counts = metrics_page.between(old, page, metric)
        for label, share in QUANTILES:
            value = metrics_page.quantile(counts, share)
            if value is not None:
                found[f"{word}_{label}_ms"] = 1000 * value
    return found


class Loops:
    """Call from one thread; `figures` may be read from any."""

    def __init__(self) -> None:
        self._loops: dict[str, LoopFigures] = {}
        self._uses = metrics_page.Uses()

    def forget_all_but(self, names: Collection[str]) -> None:
        self._loops = {name: figures for name, figures in self._loops.items() if name in names}

    def look(self, name: str, status: Mapping[str, Any], page: metrics_page.Page | None, now_s: float) -> bool:
        """Take the page of a running loop, None if it did not answer. Returns whether its group reassigned its partitions."""
        figures = self._loops.setdefault(name, LoopFigures())
        if page is None:
            return False
        rebalanced = figures.look(page, status["pid"], now_s)
        figures.now |= {"busy_share": status["busy_share"] or 0.0, "in_flight": status["in_flight"]}
        figures.now |= self._uses.of(status["pid"])
        return rebalanced

    def figures(self, name: str) -> LoopFigures:
        """Empty figures for a loop that was not observed."""
        return self._loops.get(name, LoopFigures())

    def series(self) -> dict[str, float]:
        """By series name."""
        return {f"loop/{name}/{key}": value for name, figures in self._loops.items() for key, value in figures.now.items()}
