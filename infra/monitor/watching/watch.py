"""One thread that observes everything: it follows the small topics, takes a sample every EVERY_S, and makes a snapshot of
both, which all readers get as the same bytes.

It is not on the path of any record. It reads positions, not the traffic, so its cost does not grow with the rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from threading import Event

import structlog

from infra import redact
from infra.monitor.plain import as_json
from infra.monitor.watching import servers
from infra.monitor.watching.follower import Follower
from infra.monitor.watching.sampler import Sampler
from infra.monitor.watching.snapshot import Snapshot, snapshot
from infra.monitor.watching.story import Story
from infra.settings import StackSettings
from schemas.codec import SchemaIds
from schemas.errors import MillraceError
from streams.clock import Clock
from streams.kafka.config import KafkaAddress
from streams.terminal_text import finite


class Watch:
    """`run` needs a thread of its own; `latest` and `latest_json` may be read from any other."""

    def __init__(
        self, settings: StackSettings, address: KafkaAddress, ids: SchemaIds, clock: Clock, story: Story, sampler: Sampler
    ) -> None:
        self._settings, self._clock, self._story, self._sampler = settings, clock, story, sampler
        self._follower = Follower(address, ids, clock, story)
        self._trouble = ""
        self._latest = Snapshot(0, "the first look is being taken")
        self._json = as_json(asdict(self._latest))

    def run(self, stopping: Event, publish: Callable[[bytes], None]) -> None:
        """Runs until `stopping`, with a snapshot after each sample. If the broker does not answer, the snapshot says so, and the
        next round tries again."""
        while not stopping.is_set():
            is_due = self._sampler.is_due()
            self._look(is_due)
            if self._trouble or is_due:
                self._make()
                publish(self._json)
            stopping.wait(1.0 if self._trouble else 0.25)
        self._follower.leave()
        self._sampler.close()

    def latest(self) -> Snapshot:
        return self._latest

    def latest_json(self) -> bytes:
        """The latest snapshot without secrets, as it is published."""
        return self._json

    def _look(self, is_due: bool) -> None:
        log = structlog.get_logger()
        try:
            self._follower.follow()
            if is_due:
                self._sampler.sample()
            self._trouble = ""
        except MillraceError as error:
            if not self._trouble:
                log.warning("the look failed", cause=str(error))
            self._trouble = str(error)
            self._follower.leave()
            self._sampler.offsets.reconnect()
        except Exception as error:  # an error of ours must not end the observation of everything else
            log.exception("the look failed")
            self._trouble = f"a fault of the monitor: {type(error).__name__}: {error}"

    def _make(self) -> None:
        processes = servers.started(self._settings.run_folder)
        made = snapshot(self._clock.now_ms(), self._story, self._sampler, processes, self._trouble)
        self._json = as_json(redact.tree(finite(asdict(made))))
        self._latest = made
