"""Chat on real Kafka: callers read the same tokens whatever becomes of the worker, and the door speaks OpenAI's API."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest

from infra.local import processes
from infra.settings import ROOT
from streams import local_http
from streams.chat_client import ChatClient, connect_chat
from streams.schema_registry import Registry
from tests.chaos.chat_workers import CONTEXT_TOKENS, ChatWorkers
from tests.conftest import Servers
from tests.support.chat_callers import Read, conversation, converse, result_counts
from tests.support.tiny_llama import tiny_llama
from tests.support.waiting import until

pytestmark = pytest.mark.real
CALLERS, TOKENS = 8, 200


@pytest.fixture(scope="module")
def workers(servers: Servers) -> Iterator[ChatWorkers]:
    made = ChatWorkers(servers, MILLRACE_CHAT__MAX_WAITING="24")
    try:
        made.start().wait_assigned(180)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def undisturbed(servers: Servers, workers: ChatWorkers) -> list[Read]:
    read: list[Read] = run(servers, lambda chat: converse(chat, REQUESTS))
    return read


REQUESTS = [conversation(number, TOKENS) for number in range(CALLERS)]


def run(servers: Servers, work: Callable[[ChatClient], Coroutine[Any, Any, Any]]) -> Any:
    async def connected() -> Any:
        async with connect_chat(servers.bootstrap, servers.registry, "test") as chat:
            return await work(chat)

    return asyncio.run(connected())


def in_mid_answer(read: list[Read]) -> bool:
    """Whether each answer that goes on has begun, and at least half of them go on."""
    going_on = [one for one in read if not one.result]
    return len(going_on) >= CALLERS // 2 and all(len(one.tokens) >= 3 for one in going_on)


def check(servers: Servers, read: list[Read], undisturbed: list[Read]) -> None:
    for mine, wanted in zip(read, undisturbed, strict=True):
        assert mine.tokens == wanted.tokens, "a caller read other tokens than without the disturbance"
        assert (mine.result["status"], mine.result["text"]) == ("ok", wanted.text)
    counts = result_counts(servers.address, Registry(servers.registry), [one.request_id for one in read])
    assert set(counts.values()) == {1}, counts


def test_answers_go_on_where_a_killed_worker_left_them(servers: Servers, workers: ChatWorkers, undisturbed: list[Read]) -> None:
    killed = workers.newest

    def kill(read: list[Read]) -> None:
        if killed.process.poll() is None and killed is workers.newest and in_mid_answer(read):
            killed.signal(signal.SIGKILL)
            workers.start()

    read = run(servers, lambda chat: converse(chat, REQUESTS, kill))
    assert killed.wait_dead() == -signal.SIGKILL, "nothing was disturbed"
    check(servers, read, undisturbed)


def test_a_worker_that_slept_longer_than_its_session_harms_nobody(
    servers: Servers, workers: ChatWorkers, undisturbed: list[Read]
) -> None:
    asleep = workers.newest

    def stop(read: list[Read]) -> None:
        if asleep is workers.newest and in_mid_answer(read):
            asleep.signal(signal.SIGSTOP)
            workers.start()

    read = run(servers, lambda chat: converse(chat, REQUESTS, stop))
    assert asleep is not workers.newest, "nothing was disturbed"
    asleep.signal(signal.SIGCONT)
    until(lambda: asleep.said('"lost": true'), 30, "the worker that slept learns that it lost its partitions")
    check(servers, read, undisturbed)
    again = run(servers, lambda chat: converse(chat, REQUESTS))  # both work now
    check(servers, again, undisturbed)


def test_cancel_busy_and_deadline_are_answered(servers: Servers, workers: ChatWorkers) -> None:
    async def work(chat: ChatClient) -> None:
        ended = await asyncio.gather(*(_cancelled(chat, number) for number in range(CALLERS)))
        assert {result["status"] for result in ended} == {"ok"}
        cancelled = [result for result in ended if result["finish_reason"] == "cancelled"]
        assert len(cancelled) >= CALLERS // 2, "the others ended by themselves before"
        assert all(4 <= result["completion_tokens"] < 2_000 for result in cancelled)
        late = await chat.ask(conversation(2, 2_000), deadline_ms=700).result
        assert (late["status"], late["error_code"]) == ("expired", "deadline")
        many = [chat.ask(conversation(number, 600), deadline_ms=240_000) for number in range(160)]
        results = [await one.result for one in many]
        busy = [one for one in results if one["status"] == "busy"]
        assert busy and all(one["retry_after_ms"] > 0 for one in busy)
        assert {one["status"] for one in results} == {"ok", "busy"}
        refused = [one for one, result in zip(many, results, strict=True) if result in busy]
        tokens = [[token async for token in one] for one in refused]
        assert not any(tokens), "a busy answer has no tokens, and its stream ends"

    run(servers, work)


def test_a_conversation_is_kept_by_the_service_also_by_another_worker(servers: Servers, workers: ChatWorkers) -> None:
    async def work(chat: ChatClient) -> None:
        options = {"conversation_id": f"c-{chat.now_ms()}", "continues": True, "max_tokens": 12, "temperature": 1.0, "seed": 3}
        before = 0
        for number, question in enumerate(("hello", "and then", "why")):
            if number == 2:
                for worker in workers.alive:
                    worker.signal(signal.SIGKILL)
                workers.start()
            asked = {**options, "messages": [{"role": "user", "content": question}]}
            result = await chat.ask(asked, deadline_ms=120_000).result
            assert (result["status"], result["history_messages"]) == ("ok", 2 * number)
            assert result["prompt_tokens"] > before
            before = result["prompt_tokens"]

    run(servers, work)


def test_a_version_is_promoted_while_answers_are_made(servers: Servers, workers: ChatWorkers) -> None:
    folder = tiny_llama(servers.folder / "promoted", max_position_embeddings=CONTEXT_TOKENS, note="another version")

    async def work(chat: ChatClient) -> None:
        begun = chat.ask(conversation(1, 400), deadline_ms=120_000)
        async for token in begun:
            if token.sequence == 3:
                break
        old = begun.streams.stream(begun.request_id).state.begun["version"]
        words = ["promote", "chat", f"file:{folder}", "--reason", "a test"]
        env = {"MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "training_triggers", *words]
        done = await asyncio.to_thread(
            subprocess.run, command, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=360
        )
        assert done.returncode == 0, done.stderr
        for _ in range(100):
            result = await chat.ask(conversation(2, 4), deadline_ms=120_000).result
            if result["models"][0]["version"] != old:
                break
            await asyncio.sleep(0.5)
        assert (result["status"], result["models"][0]["name"]) == ("ok", "promoted")
        first = await begun.result
        assert (first["status"], first["models"][0]["version"]) == ("ok", old)

    run(servers, work)


async def _cancelled(chat: ChatClient, number: int) -> dict[str, Any]:
    asking = chat.ask(conversation(number, 2_000))
    async for token in asking:
        if token.sequence == 3:
            await chat.cancel(asking.request_id)
    return await asking.result


# --- the door ---------------------------------------------------------------------------------------------------------


@contextmanager
def open_door(servers: Servers) -> Iterator[str]:
    port = processes.free_port()
    env = {"MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry, "PYTHONPATH": str(ROOT)}
    with (servers.folder / "door.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "infra.openai_door", "--port", str(port)],
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        until(lambda: local_http.page_answers(f"http://127.0.0.1:{port}/health"), 30, "the door")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()  # a door keeps nothing that another could not read
        child.wait(30)


@pytest.fixture(scope="module")
def door(servers: Servers, workers: ChatWorkers) -> Iterator[str]:
    with open_door(servers) as address:
        yield address


ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello friend"}],
    "temperature": 1.0,
    "seed": 5,
    "max_tokens": 40,
}


def test_openais_client_talks_with_the_door(door: str) -> None:
    client = openai.OpenAI(base_url=f"{door}/v1", api_key="none", max_retries=0)
    until(lambda: bool(client.models.list().data), 30, "a model")
    model = client.models.list().data[0].id
    whole = client.chat.completions.create(model=model, **ASKED)
    streamed = list(client.chat.completions.create(model=model, stream=True, stream_options={"include_usage": True}, **ASKED))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == whole.choices[0].message.content
    assert streamed[-1].usage == whole.usage
    assert whole.usage is not None and 0 < whole.usage.completion_tokens <= 40
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert streamed[0].choices[0].delta.role == "assistant"
    plain = client.completions.create(model=model, prompt="hello there", max_tokens=8, temperature=0)
    assert plain.usage is not None and plain.usage.completion_tokens <= 8
    named = client.chat.completions.create(model=model, logprobs=True, top_logprobs=2, **ASKED)
    logprobs = named.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in logprobs.content)
    with pytest.raises(openai.NotFoundError, match="there is no model"):
        client.chat.completions.create(model="other", **ASKED)
    with pytest.raises(openai.BadRequestError, match="top_p is 2"):
        client.chat.completions.create(model=model, **{**ASKED, "top_p": 2.0})
    with pytest.raises(openai.BadRequestError, match="messages is empty"):
        client.chat.completions.create(model=model, **{**ASKED, "messages": []})
    with pytest.raises(openai.NotFoundError, match="no embedding task"):
        client.embeddings.create(model="none", input="x")


def test_a_stream_that_was_cut_is_picked_up_again_by_its_id_at_any_door(servers: Servers, door: str) -> None:
    def events(lines: Iterator[str], most: int = 10_000) -> list[tuple[int, dict[str, Any]]]:
        found, position = [], 0
        for line in lines:
            if line.startswith("id: "):
                position = int(line.removeprefix("id: "))
            elif line.startswith("data: {"):
                found.append((position, json.loads(line.removeprefix("data: "))))
                if len(found) == most:
                    break
        return found

    def text(of: list[tuple[int, dict[str, Any]]]) -> str:
        return "".join(one["choices"][0]["delta"].get("content", "") for _, one in of if one["choices"])

    body = {**ASKED, "max_tokens": 100, "stream": True}
    with httpx.stream("POST", f"{door}/v1/chat/completions", json=body, timeout=180) as answer:
        complete = events(answer.iter_lines())
    with httpx.stream("POST", f"{door}/v1/chat/completions", json=body, timeout=180) as answer:
        first = events(answer.iter_lines(), most=5)  # and the connection breaks
    position, chunk = first[-1]
    url = f"{door}/v1/chat/completions/{chunk['id']}/events"
    with httpx.stream("GET", url, headers={"Last-Event-ID": str(position)}, timeout=180) as answer:
        rest = events(answer.iter_lines())
    assert text(first) + text(rest) == text(complete)
    assert [one["choices"][0]["finish_reason"] for _, one in rest if one["choices"]][-1] is not None
    assert httpx.get(f"{door}/v1/chat/completions/none/events").status_code == 404
    with open_door(servers) as another:
        path = f"{another}/v1/chat/completions/{chunk['id']}/events?after={position}"
        until(lambda: httpx.get(path, timeout=180).status_code == 200, 30, "a door that read what was there before it")
        with httpx.stream("GET", path, timeout=180) as answer:
            assert text(first) + text(events(answer.iter_lines())) == text(complete)


def test_the_door_refuses_other_hosts_and_what_is_no_request(door: str) -> None:
    url = f"{door}/v1/chat/completions"
    assert httpx.post(url, json=ASKED, headers={"Host": "evil.example"}).status_code == 403
    assert httpx.post(url, json=ASKED, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.post(url, content=json.dumps(ASKED), headers={"Content-Type": "text/plain"}).status_code == 400
    as_json = {"Content-Type": "application/json"}
    assert httpx.post(url, content=b"{", headers=as_json).status_code == 400
    assert httpx.post(url, content=b"x" * (5 * 1024 * 1024), headers=as_json).status_code == 413
