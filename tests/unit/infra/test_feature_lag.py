"""`features list` and `features freshness`: every view that a sink writes, and every sink."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.cli import feature_lag
from infra.monitor import pipeline
from infra.settings import StackSettings
from schemas.features import ITEM, ONLINE_VIEWS, RECENT, USER
from schemas.topics import CONSUMPTIONS


def test_every_view_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    feature_lag.show(True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["view"] for row in rows} == {USER.name, ITEM.name, RECENT.name}
    assert len(rows) == sum(len(view.features) for view in ONLINE_VIEWS)


def test_every_sink_says_how_old_its_values_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    statuses = {f"{task}-1": {"task": task, "metrics_address": task} for task in ("user-sink", "recent-sink", "archive", "chat")}
    figures: dict[str, Any] = {"n": 3, "p50_s": 0.01, "p99_s": 0.05, "refused": 0, "impossible": 0}
    monkeypatch.setattr(feature_lag, "addresses", lambda settings: (None, None))
    monkeypatch.setattr(feature_lag, "last_statuses", lambda settings: statuses)
    monkeypatch.setattr(feature_lag, "lag", lambda address, group, topic: 4 if group == "recent-sink" else None)
    monkeypatch.setattr(feature_lag, "quantiles", lambda address: figures)
    feature_lag.freshness(StackSettings(), True)
    told = json.loads(capsys.readouterr().out)
    assert [sink["sink"] for sink in told["sinks"]] == ["recent-sink-1", "user-sink-1"]
    assert {"step": "recent-sink", "topic": "user-events-valid-v1", "lag_records": 4} in told["steps"]
    feature_lag.freshness(StackSettings(), False)
    shown = capsys.readouterr().out
    assert "recent-sink-1" in shown and "50 ms" in shown


def test_every_sink_of_a_view_has_its_store_in_the_pipeline() -> None:
    sources = {view.source.name for view in ONLINE_VIEWS}
    sinks = [one.group for one in CONSUMPTIONS if one.topic.name in sources and one.group.endswith("-sink")]
    assert len(sinks) == len(ONLINE_VIEWS) and set(sinks) <= pipeline.STORES.keys()
