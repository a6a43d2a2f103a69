"""The setting of the chaos tests: real moderation workers as processes, requests sent to them, and the ledger of what readers
saw."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.local import processes
from infra.settings import ROOT
from schemas.catalogue import consumption
from schemas.codec import Encoder, read_any
from schemas.errors import BrokerUnavailable
from schemas.topics import CONTENT, SHADOW_RESULTS, SWAP_ACKS
from streams import headers as h
from streams.clock import SystemClock
from streams.headers import HeaderList
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords, Place
from streams.schema_registry import Registry
from tests.support.ledger import End, Key, dead_key, end_of, problems
from tests.support.waiting import until

TAKEN = consumption("moderation")


class Worker:
    """One worker process without a keeper: after its death it stays dead until the test starts another."""

    def __init__(
        self, bootstrap: str, registry: str, log: Path, slot: int = 0, tasks: Sequence[str] = ("moderation",), **env: str
    ) -> None:
        self._tasks = tasks
        self._log = log
        self._from = log.stat().st_size if log.exists() else 0
        settings = {
            "MILLRACE_BOOTSTRAP": bootstrap,
            "MILLRACE_REGISTRY": registry,
            "MILLRACE_SESSION_TIMEOUT_MS": "3000",
            "PYTHONPATH": str(ROOT),
            **env,
        }
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "inference_workers",
                    *(w for task in tasks for w in ("--task", task)),
                    "--slot",
                    str(slot),
                ],
                env={**os.environ, **settings},
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    def said(self, words: str) -> bool:
        with self._log.open("rb") as file:
            file.seek(self._from)
            return words.encode() in file.read()

    def wait_assigned(self, limit_s: float = 40.0) -> None:
        until(lambda: self.assigned() or self.process.poll() is not None, limit_s, "a worker with partitions")

    def assigned(self) -> bool:
        """Whether every one of its loops holds partitions."""
        lines = [line for line in self._log.read_bytes()[self._from :].splitlines() if b'"event": "assigned"' in line]
        names = [task.partition(":")[0].encode() for task in self._tasks]
        return all(any(b'"worker": "' + name + b"-" in line for line in lines) for name in names)

    def wait_dead(self, limit_s: float = 240.0) -> int:
        return self.process.wait(limit_s)

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self) -> int:
        """A clean stop, as an operator would do it; SIGKILL after the limit."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(30)

    def log_tail(self) -> str:
        return processes.log_tail(self._log)


class Stage:
    """All requests and answers from now on; earlier records of the topics do not count."""

    def __init__(self, bootstrap: str, registry: str, folder: Path) -> None:
        self.address, self.ids, self._folder = KafkaAddress(bootstrap=bootstrap), Registry(registry), folder
        self.bootstrap, self.registry = bootstrap, registry
        self._admin = KafkaAdmin(self.address)
        self.encoder = Encoder.of(CONTENT, self.ids)
        self._sink = KafkaSink(self.address, None)
        written = (
            CONTENT.name,
            self.results,
            TAKEN.dead_letter_topic,
            *TAKEN.retry_topics(),
            SWAP_ACKS.name,
            SHADOW_RESULTS.name,
        )
        self._starts = {name: self.ends_of(name) for name in written}
        self._skip_what_is_left()
        self._workers: list[Worker] = []
        self.sent = self._came = 0

    def _skip_what_is_left(self) -> None:
        """Requests that an earlier stage sent and nobody answered would be answered here. A worker of it that was killed is a
        member until its session ends, and until then the group's positions cannot be set."""
        positions = {place: end for name in (CONTENT.name, *TAKEN.retry_topics()) for place, end in self._starts[name].items()}

        def skipped() -> bool:
            try:
                self._admin.set_positions(TAKEN.group, positions)
            except BrokerUnavailable:
                return False
            return True

        until(skipped, 15, f"group {TAKEN.group} without members")

    @property
    def results(self) -> str:
        assert TAKEN.results is not None
        return TAKEN.results.name

    def ends_of(self, topic: str) -> dict[Place, int]:
        partitions = self._admin.partitions()[topic]
        return self._admin.ends([(topic, number) for number in range(partitions)])

    def worker(self, slot: int = 0, tasks: Sequence[str] = ("moderation",), **env: str) -> Worker:
        made = Worker(self.bootstrap, self.registry, self._folder / f"worker-{slot}.log", slot, tasks, **env)
        self._workers.append(made)
        return made

    def text(self, *texts: str | None, headers: HeaderList | None = None) -> None:
        ids = [f"c-{self.sent + i}" for i in range(len(texts))]
        self.raw(*self.encoder.encode({"content_id": ids, "text": list(texts)}, len(texts)), headers=headers)

    def raw(self, *values: bytes | None, headers: HeaderList | None = None) -> None:
        """Any bytes, spread evenly over the partitions."""
        partitions = [(self.sent + i) % CONTENT.partitions for i in range(len(values))]
        made: list[HeaderList] = []
        for _ in values:
            ((*event,),) = h.cloud_event([uuid7(SystemClock().now_ms())], "content", "test")
            made.append([*event, *(headers or [])])
        keys: list[bytes | None] = [str(self.sent + i).encode() for i in range(len(values))]
        self._sink.produce(OutRecords(CONTENT.name, keys, list(values), made, partitions))
        self._sink.flush(30)
        self.sent += len(values)

    def ends(self) -> list[End]:
        return [end_of(result) for result in self.answers()]

    def answers(self) -> list[dict[str, Any]]:
        return self.written(self.results)

    def written(self, topic: str) -> list[dict[str, Any]]:
        return [read_any(value, self.ids) for value in self._read(topic)[1]]

    def letters(self) -> list[dict[str, str]]:
        """The headers of each dead letter."""
        return [
            {name: value.decode(errors="replace") for name, value in headers or ()}
            for headers in self._read(TAKEN.dead_letter_topic)[2]
        ]

    def retries(self) -> int:
        """Records that were written to retry topics."""
        return sum(len(self._read(topic)[0]) for topic in TAKEN.retry_topics())

    def _read(self, topic: str) -> tuple[list[tuple[Place, int]], list[bytes | None], list[HeaderList | None]]:
        reader = KafkaBroadcast(self.address, topic, SystemClock(), dict(self._starts[topic]))
        polled = reader.read_to_end(30)
        reader.close()
        return list(zip(polled.places, polled.offsets, strict=True)), polled.values, polled.headers

    def lag(self) -> int:
        """The number of requests that the group has not committed. Requests are sent outside of transactions, so that no
        marker is counted."""
        committed = self._admin.committed(TAKEN.group)
        return sum(
            end - committed.get(place, self._starts[CONTENT.name][place]) for place, end in self.ends_of(CONTENT.name).items()
        )

    def answered(self) -> bool:
        """False too while a broker that was restarted does not answer."""
        try:
            self._came = len({end.origin for end in self.ends()})
        except BrokerUnavailable:
            return False
        return self._came >= self.sent

    def wait_answered(self, limit_s: float = 60.0) -> None:
        until(
            self.answered,
            limit_s,
            lambda: f"{self.sent} answers; {self._came} came. {self.stacks()}",
        )

    def settle(self) -> None:
        """Let one fresh worker finish the rest."""
        for worker in self._workers:
            worker.stop()
        self.worker().wait_assigned()
        self.wait_answered(120)

    def stacks(self) -> str:
        """The stack of each live worker, and the ends of their logs."""
        for worker in self._workers:
            worker.signal(signal.SIGUSR1)
        time.sleep(0.5)
        return "\n".join(worker.log_tail() for worker in self._workers)

    def problems(self, *, may_repeat: bool = False) -> list[str]:
        asked: list[Key] = [((place[0], place[1], offset), 0) for place, offset in self._read(CONTENT.name)[0]]
        return problems(asked, self.ends(), [dead_key(headers) for headers in self.letters()], may_repeat=may_repeat)

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._sink.close()


@contextmanager
def staged(bootstrap: str, registry: str, folder: Path) -> Iterator[Stage]:
    stage = Stage(bootstrap, registry, folder)
    try:
        yield stage
    finally:
        stage.close()
