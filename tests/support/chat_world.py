"""The chat worker on the in-memory broker, with an engine without a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from inference_workers.chat_service.cancels import Cancels
from inference_workers.chat_service.chat_judge import Judge
from inference_workers.chat_service.chat_step import ChatStep
from inference_workers.chat_service.chat_versions import ChatVersions
from inference_workers.chat_service.engine_thread import EngineThread
from inference_workers.chat_service.history import History
from inference_workers.chat_service.serving import Served, Serving
from inference_workers.chat_service.takeover import Begun, fold
from schemas import avro
from schemas.chat_topics import CHAT, CHAT_CONTROLS, CHAT_REQUESTS, CHAT_RESULTS, CHAT_TOKENS
from schemas.codec import Encoder, read_any
from schemas.generated import ChatControl, ChatMessage, ChatRequest
from schemas.topics import PREDICTION_LOG
from streams import headers as h
from streams.clock import ManualClock
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.limits import Delivery, LoopLimits
from streams.loop.loop import Loop
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemoryBroadcast, MemorySink, MemorySource
from streams.metrics import Metrics
from streams.readable import Readable
from streams.rows import OutRecords, Place, Rows
from streams.schema_registry import MemoryRegistry
from streams.sinks_in_turn import sink_of_loop
from streams.token_stream import StreamedToken, TokenStream
from tests.support.background import AtOnce
from tests.support.chat_engine import ScriptedEngine, scripted_model

TOPICS = (CHAT_REQUESTS, CHAT_RESULTS, CHAT_TOKENS, CHAT_CONTROLS, PREDICTION_LOG)


@dataclass
class OneVersion:
    """The same version for ever. Implements `ChatVersions`."""

    current: Serving
    notes: Sequence[str] = ()

    def follow(self) -> None:
        return

    def acknowledged(self, rows: Rows) -> list[OutRecords]:
        return []

    def close(self) -> None:
        return


class ChatWorld:
    def __init__(self, partitions: int = 2) -> None:
        self.clock, self.ids = ManualClock(), MemoryRegistry()
        self.broker = MemoryBroker(self.clock)
        for topic in TOPICS:
            self.broker.create(topic.name, 1 if topic is CHAT_CONTROLS else partitions)
            self.ids.register(topic.subject, avro.schema(topic.record_name))
        self.broker.create(CHAT.dead_letter_topic, partitions)
        self.read_back = 0  # how often tokens were read back
        self.plain = MemorySink(self.broker, "", None)
        self._readable = Readable(CHAT_TOKENS, self.ids, dict)

    # --- the worker -----------------------------------------------------------------------------------------------

    def loop(
        self,
        engine: ScriptedEngine,
        slot: int = 0,
        version: str = "1",
        span_records: int = 50,
        judge: Judge | None = None,
        versions: ChatVersions | None = None,
    ) -> Loop:
        metrics = Metrics()
        controls = MemoryBroadcast(self.broker, CHAT_CONTROLS.name)
        step = ChatStep(
            versions or OneVersion(self.serving(engine, version)),
            self,
            Cancels(controls, self.ids, self.clock, metrics),
            self.ids,
            self.clock,
            f"chat-{slot}",
            metrics,
            span_records,
            max_tokens=256,
            history=History(lambda read: MemoryBroadcast(self.broker, CHAT_RESULTS.name), self.ids, metrics, most_characters=200),
            judge=judge,
            judge_every_tokens=4,
        )
        made = Loop(
            consumption=CHAT,
            source=MemorySource(self.broker, CHAT.group),
            sink=sink_of_loop(partial(MemorySink, self.broker, CHAT.group), None),
            step=step,
            batcher=Batcher(BatchLimits(max_rows=8), CostLine()),
            clock=self.clock,
            limits=LoopLimits(delivery=Delivery.AT_LEAST_ONCE),
            worker=f"chat-{slot}",
            metrics=metrics,
            background=AtOnce(),
        )
        made.source.subscribe((CHAT_REQUESTS.name,), made.assignment)
        return made

    def serving(self, engine: ScriptedEngine, version: str) -> Serving:
        return Serving(Served(scripted_model(engine), "scripted", version, "d" * 64), EngineThread(engine, self.clock))

    def ends(self, places: Collection[Place]) -> Mapping[Place, int]:
        return {place: len(self.broker.logs[place]) for place in places}

    def begun(self, marks: OutRecords, since_ms: int) -> Mapping[str, Begun]:
        self.plain.produce(marks)
        self.read_back += 1
        return fold([MemoryBroadcast(self.broker, CHAT_TOKENS.name).poll()], self._readable, marks.keys, most_tokens=256)

    # --- callers --------------------------------------------------------------------------------------------------

    def ask(self, request_id: str, text: str = "hello", deadline_ms: int = 0, key: str = "", **fields: Any) -> None:
        fields = {"messages": (ChatMessage(role="user", content=text),), "max_tokens": 12, **fields}
        headers = [(h.CE_ID, request_id.encode())]
        if deadline_ms:
            headers.append((h.DEADLINE_MS, str(deadline_ms).encode()))
        value = Encoder.of(CHAT_REQUESTS, self.ids).encode_one(ChatRequest(**fields))
        key = key or fields.get("conversation_id") or request_id
        self.plain.produce(OutRecords(CHAT_REQUESTS.name, [key.encode()], [value], [headers]))

    def cancel(self, request_id: str, action: str = "cancel") -> None:
        value = Encoder.of(CHAT_CONTROLS, self.ids).encode_one(ChatControl(request_id=request_id, action=action))
        self.plain.produce(OutRecords(CHAT_CONTROLS.name, [request_id.encode()], [value], [[]]))

    def records(self, topic: str) -> list[dict[str, Any]]:
        polled = MemoryBroadcast(self.broker, topic).poll()
        return [read_any(value, self.ids) for value in polled.values]

    def results(self) -> dict[str, dict[str, Any]]:
        """The first result of each request."""
        found: dict[str, dict[str, Any]] = {}
        for result in self.records(CHAT_RESULTS.name):
            found.setdefault(result["request_id"], result)
        return found

    def streamed(self, request_id: str, stream: TokenStream | None = None) -> list[StreamedToken]:
        stream = stream or TokenStream()
        records = self._readable.of(MemoryBroadcast(self.broker, CHAT_TOKENS.name).poll())
        return [token for record in records if record["request_id"] == request_id for token in stream.take(record)]


def run_until(loops: list[Loop], done: Callable[[], object], limit_s: float = 60.0) -> None:
    """Run the loops in turn; the engines have threads of their own, so the limit is one of the machine's clock."""
    until_s = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < until_s, "not done within the limit"
        for loop in loops:
            loop.run_once()
