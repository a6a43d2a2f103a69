"""The gate's comparison against its definition, and its verdicts where they are clear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import ROOT
from training_triggers.recorded import paired
from training_triggers.recorded.compare import accuracy_of, compare
from training_triggers.recorded.comparison import Accuracy, Answers, Comparison, Unlabelled
from training_triggers.recorded.truth import RequestLabels
from training_triggers.runs.gate import GatePolicy, GateVerdict, judge
from training_triggers.runs.gate_unlabelled import LEAST_TO_SPREAD

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


def test_a_label_of_a_part_is_of_that_part_alone() -> None:
    ids, parts = ["r0", "r0"], ["text", "image 1"]
    was = answers(np.array([[0.1, 0.2], [0.9, 0.2]]), [0.5, 0.5], ids=ids, parts=parts)
    now = answers(np.array([[0.9, 0.2], [0.9, 0.2]]), [0.5, 0.5], ids=ids, parts=parts)
    looked = RequestLabels({}, {"text": {"a": False}, "image 1": {"a": True}})
    found = compare(was, now, {"r0": looked, "other": {"a": True}})
    assert found.accuracy is not None
    assert (found.accuracy.labelled, found.accuracy.champion, found.accuracy.candidate) == (1, 1.0, 0.0)
    whole = compare(was, now, {"r0": {"a": True}})
    assert whole.accuracy is None, "that it holds of the item says not of which part"
    none = compare(was, now, {"r0": {"a": False}})
    assert none.accuracy is not None and (none.accuracy.labelled, none.accuracy.champion) == (1, 0.0)


def test_ten_pictures_of_an_item_and_ten_copies_of_a_text_are_one_example() -> None:
    right = np.tile([0.9, 0.1], (10, 1))
    item = answers(right, [0.5, 0.5], ids=["r0"] * 10, parts=[f"image {i}" for i in range(10)])
    found = compare(item, item, {"r0": {"b": False}})
    assert found.accuracy is not None and found.accuracy.labelled == 1
    copies = answers(right, [0.5, 0.5], contents=[7] * 9 + [8])
    found = compare(copies, copies, {f"r{i}": {"a": True} for i in range(10)})
    assert found.accuracy is not None and found.accuracy.labelled == 2


def test_versions_that_tell_different_things_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="has the outputs"):
        compare(answers(pointing(np.array([0]))), answers(pointing(np.array([0])), names=("a", "c")), {})


def verdict(was_right: float, now_right: float, n: int = 2_000, labelled: bool = True, **more: object) -> tuple[bool, str]:
    random = np.random.default_rng(2)
    true = random.integers(0, 2, n)
    was, now = (np.where(random.random(n) < share, true, 1 - true) for share in (was_right, now_right))
    found = compare(answers(pointing(was)), answers(pointing(now)), truth_of(true) if labelled else {})
    said = judge(replace(found, **more), GatePolicy())  # type: ignore[arg-type]
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
    assert "0 requests are labelled, too few to decide by (200 are needed)" in reasons


def test_few_labels_that_show_it_worse_count() -> None:
    passes, reasons = verdict(1.0, 0.8, n=120)
    assert not passes
    assert "it may be worse: 1.000 became" in reasons


def test_few_answers_slowness_and_size_are_reasons() -> None:
    assert "20 answers could be compared" in verdict(1.0, 1.0, n=20)[1]
    assert "3.0 times as long" in verdict(1.0, 1.0, time_ratio=3.0)[1]
    assert "4.0 times as large" in verdict(1.0, 1.0, size_ratio=4.0)[1]


def test_outputs_that_moved_without_labels_are_a_reason() -> None:
    still = Comparison(1_000, 1.0, [], {"a": (0.4, 0.5)}, None, 1.0, 1.0)
    assert not judge(still, GatePolicy()).passes
    assert "outputs of a moved by 0.50" in judge(still, GatePolicy()).reasons[0]


def test_how_outputs_are_spread_over_a_few_unlabelled_answers_is_chance_and_no_reason() -> None:
    labelled = Accuracy(666, 0.25, 0.97, low=0.69, high=0.75, gained=480, lost=0)

    def reasons(unlabelled: int) -> Sequence[str]:
        rest = Unlabelled(unlabelled, 1.0, {"nine": (0.4, 1.35)}, labelled=666)
        return judge(Comparison(666 + unlabelled, 1.0, [], {}, labelled, 1.0, 1.0, unlabelled=rest), GatePolicy()).reasons

    assert not reasons(LEAST_TO_SPREAD - 1)
    assert "outputs of nine moved by 1.35" in reasons(LEAST_TO_SPREAD)[0]


def test_the_note_names_the_answers_whose_spread_is_not_judged_and_no_others() -> None:
    rest = Unlabelled(60, 1.0, {"nine": (0.4, 1.35)}, labelled=333)

    def verdict_of(labelled: int, **strata: Unlabelled) -> GateVerdict:
        accuracy = Accuracy(labelled, 1.0, 1.0, low=-0.001, high=0.001)
        return judge(
            Comparison(666 + 120, 1.0, [], {}, accuracy, 1.0, 1.0, unlabelled=replace(rest, entries=120), strata=strata),
            GatePolicy(),
        )

    parts = verdict_of(666, before=rest, since=rest)
    assert parts.passes and "not judged on 120 unlabelled answers" in parts.notes[0], "of the whole there are enough, of no part"
    assert "not judged" not in verdict_of(666, since=replace(rest, entries=0)).notes[0]
    few = verdict_of(100, since=rest)
    assert "outputs of nine moved by 1.35" in few.reasons[0] and "not judged" not in few.notes[0]


def test_what_no_label_tells_of_must_stay_whatever_the_labels_say() -> None:
    """Labels of what the champion flagged, and a candidate that flags half of all the rest: no labelled request shows it."""
    random, n, labelled = np.random.default_rng(3), 5_000, 300
    was, now = np.full((n, 1), 0.1), np.full((n, 1), 0.1)
    was[:labelled], now[:labelled] = 0.9, 0.9
    now[labelled:][random.random(n - labelled) < 0.5] = 0.9
    champion, candidate = (answers(one, [0.5], names=("spam",)) for one in (was, now))
    truth = {f"r{i}": {"spam": i % 5 > 0} for i in range(labelled)}
    said = judge(compare(champion, candidate, truth), GatePolicy())
    assert not said.passes
    assert "unlabelled answers" in " ".join(said.reasons)
    assert "300 of 5000 answers (6.0%) are labelled" in said.notes[0]
    assert "the champion flags 100.0% of them and 0.0% of the rest" in said.notes[0]


def test_what_labels_of_a_fair_sample_show_may_happen_to_the_rest() -> None:
    """A fifth of the traffic is of a new kind that only the candidate knows; a tenth is labelled, whichever it is."""
    random, n = np.random.default_rng(4), 10_000
    spam, new = random.random(n) < 0.3, random.random(n) < 0.2
    was = np.where(spam & ~new, 0.9, 0.1)[:, None]
    now = np.where(spam, 0.9, 0.1)[:, None]
    champion, candidate = (answers(one, [0.5], names=("spam",)) for one in (was, now))
    truth = {f"r{i}": {"spam": bool(spam[i])} for i in np.flatnonzero(random.random(n) < 0.1).tolist()}
    said = judge(compare(champion, candidate, truth), GatePolicy())
    assert said.passes, said.reasons


def test_the_newest_answers_have_no_label_yet_and_are_compared_with_those_since_the_drift() -> None:
    random, n = np.random.default_rng(9), 4_000
    since = np.arange(n) >= 3_000
    spam = random.random(n) < 0.4
    was = np.where(spam & ~since, 0.9, 0.1)[:, None]
    now = np.where(spam, 0.9, 0.1)[:, None]
    truth = {f"r{i}": {"spam": bool(spam[i])} for i in range(3_600)}  # the last 400 were asked just now
    parts = {"before": {f"r{i}" for i in range(3_000)}, "since": {f"r{i}" for i in range(3_000, n)}}
    champion, good = answers(was, [0.5], names=("spam",)), answers(now, [0.5], names=("spam",))
    said = judge(compare(champion, good, truth, parts), GatePolicy())
    assert said.passes, said.reasons
    now[3_600:] = 0.9
    assert not judge(compare(champion, answers(now, [0.5], names=("spam",)), truth, parts), GatePolicy()).passes


@pytest.mark.parametrize("n", [1_000, 3_000, 10_000])
def test_a_candidate_that_never_says_a_rare_class_does_not_pass(n: int) -> None:
    random = np.random.default_rng(n)
    for _ in range(10 if n < 10_000 else 3):
        spam = random.random(n) < 0.004
        was = np.where(np.where(random.random(n) < 0.9, spam, random.random(n) < 0.002), 0.9, 0.1)[:, None]
        if not (was[:, 0] > 0.5)[spam].any():
            continue
        champion, candidate = answers(was, [0.5], names=("spam",)), answers(np.full((n, 1), 0.1), [0.5], names=("spam",))
        said = judge(compare(champion, candidate, {f"r{i}": {"spam": bool(spam[i])} for i in range(n)}), GatePolicy())
        assert not said.passes
        assert any("spam" in one for one in said.reasons)


def test_a_class_with_too_few_labels_is_named_and_refused_where_the_policy_says_so() -> None:
    was = np.full((1_000, 1), 0.1)
    was[:12] = 0.9
    same, truth = answers(was, [0.5], names=("spam",)), {f"r{i}": {"spam": i < 12} for i in range(1_000)}
    found = compare(same, same, truth)
    said = judge(found, GatePolicy())
    assert said.passes
    assert "spam (12 where it holds, 988 where it does not)" in " ".join(said.notes)
    strict = judge(found, GatePolicy(few="refuse"))
    assert not strict.passes
    assert "too few labels to judge a class by" in strict.reasons[0]


def test_a_part_without_enough_labels_is_named_and_its_answers_must_agree() -> None:
    was = pointing(np.zeros(400, np.int64))
    now = was.copy()
    now[390:] = now[390:, ::-1]
    truth = truth_of(np.zeros(400))
    parts = {"before": {f"r{i}" for i in range(300)}, "since": {f"r{i}" for i in range(380, 400)}}
    same = judge(compare(answers(was), answers(was), truth, parts), GatePolicy())
    assert same.passes
    assert "too few labels to tell: 20 independent since are labelled, at least 200 are needed" in " ".join(same.notes)
    assert "before" not in " ".join(same.notes)
    changed = judge(compare(answers(was), answers(now), truth, parts), GatePolicy())
    assert "20 independent since are labelled, at least 200 are needed, and only 50.0% of the answers to them agree" in " ".join(
        changed.reasons
    )
    strict = judge(compare(answers(was), answers(was), truth, parts), GatePolicy(few="refuse"))
    assert not strict.passes
    assert "20 independent since" in strict.reasons[0]
    found = compare(answers(was), answers(was), truth)
    for holdout in (None, accuracy_of(np.ones(20, np.bool_), np.ones(20, np.bool_))):
        assert not judge(replace(found, parts={"holdout": holdout}), GatePolicy()).passes, "of its answers nothing else is known"


DIGITS = tuple("0123456789")


def of_digits(seed: int, unlabelled: int, wrong: float) -> GateVerdict:
    """400 requests before a drift and 237 since, of which the champion answers 27 % right and the candidate 97 %. The newest have no
    label; wrong: share of them that the candidate calls a 6."""
    random, n = np.random.default_rng(seed), 637
    since = np.arange(n) >= 400
    true = random.integers(0, 10, n)

    def answered(right: np.ndarray) -> np.ndarray:
        return np.where(random.random(n) < right, true, (true + random.integers(1, 10, n)) % 10)

    was, now = answered(np.where(since, 0.27, 0.997)), answered(np.where(since, 0.97, 1.0))
    newest = np.arange(n) >= n - unlabelled
    now[newest & (random.random(n) < wrong)] = 6
    champion, candidate = (answers(np.eye(10)[digit] * 0.8 + 0.02, names=DIGITS) for digit in (was, now))
    truth = {f"r{i}": {digit: digit == str(true[i]) for digit in DIGITS} for i in np.flatnonzero(~newest).tolist()}
    parts = {"before": {f"r{i}" for i in range(400)}, "since": {f"r{i}" for i in range(400, n)}}
    return judge(compare(champion, candidate, truth, parts), GatePolicy(least_of_class=25))


def test_a_few_unlabelled_answers_of_many_classes_refuse_no_candidate_that_labels_prove() -> None:
    refused = [verdict for verdict in (of_digits(seed, unlabelled=20, wrong=0.0) for seed in range(40)) if not verdict.passes]
    assert len(refused) <= 2, refused[0].reasons  # one gate compares ten digits, each on two sides, before and since


def test_many_unlabelled_answers_that_all_become_one_class_refuse_it() -> None:
    for seed in range(10):
        assert any("unlabelled answers that 6 does not hold" in reason for reason in of_digits(seed, 100, 1.0).reasons)


# --- the interval ---------------------------------------------------------------------------------------------------


def accuracy(gained: int, lost: int, n: int) -> Accuracy:
    was, now = np.ones(n, np.bool_), np.ones(n, np.bool_)
    was[:gained], now[gained : gained + lost] = False, False
    found = accuracy_of(was, now)
    assert found is not None
    return found


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 1, 43), (3, 9, 120), (40, 0, 60), (200, 180, 5_000)])
def test_the_bounds_are_the_differences_that_the_score_just_refuses(gained: int, lost: int, n: int) -> None:
    low, high = paired.interval(gained, lost, n)
    assert paired.score(gained, lost, n, low) == pytest.approx(paired.Z, rel=1e-6)
    assert paired.score(gained, lost, n, high) == pytest.approx(-paired.Z, rel=1e-6)


def test_without_an_example_that_differs_the_bounds_have_a_closed_form() -> None:
    z2 = paired.Z**2
    assert paired.interval(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))


@pytest.mark.parametrize(
    ("margin", "examples"),
    [(0.02, (189, 280, 361, 437)), (0.05, (73, 110, 142, 173)), (0.1, (35, 53, 69, 84)), (0.15, (22, 34, 45, 55))],
)
def test_the_document_names_the_examples_with_which_lost_answers_are_within_a_margin(
    margin: float, examples: tuple[int, ...]
) -> None:
    for lost, n in enumerate(examples):
        assert paired.interval(0, lost, n)[0] > -margin >= paired.interval(0, lost, n - 1)[0]
    row = f"| {margin} | {' | '.join(map(str, examples))} |"
    assert row in (ROOT / "docs/retraining.md").read_text(encoding="utf-8")


def test_no_example_that_differs_is_not_certainty() -> None:
    assert accuracy(0, 0, 100).low < -0.03
    assert accuracy(0, 0, 100).low > -0.05
    assert accuracy(0, 0, 1_000).low > -0.005
    assert paired.interval(0, 0, 0) == (-1.0, 1.0)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 500))
@settings(max_examples=200, deadline=None)
def test_the_interval_holds_what_was_found_and_turns_with_its_sides(n: int, gained: int, lost: int) -> None:
    gained, lost = min(gained, n), min(lost, n - min(gained, n))
    low, high = paired.interval(gained, lost, n)
    assert -1.0 <= low <= (gained - lost) / n <= high <= 1.0
    assert paired.interval(lost, gained, n) == pytest.approx((-high, -low), abs=1e-9)
    more = paired.interval(gained * 10, lost * 10, n * 10)
    assert more[1] - more[0] < high - low


@pytest.mark.parametrize("n", [100, 200, 400, 1_000])
@pytest.mark.parametrize("margin", [0.01, 0.02, 0.05])
def test_at_the_margin_one_in_forty_passes_at_most(n: int, margin: float) -> None:
    """Exactly, over all that may come out: truly worse by the margin, however often else the versions differ."""
    for more in (0.0, 0.01, 0.05):
        lost_share = margin + more
        lost = np.arange(n + 1)
        log = np.cumsum([0.0, *np.log(np.arange(1, n + 1))])
        share = 0.0
        for c in lost[: int(n * lost_share + 8 * np.sqrt(n * lost_share) + 8)].tolist():
            for b in range(min(n - c, int(n * more + 8 * np.sqrt(n * more) + 8)) + 1):
                if more == 0.0 and b:
                    break
                if paired.score(b, c, n, -margin) > paired.Z:
                    rest = n - b - c
                    p = log[n] - log[b] - log[c] - log[rest] + c * np.log(lost_share) + rest * np.log(1 - lost_share - more)
                    share += float(np.exp(p + (b * np.log(more) if b else 0.0)))
        assert share <= 0.0275, (more, share)
