"""The engine's figures as metrics of the worker."""

from __future__ import annotations

from inference_workers.chat.engine import EngineFigures
from inference_workers.chat_service.chat_answer import Answer
from streams.clock import Clock
from streams.metrics import Metrics

EVERY_S = 0.5
COUNTS = {
    "chat_tokens": "tokens",
    "chat_prompt_tokens": "prompt_tokens",
    "chat_prefix_hit_tokens": "prefix_hit_tokens",
    "chat_preemptions": "preemptions",
}


class Figures:
    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._counted = dict.fromkeys(COUNTS, 0)
        self._set_s = float("-inf")

    def tick(self, figures: EngineFigures) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._set_s < EVERY_S:
            return
        self._set_s = now_s
        self._metrics.set("chat_running", figures.running)
        self._metrics.set("chat_waiting", figures.waiting)
        self._metrics.set("chat_kv_tokens", figures.kv_tokens)
        self._metrics.set("chat_kv_cached_tokens", figures.kv_cached_tokens)
        self._metrics.set("chat_kv_limit_tokens", figures.kv_limit)
        for name, field in COUNTS.items():
            total = int(getattr(figures, field))
            self._metrics.add(name, total - self._counted[name])
            self._counted[name] = total

    def begin_again(self) -> None:
        """Another engine counts from 0."""
        self._counted = dict.fromkeys(COUNTS, 0)

    def made(self, answer: Answer, now_ms: int) -> None:
        """Called before tokens of an answer are written: its first ones count for the time to the first token."""
        if not answer.first_ms:
            self._metrics.observe("chat_first_token_seconds", max(0, now_ms - answer.rows.timestamps_ms[0]) / 1000)
