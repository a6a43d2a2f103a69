"""The records that the operator's token may write, according to the catalogue. A topic that records a decision, action or
result of the system is written only by the process responsible for it, never with a token. Otherwise a record could do what
belongs to another role, or to nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from infra.monitor import letters, pipeline
from infra.monitor.pipeline import TopicAbout
from infra.monitor.safety import NotAllowed
from schemas.errors import InvalidRequest
from schemas.topics import LABELS
from streams import headers as h

OUTSIDE = frozenset({"producers", "clients"})
# The monitor writes CloudEvents' own headers; all other headers in `streams.headers` belong to loops or commands.
_OF_PEOPLE = frozenset({h.CE_ID, h.TRACEPARENT, h.DEADLINE_MS, h.PRIORITY, h.REPLY_TO})
_RESERVED = frozenset(header.name for header in h.CATALOGUE) - _OF_PEOPLE


def producible(topic: str) -> TopicAbout:
    """The topic's entry in the catalogue. Raises InvalidRequest if the topic is not in the catalogue, NotAllowed if people
    outside do not write to it."""
    about = pipeline.about(topic)
    if about is None:
        raise InvalidRequest(f"{topic} is not a topic of the catalogue")
    if about.kind != "topic" or not OUTSIDE & set(about.writers):
        raise NotAllowed(f"{topic} is written by {', '.join(about.writers)} alone: no token produces to it")
    return about


def unmendable(dead_letter_topic: str) -> str | None:
    """The reason why the record of a dead letter may not be changed before a redrive; None if it may. Every unchanged record
    may be redriven."""
    about = pipeline.about(letters.reader_of(dead_letter_topic).topic.name)
    if about is not None and OUTSIDE & set(about.writers):
        return None
    return f"its record is written by {', '.join(about.writers if about else ())} alone: it goes as it was, or not at all"


def signed(topic: str, value: Mapping[str, Any], actor: str) -> dict[str, Any]:
    """The record; a label gets the actor's own name. Raises NotAllowed for a label in another person's name."""
    if topic != LABELS.name:
        return dict(value)
    if value.get("actor") not in (None, actor):
        raise NotAllowed(f"a label is written in the name of who writes it: actor must be {actor!r}, or left out")
    return {**value, "actor": actor}


def headers(names: Iterable[str]) -> None:
    """Raises NotAllowed for a header that clients may not write."""
    wrong = sorted(name for name in names if name in _RESERVED or name.startswith(h.KIP_1034))
    if wrong:
        raise NotAllowed(f"the headers {', '.join(wrong)} are written by our own processes")
