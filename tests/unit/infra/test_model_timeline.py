"""Models over time, as the monitor shows them."""

from __future__ import annotations

from infra.monitor.watching import model_timeline


def test_a_declared_model_starts_with_the_version_before_its_first_swap() -> None:
    swap = {"accepted": True, "arm": "live", "previous": "1"}
    refused, shadow = {**swap, "accepted": False, "previous": None}, {**swap, "arm": "shadow", "previous": "9"}
    assert model_timeline.first_version([refused, shadow, swap, {**swap, "previous": "2"}], {"3"}) == "1"
    assert model_timeline.first_version([refused], {"3"}) == "3"
    assert model_timeline.first_version([], ()) == ""
