"""Calls on a thread that does not keep the process alive: the interpreter waits at its end for those of `ThreadPoolExecutor`, however
long they hang."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Call(Protocol):
    """A call that goes on beside its caller."""

    def done(self) -> bool: ...

    def result(self, timeout: float | None = None) -> Any:
        """What it returned. Raises what it raised, and TimeoutError after `timeout` seconds."""
        ...


class Background(Protocol):
    """Runs calls beside the caller, one after the other."""

    def submit(self, call: Callable[[], Any]) -> Call: ...

    def close(self) -> None: ...


class DaemonThread:
    """Runs what is submitted in turn, on one daemon thread."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def close(self) -> None:
        """Does not wait; what has not begun by then is not cancelled."""
        self._calls.put(None)

    def _run(self) -> None:
        while (submitted := self._calls.get()) is not None:
            future, call = submitted
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del future, call, submitted
