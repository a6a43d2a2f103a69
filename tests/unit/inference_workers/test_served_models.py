"""Which versions answer: followed from updates on an in-memory topic, loaded by a task that tests hold back."""

from __future__ import annotations

from itertools import pairwise
from threading import Event
from typing import Any

import numpy as np
import pytest

from inference_workers.served.served_models import OFF
from inference_workers.task import Versions
from schemas.codec import head
from schemas.errors import ModelRefused, RetryLater
from schemas.topics import PREDICTION_LOG, TRANSLATION_RESULTS
from streams.rows import Rows
from tests.support.live import MODEL, ModelVersions, Translator, answered, beside, digest, rows


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> ModelVersions:
    return ModelVersions(monkeypatch)


# --- invalid updates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"digest": ""},
        {"digest": "abc"},
        {"digest": digest("2").upper() + "X"},
        {"version": ""},
        {"uri": ""},
        {"challengers": (beside("canary", "3", sha256=""),)},
        {"challengers": (beside("canary", "3", share=float("nan")),)},
        {"challengers": (beside("canary", "3", share=0.0),)},
        {"challengers": (beside("canary", "3", share=2.0),)},
        {"challengers": (beside("canary", "3"), beside("canary", "4"))},
        {"challengers": (beside("canray", "3"),)},
    ],
    ids=str,
)
def test_an_invalid_update_is_refused_and_what_answered_stays(world: ModelVersions, fields: dict[str, Any]) -> None:
    models = world.worker()
    world.announce("2", beside("shadow", "8"))
    world.settle(models)
    world.announce("2", **fields)
    world.settle(models)
    assert models.report().versions == {MODEL: "2"}
    with models.batch() as batch:
        assert [one.version.folder.version for one in batch.shadows] == ["8"]
    (refusal,) = [ack for ack in world.acks if not ack.accepted]
    assert refusal.reason is not None and "the update is invalid" in refusal.reason
    assert ["invalid" in note for note in models.report().notes] == [True]
    assert world.worker().report().versions == {MODEL: "2"}  # nor was it ever in force for a worker that starts later
    world.announce("1")
    world.settle(models)
    assert (models.report().versions, models.report().notes) == ({MODEL: "1"}, [])


# --- updates that cannot be read ------------------------------------------------------------------------------------


def test_an_update_read_while_the_registry_is_silent_is_kept_and_taken_when_it_answers(world: ModelVersions) -> None:
    models = world.worker()
    world.ids.silent = True
    world.announce("2")
    world.announce("3")
    for _ in range(20):
        world.settle(models)
    assert models.report().versions == {MODEL: "1"}
    assert "cannot be read yet: the registry does not answer" in models.report().notes[0]
    world.ids.silent = False
    world.follow(models, lambda: models.report().versions == {MODEL: "3"})
    assert models.report().notes == []


def test_pauses_between_tries_grow_and_have_a_bound(world: ModelVersions) -> None:
    models = world.worker()
    world.ids.silent = True
    world.announce("2")
    asked: list[float] = []
    real = world.ids.schema_of

    def counted(schema_id: int) -> dict[str, Any]:
        asked.append(world.clock.monotonic_s())
        return real(schema_id)

    world.ids.schema_of = counted  # type: ignore[method-assign]
    for _ in range(400):
        models.catch_up(1e9)
        world.clock.sleep(0.5)
    gaps = [round(after - before, 1) for before, after in pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[0] <= 1.5 and 30.0 <= gaps[-1] <= 31.0


@pytest.mark.parametrize("value", [None, b"", b"junk", head(999) + b"x", head(1) + b"\xff"], ids=str)
def test_what_can_never_be_read_is_passed_over_and_counted(world: ModelVersions, value: bytes | None) -> None:
    models = world.worker()
    world.write(value)
    world.announce("2")
    world.settle(models)
    assert models.report().versions == {MODEL: "2"}
    assert world.metrics.total("updates_unreadable") == 1
    assert world.worker().report().versions == {MODEL: "2"}


def test_a_version_whose_store_is_away_is_tried_again(world: ModelVersions) -> None:
    models = world.worker()
    world.away = {"2"}
    world.announce("2")
    for _ in range(10):
        world.settle(models)
    assert models.report().versions == {MODEL: "1"}
    assert "m 2 (live) was announced and cannot be fetched yet" in models.report().notes[0]
    assert world.acks == []
    world.away.clear()
    world.follow(models, lambda: models.report().versions == {MODEL: "2"})
    assert models.report().notes == []


# --- superseded while it loads --------------------------------------------------------------------------------------


def test_a_version_that_was_superseded_while_it_loaded_is_not_swapped_in(world: ModelVersions) -> None:
    models = world.worker()
    world.held_back = {"2": Event(), "3": Event()}
    world.announce("2")
    world.still_loads(models)
    world.announce("3")
    world.still_loads(models)
    world.held_back["2"].set()
    for _ in range(20):
        world.still_loads(models)
        assert models.report().versions == {MODEL: "1"}
    world.held_back["3"].set()
    world.follow(models, lambda: models.report().versions == {MODEL: "3"})
    assert {one.version: one.closed for one in world.backends} == {"1": True, "2": True, "3": False}


def test_rolled_back_to_what_answers_while_another_loads(world: ModelVersions) -> None:
    models = world.worker()
    world.held_back = {"2": Event()}
    world.announce("2")
    world.still_loads(models)
    world.announce("1")
    world.still_loads(models)
    world.held_back["2"].set()
    world.settle(models)
    assert models.report().versions == {MODEL: "1"}
    assert {one.version: one.closed for one in world.backends} == {"1": False, "2": True}
    assert answered(world, models, rows(0, 4)) == []


def test_a_refusal_of_what_was_superseded_is_nobodys(world: ModelVersions) -> None:
    models = world.worker()
    world.held_back, world.broken = {"2": Event()}, {"2"}
    world.announce("2")
    world.still_loads(models)
    world.announce("1")
    world.still_loads(models)
    world.held_back["2"].set()
    world.settle(models)
    assert (world.acks, models.report().notes) == ([], [])


def test_a_withdrawn_canary_answers_nobody_while_the_next_one_loads(world: ModelVersions) -> None:
    models = world.worker()
    world.announce("1", beside("canary", "8"))
    world.settle(models)
    with models.batch() as batch:
        assert [one.announced.version for one in batch.canaries] == ["8"]
    world.held_back = {"9": Event()}
    world.announce("1", beside("canary", "9"))
    world.still_loads(models)
    with models.batch() as batch:
        assert batch.canaries == []
    world.held_back["9"].set()
    world.settle(models)
    with models.batch() as batch:
        assert [one.announced.version for one in batch.canaries] == ["9"]
    assert {one.version: one.closed for one in world.backends} == {"1": False, "8": True, "9": False}


def test_a_canary_that_is_withdrawn_while_it_loads_never_answers(world: ModelVersions) -> None:
    models = world.worker()
    world.held_back = {"8": Event()}
    world.announce("1", beside("canary", "8"))
    world.still_loads(models)
    world.announce("1")
    world.still_loads(models)
    world.held_back["8"].set()
    world.settle(models)
    with models.batch() as batch:
        assert batch.canaries == []
    assert world.backends[-1].closed


# --- after a restart ------------------------------------------------------------------------------------------------


def test_a_restarted_worker_answers_with_what_answered(world: ModelVersions) -> None:
    models = world.worker()
    world.announce("2")
    world.settle(models)
    world.broken = {"3", "4"}
    world.announce("3")
    world.announce("4", beside("shadow", "8"))
    world.settle(models)
    assert models.report().versions == {MODEL: "2"}
    again = world.worker()
    assert again.report().versions == {MODEL: "2"}
    assert again.report().notes == models.report().notes == ["m 4 (live) was announced and refused: file:/4 was cut"]
    assert answered(world, again, rows(0, 4)) == []  # nothing was swapped
    world.settle(again)
    with again.batch() as batch:
        assert [one.announced.version for one in batch.shadows] == ["8"]


def test_a_worker_that_starts_while_the_store_is_away_takes_the_newest_version_as_soon_as_it_can(world: ModelVersions) -> None:
    world.announce("2")
    world.announce("3")
    world.away = {"3"}
    models = world.worker()
    assert models.report().versions == {MODEL: "2"}
    world.settle(models)
    assert "cannot be fetched yet" in models.report().notes[0]
    world.away.clear()
    world.follow(models, lambda: models.report().versions == {MODEL: "3"})


def test_what_was_refused_is_tried_again_when_it_is_announced_again(world: ModelVersions) -> None:
    models = world.worker()
    world.broken = {"2"}
    world.announce("2")
    world.settle(models)
    world.broken.clear()
    world.settle(models)
    assert models.report().versions == {MODEL: "1"}
    world.announce("2")
    world.settle(models)
    assert (models.report().versions, models.report().notes) == ({MODEL: "2"}, [])


# --- optional models ------------------------------------------------------------------------------------------------


@pytest.fixture
def optional(world: ModelVersions) -> ModelVersions:
    world.optional_models = ("extra",)
    return world


def test_an_optional_model_costs_nothing_until_it_is_announced(optional: ModelVersions) -> None:
    models = optional.worker()
    assert (models.report().versions, models.report().notes) == ({MODEL: "1"}, [])
    assert len(optional.backends) == 1
    optional.announce("5", model="extra")
    optional.settle(models)
    assert models.report().versions == {MODEL: "1", "extra": "5"}
    (ack,) = answered(optional, models, rows(0, 4))
    assert (ack.model, ack.version, ack.previous, ack.accepted) == ("extra", "5", None, True)
    assert optional.worker().report().versions == {MODEL: "1", "extra": "5"}


def test_an_optional_model_starts_at_the_address_of_a_setting(optional: ModelVersions) -> None:
    assert optional.worker(extra="file:/4").report().versions == {MODEL: "1", "extra": "4"}
    optional.broken = {"4"}
    with pytest.raises(ModelRefused, match="file:/4 was cut"):
        optional.worker(extra="file:/4")


def test_an_optional_model_that_is_off_stays_off(optional: ModelVersions) -> None:
    optional.announce("5", model="extra")
    models = optional.worker(extra=OFF)
    optional.announce("6", model="extra")
    optional.settle(models)
    assert models.report().versions == {MODEL: "1"}


def test_an_announced_version_of_an_optional_model_that_cannot_be_loaded_is_told_and_the_others_answer(
    optional: ModelVersions,
) -> None:
    optional.broken = {"5"}
    optional.announce("5", model="extra")
    models = optional.worker()
    assert models.report().versions == {MODEL: "1"}
    assert models.report().notes == ["extra 5 (live) was announced and refused: file:/5 was cut"]
    assert [ack.accepted for ack in optional.acks] == [False]


def test_a_challenger_of_an_optional_model_that_fails_leaves_a_batch_without_it(optional: ModelVersions) -> None:
    optional.broken = {"5"}
    optional.announce("5", beside("canary", "8"), model="extra")
    models = optional.worker()
    optional.settle(models)
    with models.batch() as batch:
        ((_, versions),) = batch.arms([None] * 4, ["a", "b", "c", "d"])
        assert {model: one.folder.version for model, one in versions.items()} == {MODEL: "1", "extra": "8"}
        batch.failed(versions, ValueError("no"))
        assert batch.without_failed(versions) == batch.live


# --- within a batch -------------------------------------------------------------------------------------------------


def test_nothing_is_swapped_while_a_batch_runs_and_the_offset_told_is_the_first_by_the_new_version(world: ModelVersions) -> None:
    models = world.worker()
    with models.batch() as batch:  # as on the step's thread, while the loop goes on following
        before: Versions = batch.live
        world.announce("2", beside("canary", "8"))
        world.still_loads(models)
        assert models.current == before and batch.canaries == []
        assert models.announcements(batch, rows(0, 10), batch.live) == []
    world.settle(models)
    announced = answered(world, models, rows(10, 20))
    assert {(ack.arm, ack.version, ack.digest) for ack in announced} == {("canary", "8", digest("8"))}
    world.announce("2")
    world.settle(models)
    (ack,) = answered(world, models, rows(20, 30))
    assert (ack.arm, ack.version, ack.previous, [o.offset for o in ack.first_offsets]) == ("live", "2", "1", [20])


def test_a_swap_is_told_once_a_partition_and_again_where_its_transaction_did_not_happen(world: ModelVersions) -> None:
    models = world.worker()
    world.announce("2")
    world.settle(models)

    def told(asked: Rows) -> list[tuple[int, int]]:
        return [(o.partition, o.offset) for ack in answered(world, models, asked) for o in ack.first_offsets]

    assert told(rows(10, 20)) == [(0, 10)]
    assert told(rows(20, 30)) == []
    assert told(rows(5, 9)) == [(0, 5)]  # requests of another priority, computed later
    assert told(rows(3, 9, partition=1)) == [(1, 3)]
    assert told(rows(30, 40, epoch=1)) == []
    assert told(rows(5, 9, epoch=2)) == [(0, 5)]


def test_a_batch_that_ends_in_an_error_has_announced_nothing(world: ModelVersions) -> None:
    models = world.worker()
    world.announce("2")
    world.settle(models)
    with pytest.raises(ValueError, match="halved"), models.batch() as batch:
        assert models.announcements(batch, rows(0, 8), batch.live) != []
        raise ValueError("the batch is halved")
    assert [o.offset for ack in answered(world, models, rows(0, 4)) for o in ack.first_offsets] == [0]


def test_a_challenger_that_fails_is_dropped_when_the_batch_is_done(world: ModelVersions) -> None:
    models = world.worker()
    world.announce("1", beside("canary", "8"), beside("shadow", "9"))
    world.settle(models)
    with models.batch() as batch:
        ((_, versions),) = batch.arms([None] * 4, ["a", "b", "c", "d"])
        batch.failed(versions, ValueError("no"))
        assert [one.closed for one in world.backends if one.version == "8"] == [False]
        assert batch.without_failed(versions) == batch.live
    with models.batch() as batch:
        assert batch.canaries == [] and len(batch.shadows) == 1
    (refusal,) = world.acks
    assert (refusal.arm, refusal.version, refusal.digest, refusal.accepted) == ("canary", "8", digest("8"), False)
    world.announce("1", beside("canary", "8", share=0.5), beside("shadow", "9"))
    world.settle(models)
    with models.batch() as batch:
        assert batch.canaries == []
    assert "was dropped" in models.report().notes[0]


# --- the step -------------------------------------------------------------------------------------------------------


@pytest.fixture
def translating(monkeypatch: pytest.MonkeyPatch) -> Translator:
    return Translator(monkeypatch)


def test_a_store_that_does_not_answer_is_no_fault_of_the_canary(translating: Translator) -> None:
    models = translating.worker()
    translating.announce("1", beside("canary", "8"))
    translating.settle(models)
    step = translating.step(models)
    translating.failing["8"] = RetryLater("the store does not answer")
    with pytest.raises(RetryLater):
        step.process(translating.asked(4))
    translating.failing.clear()
    outcomes = step.process(translating.asked(4))
    assert [one["text"] for one in translating.records(outcomes, TRANSLATION_RESULTS.name)] == ["by 8"] * 4


def test_whatever_a_shadow_does_costs_no_request(translating: Translator) -> None:
    models = translating.worker()
    translating.announce("1", beside("shadow", "9"))
    translating.settle(models)
    translating.embedding = np.zeros(4, np.float32)  # of one axis: the log cannot hold it
    outcomes = translating.step(models).process(translating.asked(4))
    assert [one["text"] for one in translating.records(outcomes, TRANSLATION_RESULTS.name)] == ["by 1"] * 4
    (refusal,) = translating.acks
    assert (refusal.arm, refusal.accepted) == ("shadow", False)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_no_answer(translating: Translator, odd: float) -> None:
    models = translating.worker()
    step = translating.step(models)
    translating.odd = odd
    with pytest.raises(ValueError, match="an output of m 1 is NaN or infinite"):
        step.process(translating.asked(2))


def test_the_log_names_the_digest_of_what_answered(translating: Translator) -> None:
    models = translating.worker()
    translating.announce("1-by-hand", beside("shadow", "9"))
    translating.settle(models)
    logged = translating.records(translating.step(models).process(translating.asked(4)), PREDICTION_LOG.name)
    assert {(one["version"], one["arm"], one["digest"]) for one in logged} == {
        ("1", "live", digest("1-by-hand")),
        ("9", "shadow", digest("9")),
    }


# --- by digest ------------------------------------------------------------------------------------------------------


def test_two_versions_of_one_name_are_two(world: ModelVersions) -> None:
    models = world.worker()
    world.announce("1-by-hand")
    world.settle(models)
    assert models.report().versions == {MODEL: "1"}
    assert models.report().digests == {MODEL: digest("1-by-hand")}
    (ack,) = answered(world, models, rows(0, 4))
    assert (ack.version, ack.previous, ack.digest) == ("1", "1", digest("1-by-hand"))


def test_a_step_that_no_loop_drives_catches_up_with_what_was_announced(world: ModelVersions) -> None:
    models = world.worker()
    world.announce("2")
    models.catch_up(1e9)
    world.announce("1")
    models.catch_up(1e9)
    assert models.report().versions == {MODEL: "1"}
