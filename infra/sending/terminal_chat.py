"""`./millrace chat`: a conversation on the terminal. The service keeps the earlier turns; tokens appear as they are made."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, TypeVar

from infra import console
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import MillraceError
from schemas.vocabulary import FinishReason
from streams.chat_client import ChatClient, connect_chat
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.terminal_text import visible

T = TypeVar("T")
WORD = "you> "


@dataclass
class Conversation:
    """options: fields of a chat request beside the messages. first: what goes before the first question alone: the service keeps the
    turns that were answered."""

    options: dict[str, Any]
    first: list[dict[str, str]] = field(default_factory=list)

    def request(self, question: str) -> dict[str, Any]:
        return {**self.options, "continues": True, "messages": [*self.first, {"role": "user", "content": question}]}

    def answered(self) -> None:
        self.first = []


def run(settings: StackSettings, system: str | None, options: dict[str, Any], deadline_ms: int) -> int:
    """0 if every question was answered. Ends at the end of standard input, and at Ctrl-C while no answer is made."""
    address, registry = addresses(settings)
    options = {**options, "conversation_id": uuid7(SystemClock().now_ms())}
    talk = Conversation(options, [{"role": "system", "content": system}] if system else [])
    with _background(lambda: _connected(address.bootstrap, registry.url)) as (chat, call):
        if console.out.is_terminal:
            console.out.print("[dim]Ctrl-C stops an answer; Ctrl-D ends the conversation.[/]")
        answered = [_turn(talk, chat, call, question, deadline_ms) for question in _questions()]
    return 0 if all(answered) else 1


def _questions() -> Iterator[str]:
    while True:
        try:
            line = input(WORD) if sys.stdin.isatty() and console.out.is_terminal else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not line and not sys.stdin.isatty():
            return
        if line.strip():
            yield line.strip()


Call = Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]


def _turn(talk: Conversation, chat: ChatClient, call: Call, question: str, deadline_ms: int) -> bool:
    """Ask, and print what comes. Ctrl-C cancels the answer; what came of it stays in the conversation."""
    request_id = uuid7(chat.now_ms())
    answer = call(_answer(chat, talk.request(question), request_id, deadline_ms))
    while True:
        try:
            result = answer.result()
            break
        except KeyboardInterrupt:
            call(chat.cancel(request_id, "the caller pressed Ctrl-C"))
        except MillraceError as error:
            console.err.print(f"[red]{error.code}[/]: {console.escape(str(error))}")
            return False
    print()
    if result["text"] is not None and result["finish_reason"] != FinishReason.CONTENT_FILTER:
        talk.answered()  # the service keeps no other turn
    if result["status"] != "ok":
        later = f" Try again in {result['retry_after_ms'] / 1000:.1f} s." if result["status"] == "busy" else ""
        console.err.print(f"[red]{result['status']}[/]: {console.escape(result['error_message'] or '')}{later}")
        return False
    if console.out.is_terminal:
        console.out.print(f"[dim]{console.escape(summary(result))}[/]")
    return True


async def _answer(chat: ChatClient, fields: dict[str, Any], request_id: str, deadline_ms: int) -> dict[str, Any]:
    asking = chat.ask(fields, deadline_ms=deadline_ms, request_id=request_id)
    async for token in asking:
        print(visible(token.text, keep="\n\t"), end="", flush=True)
    return await asking.result


def summary(result: dict[str, Any]) -> str:
    """A line about an answer."""
    words = [f"{result['completion_tokens']} tokens", f"first after {result['time_to_first_token_ms']:.0f} ms"]
    words.append(f"{result['ms_per_token']:.1f} ms a token")
    if result["truncated_messages"]:
        words.append(f"the {result['truncated_messages']} oldest messages did not fit")
    if result["finish_reason"] != FinishReason.STOP:
        words.append(f"ended by {result['finish_reason']}" + (f", {why}" if (why := result["error_message"]) else ""))
    return "  " + " · ".join(words)


def _connected(bootstrap: str, registry: str) -> Any:
    return connect_chat(bootstrap, registry, "millrace chat")


@contextmanager
def _background(connect: Callable[[], Any]) -> Iterator[tuple[ChatClient, Call]]:
    """The client on an event loop of another thread, so that Ctrl-C reaches this one alone."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="chat", daemon=True)
    thread.start()

    def call(work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, loop)

    context = connect()
    try:
        yield call(context.__aenter__()).result(), call
        call(context.__aexit__(None, None, None)).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5.0)
