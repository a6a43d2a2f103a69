"""A client of the topics: a request goes out on its task's topic, the answer comes to a partition of the client's own.

    async with connect("127.0.0.1:9092", "http://127.0.0.1:8081") as client:
        verdict = await client.request("moderation", {"content_id": "c-1", "text": "hello"}, deadline_ms=5_000)

At least once: a client that dies may have sent its request, and the answer is on the results topic all the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from threading import Event, Thread
from typing import Any, Protocol

from schemas import avro
from schemas.codec import Encoder, SchemaIds, read_any
from schemas.encoding import Constant
from schemas.errors import InvalidRequest, MillraceError, RetryLater, UndecodableRecord
from schemas.topics import REPLIES, consumption
from streams import headers as h
from streams.broker import Sink
from streams.clock import Clock, SystemClock
from streams.ids import uuid7
from streams.rows import OutRecords, Polled

GRACE_MS = 2_000  # waited past the deadline, for the answer that says it has expired
DEFAULT_DEADLINE_MS = 30_000


class NoAnswer(MillraceError):
    """Nothing came within the deadline and the grace after it: no worker runs, or the broker is gone."""

    code = "no-answer"


class Replies(Protocol):
    def wait(self, wait_s: float) -> Polled: ...

    def close(self) -> None: ...


class Client:
    """Many requests may be under way at once; made by `connect`, closed by leaving its block."""

    def __init__(self, sink: Sink, replies: Replies, partition: int, ids: SchemaIds, clock: Clock, name: str) -> None:
        self._sink, self._replies, self._ids, self._clock, self._name = sink, replies, ids, clock, name
        self._reply_to = f"{REPLIES.name}/{partition}".encode()
        self._encoders: dict[str, Encoder] = {}
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._loop = asyncio.get_running_loop()
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
        traceparent: str | None = None,
    ) -> dict[str, Any]:
        """The result record of the task. `deadline_ms` counts from now; past it the work is not begun.

        Raises InvalidRequest for fields that the record has not, NoAnswer, TransactionAborted where it was not sent.
        """
        now_ms = self._clock.now_ms()
        request_id = request_id or uuid7(now_ms)
        taken = consumption(task)
        record = self._encode(task, fields)
        key = str(fields.get(taken.key_field, request_id)).encode()
        ((*headers,),) = h.cloud_event([request_id], getattr(taken.topic.record, "RECORD", task), self._name)
        headers += [(h.REPLY_TO, self._reply_to), (h.DEADLINE_MS, str(now_ms + deadline_ms).encode())]
        if priority is not None:
            headers.append((h.PRIORITY, str(priority).encode()))
        if traceparent is not None:
            headers.append((h.TRACEPARENT, traceparent.encode()))
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._waiting[request_id] = answer
        try:
            self._sink.produce(OutRecords(taken.topic.name, [key], [record], [headers]))
            return await asyncio.wait_for(answer, (deadline_ms + GRACE_MS) / 1000)
        except TimeoutError:
            raise NoAnswer(
                f"no answer to {request_id} in {deadline_ms + GRACE_MS} ms: see with `./millrace status` whether a "
                f"{task} worker runs, and with `./millrace request {request_id}` where the request is"
            ) from None
        finally:
            self._waiting.pop(request_id, None)

    def _encode(self, task: str, fields: Mapping[str, Any]) -> bytes:
        topic = consumption(task).topic
        record = getattr(topic.record, "RECORD", "")
        known = {field["name"]: field for field in avro.schema(record)["fields"]}
        unknown = fields.keys() - known.keys()
        missing = {name for name, field in known.items() if "default" not in field} - fields.keys()
        if unknown or missing:
            problem = f"has no field {', '.join(sorted(unknown))}" if unknown else f"lacks {', '.join(sorted(missing))}"
            raise InvalidRequest(f"a {task} request {problem}; its fields are {', '.join(known)}")
        if task not in self._encoders:
            self._encoders[task] = Encoder(record, topic.subject, self._ids)
        try:
            return self._encoders[task].encode({name: Constant(value) for name, value in fields.items()}, 1)[0]
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidRequest(f"a field of the {task} request has a value of another type: {error}") from error

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                polled = self._replies.wait(0.2)
                found = [
                    (dict(headers or ()).get(h.CE_ID, b"").decode(errors="replace"), value)
                    for headers, value in zip(polled.headers, polled.values, strict=True)
                ]
                for request_id, value in found:
                    if request_id in self._waiting:  # others may share the partition
                        self._loop.call_soon_threadsafe(self._answer, request_id, read_any(value, self._ids))
            except (UndecodableRecord, RetryLater):
                continue
            except (MillraceError, RuntimeError):  # the broker is gone, or the event loop is closed: requests time out
                if self._stopping.wait(0.5):
                    return

    def _answer(self, request_id: str, result: dict[str, Any]) -> None:
        future = self._waiting.get(request_id)
        if future is not None and not future.done():
            future.set_result(result)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(5.0)
        self._replies.close()
        self._sink.close()


@asynccontextmanager
async def connect(bootstrap: str, registry: str, name: str = "client") -> AsyncIterator[Client]:
    """A client of real Kafka. Raises BrokerUnavailable."""
    from streams.kafka.broadcast import KafkaBroadcast
    from streams.kafka.config import KafkaAddress
    from streams.kafka.sink import KafkaSink
    from streams.registry import Registry

    address, clock = KafkaAddress(bootstrap=bootstrap), SystemClock()
    partition = random.randrange(REPLIES.partitions)
    replies = KafkaBroadcast(address, REPLIES.name, clock, "end", [partition])
    client = Client(KafkaSink(address, None), replies, partition, Registry(registry), clock, name)
    try:
        yield client
    finally:
        client.close()
