"""A monitor in this process, on real servers, and a browser that opens it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from infra.local import processes
from infra.monitor import app, safety
from infra.monitor.services import Monitor
from infra.settings import StackSettings
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry
from tests.support.waiting import until

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CHROMIUM_HELP = "set MILLRACE_CHROMIUM to a Chromium or Chrome, or run: apt-get install --yes chromium"


@dataclass
class Site:
    """The monitor at an address. tokens: by role, as `safety.tokens` creates them."""

    base: str
    tokens: dict[str, str]

    def ask(
        self,
        path: str,
        body: Any = None,
        role: str = "",
        method: str = "",
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON of the answer; the body is sent if there is one."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        said = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {safety.token_for('ada', self.tokens[role])}"} if role else {}
        )
        request = urllib.request.Request(
            self.base + path, data, said | (headers or {}), method=method or ("GET" if data is None else "POST")
        )
        try:
            with OPENER.open(request, timeout=180) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text

    def get(self, path: str) -> Any:
        status, body = self.ask(path)
        assert status == 200, (status, body)
        return body


@contextmanager
def monitor(
    settings: StackSettings, address: KafkaAddress, ids: Registry, pages: Path | None = None
) -> Iterator[tuple[Site, Monitor]]:
    """A monitor that serves until the block ends, after its first snapshot."""
    tokens = safety.tokens(settings.run_folder / "monitor")
    made = Monitor(settings, address, ids, SystemClock(), tokens, pages, "built by nobody")
    port = processes.free_port()
    config = uvicorn.Config(app.create(made), port=port, log_level="warning", timeout_graceful_shutdown=2, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    site = Site(f"http://127.0.0.1:{port}", tokens)
    try:
        until(lambda: bool(server.started and made.watch.latest().at_ms), 30, lambda: "the monitor did not begin")
        yield site, made
    finally:
        made.end_streams()
        server.should_exit = True
        thread.join(45)


def chromium() -> str | None:
    """The first that exists: the browser in MILLRACE_CHROMIUM, Chromium or Chrome on the PATH, Playwright's own, Debian's
    package if we may install it. None if there is none."""
    named = os.environ.get("MILLRACE_CHROMIUM")
    if named:
        return named
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    own = sorted(Path.home().glob(".cache/ms-playwright/chromium-*/chrome-linux*/chrome"))
    if own:
        return str(own[-1])
    if os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *words], env=env, capture_output=True, timeout=900, check=False)
    return shutil.which("chromium")
