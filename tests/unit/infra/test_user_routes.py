"""A user's page: which records of the topics it shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.monitor.reading.record_filter import Message
from infra.monitor.routes.user_routes import _is_answer, _is_label

VALUE: dict[str, Any] = {
    "request_id": "r",
    "user_id": "u",
    "status": "ok",
    "error_message": None,
    "basis": "history",
    "models": [],
    "index_version": "flat",
    "candidates": 3,
    "seen": 0,
    "notes": [],
    "items": [{"item_id": "i", "title": "T", "score": 1.0, "reason": "", "propensity": 1.0, "explored": False}],
}
ANSWER = Message("recommendation-results-v1", 0, 0, 1, "u", {}, VALUE, 9)
LABEL = replace(ANSWER, value={"task": "recommendation", "truth": {"engaged": True}, "parts": {}, "note": None})


def with_(**fields: Any) -> Message:
    return replace(ANSWER, value={**VALUE, **fields})


@pytest.mark.parametrize(
    "record",
    [
        with_(user_id="v"),
        replace(ANSWER, value={"not_decoded": "junk", "bytes": 4}),
        replace(ANSWER, value=None),
        replace(ANSWER, value={"user_id": "u", "event_id": "e", "kind": "view"}),  # an event of the user
        with_(models=[{"version": "1"}]),
        with_(items=[{"item_id": "i"}]),
        with_(notes={"a": 1}),
        with_(seen="many"),
        with_(status=["ok"]),
    ],
)
def test_records_that_are_no_answers_are_passed_over(record: Message) -> None:
    assert _is_answer(ANSWER, "u") and not _is_answer(record, "u")


@pytest.mark.parametrize("change", [{"task": "moderation"}, {"truth": None}, {"parts": ["i"]}, {"note": 3}])
def test_labels_of_others_are_passed_over(change: dict[str, Any]) -> None:
    assert _is_label(LABEL) and not _is_label(replace(LABEL, value={**LABEL.value, **change}))
