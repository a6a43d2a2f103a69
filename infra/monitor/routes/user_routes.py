"""One user: what was recommended lately, and what came of it. What the online store knows of a user: `feature_routes.py`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fastapi import APIRouter
from pydantic import TypeAdapter, ValidationError

from infra.monitor.reading import browse
from infra.monitor.reading.record_filter import Message
from infra.monitor.routes.feature_routes import EntityId
from infra.monitor.routes.shared_parts import Payload, TheMonitor
from schemas.topics import LABELS, RECOMMENDATION_RESULTS

router = APIRouter(default_response_class=Payload)
ANSWERS = 10
Items = list[dict[str, Any]]


@dataclass(frozen=True)
class ShownItem:
    """followed: whether the user did anything with it within the window; null before the window has ended."""

    item_id: str
    title: str
    score: Any
    reason: str
    propensity: Any
    explored: bool
    followed: bool | None


@dataclass(frozen=True)
class UserAnswer:
    """engaged: what its label says of the answer; null before there is one. note: what the user did, in words."""

    request_id: str
    at_ms: int
    status: str
    error: str
    basis: str
    model: str
    index_version: str
    candidates: int
    seen: int
    notes: list[str]
    items: list[ShownItem]
    engaged: bool | None
    note: str


@dataclass(frozen=True)
class UserAnswers:
    """answers: newest first. cut: why there may be more, or empty."""

    answers: list[UserAnswer]
    cut: str


_ANSWER = TypeAdapter(UserAnswer)


@router.get("/api/users/{user_id}/recommendations")
def recommendations(monitor: TheMonitor, user_id: EntityId) -> UserAnswers:
    """The newest answers to a user, each with its label."""
    results = monitor.bounds(RECOMMENDATION_RESULTS.name)
    labels = monitor.bounds(LABELS.name)
    with monitor.reads.turn():
        page = browse.page(monitor.address, monitor.ids, results, None, ANSWERS, lambda record: _is_answer(record, user_id))
        asked = {str(_of(record, "request_id")) for record in page.records}
        told = browse.page(
            monitor.address, monitor.ids, labels, None, ANSWERS, lambda record: record.key in asked and _is_label(record)
        )
    by_request = {record.key: record.value for record in reversed(told.records)}
    return UserAnswers([_answer(record, by_request.get(str(_of(record, "request_id")))) for record in page.records], page.cut)


def _of(record: Message, name: str) -> Any:
    return record.value.get(name) if isinstance(record.value, dict) else None


def _is_answer(record: Message, user_id: str) -> bool:
    """Whoever may write to the topic can write records of other schemas, which may have a field of this name."""
    if _of(record, "user_id") != user_id:
        return False
    try:
        _ANSWER.validate_python(asdict(_answer(record, None)))
    except (KeyError, TypeError, AttributeError, ValidationError):
        return False
    return True


def _is_label(record: Message) -> bool:
    parts, note = _of(record, "parts"), _of(record, "note")
    known = isinstance(_of(record, "truth"), dict) and isinstance(parts, dict | None) and isinstance(note, str | None)
    return known and _of(record, "task") == "recommendation"


def _answer(record: Message, label: dict[str, Any] | None) -> UserAnswer:
    value: dict[str, Any] = record.value
    followed = (label or {}).get("parts") or {}
    model = ", ".join(f"{one['name']} {one['version']}" for one in value["models"])
    return UserAnswer(
        value["request_id"],
        record.timestamp_ms,
        value["status"],
        value["error_message"] or "",
        value["basis"] or "",
        model,
        value["index_version"],
        value["candidates"],
        value["seen"],
        value["notes"],
        [_item(item, None if label is None else item["item_id"] in followed) for item in value["items"]],
        None if label is None else bool(label["truth"].get("engaged")),
        (label or {}).get("note") or "",
    )


def _item(item: dict[str, Any], followed: bool | None) -> ShownItem:
    return ShownItem(
        item["item_id"], item["title"], item["score"], item["reason"], item["propensity"], item["explored"], followed
    )
