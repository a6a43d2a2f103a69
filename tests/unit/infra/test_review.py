"""What a reviewer's decision says of an item's parts: of those that were looked at, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from infra.cli.review import Decision, Truth, truths
from schemas.errors import InvalidRequest

SPAM = {"category": "spam", "flagged": True, "part": "image 2"}
VIOLENCE = {"category": "violence", "flagged": True, "part": "text"}
CALM = {"category": "hate_speech", "flagged": False, "part": "text"}


def verdict(*categories: dict[str, Any], parts: tuple[str, ...] = ("text", "image 1", "image 2")) -> dict[str, Any]:
    return {"categories": list(categories), "parts": [{"part": part} for part in parts]}


def truths_of(
    verdict: dict[str, Any] | None, action: str, categories: list[str], part: str | None
) -> tuple[Truth, dict[str, Truth]]:
    return truths(verdict, Decision("content-1", action, tuple(categories), part))


def test_a_removal_confirms_what_was_flagged_where_it_was_flagged() -> None:
    whole, parts = truths_of(verdict(SPAM, CALM), "remove", [], None)
    assert whole == {"spam": True}
    assert parts == {"image 2": {"spam": True}}, "of the text, of the other picture and of other categories nothing is known"


def test_what_was_flagged_and_is_not_named_does_not_hold_there() -> None:
    whole, parts = truths_of(verdict(SPAM, VIOLENCE), "remove", ["spam"], None)
    assert (whole, parts) == ({"spam": True}, {"image 2": {"spam": True}, "text": {"violence": False}})


def test_what_no_model_flagged_is_of_no_part_unless_there_is_one_only_or_it_is_named() -> None:
    whole, parts = truths_of(verdict(SPAM, CALM), "remove", ["hate_speech"], None)
    assert (whole, parts) == ({"hate_speech": True}, {"image 2": {"spam": False}})
    assert truths_of(verdict(CALM), "remove", ["hate_speech"], "image 1")[1] == {"image 1": {"hate_speech": True}}
    assert truths_of(verdict(CALM, parts=("text",)), "remove", ["hate_speech"], None)[1] == {"text": {"hate_speech": True}}
    with pytest.raises(InvalidRequest, match="no part 'image 9'"):
        truths_of(verdict(SPAM), "remove", [], "image 9")


def test_what_is_allowed_holds_none_of_what_was_judged_in_any_part() -> None:
    assert truths_of(verdict(SPAM, CALM), "allow", [], None) == ({"spam": False, "hate_speech": False}, {})
    whole, parts = truths_of(verdict(SPAM, CALM), "allow", ["spam"], None)
    assert (whole, parts) == ({"spam": True, "hate_speech": False}, {"image 2": {"spam": True}})


def test_without_the_verdict_only_what_is_named_is_said() -> None:
    assert truths_of(None, "remove", ["spam"], None) == ({"spam": True}, {})
    assert truths_of(None, "remove", ["spam"], "text") == ({"spam": True}, {"text": {"spam": True}})
    assert truths_of(None, "allow", [], None) == ({}, {})
