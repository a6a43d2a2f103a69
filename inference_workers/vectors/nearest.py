"""`./millrace nearest TASK --text …`: the keys whose vectors are nearest to a text's.

The text goes through the task's topics like any other, without a key, so that its own vector is kept nowhere. It is compared with the
vectors of the version that answered, never with another's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.vectors.settings import VectorSettings
from inference_workers.vectors.vector_loops import require_libraries, task_with_sink
from schemas.errors import InvalidRequest, MillraceError
from streams.client import connect
from streams.kafka.admin import KafkaAdmin
from streams.process.arguments import whole
from streams.process.settings import load
from streams.terminal_text import as_json, visible


class NotAnswered(MillraceError):
    code = "not-answered"


class NoVectors(MillraceError):
    code = "no-vectors"


def main(arguments: Sequence[str]) -> int:
    """0 if something near was found, 1 with the reason otherwise."""
    parser = argparse.ArgumentParser(prog="./millrace nearest", description=__doc__)
    parser.add_argument("task")
    parser.add_argument("--text", required=True)
    parser.add_argument("--limit", type=whole(1, 10_000), default=10)
    parser.add_argument("--deadline-ms", type=whole(1, 86_400_000), default=10_000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    try:
        settings = load(VectorSettings, os.environ)
        task = task_with_sink(chosen.task)
        assert task.sink is not None
        require_libraries(task.sink)
        _show(_found(settings, task.name, chosen.text, chosen.limit, chosen.deadline_ms), chosen.json)
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return 0


def _found(settings: VectorSettings, task: str, text: str, limit: int, deadline_ms: int) -> Any:
    """Raises NotAnswered, NoVectors, and errors of the client and the broker."""
    from inference_workers.vectors.result_vectors import folder_of, misfit, space_folder
    from inference_workers.vectors.vector_search import nearest

    answer = asyncio.run(_answer(settings, task, text, deadline_ms))
    if answer["status"] != "ok":
        raise NotAnswered(f"{task} did not answer: {answer['status']}, {answer['error_code']}: {answer['error_message'] or ''}")
    if problem := misfit(answer, b""):
        raise InvalidRequest(f"the answer of {task} cannot be compared: {problem}")
    topic_id = KafkaAdmin(settings.address()).topic_id(f"{task}-results-v1")
    folder, space = folder_of(Path(settings.vectors), task, topic_id), space_folder(answer["space"], len(answer["embedding"]))
    found = nearest(folder, space, np.array(answer["embedding"], np.float32), limit)
    if not found.near:
        (version, *_) = [model["version"] for model in answer["models"]] or ["?"]
        raise NoVectors(
            f"no vectors of version {version} of {task} were written yet. Each version has its own: after a promotion, texts must be "
            f"sent again. A vector is written at most {settings.vectors_flush_s:g} s after its answer, if {task}.vectors runs "
            "(`./millrace status`)"
        )
    return found


async def _answer(settings: VectorSettings, task: str, text: str, deadline_ms: int) -> dict[str, Any]:
    async with connect(settings.bootstrap, settings.registry, "millrace nearest") as client:
        return await client.request(task, {"text": text}, key="", deadline_ms=deadline_ms)


def _show(found: Any, json_lines: bool) -> None:
    for near in found.near:
        print(as_json(asdict(near)) if json_lines else f"  {near.cosine:6.3f}  {visible(near.key, keep='')}")
    print(
        f"{found.searched} keys were searched, {found.indexed} of them by the index (recall {found.recall:.3f})", file=sys.stderr
    )
