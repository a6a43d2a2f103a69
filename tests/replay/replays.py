"""Today's code over a recorded history: what it decides, as plain values. Words for people are left out, as they may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from feature_jobs.online.rollup import Entity, Tile
from processors.moderation.policy import Rules, action_of
from schemas.codec import Decoder, read_any
from schemas.durations import HOUR_MS, MINUTE_MS
from schemas.features import USER
from schemas.generated import ModelUpdate, SwapAck
from schemas.topics import (
    DRIFT_EVENTS,
    LABELS,
    MODEL_UPDATES,
    MODERATION_VERDICTS,
    PREDICTION_LOG,
    SWAP_ACKS,
    TRAINING_EVENTS,
    TRAINING_REQUESTS,
    USER_FEATURES,
)
from streams.broker import Commit
from streams.clock import ManualClock
from streams.loop.outcome import Emit
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry
from tests.replay.history import TOPICS, Decision, History, Read
from tests.support.rows import rows_at
from training_triggers.drift import decide
from training_triggers.recorded.evidence import Evidence
from training_triggers.rollout import controller
from training_triggers.rollout.decisions import RolloutPolicy
from training_triggers.versions import update_history

LOOK_EVERY_MS = MINUTE_MS


def _decode(read: Read, ids: MemoryRegistry) -> dict[str, Any]:
    """As a loop does: by today's schema of the topic, whichever wrote it."""
    columns, errors = Decoder.of(TOPICS[read.topic], ids).decode([read.value])
    assert not errors, errors
    return columns.records()[0]


def actions(history: History) -> Iterator[Decision]:
    ids, rules = (
        history.ids(),
        Rules.parse("default=0.95 self_harm=never image:spam=never video:default=0.9", review_unjudged=True),
    )
    for read in history.records:
        assert read.topic == MODERATION_VERDICTS.name
        action = action_of(_decode(read, ids), read.key.decode(), read.at_ms, rules)
        yield {
            **{name: action[name] for name in ("content_id", "author_id", "action", "request_id", "decided_ms")},
            "reasons": len(action["reasons"]),
        }


class _Told:
    """The topics of requests and training events, as far as they are written."""

    def __init__(self) -> None:
        self.written: list[Read] = []

    def poll(self) -> Polled:
        polled = Polled()
        for read in self.written:
            polled.extend(Polled([(read.topic, 0)], [0], [read.key], [read.value], [None], [read.at_ms]))
        self.written = []
        return polled

    def read_to_end(self, limit_s: float) -> Polled:
        return self.poll()

    def close(self) -> None:
        return


def drift_decisions(history: History) -> Iterator[Decision]:
    ids, told = history.ids(), _Told()
    step = decide.Decide(decide.RetrainPolicy(cool_down_ms=HOUR_MS, runs_per_day=4), ids, "decide-0", lambda: told)
    step.restore({(DRIFT_EVENTS.name, 0): Commit(0)})
    for read in history.records:
        if read.topic != DRIFT_EVENTS.name:
            told.written.append(read)
            continue
        (outcome,) = step.process(rows_at((read.topic, 0), [read.value], keys=[read.key], timestamps_ms=[read.at_ms]))
        assert isinstance(outcome, Emit)
        records = {out.topic: read_any(out.values[0], ids) for out in outcome.records}
        event, request = records[TRAINING_EVENTS.name], records.get(TRAINING_REQUESTS.name)
        yield {
            **{name: event[name] for name in ("run_key", "model", "kind", "cause", "at_ms")},
            "options": request and request["options"],
        }


class _Topics:
    """`controller.TopicAccess` over a history, up to `now_ms`."""

    def __init__(self, history: History, clock: ManualClock) -> None:
        self._clock, self._ids = clock, history.ids()
        self._records = [(read, _decode(read, self._ids)) for read in history.records]
        self._given = 0
        self.events: list[Read] = []  # that came since the last look
        self.written: list[ModelUpdate] = []
        self.decisions: list[Decision] = []
        self._dropped: list[SwapAck] = []

    def come(self) -> None:
        """What was written by now."""
        while self._given < len(self._records) and self._records[self._given][0].at_ms <= self._clock.now_ms():
            read, record = self._records[self._given]
            self._given += 1
            if read.topic == MODEL_UPDATES.name:
                self.written.append(ModelUpdate.from_dict(record))
            elif read.topic == TRAINING_EVENTS.name:
                self.events.append(read)
            elif read.topic == SWAP_ACKS.name and not record["accepted"]:
                self._dropped.append(SwapAck.from_dict(record))

    def updates(self) -> Sequence[ModelUpdate]:
        return list(self.written)

    def refusals(self) -> Sequence[SwapAck]:
        found, self._dropped = self._dropped, []
        return found

    def evidence(self, from_ms: int) -> Evidence:
        evidence = Evidence()
        for read, record in self._records[: self._given]:
            if read.at_ms >= from_ms and read.topic == PREDICTION_LOG.name:
                evidence.answers(record)
            elif read.at_ms >= from_ms and read.topic == LABELS.name:
                evidence.label(record)
        return evidence

    def announce(self, update: ModelUpdate, after: ModelUpdate | None) -> bool:
        mine = update_history.of(update.model, self.written)
        assert (mine[-1] if mine else None) == after
        self.written.append(update)
        beside = [[one.arm, one.version, one.digest, one.share, one.salt, one.purpose] for one in update.challengers]
        self.decisions.append(
            {
                "announced": update.kind,
                "version": update.version,
                "digest": update.digest,
                "beside": beside,
                "decided_ms": update.decided_ms,
            }
        )
        return True

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None:
        self.decisions.append({"told": kind, "run_key": run_key, "at_ms": self._clock.now_ms()})

    def close_unused(self) -> None:
        return

    def close(self) -> None:
        return


def rollout_decisions(history: History) -> Iterator[Decision]:
    """A look each minute, from the first record to five hours after the last."""
    clock = ManualClock(history.records[0].at_ms)
    topics = _Topics(history, clock)
    policy = RolloutPolicy(share=0.5, labelled=50, without_labels=500, max_s=3_600, watch_s=7_200)
    rollout = controller.Rollout(policy, history.ids(), list, lambda: topics, clock)
    rollout.restore({(TRAINING_EVENTS.name, 0): Commit(0)})
    while clock.now_ms() < history.records[-1].at_ms + 5 * HOUR_MS:
        topics.come()
        while topics.events:
            read = topics.events.pop(0)
            rollout.process(rows_at((read.topic, 0), [read.value], keys=[read.key], timestamps_ms=[read.at_ms]))
        rollout.tick()
        yield from topics.decisions
        topics.decisions.clear()
        clock.sleep(LOOK_EVERY_MS / 1000)


def user_features(history: History) -> Iterator[Decision]:
    """The values of the user whose tile came, after each eighth tile, as of its time."""
    ids, users = history.ids(), dict[bytes, Entity]()
    for number, read in enumerate(history.records):
        assert read.topic == USER_FEATURES.name
        entity, tile = users.setdefault(read.key, Entity()), Tile.of(_decode(read, ids))
        taken = tile.impossible(read.at_ms) is None and entity.put(tile, read.at_ms)
        if number % 8 == 4:
            entity.advance(read.at_ms)
            yield {"tile": number, "taken": taken, "user": read.key.decode()} | _without_defaults(entity)


def _without_defaults(entity: Entity) -> Decision:
    defaults = {feature.name: feature.default for feature in USER.features}
    return {name: value for name, value in entity.values(USER, None).items() if value != defaults[name]}


REPLAYS: dict[str, Callable[[History], Iterator[Decision]]] = {
    "actions": actions,
    "drift_decisions": drift_decisions,
    "rollout_decisions": rollout_decisions,
    "user_features": user_features,
}
