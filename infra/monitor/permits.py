"""What the operator's token may write, told from the catalogue. A topic whose record says what the system decided, did or learnt is
written by the process that does it, and by nobody's token: else a record would do what another role, or nobody, may."""

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
# CloudEvents' own are written by the monitor; the others that `streams.headers` names are a loop's or a command's word.
_OF_PEOPLE = frozenset({h.CE_ID, h.TRACEPARENT, h.DEADLINE_MS, h.PRIORITY, h.REPLY_TO})
_RESERVED = frozenset(header.name for header in h.CATALOGUE) - _OF_PEOPLE


def producible(topic: str) -> TopicAbout:
    """The topic's entry in the catalogue. Raises InvalidRequest for a topic that is not ours, NotAllowed for one that people outside
    do not write."""
    about = pipeline.about(topic)
    if about is None:
        raise InvalidRequest(f"{topic} is not a topic of the catalogue")
    if about.kind != "topic" or not OUTSIDE & set(about.writers):
        raise NotAllowed(f"{topic} is written by {', '.join(about.writers)} alone: no token produces to it")
    return about


def unmendable(dead_letter_topic: str) -> str | None:
    """Why the record of a dead letter may not be changed before it goes again; None where it may. As it was, any may go."""
    about = pipeline.about(letters.BY_TOPIC[dead_letter_topic].topic.name)
    if about is not None and OUTSIDE & set(about.writers):
        return None
    return f"its record is written by {', '.join(about.writers if about else ())} alone: it goes as it was, or not at all"


def signed(topic: str, value: Mapping[str, Any], actor: str) -> dict[str, Any]:
    """The record in the actor's own name, where its record names one. Raises NotAllowed for a label in another's name."""
    if topic != LABELS.name:
        return dict(value)
    if value.get("actor") not in (None, actor):
        raise NotAllowed(f"a label is written in the name of who writes it: actor must be {actor!r}, or left out")
    return {**value, "actor": actor}


def headers(names: Iterable[str]) -> None:
    """Raises NotAllowed where one is not a client's to write."""
    wrong = sorted(name for name in names if name in _RESERVED or name.startswith(h.KIP_1034))
    if wrong:
        raise NotAllowed(f"the headers {', '.join(wrong)} are written by our own processes")
