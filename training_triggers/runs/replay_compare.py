"""`./millrace replay-compare`: champion and candidate on the same recorded requests, with the labels of those requests."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.errors import BadSettings
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry
from training_triggers.recorded import training_window
from training_triggers.recorded.compare import compare
from training_triggers.recorded.comparison import Comparison, read
from training_triggers.runs import gate
from training_triggers.settings import TriggerSettings
from training_triggers.versions.promotion import find_source, live

SHOWN = 10


def run(settings: TriggerSettings, model: str, candidate: str, from_ms: int, to_ms: int, limit: int, as_json: bool) -> int:
    """The exit code: 0 if the candidate passes the gate's policy, else 1. Raises BadSettings, ModelRefused."""
    source = find_source(model, candidate, settings.mlflow).uri
    address, ids = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry)
    with tempfile.TemporaryDirectory() as scratch:
        out, times = Path(scratch), ("--from-ms", str(from_ms), "--to-ms", str(to_ms), "--limit", str(limit))
        training_window.replay(model, [live(model, address, ids).uri, source], out, *times)
        champion, other = (read(out / f"{number}.npz") for number in (0, 1))
    truth = training_window.truth(address, ids, from_ms, training_window.label_ends(address))
    try:
        found = compare(champion, other, truth)
    except ValueError as error:
        raise BadSettings(str(error)) from error
    verdict = gate.judge(found, gate.GatePolicy.of(settings))
    if as_json:
        print(
            json.dumps(
                {
                    "model": model,
                    "champion": champion.version,
                    "candidate": other.version,
                    "passes": verdict.passes,
                    "reasons": list(verdict.reasons),
                    "notes": list(verdict.notes),
                    **asdict(found),
                }
            )
        )
    else:
        _tell(model, champion.version, other.version, found, verdict)
    return 0 if verdict.passes else 1


def _tell(model: str, champion: str, candidate: str, found: Comparison, verdict: gate.GateVerdict) -> None:
    print(f"{model}: {candidate} beside {champion}, {found.entries} answers")
    print(f"  agreement   {found.agreement:.2%}, {len(found.changed)} decisions changed")
    for request_id, part, name, was, now in found.changed[:SHOWN]:
        print(f"    {request_id} {part}  {name} {was:.3f} -> {now:.3f}")
    print(f"  outputs     largest stability index {max((shift for _, shift in found.drift.values()), default=0.0):.3f}")
    accuracy: Any = found.accuracy
    if accuracy is None:
        print("  accuracy    no request of these is labelled")
    else:
        print(
            f"  accuracy    {accuracy.champion:.3f} -> {accuracy.candidate:.3f} of {accuracy.labelled} labelled, "
            f"difference {accuracy.low:+.3f} to {accuracy.high:+.3f} (95 %)"
        )
    print(f"  time, size  {found.time_ratio:.2f}, {found.size_ratio:.2f} of the champion's")
    for note in verdict.notes:
        print(f"  {note}")
    print("  passes" if verdict.passes else "  does not pass:")
    for reason in verdict.reasons:
        print(f"    {reason}")
