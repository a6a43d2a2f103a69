"""The stages of one training run, from its request to the gate's verdict.

Each stage writes its result to the run's folder before the next begins, so that a run that was killed continues where it was and
ends in the same version: the window is fixed by offsets, and trainers are deterministic. A run reports on `training-events-v1`
and never changes which version is live.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.models.folder import ModelFolder, open_folder
from schemas.errors import BrokerUnavailable, MillraceError, Stop
from schemas.generated import TrainingRequest
from schemas.vocabulary import RunEvent
from streams.clock import Clock
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry
from training_triggers.journal import OVER, RunJournal
from training_triggers.recorded import training_window
from training_triggers.recorded.compare import accuracy_of, compare
from training_triggers.recorded.comparison import read, without
from training_triggers.recorded.label_wait import wait_for_labels
from training_triggers.runs import gate, report_page
from training_triggers.settings import TriggerSettings
from training_triggers.trainers.retrain import Job, number, trainer_of
from training_triggers.versions.promotion import Source, live

SEED = 7
SHOWN = 20  # changed decisions in the event's report
MAX_GROWTH = 3.0  # of the number of labels that a run waits for, at a time
MAX_COMPARISONS = 3  # if the champion changes meanwhile


@dataclass(frozen=True)
class WindowLabels:
    """The labels of a window. held_back: request ids that are not trained on. since: request ids since the drift."""

    requests: training_window.ReplayedRequests
    truth: training_window.Truth
    held_back: set[str]
    since: set[str]


class Run:
    def __init__(
        self,
        settings: TriggerSettings,
        request: TrainingRequest,
        folder: Path,
        journal: RunJournal,
        address: KafkaAddress,
        ids: Registry,
        clock: Clock,
    ) -> None:
        self._settings, self._request, self._folder, self._journal = settings, request, folder, journal
        self._address, self._ids, self._clock = address, ids, clock

    def go(self) -> None:
        """Do the stages that are not done yet. A stage that cannot be done ends the run as `failed`, with the reason. Raises
        BrokerUnavailable."""
        if self._journal.kinds() & OVER:
            return
        try:
            trainer_of(self._request.model)
            champion = live(self._request.model, self._address, self._ids)
            window = self._window(champion)
            with training(self._folder.parent):
                version = self._train(champion, window)
                self._register(version)
                self._judge(version, window)
        except BrokerUnavailable:
            raise  # the failure could not be written either: the launcher starts the run again
        except (MillraceError, OSError, MemoryError) as error:
            code = error.code if isinstance(error, MillraceError) else type(error).__name__
            self._journal.write(RunEvent.FAILED, f"{code}: {error}", facts={"folder": str(self._folder)})

    def _say(self, words: str) -> None:
        print(words, flush=True)
        self._journal.write(RunEvent.PROGRESS, words)

    def _window(self, champion: Source) -> dict[str, Any]:
        """Wait for labels, fix the offsets, and record the champion's answers to the requests."""
        file = self._folder / "window.json"
        if file.exists():
            return dict(json.loads(file.read_text()))
        settings, decided_ms = self._settings, self._request.decided_ms
        from_ms = int(number(self._request.options, "from_ms", decided_ms - settings.training_window_s * 1000))
        since_ms = int(number(self._request.options, "since_ms", from_ms))
        until_s, wanted = self._clock.monotonic_s() + settings.training_label_wait_s, settings.training_min_labelled
        self._wait(champion, since_ms, wanted, until_s)
        is_late = False
        while True:
            window = self._fixed(champion, from_ms, since_ms)
            labels = self._labels(window)
            usable = labels.held_back & labels.since & labels.truth.keys()
            independent = training_window.independent(labels.requests, usable)
            if independent >= settings.gate_min_labelled or is_late:
                break
            wanted = math.ceil(wanted * min(MAX_GROWTH, 1.1 * settings.gate_min_labelled / max(1, independent)))
            self._say(
                f"{independent} of the {settings.gate_min_labelled} independent requests since the drift that the gate needs are labelled: "
                f"waiting for {wanted} labels"
            )
            try:
                self._wait(champion, since_ms, wanted, until_s)
            except training_window.WindowRefused:
                is_late = True  # train on the labels that arrived; the gate reports what it cannot judge
        write(file, window)
        return window

    def _wait(self, champion: Source, since_ms: int, wanted: int, until_s: float) -> None:
        wait_for_labels(
            self._address,
            self._ids,
            champion.folder.config["task"],
            since_ms,
            wanted,
            until_s - self._clock.monotonic_s(),
            self._clock,
            self._say,
        )

    def _fixed(self, champion: Source, from_ms: int, since_ms: int) -> dict[str, Any]:
        """The window as it is now: offsets of requests and labels. The champion's inputs and answers are written to the folder
        `window`."""
        ends = training_window.label_ends(self._address)
        training_window.replay(
            self._request.model,
            [champion.uri],
            self._folder / "window",
            "--seen",
            "--from-ms",
            str(from_ms),
            "--to-ms",
            str(self._clock.now_ms()),
            "--limit",
            str(self._settings.training_window_requests),
        )
        window: dict[str, Any] = json.loads((self._folder / "window" / "window.json").read_text())
        return window | {"from_ms": from_ms, "since_ms": since_ms, "label_ends": ends, "salt": os.urandom(8).hex()}

    def _truth(self, window: dict[str, Any]) -> training_window.Truth:
        return training_window.truth(self._address, self._ids, window["from_ms"], window["label_ends"])

    def _labels(self, window: dict[str, Any]) -> WindowLabels:
        requests, truth = training_window.replayed(self._folder / "window" / "0.npz"), self._truth(window)
        held_back = training_window.held_back(requests, truth, window["salt"])
        return WindowLabels(requests, truth, held_back, requests.since(window["since_ms"]))

    def _train(self, champion: Source, window: dict[str, Any]) -> dict[str, Any]:
        file, out = self._folder / "made.json", self._folder / "model"
        if file.exists():
            return dict(json.loads(file.read_text()))
        examples = self._examples(window)
        source = f"{len(examples)} labelled requests of {offsets(window)}"
        begun_s = self._clock.monotonic_s()
        job = Job(
            out,
            self._folder / "scratch",
            self.version,
            Path(self._settings.data),
            source,
            self._settings.training_threads,
            self._request.options,
        )
        trained = trainer_of(self._request.model)(champion.folder, examples, job, self._say)
        version = {
            "version": self.version,
            "digest": trained.made.digest,
            "metrics": dict(trained.made.metrics),
            "losses": list(trained.made.losses),
            "champion": champion.folder.version,
            "holdout": None if trained.holdout is None else [is_right.tolist() for is_right in trained.holdout],
        }
        write(file, version)
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in trained.made.metrics.items())
        words = f"version {self.version} in {self._clock.monotonic_s() - begun_s:.0f} s: {metrics}"
        self._journal.write(
            RunEvent.TRAINED,
            words,
            facts={
                "version": self.version,
                "digest": trained.made.digest,
                "folder": str(out),
                "metrics": json.dumps(version["metrics"]),
                "window": json.dumps(window),
            },
        )
        return version

    def _examples(self, window: dict[str, Any]) -> training_window.Examples:
        """The labelled requests to train on. Raises WindowRefused."""
        labels = self._labels(window)
        labelled = training_window.read(self._folder / "window" / "0.npz", labels.truth)
        rows = np.array([request_id not in labels.held_back for request_id in labelled.request_ids], np.bool_)
        examples = labelled.take(rows)
        training_window.check(examples, self._settings.gate_min_labelled)
        if self._request.options.get("control") == "shuffled":
            self._say("control run with shuffled labels: its version must not pass the gate")
            examples = replace(examples, truth=np.random.default_rng(SEED).permutation(examples.truth))
        held_back = len(labelled) - len(examples)
        self._say(f"trains on {len(examples)} labelled requests, {held_back} are held back; {offsets(window)}")
        return examples

    def _register(self, version: dict[str, Any]) -> None:
        """Register the version in MLflow, if there is a server; the run continues if that fails."""
        file = self._folder / "registered.json"
        if not self._settings.mlflow or file.exists():
            return
        try:
            from training_triggers.versions.mlflow_registry import ModelRegistry

            registry = ModelRegistry(self._settings.mlflow)
            registered = registry.register(self._folder / "model", version["metrics"], version["losses"])
            write(file, {"number": registered.number})
            self._say(f"registered in MLflow as version {registered.number} of {registered.name}")
        except (MillraceError, ImportError) as error:
            write(file, {"number": None})
            self._say(f"not registered in MLflow: {error}")

    def _judge(self, version: dict[str, Any], window: dict[str, Any]) -> None:
        """Compare champion and candidate on the held-back requests of the window, and on the trainer's own holdout."""
        candidate = open_folder(self._folder / "model", version["digest"])
        champion = live(self._request.model, self._address, self._ids)
        for _ in range(MAX_COMPARISONS):
            report = self._compare(champion, candidate, version, window)
            live_now = live(self._request.model, self._address, self._ids)
            if live_now.folder.digest == champion.folder.digest:
                break
            self._say("the live version changed during the comparison: comparing again")
            champion = live_now
        else:
            raise Stop(f"the live version changed during each of {MAX_COMPARISONS} comparisons")
        write(self._folder / "report.json", report)
        (self._folder / "report.html").write_text(report_page.of(report))
        facts = {
            "version": candidate.version,
            "digest": candidate.digest,
            "uri": f"file:{candidate.path}",
            "folder": str(self._folder),
            "champion": champion.folder.digest,
            "report": json.dumps(report | {"changed": report["changed"][:SHOWN]}),
        }
        kind = RunEvent.JUDGED if report["passes"] else RunEvent.REFUSED
        self._journal.write(kind, verdict_line(report), facts=facts)

    def _compare(
        self, champion: Source, candidate: ModelFolder, version: dict[str, Any], window: dict[str, Any]
    ) -> dict[str, Any]:
        out, fixed = self._folder / "judged", self._folder / "window" / "window.json"
        training_window.replay(self._request.model, [champion.uri, f"file:{candidate.path}"], out, "--window", str(fixed))
        labels = self._labels(window)
        trained_on = labels.truth.keys() - labels.held_back
        first, second = (without(read(out / f"{number}.npz"), trained_on) for number in (0, 1))
        compared, parts = set(first.request_ids), {}
        if window["since_ms"] > window["from_ms"]:
            parts = {
                "requests before the drift": compared - labels.since,
                "requests since the drift": compared & labels.since,
            }
        truth = {request_id: labels.truth[request_id] for request_id in labels.held_back & labels.truth.keys()}
        comparison = compare(first, second, truth, parts)
        if version["holdout"] is not None:
            holdout = accuracy_of(*(np.array(is_right, np.bool_) for is_right in version["holdout"]))
            comparison = replace(comparison, parts={**comparison.parts, "holdout": holdout})
        policy = gate.GatePolicy.of(self._settings)
        verdict = gate.judge(comparison, policy)
        return {
            "run_key": self._request.run_key,
            "model": self._request.model,
            "reason": self._request.reason,
            "champion": champion.folder.version,
            "candidate": candidate.version,
            "digest": candidate.digest,
            "window": window,
            "offsets": offsets(window),
            "passes": verdict.passes,
            "reasons": list(verdict.reasons),
            "notes": list(verdict.notes),
            "policy": asdict(policy),
            "metrics": version["metrics"],
            "losses": version["losses"],
            **asdict(comparison),
        }

    @property
    def version(self) -> str:
        """The day of the request and the end of the run key: `20261125-1f3a9c02`."""
        day = time.strftime("%Y%m%d", time.gmtime(self._request.decided_ms / 1000))
        return f"{day}-{self._request.run_key.rpartition('-')[2]}"


def verdict_line(report: dict[str, Any]) -> str:
    """The verdict in one line."""
    accuracies = [
        f"{name} {part['champion']:.3f} -> {part['candidate']:.3f} of {part['labelled']}"
        for name, part in report["parts"].items()
        if part is not None
    ]
    details = "; ".join([*accuracies, *report["notes"]]) or f"no labels, {report['agreement']:.1%} of the answers agree"
    if report["passes"]:
        return f"{report['candidate']} may take over from {report['champion']}: {details}"
    return f"{report['candidate']} is refused: {'; '.join(report['reasons'])} ({details})"


def offsets(window: dict[str, Any]) -> str:
    spans = (f"{number}: {start}-{window['to_offsets'][number]}" for number, start in window["from_offsets"].items())
    return f"{window['topic']} ({', '.join(spans)})"


def write(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(file)


@contextmanager
def training(runs: Path) -> Iterator[None]:
    """Lock the folder of runs: one run at a time trains and compares, the others wait here."""
    folder = os.open(runs, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
