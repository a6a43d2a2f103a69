"""The story of drift: when it is given up, and by what the version that was trained is told from the one before."""

from __future__ import annotations

from infra.demo.drift_demo import RATES_PER_S
from infra.demo.drift_story import CHANGED, QUIET_LIMIT_S, STAGE_LIMIT_S, Story, is_hopeless, since_the_change
from infra.demo.shoppers import PEOPLE, Shoppers


def test_a_run_that_goes_on_is_waited_for_and_a_silent_one_is_not() -> None:
    assert not is_hopeless(took_s=2 * QUIET_LIMIT_S, quiet_s=QUIET_LIMIT_S / 2)
    assert is_hopeless(took_s=2 * QUIET_LIMIT_S, quiet_s=QUIET_LIMIT_S + 1)
    assert is_hopeless(took_s=STAGE_LIMIT_S + 1, quiet_s=0.0), "a run that never ends"


def test_only_answers_to_the_changed_traffic_tell_the_versions_apart() -> None:
    story = Story(rights={("as before", "1"): [90, 100], (CHANGED, "1"): [20, 100], (CHANGED, "2"): [30, 50]})
    assert since_the_change(story, "2") == (0.2, 0.6)
    assert since_the_change(Story(), "2") == (0.0, 0.0)


def test_a_visit_is_over_before_the_same_person_asks_again() -> None:
    window_s = float(Shoppers.settings["MILLRACE_ATTRIBUTION_WINDOW_S"])
    assert 5 <= window_s < PEOPLE / RATES_PER_S[Shoppers.model]
