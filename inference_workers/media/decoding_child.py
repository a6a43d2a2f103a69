"""A child process that decodes hostile files: bounded in memory and time, replaced when it dies, one job after another.

A fault in a native decoder ends the child and refuses the one file; the worker and its other records go on.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import structlog

from inference_workers.media import sounds, stills, videos
from inference_workers.media.formats import MOST_VIEWS, Caps, Looks
from inference_workers.networks.pictures import Fit
from schemas.errors import MediaRefused, RetryLater

START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Job:
    """One file. what: looks, frames or sound; to: the Fit of a picture or frame, or the samples a second. most: views that come back."""

    what: str
    data: bytes
    to: Fit | int
    most: int = MOST_VIEWS


_WORK: dict[str, Callable[[bytes, Any, Caps], Any]] = {"looks": stills.looks, "frames": videos.frames, "sound": sounds.sound}


def _serve(pipe: Connection, caps: Caps, memory_bytes: int) -> None:
    import av  # loaded before the limit, so that what is left is for decoding
    import PIL.Image
    import soundfile

    assert av and PIL.Image and soundfile
    PIL.Image.init()
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send("ready")
    while True:
        job = pipe.recv()
        try:
            answer: Any = _WORK[job.what](job.data, job.to, caps)
            if isinstance(answer, Looks):
                answer = answer.first(job.most)
        except MediaRefused as refused:
            answer = refused
        except MemoryError:
            answer = MediaRefused("the file needs more memory than the decoder has")
        pipe.send(answer)


class DecodingChild:
    """Decodes jobs in order. Each gets an answer or a MediaRefused; never raises for a file.

    memory_bytes: what decoding may take beyond the libraries. limit_s: for one file.
    """

    def __init__(self, caps: Caps, memory_bytes: int = 768 * 1024 * 1024, limit_s: float = 20.0) -> None:
        self._caps, self._memory_bytes, self._limit_s = caps, memory_bytes, limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._ready = False

    def decode(self, jobs: Sequence[Job]) -> list[Any]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Any:
        pipe = self._started()
        try:
            pipe.send(job)
            if not pipe.poll(self._limit_s):
                self.close()
                return MediaRefused(f"decoding was not done after {self._limit_s:.0f} s")
            return pipe.recv()
        except (EOFError, OSError):
            code = self.close()
            structlog.get_logger().warning("decoder died", code=code)
            return MediaRefused(f"the decoder died of the file (exit code {code})")

    def _started(self) -> Connection:
        """Raises RetryLater where the child does not start: that is no fault of the file."""
        if self._child is None or self._child.poll() is not None:
            self.start()
        assert self._pipe is not None
        if self._ready:
            return self._pipe
        try:
            if self._pipe.poll(START_LIMIT_S) and self._pipe.recv() == "ready":
                self._ready = True
                return self._pipe
        except (EOFError, OSError):
            pass
        raise RetryLater(f"the decoder does not start (exit code {self.close()})")

    def start(self) -> None:
        """Start the child, and do not wait for it."""
        self.close()
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "inference_workers.media.decoding_child", str(theirs.fileno())]
        self._child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._pipe.send((self._caps, self._memory_bytes))

    def close(self) -> int | None:
        """End the child; its exit code."""
        child, self._child, self._ready = self._child, None, False
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if child is None:
            return None
        try:
            return child.wait(1)  # it ends by itself when the pipe closes
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait(5)


def main() -> None:
    pipe = Connection(int(sys.argv[1]))
    caps, memory_bytes = pipe.recv()
    try:
        _serve(pipe, caps, memory_bytes)
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main()
