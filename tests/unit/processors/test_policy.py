"""Verdicts to actions: the strictest rule wins, every reason is named, and strikes are a set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.moderation.policy import ALLOW, REMOVE, REVIEW, Rules, action_of, action_of_review, decide
from processors.settings import ProcessorSettings
from processors.views.strikes import after
from schemas.errors import BadSettings
from streams.process.settings import load

RULES = Rules.parse("default=0.95 self_harm=never image:spam=never", review_unjudged=True)


def found(category: str, probability: float, part: str = "text", threshold: float = 0.5) -> dict[str, Any]:
    return {
        "category": category,
        "probability": probability,
        "threshold": threshold,
        "flagged": probability > threshold,
        "part": part,
    }


def verdict(*categories: dict[str, Any], parts: list[dict[str, Any]] | None = None, status: str = "ok") -> dict[str, Any]:
    return {
        "status": status,
        "error_code": None if status == "ok" else "media",
        "content_id": "c",
        "author_id": "a",
        "request_id": "r",
        "categories": list(categories),
        "parts": parts or [],
    }


@pytest.mark.parametrize(
    ("given_", "action", "reason"),
    [
        (verdict(found("spam", 0.2)), ALLOW, "nothing flagged"),
        (verdict(found("spam", 0.6)), REVIEW, "spam 0.60 in text passes its threshold 0.50"),
        (verdict(found("spam", 0.97)), REMOVE, "spam 0.97 in text passes 0.95, at which it is removed"),
        (verdict(found("self_harm", 0.99)), REVIEW, "self_harm 0.99 in text passes its threshold 0.50"),
        (verdict(found("spam", 0.99, "image 2")), REVIEW, "spam 0.99 in image 2 passes its threshold 0.50"),
        (verdict(found("spam", 0.99, "text in image 2")), REVIEW, "spam 0.99 in text in image 2 passes its threshold 0.50"),
        (verdict(found("violence", 0.99, "image 2")), REMOVE, "violence 0.99 in image 2 passes 0.95"),
        (verdict(found("spam", 0.99, threshold=0.999)), ALLOW, "nothing flagged"),
        (verdict(status="failed"), REVIEW, "not judged: failed, media"),
        (
            verdict(found("spam", 0.1), parts=[{"part": "image 1", "error_code": "media", "unseen": None}]),
            REVIEW,
            "image 1 was not judged: media",
        ),
        (
            verdict(
                found("spam", 0.1), parts=[{"part": "text", "error_code": None, "unseen": "the last 7 of its 99 characters"}]
            ),
            REVIEW,
            "text was not judged whole: the last 7 of its 99 characters",
        ),
    ],
)
def test_the_strictest_rule_that_applies_wins_and_is_named(given_: dict[str, Any], action: str, reason: str) -> None:
    did, reasons = decide(given_, RULES)
    assert did == action
    assert any(reason in one for one in reasons), reasons


def test_an_action_carries_what_led_to_it_and_is_the_same_for_the_same_verdict() -> None:
    one = action_of(verdict(found("spam", 0.97)), "key", 7, RULES)
    assert one == action_of(verdict(found("spam", 0.97)), "key", 7, RULES)
    assert (one["content_id"], one["author_id"], one["request_id"], one["decided_ms"]) == ("c", "a", "r", 7)
    assert one["policy"] == RULES.digest != Rules.parse("default=0.9", review_unjudged=True).digest
    assert action_of({**verdict(status="failed"), "content_id": None}, "key", 7, RULES)["content_id"] == "key"


def test_the_default_rules_never_remove_by_picture_nor_for_self_harm() -> None:
    settings = load(ProcessorSettings, {})
    rules = Rules.parse(settings.remove_at, settings.review_unjudged)
    assert decide(verdict(found("spam", 1.0, "image 1")), rules)[0] == REVIEW
    assert decide(verdict(found("spam", 1.0, "video at 4.2 s")), rules)[0] == REVIEW
    assert decide(verdict(found("self_harm", 1.0)), rules)[0] == REVIEW
    assert decide(verdict(found("spam", 1.0)), rules)[0] == REMOVE


@pytest.mark.parametrize("words", ["spam", "spam=often", "colour=0.3", "audio:spam=0.5"])
def test_rules_that_say_nothing_are_refused(words: str) -> None:
    with pytest.raises(BadSettings, match="MILLRACE_REMOVE_AT"):
        Rules.parse(words, review_unjudged=True)


def test_only_a_reviewers_decision_makes_an_action() -> None:
    label = {
        "source": "review",
        "action": "allow",
        "content_id": "c",
        "author_id": "a",
        "note": "satire",
        "actor": "ada",
        "request_id": "r",
    }
    made = action_of_review(label, 9)
    assert made is not None
    assert (made["action"], made["reasons"], made["decided_by"]) == ("allow", ["satire"], "ada")
    for change in ({"source": "producer"}, {"action": None}, {"action": "review"}, {"content_id": None}):
        assert action_of_review({**label, **change}, 9) is None


ACTIONS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([ALLOW, REVIEW, REMOVE])), max_size=30)


@given(ACTIONS, st.integers(0, 30))
def test_strikes_are_the_items_whose_last_action_is_a_removal_however_often_actions_are_read(
    actions: list[tuple[str, str]], again_from: int
) -> None:
    last = dict(actions)
    strikes: list[str] = []
    for content_id, action in [*actions, *actions[again_from:]]:
        strikes = after(strikes, {"content_id": content_id, "action": action})
    assert strikes == sorted(content_id for content_id, action in last.items() if action == REMOVE)
