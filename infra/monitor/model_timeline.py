"""Models on the time axis: who was live when, why, beside whom; drift and training runs as the topics tell them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.monitor.plain import plain
from infra.monitor.watching.story import Story
from infra.settings import ROOT
from schemas.signals import EMBEDDING, kind_of, together
from schemas.topics import DRIFT_EVENTS, MODEL_UPDATES, SWAP_ACKS, TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import Arm

Floats = npt.NDArray[Any]
BINS = 24
FAR = "spreads from the baseline's middle"
SHIPPED = ROOT / "inference_workers" / "shipped"


def known() -> list[dict[str, str]]:
    """Models that are shipped, with the version of each."""
    found = []
    for config in sorted(SHIPPED.glob("*/config.json")):
        about = json.loads(config.read_text())
        found.append({"name": config.parent.name, "version": str(about.get("version", "1"))})
    return found


def stories(story: Story) -> list[dict[str, Any]]:
    """By model: `spans` of who was live, oldest first, the last one open; what was announced and what workers answered to it."""
    updates, acks = story.of(MODEL_UPDATES.name), story.of(SWAP_ACKS.name)
    shipped = {one["name"]: one["version"] for one in known()}
    reports = [event for event in story.of(TRAINING_EVENTS.name) if "report" in event["facts"]]
    versions: dict[str, set[str]] = {}
    for status in story.statuses.values():
        for model, version in status["versions"].items():
            versions.setdefault(model, set()).add(version)
    found = []
    for name in sorted({*shipped, *(one["model"] for one in updates), *versions}):
        mine = [one for one in updates if one["model"] == name]
        found.append({
            "name": name, "live": mine[-1]["version"] if mine else shipped.get(name, ""), "challengers": mine[-1]["challengers"] if mine else [],
            "answering": sorted(versions.get(name, ())), "spans": _spans(mine, shipped.get(name, "?")),
            "updates": mine[::-1], "acks": [one for one in acks if one["model"] == name][::-1][:200],
            "reports": [_report(event) for event in reports if event["model"] == name][::-1],
        })  # fmt: skip
    said: list[dict[str, Any]] = plain(found)
    return said


def _spans(updates: list[dict[str, Any]], shipped: str) -> list[dict[str, Any]]:
    """arm: live, canary or shadow. The shipped version's span has no beginning."""
    spans: list[dict[str, Any]] = []

    def turn(arm: str, version: str | None, at_ms: int, words: str, actor: str, share: float) -> None:
        last = next((span for span in reversed(spans) if span["arm"] == arm and span["to_ms"] is None), None)
        if last is not None and last["version"] == version and last["share"] == share:
            return
        if last is not None:
            last["to_ms"] = at_ms
        if version is not None:
            spans.append(
                {"arm": arm, "version": version, "from_ms": at_ms, "to_ms": None, "words": words, "actor": actor, "share": share}
            )

    turn(Arm.LIVE, shipped, 0, "shipped", "", 1.0)
    for one in updates:
        turn(Arm.LIVE, one["version"], one["decided_ms"], one["reason"], one["actor"], 1.0)
        beside = {challenger["arm"]: challenger for challenger in one["challengers"]}
        for arm in (Arm.CANARY, Arm.SHADOW):
            found = beside.get(arm)
            version, share = (found["version"], found["share"]) if found else (None, 0.0)
            turn(arm, version, one["decided_ms"], one["reason"], one["actor"], share)
    return spans


def _report(event: dict[str, Any]) -> dict[str, Any]:
    try:
        report = json.loads(event["facts"]["report"])
    except (ValueError, RecursionError):
        report = {}
    return {
        "run_key": event["run_key"],
        "at_ms": event["at_ms"],
        "kind": event["kind"],
        "words": event["words"],
        "report": report if isinstance(report, dict) else {},
    }


def runs(story: Story) -> list[dict[str, Any]]:
    """Of each run: what was asked for, its events without those passed over, and how it stands."""
    events: dict[str, list[dict[str, Any]]] = {}
    for event in story.of(TRAINING_EVENTS.name):
        events.setdefault(event["run_key"], []).append(event)
    found = []
    for request in reversed(story.of(TRAINING_REQUESTS.name)):
        mine = events.get(request["run_key"], [])
        own = [one for one in mine if one["kind"] not in ("passed_over", "progress")]
        found.append({
            **request, "state": own[-1]["kind"] if own else "asked",
            "passed_over": sum(one["kind"] == "passed_over" for one in mine),
            "events": [one | {"facts": {k: v for k, v in one["facts"].items() if k != "report"}} for one in mine if one["kind"] != "passed_over"],
        })  # fmt: skip
    said: list[dict[str, Any]] = plain(found[:100])
    return said


def watched(story: Story) -> list[dict[str, Any]]:
    """Each watch with histograms of baseline and window by signal, on the same edges; of columns that are looked at together, of
    how far an entry is from the baseline's middle, in the baseline's spreads."""
    findings = story.of(DRIFT_EVENTS.name)
    found = []
    for state in story.states.values():
        try:
            found.append(_watch(state, findings))
        except (ValueError, IndexError, ZeroDivisionError):
            continue  # its tables are not what its signals say: it is no state of a detector of ours
    said: list[dict[str, Any]] = plain(found)
    return said


def _watch(state: dict[str, Any], findings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    signals, model, version = tuple(state["signals"]), state["model"], state["version"]
    baseline, window = (_table(state[name], len(signals)) for name in ("baseline", "window"))
    joint = together(signals)
    mine = [one for one in findings if (one["model"], one["version"]) == (model, version)]
    return {
        "detector": state["detector"], "model": model, "version": version, "windows": state["windows"], "streaks": state["streaks"],
        "seen_ms": state["seen_ms"], "baseline_n": len(baseline), "window_n": len(window),
        "signals": [
            {"name": name, "unit": FAR if name in joint else "", **_shape(*columns), "findings": [one for one in mine if one["signal"] == name][-20:]}
            for name, columns in _columns(signals, baseline, window).items()
        ],
    }  # fmt: skip


def _columns(signals: Sequence[str], baseline: Floats, window: Floats) -> dict[str, tuple[Floats, Floats]]:
    """Baseline and window of each thing that findings are of, (entries,) each."""
    apart = {name: (baseline[:, i], window[:, i]) for i, name in enumerate(signals) if kind_of(name) != EMBEDDING}
    joint = {name: _distances(baseline[:, columns], window[:, columns]) for name, columns in together(signals).items()}
    return joint | apart


def _distances(baseline: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Root mean square over the columns that are known and vary."""
    known = np.ma.masked_invalid(baseline.astype(np.float64))
    middle, spread = known.mean(axis=0), np.ma.masked_equal(known.std(axis=0), 0.0)
    first, second = (
        np.ma.filled(np.ma.sqrt((((np.ma.masked_invalid(one) - middle) / spread) ** 2).mean(axis=1)), np.nan)
        for one in (baseline, window)
    )
    return first, second


def _table(raw: bytes, signals: int) -> Any:
    values = np.frombuffer(raw, "<f4")
    return values[: len(values) - len(values) % max(1, signals)].reshape(-1, max(1, signals))


def _shape(baseline: Any, window: Any) -> dict[str, Any]:
    """Shares of the entries in BINS equal bins over what both hold."""
    both = np.concatenate([baseline, window])
    both = both[np.isfinite(both)]
    if not len(both):
        return {"edges": [], "baseline": [], "window": []}
    low, high = float(both.min()), float(both.max())
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)

    def shares(values: Any) -> list[float]:
        counts, _ = np.histogram(values[np.isfinite(values)], edges)
        return [round(float(one), 4) for one in counts / max(1, counts.sum())]

    return {"edges": [float(one) for one in edges], "baseline": shares(baseline), "window": shares(window)}
