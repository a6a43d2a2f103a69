"""A server of `/v1/completions` on loopback that streams as vLLM does, and misbehaves as a test wants.

Its model is a rule: the next token follows from the tokens before it, so that an answer goes on in the same way from any prefix.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Decode = Callable[[list[int]], str]
Answer = Callable[["Asked"], None]
LETTERS = range(68, 94)  # tokens of tiny_llama that are one visible character each


def following(tokens: list[int]) -> int:
    return LETTERS[(sum(tokens) * 7 + len(tokens)) % len(LETTERS)]


def continued(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(following(tokens))
    return tokens[len(prompt) :]


class Asked:
    """One request, and the means to answer it."""

    def __init__(self, connection: BaseHTTPRequestHandler, body: dict[str, Any], decode: Decode) -> None:
        self.connection, self.body, self.decode = connection, body, decode

    def status(self, status: int, body: bytes, **headers: str) -> None:
        self.connection.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.connection.send_header(name.replace("_", "-"), value)
        self.connection.end_headers()
        self.connection.wfile.write(body)

    def begin(self, content_type: str = "text/event-stream; charset=utf-8") -> None:
        self.connection.send_response(200)
        self.connection.send_header("Content-Type", content_type)
        self.connection.end_headers()

    def event(self, event: Any) -> None:
        self.raw(b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n")

    def raw(self, data: bytes) -> None:
        self.connection.wfile.write(data)
        self.connection.wfile.flush()

    def choice(self, **fields: Any) -> None:
        self.event({"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0, **fields}]})

    def token(self, token: int, **fields: Any) -> None:
        said = {"text": self.decode([token]), "token_ids": [token], "logprobs": None, "finish_reason": None}
        self.choice(**{**said, **fields})

    def tokens(self, count: int) -> None:
        """The next tokens after the prompt. Raises BrokenPipeError where the caller has gone."""
        for token in continued(self.body["prompt"], count):
            self.token(token)
            self.connection.server.gate.wait(30)  # type: ignore[attr-defined]
            time.sleep(self.connection.server.between_s)  # type: ignore[attr-defined]

    def end(self, reason: str = "length") -> None:
        self.choice(text="", token_ids=[], finish_reason=reason)
        self.event({"choices": [], "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}})
        self.event(b"[DONE]")

    def well(self) -> None:
        self.begin()
        self.tokens(self.body["max_tokens"])
        self.end()


class CompletionServer(ThreadingHTTPServer):
    """answers: what the next requests get, in order; the rest are answered well. gone: answers whose caller left before their end.
    gate: while it is cleared, streams stand still after a token."""

    daemon_threads = True

    def __init__(self, decode: Decode, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.decode, self.answers, self.bodies = decode, list[Answer](), list[dict[str, Any]]()
        self.headers: list[dict[str, str]] = []
        self.gone, self.between_s, self.gate = 0, 0.0, threading.Event()
        self.gate.set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.gone += 1


class _Connection(BaseHTTPRequestHandler):
    server: CompletionServer

    def do_POST(self) -> None:
        assert self.path == "/v1/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.headers.append(dict(self.headers))
        answer = self.server.answers.pop(0) if self.server.answers else Asked.well
        answer(Asked(self, body, self.server.decode))

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def completion_server(decode: Decode, port: int = 0) -> Iterator[CompletionServer]:
    server = CompletionServer(decode, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
