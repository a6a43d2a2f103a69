"""What every drift trigger keeps, and each against its reference; what a watch makes of them."""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import training_triggers.triggers as package
from schemas.signals import ANSWER
from training_triggers.drift.version_watch import VersionWatch, WatchRules
from training_triggers.drift.watch_state import state_of, watch_of
from training_triggers.triggers import accuracy, chi_square, ks, mmd, psi
from training_triggers.triggers.age import Age
from training_triggers.triggers.trigger import Trigger, chi_square_p, holm
from training_triggers.triggers.volume import Volume

NAMES = sorted(
    file.stem
    for file in Path(package.__file__).parent.glob("*.py")
    if file.stem not in ("__init__", "trigger", "volume", "age", "baseline_spread")
)
samples = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60).map(np.array)


@pytest.fixture(params=NAMES)
def trigger(request: pytest.FixtureRequest) -> Trigger:
    found: Trigger = import_module(f"training_triggers.triggers.{request.param}").TRIGGER
    return found


def counts(trigger: Trigger, baseline: list[float], window: list[float]) -> bool:
    found = trigger.compare(np.array(baseline, np.float64), np.array(window, np.float64))
    return found.effect >= trigger.least_effect and (found.p_value is None or found.p_value < 0.05)


def test_its_name_is_its_files(trigger: Trigger, request: pytest.FixtureRequest) -> None:
    assert trigger.name == request.node.callspec.params["trigger"]


def test_the_same_again_is_no_change(trigger: Trigger) -> None:
    values = ([1.0] * 9 + [0.0]) * 50
    assert not counts(trigger, values, values)
    assert not counts(trigger, [1.0] * 500, [1.0] * 500), "a signal that never moves"


def test_a_large_change_counts(trigger: Trigger) -> None:
    assert counts(trigger, ([1.0] * 9 + [0.0]) * 50, ([1.0] * 5 + [0.0] * 5) * 50)


def test_a_small_sample_of_chance_is_no_change(trigger: Trigger) -> None:
    """20 to 200 windows of the same distribution: none may count at the effects that are asked for."""
    random = np.random.default_rng(1)
    baseline = (random.random(1_000) < 0.9).astype(float)
    assert not any(counts(trigger, baseline.tolist(), (random.random(1_000) < 0.9).astype(float).tolist()) for _ in range(50))


def test_what_is_infinite_or_alone_gives_a_finding(trigger: Trigger) -> None:
    found = trigger.compare(np.array([0.0]), np.array([1.0]))
    assert found.effect >= 0
    if trigger.of != ANSWER:
        missing = trigger.compare(np.array([1.0] * 300), np.array([1.0] * 200 + [-np.inf] * 100))
        assert missing.effect >= trigger.least_effect, "a third is missing now"


@given(samples, samples)
@settings(max_examples=200, deadline=None)
def test_the_distance_is_scipys(a: np.ndarray, b: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its p-value, which is not asked for
        expected = stats.ks_2samp(a, b, method="asymp").statistic
    assert ks.distance(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("d", [0.01, 0.03, 0.05, 0.0607, 0.08, 0.1, 0.2])
def test_the_p_value_is_near_the_exact_one(d: float) -> None:
    exact = float(stats.kstwo.sf(d, round(1_000 * 1_000 / 2_000)))
    assert ks.p_value(d, 1_000, 1_000) == pytest.approx(exact, rel=0.15, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_scipys_by_definition(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    m = len(p_values)
    ranked = sorted(p_values)
    for p_value, found in zip(p_values, adjusted, strict=True):
        steps = [min(1.0, (m - j) * q) for j, q in enumerate(ranked) if q <= p_value]
        assert found == pytest.approx(max(steps))


def test_the_index_is_its_formula_on_given_shares() -> None:
    baseline = np.repeat(np.arange(10.0), 100)
    window = np.repeat(np.arange(10.0), [300, 100, 100, 100, 100, 100, 50, 50, 50, 50])
    counts = np.array([[0, *[100] * 10], [0, 300, 100, 100, 100, 100, 100, 50, 50, 50, 50]]) + 0.5
    p, q = counts / counts.sum(axis=1, keepdims=True)
    found, bins = psi.index(baseline, window)
    assert found == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert bins == 11


@pytest.mark.parametrize(("found", "n"), [(0.01, 1_000), (0.03, 1_000), (0.05, 1_000), (0.2, 100), (0.4, 100)])
def test_the_p_value_of_the_index_is_chi_squares(found: float, n: int) -> None:
    assert psi.p_value(found, n, n, 10) == pytest.approx(float(stats.chi2.sf(found * n / 2, 9)), rel=0.1, abs=1e-4)


def test_accuracy_that_rises_or_falls_less_than_five_points_is_no_finding() -> None:
    before = [1.0] * 900 + [0.0] * 100
    assert not counts(accuracy.TRIGGER, before, [1.0] * 1_000)
    assert not counts(accuracy.TRIGGER, before, [1.0] * 860 + [0.0] * 140)
    assert counts(accuracy.TRIGGER, before, [1.0] * 840 + [0.0] * 160)
    assert not counts(accuracy.TRIGGER, [1.0] * 18 + [0.0] * 2, [1.0] * 16 + [0.0] * 4), "ten points of twenty are chance"


@given(st.lists(st.integers(0, 4), min_size=30, max_size=300), st.lists(st.integers(0, 4), min_size=30, max_size=300))
@settings(max_examples=100, deadline=None)
def test_the_statistic_of_categories_is_scipys(a: list[int], b: list[int]) -> None:
    found = chi_square.TRIGGER.compare(np.array(a, float), np.array(b, float))
    counts = np.array([np.bincount(a, minlength=5), np.bincount(b, minlength=5)])
    if (counts.sum(axis=0) >= chi_square.RARE).all():
        expected = stats.chi2_contingency(counts, correction=False)
        assert found.statistic == pytest.approx(expected.statistic)
        assert found.p_value == pytest.approx(expected.pvalue, abs=5e-3)
    assert 0 <= found.effect <= 1


@pytest.mark.parametrize(("x", "degrees"), [(1.0, 1), (3.84, 1), (10.0, 4), (30.0, 9), (60.0, 31)])
def test_chi_square_is_near_the_exact_one(x: float, degrees: int) -> None:
    assert chi_square_p(x, degrees) == pytest.approx(float(stats.chi2.sf(x, degrees)), abs=0.01)


def test_the_joint_trigger_sees_what_no_column_shows() -> None:
    random = np.random.default_rng(4)
    apart, together = random.normal(size=(600, 2)), random.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], 600)
    assert all(ks.TRIGGER.compare(apart[:, i], together[:, i]).effect < 0.1 for i in range(2))
    found = mmd.TRIGGER.compare(apart, together)
    assert found.effect >= mmd.TRIGGER.least_effect
    assert found.p_value is not None
    assert found.p_value < 0.05


def test_the_joint_estimate_is_its_formula() -> None:
    random = np.random.default_rng(4)
    a, b = random.normal(size=(40, 3)), random.normal(0.5, 1, size=(30, 3))
    both = (np.concatenate([a, b]) - a.mean(axis=0)) / a.std(axis=0)
    distances = ((both[:, None] - both[None]) ** 2).sum(axis=2)
    kernel = np.exp(-distances / np.median(distances[np.triu_indices(70, 1)]))
    x, y, z = kernel[:40, :40], kernel[40:, 40:], kernel[:40, 40:]
    expected = (x.sum() - 40) / (40 * 39) + (y.sum() - 30) / (30 * 29) - 2 * z.mean()
    assert mmd.TRIGGER.compare(a, b).statistic == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("due", [Volume(100), Age(100)])
def test_count_and_time_are_due_again_and_again_and_never_where_nothing_is_set(due: Volume | Age) -> None:
    assert due.due(99, 99.0) is None
    assert [found[0] for n in (100, 199, 200, 350) if (found := due.due(n, float(n)))] == [1, 1, 2, 3]
    assert type(due)().due(10**9, 1e9) is None


def test_a_watch_tells_each_due_once_and_keeps_it() -> None:
    random, rules = np.random.default_rng(3), WatchRules(100, due=(Volume(150), Age(60)))
    one = VersionWatch(("s",), (), rules)
    assert [alarm.trigger.name for alarm in one.add(draw(random, 149, signals=1), 1_000)] == []
    assert [(alarm.trigger.name, alarm.window) for alarm in one.add(draw(random, 2, signals=1), 30_000)] == [("volume", 1)]
    other = watch_of(state_of(one, "drift", "m", "1"), (), rules)
    assert [(alarm.trigger.name, alarm.window) for alarm in other.add(draw(random, 1, signals=1), 61_000)] == [("age", 1)]
    assert other.add(draw(random, 1, signals=1), 62_000) == []


def test_what_is_told_is_a_category_and_all_numbers_are_looked_at_together() -> None:
    random = np.random.default_rng(3)
    one = VersionWatch(("a", "b", "said"), (ks.TRIGGER, chi_square.TRIGGER, mmd.TRIGGER), WatchRules(200))

    def entries(shift: float, often: float) -> np.ndarray:
        return np.column_stack([random.normal(shift, 1, 200), random.normal(size=200), random.random(200) < often]).astype(
            np.float32
        )

    found = [
        alarm
        for shift, often in ((0, 0.1), (0, 0.1), (0, 0.5), (0, 0.5), (1, 0.1), (1, 0.1))
        for alarm in one.add(entries(shift, often), 1)
    ]
    assert [(alarm.trigger.name, alarm.signal, alarm.window) for alarm in found] == [
        ("chi_square", "said", 3),
        ("ks", "a", 5),
        ("mmd", "all signals together", 5),
    ]


def test_an_embedding_is_looked_at_whole_and_apart_from_the_signals() -> None:
    random, rules = np.random.default_rng(3), WatchRules(300)
    names = ("a", "b", *(f"embedding {i:02d}" for i in range(4)))
    one = VersionWatch(names, (ks.TRIGGER, psi.TRIGGER, mmd.TRIGGER, mmd.EMBEDDINGS), rules)
    found = [
        alarm
        for shift in (0.0, 0.0, 0.4, 0.4)
        for alarm in one.add(
            np.concatenate([random.normal(size=(300, 2)), random.normal(shift, 1, (300, 4))], axis=1).astype(np.float32), 1
        )
    ]
    assert [(alarm.trigger.name, alarm.signal, alarm.window) for alarm in found] == [("mmd", "embedding", 3)]


# --- the watch ----------------------------------------------------------------------------------------------------


def watch(n: int = 100, in_a_row: int = 2, signals: int = 2) -> VersionWatch:
    return VersionWatch(tuple(f"s{i}" for i in range(signals)), (ks.TRIGGER, psi.TRIGGER), WatchRules(n, in_a_row=in_a_row))


def draw(random: np.random.Generator, n: int, shift: float = 0.0, signals: int = 2) -> np.ndarray:
    found = random.normal(size=(n, signals)).astype(np.float32)
    found[:, 0] += shift
    return found


def test_two_windows_in_a_row_fire_and_name_the_signal() -> None:
    random, one = np.random.default_rng(3), watch()
    assert one.add(draw(random, 100), 1) == []  # the baseline
    assert one.add(draw(random, 100), 2) == []
    assert one.add(draw(random, 100, 2.0), 3) == [], "one window may be chance"
    found = one.add(draw(random, 100, 2.0), 4)
    assert {(alarm.trigger.name, alarm.signal, alarm.window, alarm.in_a_row) for alarm in found} == {
        ("ks", "s0", 3, 2),
        ("psi", "s0", 3, 2),
    }
    assert all(alarm.after.mean - alarm.before.mean > 1.5 for alarm in found)


def test_a_window_between_begins_the_row_anew() -> None:
    random, one = np.random.default_rng(3), watch()
    for shift in (0.0, 2.0, 0.0, 2.0, 0.0):
        assert one.add(draw(random, 100, shift), 1) == []


@given(st.lists(st.integers(1, 130), min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_alarms_do_not_depend_on_how_entries_are_batched(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    entries = np.concatenate([draw(random, 150), draw(random, sum(sizes), 1.5)])
    whole, pieces = watch(50), watch(50)
    expected = [(a.trigger.name, a.signal, a.window) for a in whole.add(entries, 1)]
    found, at = [], 0
    for size in [150, *sizes]:
        found += [(a.trigger.name, a.signal, a.window) for a in pieces.add(entries[at : at + size], 1)]
        at += size
    assert found == expected


def test_a_watch_goes_on_from_what_was_kept() -> None:
    random, one = np.random.default_rng(3), watch()
    one.add(draw(random, 370, 0.0), 1)
    other = watch_of(state_of(one, "drift", "m", "1"), one.triggers, one.rules)
    more = draw(random, 500, 2.0)
    assert [(a.signal, a.window) for a in one.add(more, 9)] == [(a.signal, a.window) for a in other.add(more, 9)] != []
