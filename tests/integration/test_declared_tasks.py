"""Declared tasks on the local stack: the page of docs/tasks/declare.md as a person follows it; then a text, a picture and a tabular task
whose workers are killed while requests are answered, and one is added, swapped and removed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from infra.local import processes, redis
from infra.settings import ROOT
from processors.features.feature_blob import EntityValues, pack
from processors.features.online_store import RedisStore
from schemas import catalogue
from schemas.features import USER
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from tests.support import own_task
from tests.support.checkpoints import table
from tests.support.declared_story import LATE_REQUESTS, REQUESTS, Plot, account, told
from tests.support.media import digit_seven
from tests.support.stack import Stack

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("declared")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    (folder / "home").mkdir()
    store = redis.start_redis(folder, folder / "redis.log")
    made = Stack(folder / "home", MILLRACE_DECLARATIONS=str(folder / "millrace.toml"), MILLRACE_REDIS=store.address)
    try:
        processes.wait_until(lambda: redis.answers(store.address), store, redis.START_LIMIT_S)
        yield made
    finally:
        made.run("down")
        processes.stop(store)


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


def test_three_tasks_answer_once_while_workers_are_killed_and_tasks_are_swapped_added_and_removed(
    stack: Stack, folder: Path
) -> None:
    for name, columns, classes in (("first", FRAUD, 2), ("second", FRAUD, 3), ("late", ("amount",), 2)):
        (folder / name).mkdir()
        table(folder / name, columns, classes)
    with (folder / "millrace.toml").open("a") as file:
        file.write(DECLARED)
    stack.succeed("up")
    bought = {f"u-{n}": 100 * (n % 2) for n in range(10)}
    _keep_in_the_online_store(stack, bought)
    plot = Plot(
        requests={
            "mood": lambda n: {"text": TEXTS[n % 2]},
            "digits": lambda n: {"image": {"data": digit_seven()}, "top": 1},
            "fraud": lambda n: {"numbers": {"amount": -50.0}, "user_id": f"u-{n % 10}"},
        },
        late="late",
        late_words=("--kind", "tabular", "--model", f"file:{folder / 'late' / 'model.onnx'}"),
        late_requests=lambda n: {"numbers": {"amount": float(n)}},
        swapped="fraud",
        address=f"file:{folder / 'second' / 'model.onnx'}",
        removed="mood",
    )
    os.environ[catalogue.VARIABLE] = str(stack.home / "run" / "tasks.toml")
    try:
        traffic = told(stack, plot)
    finally:
        del os.environ[catalogue.VARIABLE]
    accounts = {task: account(stack, task) for task in (*plot.requests, plot.late)}
    for task, of in accounts.items():
        assert of.problems == []
        assert len(of.results) == of.requests == traffic.asked[task] >= (LATE_REQUESTS if task == plot.late else REQUESTS)
        assert Counter(result["status"] for result in of.results) == {"ok": of.requests}, task
        assert of.dead_letters == 0
    assert traffic.asked["mood"] == REQUESTS
    versions = Counter(result["models"][0]["version"] for result in accounts["fraud"].results)
    assert len(versions) == 2, f"both versions answered: {versions}"
    for fields, answer in traffic.answers["fraud"]:
        assert (answer["labels"][0]["label"] == "0") == (bought[fields["user_id"]] == 0), "the user's purchases decide"
    assert {result["classes"][0]["label"] for result in accounts["digits"].results} == {"7"}
    spam = [{label["label"]: label["positive"] for label in result["labels"]}["spam"] for result in accounts["mood"].results]
    assert Counter(spam) == {True: REQUESTS // 2, False: REQUESTS // 2}
    assert "mood" not in stack.succeed("tasks", "list") + stack.succeed("status")


FRAUD = ("amount", "user:total_purchases")
TEXTS = ("You have won a FREE prize, call now to claim", "Shall we meet by the river at four?")
DECLARED = """
[tasks.mood]
kind = "text-classification"
model = "shipped:moderation-text"

[tasks.digits]
kind = "image-classification"
model = "shipped:vision-digits"

[tasks.fraud]
kind = "tabular"
model = "file:first/model.onnx"
features = ["user:total_purchases"]
"""


def _keep_in_the_online_store(stack: Stack, bought: Mapping[str, int]) -> None:
    """Purchases by user, as the sink writes them."""
    now_ms = SystemClock().now_ms()
    store = RedisStore(stack.env["MILLRACE_REDIS"])
    values = {user: {**USER.defaults(), "total_purchases": n} for user, n in bought.items()}
    blobs = {user: pack(USER, EntityValues((1, now_ms), now_ms, None, now_ms, of)) for user, of in values.items()}
    assert store.write(USER, blobs) == []
    store.close()


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
