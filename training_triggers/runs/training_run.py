"""One training run, from its request to the gate's verdict: `python -m training_triggers run KEY`, a child of the launcher.

Each stage leaves its result in the run's folder before the next begins, so a run that was killed goes on where it stood, and
ends in the same version: the window is fixed by offsets, and trainers are deterministic. What happened is said on
`training-events-v1`; nothing here touches what answers.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.models.folder import ModelFolder, open_folder
from schemas.errors import BadSettings, BrokerUnavailable, MillraceError, Stop
from schemas.generated import TrainingRequest
from streams.clock import Clock, SystemClock
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry
from training_triggers.journal import OVER, Journal, requests
from training_triggers.recorded import training_window
from training_triggers.recorded.compare import without
from training_triggers.runs import gate, report_page
from training_triggers.settings import TriggerSettings
from training_triggers.trainers.retrain import Job, number, trainer_of
from training_triggers.versions.promotion import Source, live

NICE = 10
LOCK_LIMIT_S = 60.0
SEED = 7
SHOWN = 20  # changed decisions in the report's record
MOST_GROWTH = 3.0  # of the labels that a run waits for, at a time
JUDGED_AT_MOST = 3  # times, where the champion changes meanwhile


def main(settings: TriggerSettings, run_key: str) -> int:
    """0 where the run came to an end, whatever it is. Raises BadSettings, BrokerUnavailable."""
    address, ids, clock = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry), SystemClock()
    request = requests(address, ids).get(run_key)
    if request is None:
        raise BadSettings(f"no run {run_key} was asked for; `./millrace training list` shows what was")
    os.nice(NICE)
    folder = Path(settings.runs_folder) / run_key
    folder.mkdir(parents=True, exist_ok=True)
    end_with_parent()
    with alone(folder, clock):
        journal = Journal(address, ids, clock, run_key, request.model, "training run")
        try:
            Run(settings, request, folder, journal, address, ids, clock).go()
        finally:
            journal.close()
    return 0


@dataclass(frozen=True)
class Told:
    """known: what labels say. held: requests that are held back. since: those since the drift."""

    asked: training_window.Asked
    known: training_window.Truth
    held: set[str]
    since: set[str]


class Run:
    def __init__(
        self, settings: TriggerSettings, request: TrainingRequest, folder: Path, journal: Journal, address: KafkaAddress,
        ids: Registry, clock: Clock,
    ) -> None:  # fmt: skip
        self._settings, self._request, self._folder, self._journal = settings, request, folder, journal
        self._address, self._ids, self._clock = address, ids, clock

    def go(self) -> None:
        """Every stage that is not done yet. What cannot be done is said as `failed`, with the reason."""
        done = self._journal.events()
        if done.keys() & OVER:
            return
        try:
            trainer_of(self._request.model)
            champion = live(self._request.model, self._address, self._ids)
            kept = self._window(champion)
            with training(self._folder.parent):
                made = self._train(champion, kept)
                self._register(made)
                self._judge(made, kept)
        except BrokerUnavailable:
            raise  # nothing could be said of it either: the launcher starts it again
        except (MillraceError, OSError, MemoryError) as error:
            code = error.code if isinstance(error, MillraceError) else type(error).__name__
            self._journal.write("failed", f"{code}: {error}", facts={"folder": str(self._folder)})

    def _say(self, words: str) -> None:
        print(words, flush=True)
        self._journal.write("progress", words)

    def _window(self, champion: Source) -> dict[str, Any]:
        """Wait for labels, fix the offsets, and read what the champion was shown and said."""
        file = self._folder / "window.json"
        if file.exists():
            return dict(json.loads(file.read_text()))
        settings, decided_ms = self._settings, self._request.decided_ms
        from_ms = int(number(self._request.options, "from_ms", decided_ms - settings.training_window_s * 1000))
        since_ms = int(number(self._request.options, "since_ms", from_ms))
        until_s, least = self._clock.monotonic_s() + settings.training_label_wait_s, settings.training_min_labelled
        self._wait(champion, since_ms, least, until_s)
        is_late = False
        while True:
            kept = self._fixed(champion, from_ms, since_ms)
            told = self._told(kept)
            held = training_window.independent(told.asked, told.held & told.since & told.known.keys())
            if held >= settings.gate_min_labelled or is_late:
                break
            least = math.ceil(least * min(MOST_GROWTH, 1.1 * settings.gate_min_labelled / max(1, held)))
            self._say(
                f"{held} of {settings.gate_min_labelled} independent requests that the gate needs are there since the drift: waits for {least} labels"
            )
            try:
                self._wait(champion, since_ms, least, until_s)
            except training_window.WindowRefused:
                is_late = True  # what came is learnt from, and the gate says what it cannot tell
        write(file, kept)
        return kept

    def _wait(self, champion: Source, since_ms: int, least: int, until_s: float) -> None:
        training_window.wait_for_labels(
            self._address, self._ids, champion.folder.config["task"], since_ms, least, until_s - self._clock.monotonic_s(), self._clock,
            self._say,
        )  # fmt: skip

    def _fixed(self, champion: Source, from_ms: int, since_ms: int) -> dict[str, Any]:
        """Offsets of requests and labels as they are now, and what the champion is shown and says of the requests."""
        ends = training_window.label_ends(self._address)
        training_window.replay(
            self._request.model, [champion.uri], self._folder / "window", "--seen", "--from-ms", str(from_ms),
            "--to-ms", str(self._clock.now_ms()), "--limit", str(self._settings.training_window_requests),
        )  # fmt: skip
        kept: dict[str, Any] = json.loads((self._folder / "window" / "window.json").read_text())
        return kept | {"from_ms": from_ms, "since_ms": since_ms, "label_ends": ends, "salt": os.urandom(8).hex()}

    def _known(self, kept: dict[str, Any]) -> training_window.Truth:
        return training_window.truth(self._address, self._ids, kept["from_ms"], kept["label_ends"])

    def _told(self, kept: dict[str, Any]) -> Told:
        asked, known = training_window.asked(self._folder / "window" / "0.npz"), self._known(kept)
        return Told(asked, known, training_window.held_back(asked, known, kept["salt"]), asked.since(kept["since_ms"]))

    def _train(self, champion: Source, kept: dict[str, Any]) -> dict[str, Any]:
        file, out = self._folder / "made.json", self._folder / "model"
        if file.exists():
            return dict(json.loads(file.read_text()))
        told = self._told(kept)
        examples = training_window.read(self._folder / "window" / "0.npz", told.known)
        mine = examples.take(np.array([one not in told.held for one in examples.request_ids], np.bool_))
        training_window.check(mine, self._settings.gate_min_labelled)
        if self._request.options.get("control") == "shuffled":
            self._say("as a control its labels are shuffled: what comes out must not pass the gate")
            mine = replace(mine, truth=np.random.default_rng(SEED).permutation(mine.truth))
        self._say(f"learns from {len(mine)} labelled requests, {len(examples) - len(mine)} are held back; {offsets(kept)}")
        begun_s = self._clock.monotonic_s()
        job = Job(
            out, self._folder / "scratch", self.version, Path(self._settings.data), f"{len(mine)} labelled requests of {offsets(kept)}",
            self._settings.training_threads, self._request.options,
        )  # fmt: skip
        trained = trainer_of(self._request.model)(champion.folder, mine, job, self._say)
        made = {
            "version": self.version, "digest": trained.made.digest, "metrics": dict(trained.made.metrics),
            "losses": list(trained.made.losses), "champion": champion.folder.version,
            "holdout": None if trained.holdout is None else [right.tolist() for right in trained.holdout],
        }  # fmt: skip
        write(file, made)
        said = ", ".join(f"{name} {value:.4g}" for name, value in trained.made.metrics.items())
        self._journal.write("trained", f"version {self.version} in {self._clock.monotonic_s() - begun_s:.0f} s: {said}", facts={
            "version": self.version, "digest": trained.made.digest, "folder": str(out), "metrics": json.dumps(made["metrics"]),
            "window": json.dumps(kept),
        })  # fmt: skip
        return made

    def _register(self, made: dict[str, Any]) -> None:
        """In MLflow, where there is one; the run does not hang on it."""
        file = self._folder / "registered.json"
        if not self._settings.mlflow or file.exists():
            return
        try:
            from training_triggers.versions.mlflow_registry import ModelRegistry

            found = ModelRegistry(self._settings.mlflow).register(self._folder / "model", made["metrics"], made["losses"])
            write(file, {"number": found.number})
            self._say(f"registered in MLflow as version {found.number} of {found.name}")
        except (MillraceError, ImportError) as error:
            write(file, {"number": None})
            self._say(f"not registered in MLflow: {error}")

    def _judge(self, made: dict[str, Any], kept: dict[str, Any]) -> None:
        """Champion and candidate on what was held back of the window, and on the trainer's own holdout."""
        for _ in range(JUDGED_AT_MOST):
            champion = live(self._request.model, self._address, self._ids)
            candidate = open_folder(self._folder / "model", made["digest"])
            report = self._compare(champion, candidate, made, kept)
            if live(self._request.model, self._address, self._ids).folder.digest == champion.folder.digest:
                break
            self._say("the version that answers changed while it was compared: compared again")
        else:
            raise Stop("the version that answers changed each time it was compared")
        write(self._folder / "report.json", report)
        (self._folder / "report.html").write_text(report_page.of(report))
        words = told(report)
        facts = {
            "version": candidate.version, "digest": candidate.digest, "uri": f"file:{candidate.path}", "folder": str(self._folder),
            "champion": champion.folder.digest, "report": json.dumps(report | {"changed": report["changed"][:SHOWN]}),
        }  # fmt: skip
        self._journal.write("judged" if report["passes"] else "refused", words, facts=facts)

    def _compare(self, champion: Source, candidate: ModelFolder, made: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
        out = self._folder / "judged"
        fixed = self._folder / "window" / "window.json"
        training_window.replay(self._request.model, [champion.uri, f"file:{candidate.path}"], out, "--window", str(fixed))
        told = self._told(kept)
        learnt = told.known.keys() - told.held
        first, second = (without(gate.read(out / f"{number}.npz"), learnt) for number in (0, 1))
        every, parts = set(first.request_ids), {}
        if kept["since_ms"] > kept["from_ms"]:
            parts = {"requests before the drift": every - told.since, "requests since the drift": every & told.since}
        found = gate.compare(first, second, {one: told.known[one] for one in told.held & told.known.keys()}, parts)
        if made["holdout"] is not None:
            holdout = gate.accuracy_of(*(np.array(right, np.bool_) for right in made["holdout"]))
            found = replace(found, parts={**found.parts, "holdout": holdout})
        policy = gate.Policy.of(self._settings)
        verdict = gate.judge(found, policy)
        return {
            "run_key": self._request.run_key, "model": self._request.model, "reason": self._request.reason,
            "champion": champion.folder.version, "candidate": candidate.version, "digest": candidate.digest, "window": kept, "offsets": offsets(kept),
            "passes": verdict.passes, "reasons": list(verdict.reasons), "notes": list(verdict.notes), "policy": asdict(policy), "metrics": made["metrics"],
            "losses": made["losses"], **asdict(found),
        }  # fmt: skip

    @property
    def version(self) -> str:
        """By the day it was decided, and the run: `20261125-1f3a9c02`."""
        day = time.strftime("%Y%m%d", time.gmtime(self._request.decided_ms / 1000))
        return f"{day}-{self._request.run_key.rpartition('-')[2]}"


def told(report: dict[str, Any]) -> str:
    """The verdict in a line."""
    shares = [
        f"{name} {part['champion']:.3f} -> {part['candidate']:.3f} of {part['labelled']}"
        for name, part in report["parts"].items()
        if part is not None
    ]
    said = "; ".join([*shares, *report["notes"]]) or f"no labels, {report['agreement']:.1%} of the answers agree"
    if report["passes"]:
        return f"{report['candidate']} may take over from {report['champion']}: {said}"
    return f"{report['candidate']} is refused: {'; '.join(report['reasons'])} ({said})"


def offsets(kept: dict[str, Any]) -> str:
    spans = (f"{number}: {start}-{kept['to_offsets'][number]}" for number, start in kept["from_offsets"].items())
    return f"{kept['topic']} ({', '.join(spans)})"


def write(file: Path, content: dict[str, Any]) -> None:
    """Whole, or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(file)


@contextmanager
def alone(folder: Path, clock: Clock) -> Iterator[None]:
    """One process a run: a child whose launcher was killed ends within a second, and this waits for it."""
    with (folder / "lock").open("w") as file:
        until_s = clock.monotonic_s() + LOCK_LIMIT_S
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if clock.monotonic_s() > until_s:
                raise Stop(f"another process works in {folder}")
            clock.sleep(0.2)
        yield


@contextmanager
def training(runs: Path) -> Iterator[None]:
    """One run at a time trains and compares; others wait here, as they wait for labels. The folder of runs is itself what is locked."""
    folder = os.open(runs, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def end_with_parent() -> None:
    """A run without its launcher ends, with all that it started: the next launcher starts it again."""
    first = os.getppid()

    def watch() -> None:
        while os.getppid() == first:
            threading.Event().wait(0.5)
        os.killpg(os.getpgid(0), 9) if os.getpgid(0) == os.getpid() else os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
