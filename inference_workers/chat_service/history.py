"""The earlier turns of conversations, from their results on `chat-results-v1`: a request names its conversation and holds what is new.

Nothing is stored beside the topic. It is read when the first such request comes, and from then on to its end before each of them, so
a worker that starts, or takes a partition over, knows what every other one answered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from inference_workers.chat.conversation import ROLES, Message
from inference_workers.chat_service.chat_answer import Answer
from schemas.chat_topics import CHAT_REQUESTS, CHAT_RESULTS
from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable, RetriesExhausted, RetryLater
from schemas.vocabulary import FinishReason
from streams.metrics import Metrics
from streams.readable import Readable
from streams.rows import Origin, Place, Polled

READ_LIMIT_S = 20.0
KEPT_CHARACTERS = 64 * 2**20  # of all conversations
TURN_CHARACTERS = 500  # counted for a turn beside its texts
MOST_TURNS = 200  # of one conversation


@dataclass(frozen=True)
class Turn:
    """What was asked, and the answer to it. origin: of the request."""

    conversation_id: str
    origin: Origin
    messages: tuple[Message, ...]

    @property
    def size(self) -> int:
        return TURN_CHARACTERS + sum(len(message.content) for message in self.messages)


@dataclass
class Conversation:
    """turns: by the offset of their request; all are in one partition, that of the conversation's id."""

    turns: dict[int, Turn] = field(default_factory=dict)
    size: int = 0


class Results(Protocol):
    def parts_to_end(self, limit_s: float) -> Iterator[Polled]:
        """All records up to the present end, in parts. Raises BrokerUnavailable."""
        ...

    def close(self) -> None: ...


class History:
    """results: opens the topic of results, as far back as turns are kept, or behind what was read already. most_characters: of the
    turns that a request is given."""

    def __init__(
        self,
        results: Callable[[Mapping[Place, int]], Results],
        registry: SchemaIds,
        metrics: Metrics,
        most_characters: int,
    ) -> None:
        self._open, self._most_characters = results, most_characters
        self._readable = Readable(CHAT_RESULTS, registry, turn_of, metrics)
        self._results: Results | None = None
        self._next: dict[Place, int] = {}  # behind what was understood
        self._trouble: str | None = None  # why the topic cannot be read; "" if it was read, None before
        self._part = Polled()  # read, and not understood yet: the registry did not answer
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()  # the one that changed last at the end
        self._size = 0

    def look_again(self) -> None:
        """Requests from now on see what is written until then. The topic is read once for all of them, when the first needs it."""
        self._trouble = None

    def before(self, conversation_id: str, partition: int, offset: int) -> list[Message]:
        """The newest turns of requests before this one, oldest first. Waits for what was written until the last `look_again`. Raises
        RetriesExhausted."""
        if self._trouble is None:
            self._trouble = self._read()
        if self._trouble:
            raise RetriesExhausted(f"the conversation cannot be read now: {self._trouble}")
        turns = self._conversations.get(conversation_id, Conversation()).turns
        earlier = [turn for turn in turns.values() if turn.origin[1] == partition and turn.origin[2] < offset]
        messages: list[Message] = []
        room = self._most_characters
        for turn in sorted(earlier, key=lambda one: one.origin[2], reverse=True):
            room -= sum(len(message.content) for message in turn.messages)
            if room < 0:
                break
            messages = [*turn.messages, *messages]
        return messages

    def knows(self, answer: Answer) -> bool:
        """Whether the turn of this request is there: it was answered before, and is answered again."""
        conversation = self._conversations.get(answer.input.conversation_id or "")
        return conversation is not None and answer.rows.offsets[0] in conversation.turns

    def note(self, answer: Answer, finish_reason: str) -> None:
        """An answer of this worker, which the next message of its conversation may follow before its result can be read."""
        (_, partition), offset, asked = answer.rows.places[0], answer.rows.offsets[0], answer.input.asked
        if asked and answer.input.conversation_id and finish_reason != FinishReason.CONTENT_FILTER:
            messages = (*asked, Message("assistant", answer.text))
            self._add(Turn(answer.input.conversation_id, (CHAT_REQUESTS.name, partition, offset), messages))

    def _read(self) -> str:
        """Why it cannot be read now; empty if it was."""
        try:
            self._results = self._results or self._open(self._next)
            self._take()
            for part in self._results.parts_to_end(READ_LIMIT_S):
                self._part = part
                self._take()
        except BrokerUnavailable as error:
            self.close()  # opened anew for the next request: the place where it stood may be gone
            return f"{error.code}: {error}"
        except RetryLater as error:  # the next request goes on with this part
            return f"{error.code}: {error}"
        return ""

    def _take(self) -> None:
        turns = self._readable.of(self._part)
        self._next.update((place, at + 1) for place, at in zip(self._part.places, self._part.offsets, strict=True))
        self._part = Polled()
        for turn in turns:
            if turn is not None:
                self._add(turn)

    def _add(self, turn: Turn) -> None:
        conversation = self._conversations.setdefault(turn.conversation_id, Conversation())
        offset = turn.origin[2]
        if offset in conversation.turns:
            return  # written again after a crash: the first result of a request counts
        conversation.turns[offset] = turn
        self._conversations.move_to_end(turn.conversation_id)
        grown = turn.size
        if len(conversation.turns) > MOST_TURNS:
            grown -= conversation.turns.pop(min(conversation.turns)).size
        conversation.size += grown
        self._size += grown
        while self._size > KEPT_CHARACTERS and len(self._conversations) > 1:
            _, oldest = self._conversations.popitem(last=False)
            self._size -= oldest.size

    def close(self) -> None:
        if self._results is not None:
            self._results.close()
            self._results = None


def turn_of(result: Mapping[str, Any]) -> Turn | None:
    """None for a result that is no turn: of a request that continues nothing, or without an answer. What moderation cut is left out."""
    if (
        not result["asked"]
        or not result["conversation_id"]
        or result["text"] is None
        or result["origin_topic"] != CHAT_REQUESTS.name
    ):
        return None
    if result["finish_reason"] == FinishReason.CONTENT_FILTER:
        return None
    messages = tuple(Message(one["role"], one["content"]) for one in result["asked"])
    if any(message.role not in ROLES for message in messages):
        raise ValueError(f"a role of {messages[0].role!r:.40}")
    origin = result["origin_topic"], result["origin_partition"], result["origin_offset"]
    return Turn(result["conversation_id"], origin, (*messages, Message("assistant", result["text"])))
