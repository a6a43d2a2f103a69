"""Tasks that a person declares in a file, `millrace.toml`, and the topics that follow from each.

    [tasks.sentiment]
    kind = "text-classification"
    model = "hf:some-org/some-model"
    max_batch = 32

Nothing is started or created here. `catalogue.py` puts declared tasks beside the shipped ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from schemas.declared.own_records import own_record
from schemas.declared.task_kinds import KINDS, OptionValue, TaskKind, VectorSink
from schemas.durations import DAY_MS
from schemas.errors import BadSettings
from schemas.topic_kinds import Consumption, Guarantee, Record, Topic
from schemas.topics import RETRY_DELAYS_MS

CODE_DIGEST = "code_digest"  # a key of the copy that processes follow, not of the file that people write


def sink_of(task: str) -> str:
    """The group and the process that keep a task's vectors. No task has this name: theirs have no dot."""
    return f"{task}.vectors"


class BadDeclaration(BadSettings):
    """The text names the file, the line, and what is allowed there."""

    code = "bad-declaration"


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One declared task. kind: None if `code` answers. code: an absolute path. code_digest: of the code and its records, where they were
    read; two declarations with other code are not the same. max_batch, max_wait_ms, workers: None where the usual
    settings apply. options: those of the kind, or the table of the code."""

    name: str
    kind: TaskKind | None = None
    code: Path | None = None
    code_digest: str = ""
    model: str = ""
    max_batch: int | None = None
    max_wait_ms: float | None = None
    workers: int | None = None
    partitions: int = 4
    retention_days: int = 7
    options: Mapping[str, OptionValue] = field(default_factory=dict, hash=False)

    def consumption(self) -> Consumption:
        """Its topics, and its worker's group. Raises BadDeclaration if the records of its code cannot be read."""
        request, result = self._records()
        topics = [
            Topic(
                name=f"{self.name}-{what}-v1",
                record=record,
                key="the caller's" if what == "requests" else "as the request's key",
                guarantee=Guarantee.NONE if what == "requests" else Guarantee.EXACTLY_ONCE,
                owner=self.name,
                writers=("producers",) if what == "requests" else (f"{self.name} worker",),
                readers=(f"{self.name} worker",) if what == "requests" else ("clients", "sinks"),
                partitions=self.partitions,
                retention_ms=self.retention_days * DAY_MS,
            )
            for what, record in (("requests", request), ("results", result))
        ]
        return Consumption(topic=topics[0], group=self.name, retry_delays_ms=RETRY_DELAYS_MS, results=topics[1])

    @property
    def sink(self) -> VectorSink | None:
        """Where its vectors are kept; None if nowhere, or if it makes none."""
        named = self.options.get("sink") if self.kind is TaskKind.EMBEDDING else None
        return None if named is None else VectorSink(str(named))

    def sink_consumption(self) -> Consumption:
        """How the process that keeps its vectors reads its results."""
        results = self.consumption().results
        assert results is not None
        return Consumption(topic=results, group=sink_of(self.name), retry_delays_ms=())

    def consumptions(self) -> tuple[Consumption, ...]:
        """Its worker's, and that of its sink."""
        return (self.consumption(), *((self.sink_consumption(),) if self.sink is not None else ()))

    def _records(self) -> tuple[type[Record], type[Record]]:
        if self.kind is not None:
            return KINDS[self.kind].request, KINDS[self.kind].result
        assert self.code is not None
        try:
            return own_record(self.code.parent, self.name, "request"), own_record(self.code.parent, self.name, "result")
        except ValueError as error:
            raise BadDeclaration(f"task {self.name}: {error}") from error


def text_of(declarations: Sequence[Declaration]) -> str:
    """The declarations as a file whose paths are absolute, so that it can lie in any folder."""
    document = tomlkit.document()
    tasks = tomlkit.table(is_super_table=True)
    for task in declarations:
        table = tomlkit.table()
        common: dict[str, Any] = {
            "kind": str(task.kind) if task.kind else None,
            "code": str(task.code) if task.code else None,
            CODE_DIGEST: task.code_digest or None,
            "model": task.model or None,
            "max_batch": task.max_batch,
            "max_wait_ms": task.max_wait_ms,
            "workers": task.workers,
            "partitions": task.partitions,
            "retention_days": task.retention_days,
        }
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in task.options.items()}
        for key, value in [*common.items(), *(options.items() if task.kind else [("options", options or None)])]:
            if value is not None:
                table.add(key, value)
        tasks.add(task.name, table)
    document.add("tasks", tasks)
    return str(tomlkit.dumps(document))
