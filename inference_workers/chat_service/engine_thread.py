"""Drives an engine on a thread of its own: generations and cancellations in, tokens and ends out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from inference_workers.chat.engine import Engine, EngineFigures, Event, Generation, Refused, Token
from schemas.errors import Stop
from streams.clock import Clock

CLOSE_LIMIT_S = 5.0


class EngineFailed(Stop):
    """The engine raised on a whole step: its state is not known any more. Another process continues from the tokens on the topic."""

    code = "engine-failed"


class EngineThread:
    """figures: of the last step. working_since_s: when the step began that runs; None between steps."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine, self._clock = engine, clock
        self._commands: SimpleQueue[Generation | str | None] = SimpleQueue()
        self._ready = Condition()
        self._events: deque[Event] = deque()
        self._failure: BaseException | None = None
        self._closing = False
        self.figures: EngineFigures = engine.figures()
        self.working_since_s: float | None = None
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def add(self, generation: Generation) -> None:
        """The engine takes it before its next step, or a `Refused` comes."""
        self._commands.put(generation)

    def cancel(self, request_id: str) -> None:
        self._commands.put(request_id)

    def events(self, wait_s: float) -> list[Event]:
        """All events since the last call; waits at most `wait_s` for a first one. Raises EngineFailed."""
        with self._ready:
            if not self._events and self._failure is None and wait_s > 0:
                self._ready.wait(wait_s)
            if self._failure is not None:
                raise EngineFailed(f"{type(self._failure).__name__}: {self._failure}") from self._failure
            found = list(self._events)
            self._events.clear()
            return found

    def close(self) -> None:
        """Ends the thread after its step; one that hangs is left behind."""
        self._closing = True
        self._commands.put(None)
        self._thread.join(CLOSE_LIMIT_S)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._take_commands()
                if self._engine.busy and not self._closing:
                    self.working_since_s = self._clock.monotonic_s()
                    events = self._engine.step()
                    self.working_since_s = None
                    self.figures = self._engine.figures()
                    self._give(events)
        except BaseException as failure:
            with self._ready:
                self._failure = failure
                self._ready.notify_all()
        finally:
            self._engine.close()

    def _take_commands(self) -> None:
        """Waits for one where the engine has nothing to do."""
        command = self._next(wait=not self._engine.busy)
        while command is not None:
            if isinstance(command, str):
                self._engine.cancel(command)
            else:
                try:
                    self._engine.add(command)
                except Exception as error:  # nothing of it is kept: the fate of this request, not of the others
                    self._give([Refused(command.request_id, error)])
            command = self._next(wait=False)

    def _next(self, *, wait: bool) -> Generation | str | None:
        try:
            return self._commands.get(block=wait)
        except Empty:
            return None

    def _give(self, events: Sequence[Event]) -> None:
        if events:
            made_ms = self._clock.now_ms()
            stamped = [replace(event, made_ms=made_ms) if isinstance(event, Token) else event for event in events]
            with self._ready:
                self._events.extend(stamped)
                self._ready.notify_all()
