"""Declared tasks on the local stack: the page of docs/tasks/declare.md as a person follows it, then a task that is added, killed, swapped
and removed while requests are answered."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.settings import ROOT
from schemas import catalogue
from streams.client import connect
from streams.kafka.admin import KafkaAdmin
from tests.support import own_task
from tests.support.checkpoints import table
from tests.support.stack import Stack

pytestmark = pytest.mark.real

REQUESTS = 1_000
MOST_REQUESTS = 6_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("declared")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    (folder / "home").mkdir()
    made = Stack(folder / "home", MILLRACE_DECLARATIONS=str(folder / "millrace.toml"))
    try:
        yield made
    finally:
        made.run("down")


def test_the_page_takes_a_person_to_a_task_of_their_own(stack: Stack, folder: Path) -> None:
    for line in own_task.write(folder):
        words = shlex.split(line)
        if words[0] == "./millrace":
            words = [str(folder / word) if word == "mine/model" else word for word in words[1:]]
            done = stack.run(*words)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        else:
            subprocess.run(line, shell=True, cwd=folder, check=True)
    assert "words: 4" in done.stdout
    stack.connect()


def test_a_task_is_added_killed_and_swapped_while_requests_are_answered(stack: Stack, folder: Path) -> None:
    for name, classes in (("first", 2), ("second", 3)):
        (folder / name).mkdir()
        table(folder / name, ("amount",), classes)
    added = stack.run("tasks", "add", "fraud", "--kind", "tabular", "--model", f"file:{folder / 'first' / 'model.onnx'}")
    assert added.returncode == 0, added.stdout + added.stderr
    assert 'model = "file:first/model.onnx"' in (folder / "millrace.toml").read_text(), "paths start where the file lies"
    os.environ[catalogue.VARIABLE] = str(stack.home / "run" / "tasks.toml")
    try:
        harm = threading.Thread(target=_harm, args=(stack, folder))
        harm.start()
        answers = asyncio.run(_requests(stack))
        harm.join(360)
        asked = len(answers)
        assert Counter(answer["status"] for answer in answers) == {"ok": asked}
        results = stack.records("fraud-results-v1")
    finally:
        del os.environ[catalogue.VARIABLE]
    assert len(results) == len({result["request_id"] for result in results}) == asked, "each request has one result"
    versions = Counter(result["models"][0]["version"] for result in results)
    assert len(versions) == 2, f"both versions answered: {versions}"
    assert {result["models"][0]["name"] for result in results} == {"fraud"}


def _harm(stack: Stack, folder: Path) -> None:
    time.sleep(2)
    stack.kill("fraud-0")
    time.sleep(6)
    stack.training(["promote", "fraud", f"file:{folder / 'second' / 'model.onnx'}", "--reason", "a test"])


async def _requests(stack: Stack) -> list[dict[str, Any]]:
    """50 requests per second, at least REQUESTS, until both versions have answered: they meet what is done to the worker."""
    async with connect(stack.address.bootstrap, stack.registry.url, "test") as client:
        versions: set[str] = set()

        async def ask(number: int) -> dict[str, Any]:
            fields = {"numbers": {"amount": float(number)}, "categories": {}}
            answer = await client.request("fraud", fields, deadline_ms=90_000)
            versions.update(model["version"] for model in answer["models"])
            return answer

        asked: list[asyncio.Task[dict[str, Any]]] = []
        while len(asked) < REQUESTS or (len(versions) < 2 and len(asked) < MOST_REQUESTS):
            asked.append(asyncio.create_task(ask(len(asked))))
            await asyncio.sleep(0.02)
        return await asyncio.gather(*asked)


def test_a_task_is_not_removed_while_requests_wait(stack: Stack) -> None:
    stack.signal("mine-0", signal.SIGSTOP)
    sent = stack.run("send", "mine", "--request", '{"text": "one two"}', "--deadline-ms", "500")
    assert sent.returncode == 1, "nobody answered"
    refused = stack.run("tasks", "remove", "mine")
    assert (refused.returncode, "1 requests of mine wait" in refused.stderr) == (1, True), refused.stdout + refused.stderr
    stack.signal("mine-0", signal.SIGCONT)
    until_s = time.monotonic() + 180
    while (removed := stack.run("tasks", "remove", "mine")).returncode != 0:
        assert time.monotonic() < until_s, removed.stderr
        time.sleep(1)
    rows = {row["task"]: row for row in map(json.loads, stack.run("tasks", "list", "--json").stdout.splitlines())}
    assert "mine" not in rows
    assert rows["fraud"]["state"] == "running"
    assert "mine-requests-v1" in KafkaAdmin(stack.address).partitions(), "its data are kept"
    assert "[tasks.fraud]" in (stack.home.parent / "millrace.toml").read_text()
    deleted = stack.run("tasks", "remove", "mine", "--delete-data")
    assert deleted.returncode == 0, deleted.stderr
    assert not [name for name in KafkaAdmin(stack.address).partitions() if name.startswith("mine-")]
    assert not [name for name in stack.registry.subjects() if name.startswith("mine-")]


def test_a_task_whose_worker_does_not_start_leaves_nothing(stack: Stack, folder: Path) -> None:
    own_task.write(folder / "other")
    code = folder / "other" / "mine" / "task.py"
    code.write_text(code.read_text().replace("def load(self, folder, model):", BREAKS))
    before = (folder / "millrace.toml").read_text()
    added = stack.run("tasks", "add", "broken", "--code", str(code), "--model", f"folder:{folder / 'mine' / 'model'}")
    assert added.returncode == 1
    assert "only as a worker" in added.stderr
    assert (folder / "millrace.toml").read_text() == before
    assert not [name for name in KafkaAdmin(stack.address).partitions() if name.startswith("broken-")]
    assert not [name for name in stack.registry.subjects() if name.startswith("broken-")]
    assert "broken" not in stack.run("status").stdout
    (code.parent / "result.avsc").write_text('{"type": "record", "name": "R", "fields": [{"name": "words", "type": "int"}]}')
    refused = stack.run("tasks", "add", "broken", "--code", str(code), "--model", f"folder:{folder / 'mine' / 'model'}")
    assert "needs a default" in refused.stderr


def test_one_task_that_does_not_start_keeps_nothing_else_from_starting(stack: Stack, folder: Path) -> None:
    own_task.write(folder / "third")
    code = folder / "third" / "mine" / "task.py"
    file, before = folder / "millrace.toml", (folder / "millrace.toml").read_text()
    added = stack.run("tasks", "add", "edited", "--code", str(code), "--model", f"folder:{folder / 'mine' / 'model'}")
    assert added.returncode == 0, added.stderr
    code.write_text(code.read_text().replace("def load(self, folder, model):", BREAKS))
    stack.env["MILLRACE_MONITOR"] = "true"
    try:
        started = stack.run("up")  # the code was edited, so its worker starts again
    finally:
        stack.env["MILLRACE_MONITOR"] = "false"
    assert started.returncode == 1
    assert "only as a worker" in started.stderr
    assert "./millrace tasks remove edited" in started.stderr
    assert "✓ monitor" in started.stdout  # comes after the loops
    assert stack.run("tasks", "remove", "edited", "--delete-data").returncode == 0
    mistyped = stack.run("tasks", "remove", "editde", "--delete-data")
    assert mistyped.returncode == 1
    assert "no declared task is called 'editde'" in mistyped.stderr
    assert file.read_text().strip() == before.strip()


# A process of the stack has this variable, the check before it does not.
BREAKS = """def load(self, folder, model):
        import os

        if os.environ.get("MILLRACE_LOG"):
            raise ValueError("only as a worker")"""


def test_the_page_shows_what_the_stack_knows() -> None:
    done = subprocess.run(
        ["grep", "-c", "^| `.*` | .* → .* |", str(own_task.PAGE)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    from schemas.declared.task_kinds import TaskKind

    assert int(done.stdout) == len(TaskKind)
