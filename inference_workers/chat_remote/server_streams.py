"""Streams of a server's events, each on a task of one thread's event loop. The only module that imports httpx.

A stream gives its engine the data of each event, then None where it ended, or the error that ended it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Future
from contextlib import aclosing
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import httpx

from inference_workers.chat.engine import Full
from inference_workers.chat_remote.dialects import Broken, Junk, words
from schemas.errors import BadSettings, DependencyUnavailable, InvalidRequest

CONNECT_LIMIT_S, CLOSE_LIMIT_S = 5.0, 5.0
MOST_EVENT_BYTES = 2 * 1024 * 1024  # vLLM names the tokens of the prompt in its first event
MOST_ERROR_BYTES = 64 * 1024
MOST_UNREAD = 10_000  # events; streams wait while an engine reads them
BUSY_RETRY_MS, MOST_RETRY_S = 1_000, 600
OWN_FAULT, BUSY, BROKEN = (400, 413, 422), (429, 503), (500,)


class Stream:
    """One answer that is being made, once."""

    def __init__(self) -> None:
        self.task: Future[None] | None = None

    def close(self) -> None:
        """The connection closes, by which the server knows that nobody waits. Does not block."""
        if self.task is not None:
            self.task.cancel()


Event = tuple[Stream, str | Exception | None]


class ServerStreams:
    """address: with `/v1`. wait_s: longest wait for the next event, as each says something of a token. Raises BadSettings."""

    def __init__(self, address: str, key: str, wait_s: float) -> None:
        try:
            url = httpx.URL(address)
        except (httpx.InvalidURL, TypeError) as error:
            raise BadSettings(f"MILLRACE_CHAT_BACKEND is no address: {error}") from error
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or (url.port or 0) > 65_535:
            raise BadSettings(
                "MILLRACE_CHAT_BACKEND must be local, or http(s)://HOST:PORT/v1 without a user, a password or a query"
            )
        if not all(33 <= ord(character) < 127 for character in key):
            raise BadSettings("MILLRACE_CHAT_SERVER_KEY must be of letters, digits and signs of ASCII, without spaces")
        self._url, self._wait_s = f"{address.rstrip('/')}/completions", wait_s
        self._headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._client: httpx.AsyncClient | None = None
        self._thread = Thread(target=self._run, name="chat-server", daemon=True)
        self._thread.start()

    def open(self, body: dict[str, Any]) -> Stream:
        """Ask the server, without waiting."""
        stream = Stream()
        stream.task = asyncio.run_coroutine_threadsafe(self._follow(stream, body), self._loop)
        return stream

    def events(self, wait_s: float) -> list[Event]:
        """All since the last call; waits at most `wait_s` for a first one."""
        found: list[Event] = []
        try:
            found.append(self._events.get(timeout=wait_s))
            while True:
                found.append(self._events.get_nowait())
        except Empty:
            return found

    def close(self) -> None:
        """Closes all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_LIMIT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=8)
        timeout = httpx.Timeout(self._wait_s, connect=min(CONNECT_LIMIT_S, self._wait_s))
        self._client = httpx.AsyncClient(headers=self._headers, limits=limits, timeout=timeout, trust_env=False)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, self._client.aclose(), return_exceptions=True))
            self._loop.close()

    async def _follow(self, stream: Stream, body: dict[str, Any]) -> None:
        try:
            async with aclosing(self._asked(body)) as parts:
                async for data in parts:
                    while self._events.qsize() > MOST_UNREAD:
                        await asyncio.sleep(0.01)
                    self._events.put((stream, data))
            self._events.put((stream, None))
        except Exception as error:
            self._events.put((stream, _named(error)))

    async def _asked(self, body: dict[str, Any]) -> AsyncGenerator[str, None]:
        assert self._client is not None
        async with asyncio.timeout(self._wait_s) as limit:  # httpx limits each read, and a server may send a byte at a time
            async with self._client.stream("POST", self._url, json=body) as answer:
                if answer.status_code != 200:
                    raise await _refusal(answer)
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    raise Junk(
                        f"the server answered with {answer.headers.get('content-type', 'nothing')!r:.60}, not with a stream"
                    )
                async for line in _lines(answer):
                    if line.startswith(b"data:"):
                        data = line[5:].strip().decode(errors="replace")
                        if data == "[DONE]":
                            return
                        limit.reschedule(asyncio.get_running_loop().time() + self._wait_s)
                        yield data
                    elif line.startswith(b"error:"):  # of llama.cpp
                        raise Broken(f"the server gave up: {words(line[6:].strip().decode(errors='replace'))}")


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Raises Junk on a line that does not end."""
    rest = b""
    async for piece in answer.aiter_raw():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > MOST_EVENT_BYTES:
            raise Junk(f"the server sent a line of more than {MOST_EVENT_BYTES} bytes")
    yield rest


async def _refusal(answer: httpx.Response) -> Exception:
    raw = b""
    async for piece in answer.aiter_raw():
        raw += piece[: MOST_ERROR_BYTES - len(raw)]
        if len(raw) >= MOST_ERROR_BYTES:
            break
    text = raw.decode(errors="replace")
    try:
        told = words(json.loads(text))
    except (ValueError, RecursionError):
        told = words(text)
    status = answer.status_code
    if status in OWN_FAULT:
        return InvalidRequest(f"the server refused the request with {status}: {told}")
    if status in BUSY:
        after = answer.headers.get("retry-after", "")
        after_ms = min(int(after), MOST_RETRY_S) * 1000 if after.isascii() and after.isdigit() and len(after) < 10 else 0
        return Full(f"the server is busy, with {status}: {told}", after_ms or BUSY_RETRY_MS)
    if status in BROKEN:
        return Broken(f"the server failed with {status}: {told}")
    return DependencyUnavailable(f"the server answers with {status}: {told}")


def _named(error: Exception) -> Exception:
    """Errors of the library as ours: unreachable for all, or broken for this answer."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return DependencyUnavailable(f"the server cannot be reached: {words(str(error) or type(error).__name__)}")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return Broken("the server sent nothing for as long as MILLRACE_CHAT_SERVER_WAIT_S allows")
    if isinstance(error, httpx.HTTPError | httpx.StreamError):
        return Broken(f"the connection broke: {type(error).__name__}: {words(str(error))}")
    return error
