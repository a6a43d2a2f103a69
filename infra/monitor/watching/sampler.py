"""One sample: the broker's offsets, the loops' own figures, Flink's jobs and the GPUs, with an hour of history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.metrics_page import Gpu
from infra.monitor.watching.asking import Asking
from infra.monitor.watching.broker_offsets import BrokerOffsets
from infra.monitor.watching.figures_history import EVERY_S, History
from infra.monitor.watching.loop_figures import LoopFigures, Loops
from infra.monitor.watching.servers import Job
from infra.monitor.watching.story import Mark, Story
from infra.settings import StackSettings
from streams.clock import Clock
from streams.kafka.config import KafkaAddress

JOBS_EVERY = 3  # in samples


class Sampler:
    """Call `sample` from one thread; its results may be read from any."""

    def __init__(self, settings: StackSettings, address: KafkaAddress, clock: Clock, story: Story) -> None:
        self._clock, self._story = clock, story
        self._asking, self._loops = Asking(settings), Loops()
        self._at_s, self._samples = float("-inf"), 0
        self.offsets, self.history = BrokerOffsets(address, clock), History()
        self.values: Mapping[str, float] = {}  # of the last sample, by series name
        self.jobs: list[Job] = []
        self.gpus: list[Gpu] = []

    def is_due(self) -> bool:
        return self._clock.monotonic_s() - self._at_s >= EVERY_S

    def sample(self) -> None:
        """Raises BrokerUnavailable."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        if self._samples % JOBS_EVERY == 0:
            self.jobs, self.gpus = self._asking.jobs_and_gpus()
        offsets = self.offsets.sample(now_ms, now_s - self._at_s)
        self._look_at_loops(now_s, now_ms)
        values = offsets | self._loops.series() | self._of_gpus()
        self.history.append(now_ms, values)
        self.values = values
        self._at_s, self._samples = now_s, self._samples + 1

    def figures(self, loop: str) -> LoopFigures:
        return self._loops.figures(loop)

    def value(self, series: str) -> float:
        """The value in the last sample; 0 if unknown."""
        return self.values.get(series, 0.0)

    def close(self) -> None:
        self._asking.close()

    def _look_at_loops(self, now_s: float, now_ms: int) -> None:
        running: Mapping[str, Any] = self._story.running(now_ms)
        self._loops.forget_all_but(self._story.statuses().keys())
        pages = self._asking.pages({status["metrics_address"] for status in running.values()})
        for name, status in running.items():
            if self._loops.look(name, status, pages.get(status["metrics_address"]), now_s):
                self._story.mark(Mark(now_ms, "rebalance", name, "the group gave out its partitions anew"))

    def _of_gpus(self) -> dict[str, float]:
        busy = {f"gpu/{gpu.index}/busy_share": gpu.busy_share for gpu in self.gpus}
        return busy | {f"gpu/{gpu.index}/memory_bytes": float(gpu.memory_bytes) for gpu in self.gpus}
