"""Recommendation from end to end on a toy shop: trained in seconds, written, loaded as a worker loads it, and asked."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from inference_workers.models.folder import ModelFolder, open_folder, write_manifest
from inference_workers.recommending.recommender import Basis, Recommender, UserHistory
from schemas.errors import BadSettings, ModelRefused
from tests.support.toy_shop import FAST, GROUPS, toy_shop
from training_triggers.trainers.recommending import (
    measured_version,
    tower_training,
    train_recommender,
    training_options,
    version_folder,
)
from training_triggers.trainers.recommending.interactions import Interactions
from training_triggers.trainers.recommending.measured_version import by_popularity
from training_triggers.trainers.recommending.offline_measures import measure, scores
from training_triggers.trainers.recommending.training_options import RecommendationSettings
from training_triggers.trainers.recommending.version_folder import TrainedRecommender

TRAIN, TEST = toy_shop().merged().split(0.25)
READER = UserHistory(["books-0", "books-3", "books-5"], ["view", "cart", "view"], [90.0, 60.0, 10.0], {"country": "C2"})
STRANGER = UserHistory()


@pytest.fixture(scope="module")
def trained() -> TrainedRecommender:
    return train_recommender.train(TRAIN, FAST, 0, lambda _: None)


@pytest.fixture(scope="module")
def folder(trained: TrainedRecommender, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    place = tmp_path_factory.mktemp("models") / "recommendation"
    digest = version_folder.write(trained, place, "1", "recommendation", lambda _: "# card\n")
    return open_folder(place, digest)


@pytest.fixture
def recommender(folder: ModelFolder) -> Recommender:
    return Recommender.load(folder)


def shown(recommender: Recommender, user: UserHistory, limit: int = 30) -> list[str]:
    embeddings = recommender.embed([user])
    ranked = recommender.rank([user], embeddings, recommender.candidates(embeddings, limit, [set(user.items)]))[0]
    return [recommender.items.ids[row] for row in ranked.items]


def share_of(group: str, items: list[str]) -> float:
    return sum(item.startswith(group) for item in items) / len(items)


def test_what_was_learned_beats_popularity_clearly(recommender: Recommender) -> None:
    ours, popular = measure(recommender, TRAIN, TEST), by_popularity(TRAIN, TEST)
    assert ours.ndcg > 2 * popular.ndcg and ours.recall > 2 * popular.recall
    assert ours.retrieval_recall[100] > 0.9 and ours.coverage > 0.8


def test_both_stages_follow_the_history(recommender: Recommender) -> None:
    items = shown(recommender, READER)
    assert share_of("books", items[:10]) > 0.8 and not set(READER.items) & set(items)
    other = UserHistory(["toys-1", "toys-2"], ["view", "view"], [9.0, 1.0])
    assert share_of("toys", shown(recommender, other)[:10]) > 0.8


def test_onnx_and_torch_embed_users_alike(recommender: Recommender, trained: TrainedRecommender) -> None:
    arrays = recommender._arrays([READER])
    given = [
        recommender.items.vectors(arrays.rows),
        arrays.kinds,
        arrays.ages,
        arrays.places,
        trained.columns.encode([READER.features]),
    ]
    with torch.no_grad():
        expected = trained.towers.users(*map(torch.from_numpy, given)).numpy()
    assert np.allclose(recommender.embed([READER]), expected, atol=1e-5)


def test_users_of_one_batch_do_not_change_each_other(recommender: Recommender) -> None:
    users = [READER, STRANGER, UserHistory(["toys-1"], ["view"], [1.0]), UserHistory(features={"country": "C1"})]
    embeddings = recommender.embed(users)
    candidates = recommender.candidates(embeddings, 20, [set(user.items) for user in users])
    candidates[2] = candidates[2][:7]
    together = recommender.rank(users, embeddings, candidates)
    for user, embedding, some, ranked in zip(users, embeddings, candidates, together, strict=True):
        alone = recommender.rank([user], recommender.embed([user]), [some])[0]
        assert np.allclose(recommender.embed([user])[0], embedding, atol=1e-5)
        assert np.allclose(np.sort(alone.scores), np.sort(ranked.scores), atol=1e-4) and len(ranked.items) == len(some)
        assert (np.diff(ranked.scores) <= 0).all() and set(ranked.items) == set(some)


def test_a_user_of_whom_nothing_is_known_gets_what_is_popular(recommender: Recommender) -> None:
    assert [recommender.basis(user) for user in (STRANGER, UserHistory(["unknown"], ["view"], [1.0]))] == [Basis.POPULAR] * 2
    assert not recommender.embed([STRANGER]).any()
    popular = [recommender.items.ids[row] for row in recommender.items.popular[:30]]
    assert shown(recommender, STRANGER) == popular


def test_a_profile_alone_is_a_basis(recommender: Recommender) -> None:
    users = [UserHistory(features={"country": f"C{number}", "age": 40.0}) for number in range(len(GROUPS))]
    assert {recommender.basis(user) for user in users} == {Basis.PROFILE}
    right = [share_of(group, shown(recommender, user)[:10]) for group, user in zip(GROUPS, users, strict=True)]
    assert np.mean(right) > 0.5
    assert recommender.basis(UserHistory(features={"age": -1, "country": "?"})) is Basis.POPULAR


def test_a_new_item_is_found_by_who_likes_its_kind(recommender: Recommender) -> None:
    row = recommender.add("new", "Thing new", {"category": "books", "price_cents": 999.0})
    assert recommender.items.ids[row] == "new"
    assert "new" in shown(recommender, READER) and "new" not in shown(recommender, UserHistory(["toys-1"], ["view"], [1.0]), 20)
    assert share_of("books", shown(recommender, UserHistory(["new"], ["view"], [1.0]))[:10]) > 0.5
    assert recommender.remove("new") and not recommender.remove("new") and "new" not in shown(recommender, READER, 500)


def test_odd_histories_are_answered(recommender: Recommender) -> None:
    long = UserHistory(["books-1", "toys-1"] * 400, ["view", "poke"] * 400, [float("nan"), 1e30] * 400)
    for user in (long, UserHistory(["books-1"], ["rating"], [-5.0], {"age": float("inf")})):
        embeddings = recommender.embed([user])
        assert np.isfinite(embeddings).all() and len(shown(recommender, user)) > 0
    assert recommender.embed([]).shape == (0, 16) and recommender.rank([], recommender.embed([]), []) == []
    nothing = recommender.rank(
        [READER], recommender.embed([READER]), recommender.candidates(recommender.embed([READER]), 0, [()])
    )
    assert len(nothing[0].items) == 0
    assert len(recommender.candidates(recommender.embed([READER]), 10**9, [()])[0]) == len(recommender.items)


def test_reasons_name_the_nearest_items_and_the_strongest_features(recommender: Recommender) -> None:
    rows = np.array([recommender.items.rows[item] for item in ("books-1", "toys-2", "books-0")], np.int32)
    books, toys, seen = recommender.reasons(READER, rows)
    assert {item for item, _ in books.liked} <= set(READER.items) and books.liked[0][1] > 0.3
    assert books.features and all(fall > 0 for _, fall in books.features)
    assert books.liked[0][1] > max([near for _, near in toys.liked], default=0)
    assert "books-0" not in dict(seen.liked), "an item is no reason for itself"
    assert recommender.reasons(STRANGER, rows[:1])[0].liked == [] and recommender.reasons(READER, rows[:0]) == []


def test_reasons_of_many_items_are_those_of_each_alone_in_one_pass(recommender: Recommender) -> None:
    rows, runs = np.arange(20, dtype=np.int32), list[int]()
    run = recommender._ranker.run
    recommender._ranker.run = lambda inputs: (runs.append(1), run(inputs))[1]  # type: ignore[method-assign,func-returns-value]
    together = recommender.reasons(READER, rows)
    assert len(runs) == 1
    for row, reasons in zip(rows, together, strict=True):
        (alone,) = recommender.reasons(READER, np.array([row], np.int32))
        assert [item for item, _ in alone.liked] == [item for item, _ in reasons.liked]
        assert dict(alone.features).keys() == dict(reasons.features).keys()


def test_the_card_names_the_command_with_the_settings_that_were_used(trained: TrainedRecommender, folder: ModelFolder) -> None:
    card = measured_version._card(trained, by_popularity(TRAIN, TEST), by_popularity(TRAIN, TEST), TEST, "the last", "3", 0.0)
    command = card.partition("## Made again")[2].split("`")[1].split()
    options = dict(word.split("=") for word in command if "=" in word)
    assert options["towers.epochs"] == "8" and options["ranker.candidates"] == "80" and "towers.batch" not in options
    assert training_options.with_options(RecommendationSettings(), options) == FAST
    assert folder.config["training"] == json.loads(json.dumps({**asdict(FAST), "seed": 0}))


def test_too_few_events_are_an_error_and_no_version() -> None:
    with pytest.raises(BadSettings, match="toy shop has too few events"):
        train_recommender.train(toy_shop(3, events=3), FAST, 0, lambda _: None)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": "3"},
        {"towers.epochs": "many"},
        {"times": "0.1"},
        {"towers": "1"},
        {"again": "-1"},
        {"towers.batch": "0"},
        {"last": "0"},
        {"last": "1"},
    ],
)
def test_options_that_do_not_exist_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(BadSettings, match="option"):
        training_options.with_options(RecommendationSettings(), options)


def test_items_come_and_go_while_others_ask(recommender: Recommender) -> None:
    def change(number: int) -> None:
        recommender.add(f"n{number % 5}", "Thing", {"category": "books"})
        recommender.remove(f"n{(number + 2) % 5}")

    with ThreadPoolExecutor(4) as pool:
        changes, asked = pool.map(change, range(60)), pool.map(lambda _: shown(recommender, READER), range(30))
        assert list(changes) and all(len(items) == 30 for items in asked)


def test_a_large_catalogue_is_trained_on_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower_training, "FULL_ITEMS", 10)
    monkeypatch.setattr(tower_training, "SAMPLED", 60)
    losses: list[str] = []
    tokens = np.zeros((len(TRAIN.items.ids), 24), np.int64)
    tower_training.train(TRAIN, tokens, train_recommender.feature_columns(TRAIN), FAST.towers, 0, losses.append)
    first, last = (float(losses[at].rpartition(" ")[2]) for at in (0, -1))
    assert last < first - 0.5


@pytest.mark.parametrize(
    ("name", "change"),
    [("config.json", {"network": "other"}), ("config.json", {"index": {"kind": "flat"}}), ("items.json", {"ids": ["i"]})],
)
def test_files_that_do_not_fit_together_are_refused(
    folder: ModelFolder, tmp_path: Path, name: str, change: dict[str, object]
) -> None:
    for file in folder.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_text(json.dumps({**json.loads((tmp_path / name).read_text()), **change}))
    write_manifest(tmp_path, "recommendation", "2")
    with pytest.raises(ModelRefused):
        Recommender.load(open_folder(tmp_path))


def test_the_measures_are_those_of_the_textbook() -> None:
    popularity = np.array([4.0, 3.0, 2.0, 1.0])
    found = scores([np.array([2, 0, 3])], [np.array([2, 0])], [np.array([0, 3, 1])], popularity)
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    assert found.ndcg == pytest.approx((1 / np.log2(3) + 1 / 2) / ideal)
    assert [found.recall, found.coverage, found.retrieval_recall[100]] == pytest.approx([2 / 3, 0.75, 1 / 3])
    assert found.popularity_bias == pytest.approx((7 / 3) / (8 / 3))


def test_the_split_takes_the_last_events_of_each_user() -> None:
    data: Interactions = toy_shop(users=7, events=11)
    first, last = data.split(0.2)
    assert len(first.user) + len(last.user) == len(data.user)
    for user in range(7):
        ends, begins = first.time_s[first.user == user].max(initial=-1), last.time_s[last.user == user].min(initial=1e9)
        assert ends <= begins and (last.user == user).sum() == 2
