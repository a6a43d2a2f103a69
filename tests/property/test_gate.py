"""The gate's comparison against its definition, and its verdicts where they are clear."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_triggers.gate import Answers, Comparison, Policy, compare, judge

NAMES = ("a", "b")


def answers(outputs: np.ndarray, thresholds: list[float] | None = None, ids: list[str] | None = None, **more: object) -> Answers:
    request_ids = ids or [f"r{i}" for i in range(len(outputs))]
    made = Answers(
        "1", NAMES, request_ids, [""] * len(outputs), outputs, None if thresholds is None else np.array(thresholds), 10.0, 100
    )
    return replace(made, **more)  # type: ignore[arg-type]


def truth_of(wanted: np.ndarray) -> dict[str, dict[str, bool]]:
    """wanted: 0 or 1, the class of each request."""
    return {f"r{i}": {"a": one == 0, "b": one == 1} for i, one in enumerate(wanted.tolist())}


def pointing(classes: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.eye(2)[classes] * 0.8 + 0.1
    return found


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_shares_and_changes_are_those_of_a_count(rows: list[tuple[int, int, int]]) -> None:
    was, now, true = (np.array(column) for column in zip(*rows, strict=True))
    found = compare(answers(pointing(was)), answers(pointing(now)), truth_of(true))
    assert found.agreement == pytest.approx((was == now).mean())
    assert {one[0] for one in found.changed} == {f"r{i}" for i in np.flatnonzero(was != now)}
    assert found.accuracy is not None
    assert found.accuracy.champion == pytest.approx((was == true).mean())
    assert found.accuracy.candidate == pytest.approx((now == true).mean())
    difference = found.accuracy.candidate - found.accuracy.champion
    assert found.accuracy.low - 1e-9 <= difference <= found.accuracy.high + 1e-9


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(5), 0
    for _ in range(200):
        true = random.integers(0, 2, 400)
        was = np.where(random.random(400) < 0.80, true, 1 - true)
        now = np.where(random.random(400) < 0.85, true, 1 - true)
        accuracy = compare(answers(pointing(was)), answers(pointing(now)), truth_of(true)).accuracy
        assert accuracy is not None
        covered += accuracy.low <= 0.05 <= accuracy.high
    assert 180 <= covered <= 200


def test_the_order_of_answers_and_what_only_one_answered_do_not_matter() -> None:
    outputs = pointing(np.array([0, 1, 1, 0]))
    shuffled = answers(outputs[[3, 1, 0]], ids=["r3", "r1", "r0"])
    found = compare(answers(outputs), shuffled, {})
    assert (found.entries, found.agreement, found.changed, found.accuracy) == (3, 1.0, [], None)


def test_every_part_of_a_request_must_be_right() -> None:
    two = answers(np.array([[0.9, 0.2], [0.1, 0.2]]), [0.5, 0.5], ids=["r0", "r0"], parts=["text", "image 1"])
    right = answers(np.array([[0.9, 0.2], [0.9, 0.2]]), [0.5, 0.5], ids=["r0", "r0"], parts=["text", "image 1"])
    found = compare(two, right, {"r0": {"a": True}, "other": {"a": True}})
    assert found.accuracy is not None
    assert (found.accuracy.labelled, found.accuracy.champion, found.accuracy.candidate) == (1, 0.0, 1.0)


def test_versions_that_tell_different_things_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="tells"):
        compare(answers(pointing(np.array([0]))), answers(pointing(np.array([0])), names=("a", "c")), {})


def verdict(was_right: float, now_right: float, n: int = 2_000, labelled: bool = True, **more: object) -> tuple[bool, str]:
    random = np.random.default_rng(2)
    true = random.integers(0, 2, n)
    was, now = (np.where(random.random(n) < share, true, 1 - true) for share in (was_right, now_right))
    found = compare(answers(pointing(was)), answers(pointing(now)), truth_of(true) if labelled else {})
    said = judge(replace(found, **more), Policy())  # type: ignore[arg-type]
    return said.passes, " ".join(said.reasons)


def test_a_better_one_passes_and_a_worse_one_does_not() -> None:
    assert verdict(0.80, 0.90) == (True, "")
    passes, reasons = verdict(0.90, 0.85)
    assert not passes
    assert "it may be worse" in reasons


def test_without_labels_the_answers_must_agree() -> None:
    assert verdict(1.0, 1.0, labelled=False) == (True, "")
    passes, reasons = verdict(0.9, 0.95, labelled=False)
    assert not passes
    assert "0 requests are labelled, too few to decide by (100)" in reasons


def test_few_answers_slowness_and_size_are_reasons() -> None:
    assert "20 answers could be compared" in verdict(1.0, 1.0, n=20)[1]
    assert "3.0 times as long" in verdict(1.0, 1.0, time_ratio=3.0)[1]
    assert "4.0 times as large" in verdict(1.0, 1.0, size_ratio=4.0)[1]


def test_outputs_that_moved_without_labels_are_a_reason() -> None:
    still = Comparison(1_000, 1.0, [], {"a": (0.4, 0.5)}, None, 1.0, 1.0)
    assert not judge(still, Policy()).passes
    assert "outputs of a moved by 0.50" in judge(still, Policy()).reasons[0]
