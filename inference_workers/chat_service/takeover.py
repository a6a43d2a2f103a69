"""What earlier owners of a partition made already of the answers that this worker takes over: read back from `chat-tokens-v1`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from inference_workers.chat.engine import Finished
from schemas.chat_topics import CHAT_TOKENS
from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable, RetryLater
from streams.broker import Sink
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import since
from streams.metrics import Metrics
from streams.murmur2 import partition_of
from streams.readable import Readable
from streams.rows import OutRecords, Place, Polled
from streams.token_stream import StreamedToken, TokenStream

WRITE_LIMIT_S = 10.0
EARLIER_MS = 1_000  # brokers stamp requests and tokens by clocks of their own


@dataclass(slots=True)
class Begun:
    """An answer as far as its topic has it. first: the record that brought the first of its tokens."""

    stream: TokenStream = field(default_factory=TokenStream)
    tokens: list[StreamedToken] = field(default_factory=list)
    first: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    def finished(self, key: str) -> Finished:
        """As the engine ended it, from its last record. key: the engine's."""
        end = self.stream.end
        assert end is not None, "for an answer that has ended"
        return Finished(
            key,
            self.stream.reason,  # type: ignore[arg-type]  # a reason of the engine: the caller dealt with the others
            self.text,
            end["prompt_tokens"],
            end["completion_tokens"],
            end["cached_tokens"],
            ms_per_token=end["ms_per_token"],
        )


class Log(Protocol):
    """The topics of chat, as far as a worker reads them back."""

    def ends(self, places: Collection[Place]) -> Mapping[Place, int]:
        """The offsets behind the last records. Raises BrokerUnavailable."""
        ...

    def begun(self, marks: OutRecords, since_ms: int) -> Mapping[str, Begun]:
        """Write the marks, one for each answer that is taken over, and read what lies before them: no reader counts what comes behind
        a mark from a lower attempt, so this is what all readers have. By request id. Raises BrokerUnavailable, TransactionAborted.

        Reads the partitions of these requests alone. since_ms: the time of the oldest of them."""
        ...


class KafkaLog:
    """most_tokens: of an answer that is read back; behind them it cannot be one of ours, and no more is kept."""

    def __init__(
        self, address: KafkaAddress, registry: SchemaIds, sink: Sink, clock: Clock, metrics: Metrics, most_tokens: int
    ) -> None:
        self._address, self._sink, self._clock, self._most_tokens = address, sink, clock, most_tokens
        self._readable = Readable(CHAT_TOKENS, registry, dict, metrics)
        self._count = 0

    def ends(self, places: Collection[Place]) -> Mapping[Place, int]:
        return KafkaAdmin(self._address).ends(list(places)) if places else {}

    def begun(self, marks: OutRecords, since_ms: int) -> Mapping[str, Begun]:
        self._sink.produce(marks)
        self._sink.flush(WRITE_LIMIT_S)
        self._count = self._count or KafkaAdmin(self._address).partitions()[CHAT_TOKENS.name]
        partitions = {partition_of(key, self._count) for key in marks.keys}
        parts = since(self._address, CHAT_TOKENS.name, sorted(partitions), max(0, since_ms - EARLIER_MS), self._clock)
        try:
            return fold(parts, self._readable, marks.keys, self._most_tokens)
        except RetryLater as error:
            raise BrokerUnavailable(f"{CHAT_TOKENS.name} cannot be read back: {error}") from error


def fold(
    parts: Iterable[Polled], readable: Readable[dict[str, Any]], keys: Iterable[bytes | None], most_tokens: int
) -> dict[str, Begun]:
    """The answers of these request ids, in the order of the log. Records under the key of another request do not count."""
    found = {key: Begun() for key in keys if key is not None}
    for part in parts:
        mine = [row for row, key in enumerate(part.keys) if key in found]
        for row, record in readable.rows(part.take(mine)):
            key = part.keys[mine[row]] or b""
            begun = found[key]
            if record["request_id"].encode() == key and len(begun.tokens) <= most_tokens:
                new = begun.stream.take(record)
                if new and not begun.tokens:
                    begun.first = record
                begun.tokens += new
    return {key.decode(): begun for key, begun in found.items()}
