"""Micro-batches: closed by count, cost, age, or the earliest deadline of a member. Pure; time is passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streams.rows import Rows

SAMPLE_ROWS = 8


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """max_wait_ms: 0 never waits for more rows; a batch then contains the rows that arrived while the last one was computed.
    in_order: rows keep the order in which they were read, whatever priority their headers claim."""

    max_rows: int = 64
    max_cost: float = 8 * 1024 * 1024
    max_wait_ms: float = 0.0
    in_order: bool = False


class CostLine:
    """ms = a + b * cost, fitted to timed batches by least squares, in which older batches count less.

    Uses the recursive form with a forgetting factor (Ljung, System Identification, ch. 11), so that it adapts to a slower or
    busier machine within about fifty batches.
    """

    FORGET = 0.95

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, cost: float, ms: float) -> None:
        keep = self.FORGET
        self._n = self._n * keep + 1
        self._x = self._x * keep + cost
        self._y = self._y * keep + ms
        self._xx = self._xx * keep + cost * cost
        self._xy = self._xy * keep + cost * ms

    @property
    def knows(self) -> bool:
        """Whether a batch has been timed."""
        return self._n > 0

    def predict_ms(self, cost: float) -> float:
        """0 before the first observation; never negative."""
        if self._n == 0:
            return 0.0
        spread = self._n * self._xx - self._x * self._x
        if spread <= 1e-9 * self._n * self._xx:  # all batches have equal cost: use a line through the origin and their mean
            return self._y / self._x * cost if self._x else self._y / self._n
        slope = max(0.0, (self._n * self._xy - self._x * self._y) / spread)
        return max(0.0, (self._y - slope * self._x) / self._n + slope * cost)


class Batcher:
    """Rows that wait, by priority, oldest first. A row costs its size. The loop's look-ahead limits their number."""

    def __init__(self, limits: BatchLimits, line: CostLine) -> None:
        self._limits = limits
        self._line = line
        self._waiting: dict[int, deque[tuple[float, Rows]]] = {}  # by priority: (time of arrival, rows)
        self._n = 0
        self._earliest_deadline_ms = 0

    def __len__(self) -> int:
        return self._n

    def clear(self) -> None:
        self._waiting.clear()
        self._n = 0
        self._earliest_deadline_ms = 0

    def add(self, rows: Rows, now_s: float) -> None:
        if not len(rows):
            return
        self._n += len(rows)
        deadline_ms = min((deadline for deadline in rows.deadlines_ms if deadline), default=0)
        if deadline_ms and (not self._earliest_deadline_ms or deadline_ms < self._earliest_deadline_ms):
            self._earliest_deadline_ms = deadline_ms
        first = 0 if self._limits.in_order else rows.priorities[0]
        if self._limits.in_order or rows.priorities.count(first) == len(rows):
            self._waiting.setdefault(first, deque()).append((now_s, rows))
            return
        for priority in set(rows.priorities):
            chosen = rows.take([i for i, p in enumerate(rows.priorities) if p == priority])
            self._waiting.setdefault(priority, deque()).append((now_s, chosen))

    def sample(self, now_s: float) -> Rows | None:
        """Remove and return a few rows spread over all waiting rows, including the oldest and the newest; None if no row
        waits."""
        waiting = [rows for priority in sorted(self._waiting, reverse=True) for _, rows in self._waiting[priority]]
        if not waiting:
            return None
        everything = Rows.empty(waiting[0].epoch)
        for rows in waiting:
            everything.extend(rows)
        last = len(everything) - 1
        chosen = {round(last * i / (SAMPLE_ROWS - 1)) for i in range(SAMPLE_ROWS)}
        self.clear()
        self.add(everything.without(chosen), now_s)
        return everything.take(sorted(chosen))

    def due_in_s(self, now_s: float, now_ms: int) -> float | None:
        """Seconds until a batch must close even if it is not full; 0 if it must close now, None if no row waits."""
        if not self._n:
            return None
        if self._n >= self._limits.max_rows:
            return 0.0
        oldest_s = min(queue[0][0] for queue in self._waiting.values() if queue)
        by_age_s = oldest_s + self._limits.max_wait_ms / 1000 - now_s
        if self._earliest_deadline_ms:
            spare_ms = self._earliest_deadline_ms - now_ms - self._line.predict_ms(self._waiting_cost())
            by_age_s = min(by_age_s, spare_ms / 1000)
        return max(0.0, by_age_s)

    def close(self, now_s: float, now_ms: int) -> Rows | None:
        """The next batch, if one must close now, with rows of the highest priority first, and among those the oldest first."""
        due_in_s = self.due_in_s(now_s, now_ms)
        if due_in_s is None or (due_in_s > 0 and self._waiting_cost() < self._limits.max_cost):
            return None
        parts: list[Rows] = []
        n, cost = 0, 0.0
        for priority in sorted(self._waiting, reverse=True):
            queue = self._waiting[priority]
            while queue:
                came_s, rows = queue[0]
                taken, cost = self._fit(rows, n, cost)
                n += taken
                if taken == len(rows):
                    parts.append(rows)
                    queue.popleft()
                    continue
                if taken:
                    parts.append(rows.slice(0, taken))
                    queue[0] = (came_s, rows.slice(taken, len(rows)))
                return self._closed(parts, n)
            del self._waiting[priority]
        return self._closed(parts, n)

    def _fit(self, rows: Rows, n: int, cost: float) -> tuple[int, float]:
        """How many of the rows still fit into a batch of n rows, and its cost with them. A single row always fits."""
        costs = rows.sizes[: self._limits.max_rows - n]
        if (whole := cost + sum(costs)) <= self._limits.max_cost:
            return len(costs), whole
        taken = 0
        for more in costs:
            if cost + more > self._limits.max_cost and n + taken > 0:
                break
            cost += more
            taken += 1
        return taken, cost

    def _closed(self, parts: list[Rows], n: int) -> Rows:
        self._n -= n
        if self._earliest_deadline_ms:
            left = (d for queue in self._waiting.values() for _, rows in queue for d in rows.deadlines_ms if d)
            self._earliest_deadline_ms = min(left, default=0)
        if len(parts) == 1:
            return parts[0]
        batch = Rows.empty(parts[0].epoch)
        for part in parts:
            batch.extend(part)
        return batch

    def _waiting_cost(self) -> float:
        return float(sum(rows.bytes() for queue in self._waiting.values() for _, rows in queue))
