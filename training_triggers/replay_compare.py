"""`./millrace replay-compare`: champion and candidate on the same recorded requests, with the labels that came for them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.codec import read_any
from schemas.errors import BadSettings
from schemas.generated import ModelUpdate
from schemas.topics import LABELS, MODEL_UPDATES
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import since
from streams.registry import Registry
from training_triggers import gate
from training_triggers.process import reader
from training_triggers.promotion import find_source
from training_triggers.settings import TriggerSettings

LIMIT_S = 1_800.0
SHOWN = 10


def champion_of(model: str, settings: TriggerSettings) -> str:
    """Where the version lies that answers now."""
    read = reader(KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry), MODEL_UPDATES.name, ModelUpdate)
    mine = [update for update in read() if update.model == model]
    return mine[-1].uri if mine else f"shipped:{model}"


def truth_since(settings: TriggerSettings, from_ms: int) -> dict[str, dict[str, bool]]:
    """Of each request, the first label of its first source."""
    ids, found = Registry(settings.registry), dict[str, dict[str, bool]]()
    address = KafkaAddress(bootstrap=settings.bootstrap)
    for part in since(address, LABELS.name, range(LABELS.partitions), from_ms, SystemClock()):
        for value in part.values:
            label = read_any(value, ids)
            found.setdefault(label["request_id"], label["truth"])
    return found


def run(settings: TriggerSettings, model: str, candidate: str, from_ms: int, to_ms: int, limit: int, as_json: bool) -> int:
    """0 where the candidate passes the gate's policy, 1 where not. Raises BadSettings, ModelRefused."""
    source = find_source(model, candidate, settings.mlflow).uri
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "inference_workers", "replay", "--model", model, "--source", champion_of(model, settings),
            "--source", source, "--from-ms", str(from_ms), "--to-ms", str(to_ms), "--limit", str(limit), "--out", scratch,
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=LIMIT_S, check=False)
        if done.returncode:
            raise BadSettings("the requests could not be replayed: the reason stands above")
        champion, other = (gate.read(Path(scratch) / f"{number}.npz") for number in (0, 1))
    try:
        found = gate.compare(champion, other, truth_since(settings, from_ms))
    except ValueError as error:
        raise BadSettings(str(error)) from error
    verdict = gate.judge(found, gate.Policy())
    if as_json:
        print(json.dumps({
            "model": model, "champion": champion.version, "candidate": other.version, "passes": verdict.passes,
            "reasons": list(verdict.reasons), **asdict(found),
        }))  # fmt: skip
    else:
        _tell(model, champion.version, other.version, found, verdict)
    return 0 if verdict.passes else 1


def _tell(model: str, champion: str, candidate: str, found: gate.Comparison, verdict: gate.Verdict) -> None:
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
    print("  passes" if verdict.passes else "  does not pass:")
    for reason in verdict.reasons:
        print(f"    {reason}")
