"""Workers by slot, and the faults that they suffer while requests flow: the loop that `storm` and `scale` share."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from tests.chaos.stage import Stage, Worker

Harm = Literal["killed", "stopped", "frozen"]


class Crowd:
    """Random draws come from `seed`; the faults are counted in `happened`."""

    def __init__(self, stage: Stage, seed: int, **settings: str) -> None:
        self.stage, self.chance, self.happened = stage, random.Random(seed), Counter[str]()
        self.workers: dict[int, Worker] = {}
        self._settings, self._frozen = settings, dict[int, float]()

    def start(self, slot: int) -> Worker:
        self._frozen.pop(slot, None)
        self.workers[slot] = self.stage.worker(slot, **self._settings)
        return self.workers[slot]

    def harm(self, slot: int, harm: Harm, longest_freeze_s: float) -> None:
        number = {"killed": signal.SIGKILL, "stopped": signal.SIGTERM, "frozen": signal.SIGSTOP}[harm]
        self.workers[slot].signal(number)
        self.happened[harm] += 1
        if harm == "frozen":
            self._frozen[slot] = time.perf_counter() + self.chance.uniform(0.5, longest_freeze_s)

    def dead(self) -> list[int]:
        """Slots whose process has ended."""
        return [slot for slot, worker in self.workers.items() if worker.process.poll() is not None]

    def live(self, seconds: float, most_texts: int, pauses_s: tuple[float, float], happen: Callable[[], None]) -> None:
        """Repeats: send up to most_texts requests, resume frozen workers whose time is over, call `happen`, pause. At the end
        all frozen workers resume."""
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            self.stage.text(*[f"text {self.stage.sent + i}" for i in range(self.chance.randint(1, most_texts))])
            for slot in [slot for slot, until_s in self._frozen.items() if until_s < time.perf_counter()]:
                self._thaw(slot)
            happen()
            time.sleep(self.chance.uniform(*pauses_s))
        for slot in self.workers:
            self._thaw(slot)

    def _thaw(self, slot: int) -> None:
        self._frozen.pop(slot, None)
        if slot in self.workers:
            self.workers[slot].signal(signal.SIGCONT)
