"""HTTP to servers of the stack goes to them alone, and what is no answer is None."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from streams.local_http import json_of, page_answers

PAGES = {"/json": (200, b'{"slots": 8}'), "/text": (200, b"ready"), "/error": (500, b"{}"), "/created": (201, b"{}")}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = PAGES.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_no_proxy_is_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert page_answers(f"{address}/text")
    assert json_of(f"{address}/json") == {"slots": 8}


def test_only_a_page_with_status_200_answers(address: str) -> None:
    answers = {path: page_answers(address + path) for path in (*PAGES, "/nowhere")}
    assert answers == {"/json": True, "/text": True, "/error": False, "/created": False, "/nowhere": False}
    assert not page_answers("http://127.0.0.1:9/")


def test_an_answer_that_is_not_json_is_none(address: str) -> None:
    assert [json_of(address + path) for path in ("/text", "/error", "/nowhere")] == [None, None, None]
    assert json_of("http://127.0.0.1:9/") is None
