"""Callers of a chat worker on real Kafka: many conversations at once, and what each of them read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.chat_topics import CHAT_RESULTS
from streams.chat_client import ChatClient
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from streams.schema_registry import Registry

LIMIT_S = 90.0
Alternatives = tuple[tuple[int, float], ...]


@dataclass
class Read:
    """What one caller read. tokens: (id, text) in order."""

    request_id: str
    tokens: list[tuple[int, str]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.tokens)


def conversation(number: int, max_tokens: int) -> dict[str, Any]:
    """Sampled, with a seed of its own: another owner must draw the same numbers."""
    return {
        "messages": [{"role": "user", "content": f"hello friend number {number}"}],
        "temperature": 1.0,
        "seed": number,
        "max_tokens": max_tokens,
    }


async def converse(
    chat: ChatClient, requests: Sequence[dict[str, Any]], disturb: Callable[[list[Read]], None] = lambda read: None
) -> list[Read]:
    """Ask all at once and read all to their ends. disturb: called after each token of any of them."""
    read = [Read("") for _ in requests]

    async def one(number: int) -> None:
        asking = chat.ask(requests[number], deadline_ms=int(LIMIT_S * 1000))
        read[number].request_id = asking.request_id
        async for token in asking:
            read[number].tokens.append((token.token, token.text))
            disturb(read)
        read[number].result = await asking.result

    await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(len(requests)))), LIMIT_S)
    return read


def result_counts(address: KafkaAddress, registry: Registry, ids: Sequence[str]) -> Counter[str]:
    """How many results each of these requests has; equal ones count once, since the first wins and repeats say the same."""
    found: dict[str, set[str]] = {request_id: set() for request_id in ids}
    for result in records(address, CHAT_RESULTS, registry):
        if result["request_id"] in found:
            found[result["request_id"]].add(f"{result['status']} {result['finish_reason']} {result['text']}")
    return Counter({request_id: len(answers) for request_id, answers in found.items()})
