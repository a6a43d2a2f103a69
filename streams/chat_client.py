"""Chat over topics: asks, follows the tokens as they are made, and goes on with a stream that was cut.

async with connect_chat(bootstrap, registry) as chat:
    stream = chat.ask({"messages": [{"role": "user", "content": "Hello"}]})
    async for token in stream:
        print(token.text, end="")
    result = await stream.result
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Protocol

from schemas.chat_topics import CHAT, CHAT_CONTROLS, CHAT_TOKENS
from schemas.codec import SchemaIds
from schemas.errors import MillraceError
from schemas.generated import ChatControl
from streams.client import DEFAULT_DEADLINE_MS, MOST_DEADLINE_MS, Client, connect
from streams.clock import Clock, SystemClock
from streams.ids import uuid7
from streams.readable import Readable
from streams.record_writer import RecordWriter
from streams.rows import Polled
from streams.token_stream import StreamedToken, TokenStream

KEPT_BYTES, KEPT_S = 256 * 2**20, 900.0
MOST_STREAM_BYTES = 64 * 2**20  # of one answer: whoever may write to the topic can write tokens without end
STREAM_BYTES, TOKEN_BYTES = 1_500, 250  # about what Python takes for one, beside its texts
SWEEP_S = 10.0
# So long a reader of tokens may be behind that of results; one that still reads old tokens back, as long as that takes.
LAST_TOKENS_S = 10.0
_LOG = logging.getLogger("millrace.chat")


class TokensMissing(MillraceError):
    """Tokens of an answer cannot be read any more: the result has its whole text."""

    code = "tokens-missing"


class Tail(Protocol):
    def wait(self, wait_s: float) -> Polled: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class Stream:
    """One answer as far as it was read, for any number of readers. seen_s: when something of it was last read. size: in memory,
    bytes, about."""

    request_id: str
    state: TokenStream = field(default_factory=TokenStream)
    tokens: list[StreamedToken] = field(default_factory=list)
    seen_s: float = 0.0
    size: int = STREAM_BYTES
    waiters: set[asyncio.Event] = field(default_factory=set)

    @property
    def known(self) -> bool:
        """Whether anything of it was read."""
        return bool(self.state.begun)

    def take(self, record: Mapping[str, Any]) -> int:
        """Take a record of it. Returns how many bytes it has grown."""
        if self.size > MOST_STREAM_BYTES:
            self.state.gaps += 1
            return 0
        new = self.state.take(record)
        grown = sum(_bytes(token) for token in new)
        if record is self.state.begun or record is self.state.end:  # these are kept whole
            grown += sum(len(value) for value in record.values() if isinstance(value, str))
        self.tokens += new
        self.size += grown
        return grown


def _bytes(token: StreamedToken) -> int:
    return TOKEN_BYTES * (1 + len(token.alternatives)) + len(token.text) + sum(len(one["text"]) for one in token.alternatives)


class ChatStreams:
    """Follows all of `chat-tokens-v1` on a thread, and keeps the answers of the last fifteen minutes, as many as fit KEPT_BYTES: a reader
    that was cut off goes on at any position of them. Its methods are called on one event loop."""

    def __init__(self, tail: Tail, registry: SchemaIds, clock: Clock) -> None:
        self._tail, self._clock = tail, clock
        self._readable = Readable(CHAT_TOKENS, registry, dict)
        self._streams: OrderedDict[str, Stream] = OrderedDict()  # the one that was read last at the end
        self._lock, self._stopping = Lock(), Event()
        self._bytes = 0
        self.read_ms = 0  # the broker's time of the newest record that was read
        self._swept_s = clock.monotonic_s()
        self._loop = asyncio.get_running_loop()
        self._thread = Thread(target=self._follow, name="chat tokens", daemon=True)
        self._thread.start()

    def reads_back(self, before_ms: int) -> bool:
        """Whether it came further than `before_ms`, an earlier `read_ms`, and is still among tokens older than LAST_TOKENS_S."""
        return before_ms < self.read_ms < self._clock.now_ms() - LAST_TOKENS_S * 1000

    def stream(self, request_id: str) -> Stream:
        """The answer of a request, which need not have begun."""
        with self._lock:
            self._give_up(self._clock.monotonic_s())
            return self._of(request_id)

    async def tokens(self, request_id: str, after: int = 0, silence_s: float = KEPT_S) -> AsyncIterator[StreamedToken]:
        """The tokens from position `after` on, each once, to the end of the answer. silence_s: how long to wait for a next one.
        Raises TokensMissing."""
        stream, woken, loop = self.stream(request_id), asyncio.Event(), asyncio.get_running_loop()
        stream.waiters.add(woken)
        until_s = loop.time() + silence_s
        try:
            while True:
                woken.clear()
                with self._lock:
                    new, ended, gaps = stream.tokens[after:], stream.state.end is not None, stream.state.gaps
                for token in new:
                    yield token
                after += len(new)
                if gaps:
                    raise TokensMissing(f"tokens of {request_id} are missing from position {stream.state.sequence} on")
                if ended:
                    return
                if self._stopping.is_set():
                    raise TokensMissing(f"the reader was closed before {request_id} ended: go on at position {after}")
                until_s = loop.time() + silence_s if new else until_s
                try:
                    await asyncio.wait_for(woken.wait(), until_s - loop.time())
                except TimeoutError:
                    words = f"nothing of {request_id} came for {silence_s:g} s behind position {after}: it has no owner, or was not asked"
                    raise TokensMissing(words) from None
        finally:
            stream.waiters.discard(woken)

    def _of(self, request_id: str) -> Stream:
        stream = self._streams.get(request_id)
        if stream is None:
            stream = self._streams[request_id] = Stream(request_id, seen_s=self._clock.monotonic_s())
            self._bytes += stream.size
        return stream

    def _follow(self) -> None:
        """Survives all errors: readers would wait for ever if this thread ended."""
        waiting = Polled()
        while not self._stopping.is_set():
            try:
                if not len(waiting):  # else the registry did not answer: they are tried again, and no more are held
                    waiting = self._tail.wait(0.2)
                if len(waiting):
                    found, read_ms = self._readable.of(waiting), max(waiting.timestamps_ms)
                    waiting = Polled()
                    self._take(found)
                    self.read_ms = max(self.read_ms, read_ms)
            except Exception as error:
                _LOG.warning("tokens cannot be read: %s: %s", type(error).__name__, error)
                if self._stopping.wait(0.5):
                    return

    def _take(self, records: list[dict[str, Any]]) -> None:
        now_s, changed = self._clock.monotonic_s(), set[Stream]()
        with self._lock:
            for record in records:
                stream = self._of(record["request_id"])
                self._bytes += stream.take(record)
                stream.seen_s = now_s
                self._streams.move_to_end(stream.request_id)
                changed.add(stream)
            self._give_up(now_s)
        self._loop.call_soon_threadsafe(_wake, changed)

    def _give_up(self, now_s: float) -> None:
        """Forget old streams, a tenth of all bytes at a time when there are too many; never one that somebody reads."""
        if self._bytes <= KEPT_BYTES and now_s - self._swept_s < SWEEP_S:
            return
        self._swept_s = now_s
        over = self._bytes - KEPT_BYTES * 9 // 10 if self._bytes > KEPT_BYTES else 0
        for request_id, stream in list(self._streams.items()):
            if not stream.waiters and (over > 0 or now_s - stream.seen_s > KEPT_S):
                del self._streams[request_id]
                self._bytes -= stream.size
                over -= stream.size

    def close(self) -> None:
        """Readers that wait end with TokensMissing."""
        self._stopping.set()
        with self._lock:
            waited_for = {stream for stream in self._streams.values() if stream.waiters}
        self._loop.call_soon_threadsafe(_wake, waited_for)
        self._thread.join(5.0)
        self._tail.close()


def _wake(streams: set[Stream]) -> None:
    for stream in streams:
        for waiter in stream.waiters:
            waiter.set()


@dataclass(frozen=True)
class Asking:
    """A request under way: iterate over its tokens; `result` is done when the result record came, or failed with NoAnswer."""

    request_id: str
    streams: ChatStreams
    result: asyncio.Task[dict[str, Any]]

    def __aiter__(self) -> AsyncIterator[StreamedToken]:
        return self.tokens()

    async def tokens(self) -> AsyncIterator[StreamedToken]:
        """Ends with the answer, or when the result says that there is none. Raises TokensMissing, NoAnswer, InvalidRequest."""
        tokens = self.streams.tokens(self.request_id, silence_s=MOST_DEADLINE_MS / 1000)  # the result has a nearer limit
        while True:
            following = asyncio.ensure_future(anext(tokens, None))
            if not self.result.done():
                await asyncio.wait({following, self.result}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                await self._last_tokens(following)
            token = await following
            if token is None:
                return
            yield token

    async def _last_tokens(self, following: asyncio.Future[Any]) -> None:
        """The result came first: its tokens are on their topic already. A reader that was just started may have to read those of
        the last minutes before. Raises what the result has for an error, TokensMissing."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + KEPT_S
        try:
            self.result.result()
            while not following.done():
                before_ms = self.streams.read_ms
                await asyncio.wait({following}, timeout=LAST_TOKENS_S)
                if not following.done() and (not self.streams.reads_back(before_ms) or loop.time() > end_s):
                    raise TokensMissing(f"the answer {self.request_id} ended, and its last tokens did not come")
        finally:
            if not following.done():
                following.cancel()


class ChatClient:
    def __init__(self, client: Client, streams: ChatStreams, registry: SchemaIds, clock: Clock, name: str) -> None:
        self.client, self.streams, self._clock = client, streams, clock
        self._controls = RecordWriter(CHAT_CONTROLS, registry, name)

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def ask(self, fields: Mapping[str, Any], *, deadline_ms: int = DEFAULT_DEADLINE_MS, request_id: str | None = None) -> Asking:
        """Send a chat request. fields: those of a `ChatRequest`."""
        request_id = request_id or uuid7(self._clock.now_ms())
        self.streams.stream(request_id)
        answer = self.client.request(CHAT.group, fields, deadline_ms=deadline_ms, request_id=request_id)
        return Asking(request_id, self.streams, asyncio.ensure_future(answer))

    async def cancel(self, request_id: str, reason: str | None = None) -> None:
        """End an answer; its result then says `cancelled`, and has the text so far."""
        control = ChatControl(request_id=request_id, action="cancel", reason=reason)
        await self.client.write(self._controls.of(control, request_id, uuid7(self._clock.now_ms())))


@asynccontextmanager
async def connect_chat(bootstrap: str, registry: str, name: str = "chat", since_s: float = 0.0) -> AsyncIterator[ChatClient]:
    """Connect to real Kafka. since_s: how old the tokens may be that are read first, for streams that were cut. Raises
    BrokerUnavailable."""
    from streams.kafka.admin import KafkaAdmin
    from streams.kafka.broadcast import KafkaBroadcast
    from streams.kafka.config import KafkaAddress
    from streams.schema_registry import Registry

    address, clock, ids = KafkaAddress(bootstrap=bootstrap), SystemClock(), Registry(registry)
    start: Any = "end"
    if since_s:
        admin = KafkaAdmin(address)
        places = [(CHAT_TOKENS.name, number) for number in range(admin.partitions()[CHAT_TOKENS.name])]
        start = admin.offsets_at(places, int(clock.now_ms() - since_s * 1000))
    streams = ChatStreams(KafkaBroadcast(address, CHAT_TOKENS.name, clock, start), ids, clock)
    try:
        async with connect(bootstrap, registry, name) as client:
            yield ChatClient(client, streams, ids, clock, name)
    finally:
        streams.close()
