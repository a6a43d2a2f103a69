"""Calls in the background that tests decide about, in place of `streams.daemon_thread.DaemonThread`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from typing import Any

from streams.daemon_thread import Call


class AtOnce:
    """Each call is over when `submit` returns."""

    def submit(self, call: Callable[[], Any]) -> Call:
        future: Future[Any] = Future()
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        return


class AtSomeTime(AtOnce):
    """A call begins and ends when somebody waits for it, or by chance when somebody asks whether it is done."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def submit(self, call: Callable[[], Any]) -> Call:
        return _Pending(call, self._chance)


class _Pending:
    def __init__(self, call: Callable[[], Any], chance: Random) -> None:
        self._call, self._chance = call, chance
        self._ended: Call | None = None

    def done(self) -> bool:
        if self._ended is None and self._chance.random() < 0.3:
            self._end()
        return self._ended is not None

    def result(self, timeout: float | None = None) -> Any:
        return self._end().result()

    def _end(self) -> Call:
        if self._ended is None:
            self._ended = AtOnce().submit(self._call)
        return self._ended
