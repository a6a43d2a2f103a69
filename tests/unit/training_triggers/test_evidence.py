"""What is known of versions that answer, and the tests on it that may be looked at all the time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_triggers.recorded.confidence_sequence import PairedAnswers, Share, difference
from training_triggers.recorded.evidence import Evidence

MODEL = "moderation-text"


def record(ids: Sequence[str], outputs: Sequence[float], parts: Sequence[str] = (), **more: str) -> dict[str, object]:
    """Of the prediction log."""
    return {
        "request_ids": list(ids),
        "model": MODEL,
        "version": "1",
        "digest": "d1",
        "arm": "live",
        "compute_ms": 2.0,
        "output_names": ["spam"],
        "outputs": np.array(outputs, "<f4").tobytes(),
        "outputs_dtype": "<f4",
        "thresholds": np.array([0.5], "<f4").tobytes(),
        "parts": list(parts),
    } | more


def test_the_interval_holds_the_truth_at_all_times() -> None:
    """20 looks after every 10 answers, 400 times: without the correction for looking, three times as many would be wrong."""
    numbers, wrong, naive = np.random.default_rng(8), 0, 0
    for _ in range(400):
        new, old = (np.cumsum(numbers.random(400) < 0.8) for _ in range(2))
        looks = range(39, 400, 10)
        wrong += any(
            not low <= 0 <= high
            for low, high in (difference(Share(n + 1, int(new[n])), Share(n + 1, int(old[n]))) for n in looks)
        )
        naive += any(abs(new[n] - old[n]) / (n + 1) > 1.96 * np.sqrt(2 * 0.16 / (n + 1)) for n in looks)
    assert wrong / 400 <= 0.05
    assert naive / 400 > 0.15


@given(st.integers(30, 300), st.integers(30, 300), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=200)
def test_more_answers_narrow_the_interval_and_it_turns_with_its_sides(n: int, m: int, p: float, q: float) -> None:
    new, old = Share(n, int(p * n)), Share(m, int(q * m))
    low, high = difference(new, old)
    assert low <= new.value - old.value <= high
    back = difference(old, new)
    assert back == pytest.approx((-high, -low))
    wider = difference(Share(n * 10, int(p * n) * 10), Share(m * 10, int(q * m) * 10))
    assert wider[1] - wider[0] < high - low


def label(request_id: str, spam: bool | None, parts: dict[str, dict[str, bool]] | None = None) -> dict[str, object]:
    return {"request_id": request_id, "truth": {} if spam is None else {"spam": spam}, "parts": parts or {}, "source": "review"}


def test_labels_and_answers_meet_in_either_order_and_the_newest_label_counts() -> None:
    evidence = Evidence()
    evidence.label(label("a", False))
    evidence.label(label("a", True))
    evidence.answers(record(["a", "b", "c"], [0.9, 0.1, 0.9]))
    evidence.label(label("b", True))
    seen = evidence.of(MODEL, "d1", "live")
    assert (seen.answered, seen.labelled, seen.right, seen.batches) == (3, 2, 1, [(3, 2.0)])
    evidence.label(label("b", False))
    assert (seen.labelled, seen.right) == (2, 2), "a mended label replaces what it said before"
    evidence.label({"request_id": "c", "truth": {"violence": True}})
    assert (seen.labelled, seen.right) == (2, 2), "of what the model does not tell"


def test_a_request_that_is_asked_again_counts_once_and_a_version_by_its_digest() -> None:
    evidence = Evidence()
    for _ in range(10):
        evidence.answers(record([f"r{i}" for i in range(30)], [0.9] * 30))
    evidence.answers(record([f"r{i}" for i in range(30)], [0.1] * 30, digest="d2"))
    for i in range(30):
        evidence.label(label(f"r{i}", True))
    first, second = (evidence.of(MODEL, digest, "live") for digest in ("d1", "d2"))
    assert (first.answered, first.labelled, first.right) == (30, 30, 30)
    assert (second.answered, second.labelled, second.right) == (30, 30, 0)
    assert evidence.beside((MODEL, "d2", "live"), (MODEL, "d1", "live")) == PairedAnswers(30, 0, 30)


def test_ten_pictures_of_one_item_are_one_answer_and_a_label_is_of_its_part() -> None:
    evidence, names = Evidence(), [f"image {i}" for i in range(1, 11)]
    evidence.answers(record(["a"] * 10, [0.9, *[0.1] * 9], names))
    evidence.label(label("a", True))
    seen = evidence.of(MODEL, "d1", "live")
    assert (seen.answered, seen.labelled) == (1, 0), "which of them?"
    evidence.label(label("a", None, {"image 1": {"spam": True}, "image 2": {"spam": False}}))
    assert (seen.labelled, seen.right) == (1, 1)
    evidence.label(label("a", None, {"image 7": {"spam": True}}))
    assert (seen.labelled, seen.right) == (1, 0)


def test_labels_that_come_after_hundreds_of_thousands_of_answers_count() -> None:
    evidence, n = Evidence(), 250_000
    for start in range(0, n, 1_000):
        evidence.answers(record([f"r{i}" for i in range(start, start + 1_000)], [0.9] * 1_000))
    for i in range(0, n, 1_000):
        evidence.label(label(f"r{i}", i % 2_000 == 0))
    seen = evidence.of(MODEL, "d1", "live")
    assert (seen.answered, seen.labelled, seen.right) == (n, 250, 125)


def test_beyond_its_bound_it_keeps_a_fair_sample_of_requests_with_their_labels() -> None:
    evidence, n = Evidence(most_answers=40_000, most_labels=5_000), 100_000
    for start in range(0, n, 500):
        ids = [f"r{i}" for i in range(start, start + 500)]
        evidence.answers(record(ids, [0.9] * 500))
        for i, one in enumerate(ids):
            evidence.label(label(one, i % 4 > 0))
    seen = evidence.of(MODEL, "d1", "live")
    assert seen.answered == n
    assert 1_000 < seen.labelled <= 5_000
    assert seen.right / seen.labelled == pytest.approx(0.75, abs=0.05)
    assert len(evidence._answers[MODEL, "d1", "live"]) <= 40_000
