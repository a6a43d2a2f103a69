"""`python -m infra.run_module NAME …`: runs another package's command as `python -m NAME …` does, as people want it at a terminal.

Ctrl-C ends it with exit code 130 and no traceback, wherever it stands, imports included; what it prints of others' words moves no
terminal. Packages are named, never imported here."""

from __future__ import annotations

import runpy
import signal
import sys
from types import FrameType
from typing import Any

from streams.terminal_text import visible

INTERRUPTED = 130


class Shown:
    """A stream whose text has no character that a terminal obeys, but for line ends, tabs and the return of a progress line."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(visible(text, keep="\n\t\r"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def interrupt(number: int, frame: FrameType | None) -> None:
    """The first time only: what cleans up is not interrupted again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(words: list[str]) -> int:
    signal.signal(signal.SIGINT, interrupt)
    if not words[0].startswith("tests."):  # whose tables and colours are ours
        sys.stdout, sys.stderr = Shown(sys.stdout), Shown(sys.stderr)
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
