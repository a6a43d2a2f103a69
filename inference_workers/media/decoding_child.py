"""A child process that decodes hostile files one by one: bounded in memory and time, replaced when it dies.

A fault in a native decoder ends the child and refuses one file; the worker and its other records go on.
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
from inference_workers.media.formats import MAX_VIEWS, Caps, Views
from inference_workers.networks.pictures import Fit
from schemas.errors import MediaRefused, RetryLater

START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Job:
    """One file to decode. kind: picture, video or sound. to: the size of a picture or frame, or samples per second."""

    kind: str
    data: bytes
    to: Fit | int
    max_views: int = MAX_VIEWS


_DECODE: dict[str, Callable[[bytes, Any, Caps], Any]] = {"picture": stills.views, "video": videos.frames, "sound": sounds.sound}


def _serve(pipe: Connection, caps: Caps, memory_bytes: int) -> None:
    import av  # loaded before the limit is set, so that all memory below it is for decoding
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
            answer: Any = _DECODE[job.kind](job.data, job.to, caps)
            if isinstance(answer, Views):
                answer = answer.first(job.max_views)
        except MediaRefused as refused:
            answer = refused
        except MemoryError:
            answer = MediaRefused("the file needs more memory than the decoder has")
        pipe.send(answer)


class DecodingChild:
    """Decodes jobs in order. Each gets an answer or a MediaRefused; a file never raises.

    memory_bytes: for decoding, beyond what the libraries take. limit_s: per file.
    """

    def __init__(self, caps: Caps, memory_bytes: int = 768 * 1024 * 1024, limit_s: float = 20.0) -> None:
        self._caps, self._memory_bytes, self._limit_s = caps, memory_bytes, limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._ready = False

    def decode(self, jobs: Sequence[Job]) -> list[Any]:
        """Views, Sound or MediaRefused of each job. Raises RetryLater if the child does not start, which is not the file's fault."""
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Any:
        pipe = self._started()
        try:
            pipe.send(job)
            if not pipe.poll(self._limit_s):
                self.close()
                return MediaRefused(f"decoding took longer than {self._limit_s:.0f} s")
            return pipe.recv()
        except (EOFError, OSError):
            code = self.close()
            structlog.get_logger().warning("decoder died", code=code)
            return MediaRefused(f"the file killed the decoder (exit code {code})")

    def _started(self) -> Connection:
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
        """Start the child without waiting for it."""
        self.close()
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "inference_workers.media.decoding_child", str(theirs.fileno())]
        self._child = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._pipe = Connection(ours.detach())
        self._pipe.send((self._caps, self._memory_bytes))

    def close(self) -> int | None:
        """End the child. Returns its exit code, None if there was none."""
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
