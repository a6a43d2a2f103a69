"""Grafana's dashboard, generated from the metric catalogue with one panel per metric. `python -m infra.monitor.grafana` writes
it; with --check it only reports whether the file is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from infra.monitor.prometheus import FAMILIES
from streams.metrics import CATALOGUE, Kind, Metric

FILE = Path(__file__).with_name("grafana.json")
WIDTH, HEIGHT, ACROSS = 8, 7, 3
SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's schema version 39: rates of counters by task, values of gauges, p50, p95 and p99 of
    histograms."""
    panels = [_of_the_monitor(name, help_) for name, help_ in FAMILIES] + [_panel(metric) for metric in CATALOGUE.values()]
    for i, panel in enumerate(panels):
        panel |= {"id": i + 1, "gridPos": {"x": WIDTH * (i % ACROSS), "y": HEIGHT * (i // ACROSS), "w": WIDTH, "h": HEIGHT}}
    return {
        "title": "Millrace",
        "uid": "millrace",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }


def _panel(metric: Metric) -> dict[str, Any]:
    if metric.kind is Kind.HISTOGRAM:
        targets = [
            (
                f"histogram_quantile({share}, sum by (le, task) (rate({metric.exported}_bucket[1m])))",
                f"{{{{task}}}} p{100 * share:g}",
            )
            for share in (0.5, 0.95, 0.99)
        ]
        return _graph(metric.exported, metric.help, _unit(metric.exported), targets)
    by = ", ".join(("task", *metric.labels))
    legend = " ".join(f"{{{{{name}}}}}" for name in ("task", *metric.labels))
    if metric.kind is Kind.COUNTER:
        return _graph(metric.exported, metric.help, "cps", [(f"sum by ({by}) (rate({metric.exported}[1m]))", legend)])
    return _graph(metric.exported, metric.help, _unit(metric.exported), [(f"sum by ({by}) ({metric.exported})", legend)])


def _of_the_monitor(name: str, help_: str) -> dict[str, Any]:
    labels = "{{group}} {{topic}}" if "lag" in name else "{{group}}"
    return _graph(name, help_, _unit(name), [(name, labels)])


def _unit(name: str) -> str:
    return "s" if name.endswith("_seconds") else "bytes" if name.endswith("_bytes") else "short"


def _graph(title: str, help_: str, unit: str, targets: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "description": help_,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend, "datasource": SOURCE}
            for i, (expr, legend) in enumerate(targets)
        ],
    }


def main() -> int:
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
        return 0
    if FILE.exists() and FILE.read_text() == text:
        return 0
    print(f"{FILE.name} is not what the metric catalogue makes: `./millrace fix` writes it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
