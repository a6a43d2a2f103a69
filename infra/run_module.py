"""`python -m infra.run_module NAME …`: runs `python -m NAME …` in a way that suits a terminal.

Ctrl-C and SIGTERM end it with exit code 130 and without a traceback, even during imports, after it has cleaned up: a benchmark that a
limit of time ends leaves no servers. Control characters in its output are escaped, because the output may contain untrusted text. The
module is given by name: this package does not import it."""

from __future__ import annotations

import runpy
import signal
import sys
from types import FrameType
from typing import Any

from streams.terminal_text import visible

INTERRUPTED = 130
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SafeStream:
    """A stream that escapes control characters, except line feeds, tabs and the carriage return of a progress line."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(visible(text, keep="\n\t\r"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler. Ignores further signals, so that cleaning up is not interrupted. Raises KeyboardInterrupt."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(words: list[str]) -> int:
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    if not words[0].startswith("tests."):  # they print trusted text, with colours
        sys.stdout, sys.stderr = SafeStream(sys.stdout), SafeStream(sys.stderr)
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
