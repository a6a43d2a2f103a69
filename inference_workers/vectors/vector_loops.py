"""The process that keeps the vectors of an embedding task: `python -m inference_workers vectors TASK --slot N`.

It reads the task's results, writes each vector to exactly one Parquet file (`streams/archived/`), and, where the declaration asks for
it, makes an index of them now and then. At least once by the group's offsets; the files' own offsets make it exactly once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from inference_workers.vectors.settings import VectorSettings
from schemas.catalogue import declaration
from schemas.declared.declarations import Declaration, sink_of
from schemas.declared.task_kinds import VectorSink
from schemas.errors import BadSettings
from streams.archived.archive_limits import IN_ORDER, LIMITS
from streams.daemon_thread import DaemonThread
from streams.kafka.admin import KafkaAdmin
from streams.loop.loop import Loop
from streams.loop.step import Step
from streams.process.arguments import whole
from streams.process.settings import load
from streams.process.shell import configure_logging, serve
from streams.process.wiring import Build, LoopPlan, Surroundings, make_loop


def task_with_sink(name: str) -> Declaration:
    """Raises BadSettings."""
    declared = declaration(name)
    if declared is None or declared.sink is None:
        raise BadSettings(
            f'{name} keeps no vectors: declare it with kind = "embedding" and sink = "faiss" or "parquet", then `./millrace up`'
        )
    return declared


def require_libraries(sink: VectorSink) -> None:
    """Raises BadSettings if a library of a sink is not there."""
    missing = [name for name in ("pyarrow", *(["faiss"] if sink is VectorSink.FAISS else [])) if find_spec(name) is None]
    if missing:
        raise BadSettings(f'a sink of vectors, "{sink}", needs {" and ".join(missing)}: `./millrace setup vectors` installs it')


def build(task: Declaration, settings: VectorSettings) -> Build:
    def step(given: Surroundings) -> Step:
        from inference_workers.vectors.index_builder import IndexBuilder
        from inference_workers.vectors.result_vectors import SCHEMA, ResultVectors, folder_of
        from streams.archived.parquet_step import ParquetStep

        topic = task.sink_consumption().topic
        folder = folder_of(Path(settings.vectors), task.name, KafkaAdmin(given.address).topic_id(topic.name))
        index = None
        if task.sink is VectorSink.FAISS:
            index = IndexBuilder(folder, given.clock, settings.vectors_index_s, DaemonThread("index"))
        reader = ResultVectors(topic, given.registry, given.metrics)
        return ParquetStep(folder, SCHEMA, reader.read, given.clock, settings.vectors_flush_s, beside=index)

    return step


def plan(task: Declaration, settings: VectorSettings) -> LoopPlan:
    return LoopPlan(
        consumption=task.sink_consumption(),
        build=build(task, settings),
        kind="sink",
        name=sink_of(task.name),
        limits=LIMITS,
        batches=IN_ORDER,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="inference_workers vectors", description="Keep the vectors of an embedding task.")
    parser.add_argument("task")
    parser.add_argument("--slot", type=whole(0), default=0, help="number of this process")
    chosen = parser.parse_args(arguments)

    def made() -> list[Loop]:
        settings = load(VectorSettings, os.environ)
        configure_logging(settings.log_json)
        task = task_with_sink(chosen.task)
        assert task.sink is not None
        require_libraries(task.sink)
        return [make_loop(plan(task, settings), settings, chosen.slot)]

    return serve(made)
