"""What the monitor reads on a loop's metrics page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from infra import metrics_page
from infra.monitor.watching.loop_figures import LoopFigures
from streams.metrics import Metrics


def page(metrics: Metrics) -> metrics_page.Page:
    registry = CollectorRegistry()
    registry.register(metrics)
    return metrics_page.parse(generate_latest(registry).decode())


def test_a_chat_worker_has_the_figures_of_its_engine() -> None:
    metrics, figures = Metrics(worker="w", task="chat"), LoopFigures()
    metrics.add("chat_tokens", 10)
    metrics.set("chat_running", 3)
    figures.look(page(metrics), 1, 0.0)
    metrics.add("chat_tokens", 40)
    metrics.observe("chat_first_token_seconds", 0.2)
    figures.look(page(metrics), 1, 2.0)
    assert (figures.now["chat_running"], figures.now["chat_tokens_per_s"]) == (3, 20)
    assert 100 <= figures.now["chat_first_token_p50_ms"] <= 250
    plain = LoopFigures()
    plain.look(page(Metrics(worker="w", task="t")), 1, 0.0)
    assert not [name for name in plain.now if name.startswith("chat")]
