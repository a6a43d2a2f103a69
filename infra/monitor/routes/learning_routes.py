"""Drift of the inputs and outputs of models, and the training runs that drift triggers."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from infra.monitor import package_commands
from infra.monitor.package_commands import Blindness
from infra.monitor.routes.shared_parts import Shown, TheMonitor
from infra.monitor.watching import drift_watches, training_runs
from infra.monitor.watching.drift_watches import Finding, Watched
from infra.monitor.watching.training_runs import TrainingRun

router = APIRouter(default_response_class=Shown)
MOST_FINDINGS = 500


@dataclass(frozen=True)
class Drift:
    """findings: the newest, oldest first."""

    watched: list[Watched]
    findings: list[Finding]


@dataclass(frozen=True)
class BlindSpots:
    detectors: list[Blindness]


@dataclass(frozen=True)
class Training:
    """The newest first."""

    runs: list[TrainingRun]


@router.get("/api/drift")
def drift(monitor: TheMonitor) -> Drift:
    """Each watched version: how far its windows are, its baseline and window as histograms, and what was found."""
    found = drift_watches.findings(monitor.story)
    return Drift(drift_watches.watched(monitor.story, found), found[-MOST_FINDINGS:])


@router.get("/api/blindness")
async def blindness(monitor: TheMonitor) -> BlindSpots:
    """What the detectors do not see: nothing found is good news only of the rest."""
    return BlindSpots(await monitor.shared.ask(("blindness",), lambda: package_commands.blindness(monitor.settings)))


@router.get("/api/training")
def training(monitor: TheMonitor) -> Training:
    """Each run from its cause on."""
    return Training(training_runs.runs(monitor.story))
