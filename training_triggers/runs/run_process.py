"""The process of one training run: `python -m training_triggers run KEY`, a child of the launcher. It ends with its launcher, and
only one process works on a run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from schemas.errors import BadSettings, Stop
from streams.clock import Clock, SystemClock
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry
from training_triggers.journal import Journal, RunJournal, requests
from training_triggers.runs.training_run import Run
from training_triggers.settings import TriggerSettings

NICE = 10
LOCK_LIMIT_S = 60.0


def main(settings: TriggerSettings, run_key: str) -> int:
    """0 when the run has ended, whatever its result. Raises BadSettings, BrokerUnavailable."""
    address, ids, clock = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry), SystemClock()
    request = requests(address, ids).get(run_key)
    if request is None:
        raise BadSettings(f"there is no run {run_key}; `./millrace training list` shows all runs")
    os.nice(NICE)
    folder = Path(settings.runs_folder) / run_key
    folder.mkdir(parents=True, exist_ok=True)
    end_with_parent()
    # The journal is opened under the lock: it reads what an earlier process of this run wrote.
    with exclusive(folder, clock), closing(Journal.on_kafka(address, ids, clock, "training run")) as journal:
        Run(settings, request, folder, RunJournal(journal, run_key, request.model), address, ids, clock).go()
    return 0


@contextmanager
def exclusive(folder: Path, clock: Clock) -> Iterator[None]:
    """Lock a run's folder. A child whose launcher was killed ends within a second, and this waits for it. Raises Stop."""
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


def end_with_parent() -> None:
    """End this process and all that it started when its launcher ends: the next launcher starts the run again."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            threading.Event().wait(0.5)
        os.killpg(os.getpgid(0), 9) if os.getpgid(0) == os.getpid() else os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
