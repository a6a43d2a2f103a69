"""Real OpenAI-compatible servers of a tiny model, as processes on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.settings import ROOT
from streams import local_http
from tests.support.tiny_gguf import tiny_gguf
from tests.support.waiting import until

START_LIMIT_S = 120


@contextmanager
def transformers_serve(model: Path, log: Path, port: int) -> Iterator[str]:
    """Its address. One answer at a time: continuous batching wants a GPU."""
    words = ["-m", "transformers.cli.transformers", "serve", str(model), "--device", "cpu", "--host", "127.0.0.1"]
    with _running(words, log, port, {"HF_HUB_OFFLINE": "1"}) as address:
        yield address


@contextmanager
def llama_cpp(model: Path, log: Path, port: int, key: str = "") -> Iterator[str]:
    """llama.cpp's own server, out of the package xllamacpp."""
    file = tiny_gguf(model, log.with_suffix(".gguf"))
    with _running(["-m", "tests.support.llama_cpp_server", str(file)], log, port, {"LLAMA_KEY": key}) as address:
        yield address


@contextmanager
def _running(words: list[str], log: Path, port: int, env: dict[str, str]) -> Iterator[str]:
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, *words, "--port", str(port)],
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
    try:
        url = f"http://127.0.0.1:{port}/health"
        until(lambda: child.poll() is not None or local_http.page_answers(url), START_LIMIT_S, "the server")
        assert child.poll() is None, log.read_text()[-2_000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.kill()
        child.wait(30)
