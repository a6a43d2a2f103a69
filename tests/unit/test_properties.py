"""Property tests that let no input through are caught: `tests/support/properties.py`, which runs around each of them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests import conftest
from tests.support import properties
from tests.support.properties import Vacuous, assertions_run

EVERY_INPUT_DISCARDED = settings(suppress_health_check=[HealthCheck.filter_too_much], database=None, max_examples=20)


@EVERY_INPUT_DISCARDED
@given(st.text(max_size=5))
def in_a_condition(value: str) -> None:
    if len(value) > 5:
        assert value


@EVERY_INPUT_DISCARDED
@given(st.integers(0, 5))
def behind_a_return(value: int) -> None:
    if value < 6:
        return
    assert value


@EVERY_INPUT_DISCARDED
@given(st.integers(0, 5))
def without_an_assertion(value: int) -> None:
    if value > 5:
        print(value)


@EVERY_INPUT_DISCARDED
@given(st.lists(st.integers(), max_size=0))
def in_an_empty_loop(values: list[int]) -> None:
    for value in values:
        assert value == value


@EVERY_INPUT_DISCARDED
@given(st.integers(0, 5))
def sound(value: int) -> None:
    """An early return, and a rare branch that asserts nothing."""
    assume(value != 3)
    if value == 5:
        return
    if value > 5:
        print(value)
    assert value < 5


@pytest.mark.parametrize("test", [in_a_condition, behind_a_return, without_an_assertion, in_an_empty_loop])
def test_a_property_whose_assertions_never_run_fails(test: Callable[[], Any]) -> None:
    inner = test.hypothesis.inner_test  # type: ignore[attr-defined]
    words = r"test_properties.py:\d+ never ran, whatever the input: (assert value|print)"
    with pytest.raises(Vacuous, match=words), assertions_run(inner):
        test()


def test_a_property_whose_assertions_run_passes() -> None:
    with assertions_run(sound.hypothesis.inner_test):  # type: ignore[attr-defined]
        sound()


def test_the_check_runs_around_every_property() -> None:
    assert conftest.pytest_runtest_call is properties.pytest_runtest_call
    around = properties.pytest_runtest_call(SimpleNamespace(obj=in_a_condition))  # type: ignore[arg-type]
    next(around)
    in_a_condition()
    with pytest.raises(Vacuous):
        next(around)
