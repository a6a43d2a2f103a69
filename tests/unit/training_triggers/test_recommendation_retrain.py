"""Recommendation learns again: what belongs together changes, and the new version follows where the old one cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference_workers.models.folder import ModelFolder, open_folder
from inference_workers.recommending.asked import Asked
from inference_workers.recommending.recommender import UserHistory
from inference_workers.recommending.served_requests import served_request, served_text
from schemas.errors import BadSettings
from tests.support.toy_shop import FAST, toy_shop
from training_triggers.recorded.training_window import Examples
from training_triggers.trainers.recommending import event_log, train_recommender, version_folder
from training_triggers.trainers.recommending.interactions import Interactions, Items, in_order
from training_triggers.trainers.recommending.recommendation_retrain import NEXT, retrain, served, taken_after
from training_triggers.trainers.retrain import Job

SETTINGS = replace(FAST, towers=replace(FAST.towers, epochs=5), ranker=replace(FAST.ranker, epochs=3))
BEFORE = toy_shop(users=120, a_group=12, events=20)
ORDER = np.random.default_rng(3).permutation(len(BEFORE.items.ids))
CHANGED_S = 100_000.0  # from then on each item is taken for what another was taken for before


def both_times() -> Interactions:
    """A day of the old taste, then one of the new."""
    events = [
        (BEFORE.users[user], BEFORE.items.ids[ORDER[item] if later else item], "view", time_s + CHANGED_S * later)
        for later in (0, 1)
        for user, item, time_s in zip(BEFORE.user.tolist(), BEFORE.item.tolist(), BEFORE.time_s.tolist(), strict=True)
    ]
    return in_order("the log", BEFORE.items, dict(zip(BEFORE.users, BEFORE.profiles, strict=True)), events)


def request(data: Interactions, number: int, at_s: float) -> str:
    """As the worker would write it, with what it served."""
    part = slice(data.starts[number], data.starts[number + 1])
    past = data.time_s[part] <= at_s
    items = [data.items.ids[row] for row in data.item[part][past]]
    history = UserHistory(items, ["view"] * len(items), (at_s - data.time_s[part][past]).tolist(), data.profiles[number])
    asked = Asked(data.users[number], 20, (), (), False, history, frozenset(items), [], [], int(at_s * 1000))
    return served_text(asked)


def examples(data: Interactions) -> Examples:
    """Requests in the day of the new taste; half of those of a user come late in it."""
    texts = [request(data, number, CHANGED_S + at_s) for at_s in (300.0, 500.0, 900.0) for number in range(len(data.users))]
    truth = (np.arange(len(texts)) % 3 == 0).astype(np.int8)[:, None]
    return Examples([f"r-{number}" for number in range(len(texts))], texts, truth, ("engaged",))


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("models") / "champion"
    trained = train_recommender.train(BEFORE, SETTINGS, 0, lambda _: None)
    version_folder.write(trained, place, "1", "recommendation", lambda _: "# card\n")
    return open_folder(place)


def job(folder: Path, data: Interactions, **options: str) -> Job:
    made = Job(folder / "out", folder / "scratch", "20260101-abc", folder, "requests", options=options)
    made.scratch.mkdir()
    event_log.save(data, made.scratch)  # as an earlier attempt of the run left it
    return made


def test_the_new_version_follows_what_changed_and_the_gate_sees_it(champion: ModelFolder, tmp_path: Path) -> None:
    data, said = both_times(), list[str]()
    found = retrain(champion, examples(data), job(tmp_path, data, from_ms="5", control="no"), said.append)
    assert found.holdout is not None
    before, after = found.holdout
    assert len(before) == len(after) > 40
    assert after.mean() > before.mean() + 0.1, (before.mean(), after.mean())
    made = open_folder(tmp_path / "out", found.made.digest)
    assert (made.name, made.version) == ("recommendation", "20260101-abc")
    assert made.config["training"]["towers"]["epochs"] == 5, "as the champion was trained"
    cut_s = CHANGED_S + 900
    assert f"{(data.time_s < cut_s).sum()} events before the 90 requests" in said[0] and "120 of 360 labelled" in said[0]
    known = data.take(data.time_s < cut_s).merged()
    assert made.config["trained_on"]["events"] == len(known.user), "nobody's newest events are left out: they tell what changed"
    assert "those after all others" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_a_run_that_cannot_judge_says_so(champion: ModelFolder, tmp_path: Path) -> None:
    data = both_times()
    ended = data.take(data.time_s < CHANGED_S + 800)
    with pytest.raises(BadSettings, match="did anything later"):
        retrain(champion, examples(data), job(tmp_path, ended, **{"towers.epochs": "1", "ranker.epochs": "1"}), lambda _: None)


def test_a_list_is_judged_by_what_the_user_takes_next() -> None:
    data = both_times()
    asked = served_request(request(data, 3, CHANGED_S + 300))
    part = slice(data.starts[3], data.starts[4])
    later = [data.items.ids[row] for row in data.item[part][data.time_s[part] > CHANGED_S + 300]]
    new = [item for item in dict.fromkeys(later) if item not in asked.seen]
    assert len(new) > NEXT, "else this says nothing"
    assert taken_after(data, 3, asked) == set(new[:NEXT])
    assert taken_after(data, None, asked) == set()


def test_options_are_those_of_the_trainer(champion: ModelFolder, tmp_path: Path) -> None:
    data = both_times()
    with pytest.raises(BadSettings, match=r"no option towers\.layers"):
        retrain(champion, examples(data), job(tmp_path, data, **{"towers.layers": "3"}), lambda _: None)


def test_versions_are_compared_with_the_catalogue_that_a_worker_has(champion: ModelFolder) -> None:
    gone, *stay = BEFORE.items.ids
    items = Items([*stay, "new"], [*BEFORE.items.titles[1:], "New"], [*BEFORE.items.attributes[1:], {"category": "books"}])
    rows = served(champion, items).items.rows
    assert gone not in rows
    assert set(rows) == {*stay, "new"}


def test_what_was_read_is_kept_for_the_next_attempt(tmp_path: Path) -> None:
    data = both_times()
    assert data.starts is data.starts, "training asks for them again and again"
    assert event_log.kept(tmp_path) is None
    event_log.save(data, tmp_path)
    again = event_log.kept(tmp_path)
    assert again is not None and (again.users, again.profiles, again.items) == (data.users, data.profiles, data.items)
    assert (again.time_s == data.time_s).all() and (again.item == data.item).all()
    known = np.arange(2 * len(data.user), dtype=np.float32).reshape(-1, 2)
    event_log.save(replace(data, at_events=known, feature_names=("a", "b")), tmp_path)
    again = event_log.kept(tmp_path)
    assert again is not None and again.at_events is not None
    assert (again.at_events == known).all() and again.feature_names == ("a", "b")


@pytest.mark.parametrize("text", ["", "x", "[1]", '["u", 1, [], [], [], {}]', "null"])
def test_a_recorded_request_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="recorded request"):
        served_request(text)
