"""Versions that never change, in place of `inference_workers.served.served_models.ServedModels`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from inference_workers.served.batch_versions import Batch
from inference_workers.task import Versions
from streams.loop.processor import Report
from streams.rows import OutRecords, Rows


class FixedModels:
    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        yield Batch(self._versions, [], [])

    def announcements(self, batch: Batch, rows: Rows, versions: Versions) -> list[OutRecords]:
        return []

    def follow(self) -> None:
        return

    def report(self) -> Report:
        return Report()
