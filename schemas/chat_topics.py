"""The topics of chat: requests, answers as they are made, whole answers, cancellations. Part of the catalogue of `topics.py`."""

from __future__ import annotations

from schemas import generated as records
from schemas.durations import DAY_MS
from schemas.topic_kinds import Consumption, Guarantee, Topic

CHAT_REQUESTS = Topic(
    name="chat-requests-v1",
    record=records.ChatRequest,
    key="conversation_id, if there is one",  # its turns are in one partition, in order
    guarantee=Guarantee.NONE,
    owner="chat",
    writers=("producers",),
    readers=("chat worker",),
)
CHAT_RESULTS = Topic(
    name="chat-results-v1",
    record=records.ChatResult,
    key="as the request's key",
    guarantee=Guarantee.AT_LEAST_ONCE,
    owner="chat",
    writers=("chat worker",),
    readers=("clients", "sinks", "chat worker"),
)
CHAT_TOKENS = Topic(
    name="chat-tokens-v1",
    record=records.ChatTokens,
    key="request_id",  # so that all tokens of a request are in one partition, which its id tells
    partitions=1,  # the client sends a request for each partition, and the broker takes one at a time: the last tokens of a step waited
    retention_ms=DAY_MS,
    guarantee=Guarantee.AT_LEAST_ONCE,
    owner="chat",
    writers=("chat worker",),
    readers=("clients", "chat worker", "openai door"),
)
CHAT_CONTROLS = Topic(
    name="chat-controls-v1",
    record=records.ChatControl,
    key="request_id",
    partitions=1,
    retention_ms=DAY_MS,
    guarantee=Guarantee.NONE,
    owner="chat",
    writers=("producers", "openai door"),
    readers=("chat worker",),
)

# No retries: a request that finds no room is answered `busy` at once.
CHAT = Consumption(topic=CHAT_REQUESTS, group="chat", retry_delays_ms=(), results=CHAT_RESULTS, key_field="conversation_id")
