"""A client of the topics: it writes requests to their task's topic and reads answers from a partition of the reply topic.

    async with connect("127.0.0.1:9092", "http://127.0.0.1:8081") as client:
        verdict = await client.request("moderation", {"content_id": "c-1", "text": "hello"}, deadline_ms=5_000)

Delivery is at least once: a client that dies may have sent its request, and the results topic contains the answer even then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Protocol

from schemas import avro
from schemas.catalogue import consumption
from schemas.codec import Encoder, SchemaIds, read_any
from schemas.durations import DAY_MS
from schemas.encoding import Constant
from schemas.errors import InvalidRequest, MillraceError, RetryLater, UndecodableRecord
from schemas.field_fit import misfit
from schemas.topic_kinds import Consumption
from schemas.topics import REPLIES
from streams import headers as h
from streams.broker import Sink
from streams.clock import Clock, SystemClock
from streams.ids import uuid7
from streams.loop.admit import MAX_ID_BYTES
from streams.rows import OutRecords, Polled

GRACE_MS = 2_000  # added to the deadline, to wait for the answer that the request has expired
DEFAULT_DEADLINE_MS = 30_000
MOST_DEADLINE_MS = 7 * DAY_MS
_LOG = logging.getLogger("millrace.client")


class NoAnswer(MillraceError):
    """No answer came within the deadline and the grace period after it: no worker runs, or the broker is gone."""

    code = "no-answer"


class Replies(Protocol):
    def wait(self, wait_s: float) -> Polled: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Waiting:
    answer: asyncio.Future[dict[str, Any]]
    trace: bytes


@dataclass(frozen=True, slots=True)
class _Reply:
    request_id: str
    trace: bytes | None
    value: bytes | None


def _checked_id(request_id: str) -> str:
    """The request id, if workers accept it. Raises InvalidRequest."""
    size = len(_encoded("the request id", request_id))
    if not 0 < size <= MAX_ID_BYTES:
        raise InvalidRequest(f"the request id has {size} bytes; 1 to {MAX_ID_BYTES} are taken")
    return request_id


def _encoded(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{what} is {text!r:.60}, which is not Unicode: {error.reason}") from error


class Client:
    """Allows many requests at the same time. `connect` creates the client, and closes it at the end of its block."""

    def __init__(self, sink: Sink, replies: Replies, partition: int, registry: SchemaIds, clock: Clock, name: str) -> None:
        self._sink, self._replies, self._registry, self._clock, self._name = sink, replies, registry, clock, name
        self._reply_to = f"{REPLIES.name}/{partition}".encode()
        self._encoders: dict[str, Encoder] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._loop = asyncio.get_running_loop()
        # One thread, so that requests are sent in the order of the calls. A full queue or a slow registry blocks only it.
        self._sender = ThreadPoolExecutor(1, "requests")
        self._stopping = Event()
        self._thread = Thread(target=self._listen, name="replies", daemon=True)
        self._thread.start()

    async def request(
        self,
        task: str,
        fields: Mapping[str, Any],
        *,
        deadline_ms: int = DEFAULT_DEADLINE_MS,
        request_id: str | None = None,
        priority: int | None = None,
        key: str | None = None,
        traceparent: str | None = None,
    ) -> dict[str, Any]:
        """The result record of the task. `deadline_ms` counts from now; work is not started after it. `priority`, 0 to 9, orders
        the requests that wait in one worker; under exactly once it does not make an answer visible sooner. `key`: of the request's
        record and of its result; by default a field of the request or its id, and none if it is empty.

        If an id is sent again with a given `traceparent`, the answer to an earlier try may be returned; otherwise each try gets
        its own traceparent, which distinguishes the answers. Raises InvalidRequest for fields that the record does not have and
        for an id that is still waiting for its answer, NoAnswer, TransactionAborted if the request was not sent.
        """
        now_ms = self._clock.now_ms()
        request_id = uuid7(now_ms) if request_id is None else _checked_id(request_id)
        if not 0 <= deadline_ms + GRACE_MS <= MOST_DEADLINE_MS:
            raise InvalidRequest(f"a deadline of {deadline_ms} ms from now: at most {MOST_DEADLINE_MS} can be waited for")
        if request_id in self._waiting:
            raise InvalidRequest(f"request {request_id} is under way: wait for its answer, or ask under another id")
        taken = consumption(task)
        trace = traceparent or f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-00"
        ((*headers,),) = h.cloud_event([request_id], getattr(taken.topic.record, "RECORD", task), self._name)
        headers += [(h.REPLY_TO, self._reply_to), (h.DEADLINE_MS, str(now_ms + deadline_ms).encode())]
        headers.append((h.TRACEPARENT, _encoded("traceparent", trace)))
        if priority is not None:
            headers.append((h.PRIORITY, str(priority).encode()))
        waiting = self._waiting[request_id] = _Waiting(self._loop.create_future(), trace.encode())
        try:
            await self._loop.run_in_executor(self._sender, self._send, taken, fields, key, request_id, headers)
            return await asyncio.wait_for(waiting.answer, (deadline_ms + GRACE_MS) / 1000)
        except TimeoutError:
            raise NoAnswer(
                f"no answer to {request_id} in {deadline_ms + GRACE_MS} ms: see with `./millrace status` whether a "
                f"{task} worker runs, and with `./millrace request {request_id}` where the request is"
            ) from None
        finally:
            self._waiting.pop(request_id, None)

    async def write(self, records: OutRecords) -> None:
        """Send records that nobody answers, behind the requests of earlier calls. Returns when they are queued."""
        await self._loop.run_in_executor(self._sender, self._sink.produce, records)

    def _send(
        self, taken: Consumption, fields: Mapping[str, Any], key: str | None, request_id: str, headers: h.HeaderList
    ) -> None:
        record = self._encode(taken.group, fields)
        named = fields.get(taken.key_field)
        chosen = key if key is not None else request_id if named is None else str(named)
        keys = [None if chosen == "" else _encoded("the key", chosen)]
        self._sink.produce(OutRecords(taken.topic.name, keys, [record], [headers]))

    def _encode(self, task: str, fields: Mapping[str, Any]) -> bytes:
        topic = consumption(task).topic
        record = topic.record_name
        known = {field["name"]: field for field in avro.schema(record)["fields"]}
        unknown = fields.keys() - known.keys()
        missing = {name for name, field in known.items() if "default" not in field} - fields.keys()
        if unknown or missing:
            problem = f"has no field {', '.join(sorted(unknown))}" if unknown else f"lacks {', '.join(sorted(missing))}"
            raise InvalidRequest(f"a {task} request {problem}; its fields are {', '.join(known)}")
        wrong = next((words for name, value in fields.items() if (words := misfit(value, known[name]["type"], name))), "")
        if wrong:
            raise InvalidRequest(f"a field of the {task} request has a value of another type: {wrong}")
        if task not in self._encoders:
            self._encoders[task] = Encoder(record, topic.subject, self._registry)
        try:
            return self._encoders[task].encode({name: Constant(value) for name, value in fields.items()}, 1)[0]
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise InvalidRequest(f"a field of the {task} request has a value of another type: {error}") from error

    def _listen(self) -> None:
        """Reads replies and survives all errors, because every later request would stay unanswered if this thread ended."""
        held: list[_Reply] = []  # replies whose schema is not available yet
        while not self._stopping.is_set():
            try:
                held += self._mine(self._replies.wait(0.2))
                held = [reply for reply in held if reply.request_id in self._waiting and not self._delivered(reply)]
            except Exception as error:  # the broker is gone or the event loop is closed; requests time out
                _LOG.warning("replies cannot be read: %s: %s", type(error).__name__, error)
                if self._stopping.wait(0.5):
                    return

    def _mine(self, polled: Polled) -> list[_Reply]:
        """The replies to this client, because other clients may share the partition."""
        found = []
        for headers, value in zip(polled.headers, polled.values, strict=True):
            named = dict(headers or ())
            reply = _Reply(named.get(h.CE_ID, b"").decode(errors="replace"), named.get(h.TRACEPARENT), value)
            waiting = self._waiting.get(reply.request_id)
            if waiting is not None and reply.trace in (None, waiting.trace):  # otherwise it answers an earlier try
                found.append(reply)
        return found

    def _delivered(self, reply: _Reply) -> bool:
        """Deliver a reply. Returns False if it must wait for its schema."""
        try:
            result = read_any(reply.value, self._registry)
        except RetryLater:
            return False
        except UndecodableRecord as error:
            _LOG.warning("a reply to %s cannot be read: %s", reply.request_id, error)
            return True
        self._loop.call_soon_threadsafe(self._answer, reply, result)
        return True

    def _answer(self, reply: _Reply, result: dict[str, Any]) -> None:
        waiting = self._waiting.get(reply.request_id)
        if waiting is not None and not waiting.answer.done() and reply.trace in (None, waiting.trace):
            waiting.answer.set_result(result)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)
        self._sender.shutdown(wait=False, cancel_futures=True)
        self._replies.close()
        self._sink.close()


@asynccontextmanager
async def connect(bootstrap: str, registry: str, name: str = "client") -> AsyncIterator[Client]:
    """Connect a client to real Kafka. Raises BrokerUnavailable."""
    from streams.kafka.broadcast import KafkaBroadcast
    from streams.kafka.config import KafkaAddress
    from streams.kafka.sink import KafkaSink
    from streams.schema_registry import Registry

    address, clock = KafkaAddress(bootstrap=bootstrap), SystemClock()
    partition = random.randrange(REPLIES.partitions)
    replies = KafkaBroadcast(address, REPLIES.name, clock, "end", [partition])
    client = Client(KafkaSink(address, None), replies, partition, Registry(registry), clock, name)
    try:
        yield client
    finally:
        client.close()
