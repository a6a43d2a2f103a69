"""The loop that decides which version of a model is live, from a candidate that passed the gate to its promotion or rollback.

A candidate that passed the gate first answers a share of the keys, as a canary. The answers of canary and live version are
compared as their labels arrive, by a test that stays valid however often one looks. A canary that is worse, slower or fails is
ended; one that is shown to be no worse is promoted. A new live version, whether this loop or a person promoted it, is watched for
a while: the version before it answers the same requests as a shadow, and becomes the live one again if it is right more often. Where
labels tell only of answers that were seen, the version before answers a share of the keys instead, until the next candidate takes its place.
The loop never reverts a person's rollback. Only a person ends a canary or shadow that a person started, except a canary that does
harm or was forgotten.

All state is in two topics, `model-updates-v1` and `training-events-v1`; evidence is read again from the prediction log and the
labels, so that a controller that was killed continues where it was. An update is written before the event that reports it, and
only if it follows the update that the decision was based on (`compare_and_set.py`); otherwise the next look decides again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog

from schemas.codec import Decoder, SchemaIds
from schemas.errors import BrokerUnavailable, MillraceError, RetryLater, SchemaRefused, TransactionAborted
from schemas.generated import Challenger, ModelUpdate, SwapAck, TrainingEvent
from schemas.topics import TRAINING_EVENTS
from schemas.vocabulary import Arm, Purpose, RunEvent, UpdateKind
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome
from streams.loop.processor import Processor
from streams.process.record_processor import decoded
from streams.rows import Place, Rows
from training_triggers.journal import ENDS
from training_triggers.recorded.evidence import Evidence
from training_triggers.rollout.decisions import (
    CanaryAction,
    CanaryDecision,
    RolloutPolicy,
    breach,
    of_canary,
    paired_breach,
    watch_arm,
)
from training_triggers.versions import update_history
from training_triggers.versions.promotion import as_shipped, before

LOOK_EVERY_S = 1.0
BACK = "rolled back: "
FACTS = {"version", "digest", "uri", "champion"}  # of a verdict, needed to start a canary


class TopicAccess(Protocol):
    """The other topics that the controller reads and writes."""

    def updates(self) -> Sequence[ModelUpdate]:
        """New updates since the last call, oldest first."""
        ...

    def refusals(self) -> Sequence[SwapAck]:
        """New acknowledgements since the last call of versions that workers refused or dropped."""
        ...

    def evidence(self, from_ms: int) -> Evidence:
        """All answers and labels that were written since `from_ms`."""
        ...

    def close_unused(self) -> None:
        """Closes evidence that was not requested in the last looks. To be called once per look."""
        ...

    def announce(self, update: ModelUpdate, after: ModelUpdate | None) -> bool:
        """Write the update if `after` is the model's last one (None: the model has none). Returns whether it was written."""
        ...

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None:
        """Write an event of a run, unless an event of its kind was already written."""
        ...

    def close(self) -> None: ...


@dataclass
class RunState:
    """A run by its events. facts: of the gate's verdict, once the candidate passed."""

    model: str
    kinds: set[str] = field(default_factory=set)
    facts: Mapping[str, str] = field(default_factory=dict)


class Rollout(Processor):
    """The loop over `training-events-v1`. `process` only notes the events; `tick` decides, once per LOOK_EVERY_S."""

    def __init__(
        self,
        policy: RolloutPolicy,
        ids: SchemaIds,
        read_events: Callable[[], Iterable[TrainingEvent]],
        topics: Callable[[], TopicAccess],
        clock: Clock,
    ) -> None:
        self._policy, self._read_events, self._open, self._clock = policy, read_events, topics, clock
        self._decoder = Decoder.of(TRAINING_EVENTS, ids)
        self._topics: TopicAccess | None = None
        self._looked_s = float("-inf")
        self._runs: dict[str, RunState] = {}
        self._updates: dict[str, list[ModelUpdate]] = {}
        self._failing: set[str] = set()  # models and runs whose error is in the log
        self._refused: dict[tuple[str, str], str] = {}  # by model and version of a canary, why a worker dropped it
        self._waiting: set[str] = set()  # runs whose waiting is in the log
        self._unwatched: set[tuple[str, str]] = set()  # models and digests whose missing watch is in the log
        self._log = structlog.get_logger().bind(worker="rollout")

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self.forget(())
        for event in self._read_events():
            self._note(event)
        self._topics = self._open()

    def forget(self, places: Iterable[Place]) -> None:
        if self._topics is not None:
            self._topics.close()
        self._topics, self._runs, self._updates, self._refused = None, {}, {}, {}

    def process(self, rows: Rows) -> list[Outcome]:
        columns, done, outcomes = decoded(self._decoder, rows)
        for record in columns.records():
            self._note(TrainingEvent.from_dict(record))
        return [*outcomes, Emit(done, [])] if len(done) else outcomes

    def _note(self, event: TrainingEvent) -> None:
        run = self._runs.setdefault(event.run_key, RunState(event.model))
        run.kinds.add(event.kind)
        if event.kind == RunEvent.JUDGED and event.facts.keys() >= FACTS:
            run.facts = event.facts

    # --- between batches -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._topics is None or now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        self._topics.close_unused()
        for update in self._topics.updates():
            written = self._updates.setdefault(update.model, [])
            if update not in written:  # our own updates are already in it
                written.append(update)
        for ack in self._topics.refusals():
            if ack.arm == Arm.CANARY:
                self._refused[ack.model, ack.version] = f"{ack.worker} does not answer with it: {ack.reason}"
        for run_key, run in list(self._runs.items()):
            if run.facts and not run.kinds & ENDS:
                self._isolated(f"run {run_key}", partial(self._advance, run_key, run))
        for model, updates in list(self._updates.items()):
            self._isolated(f"canary of {model}", partial(self._end_forgotten, model, updates))
            self._isolated(f"model {model}", partial(self._watch, model, updates))

    def _isolated(self, subject: str, act: Callable[[], None]) -> None:
        """Run `act` and log its error: anybody who may write to the topics chooses runs, models and times, so invalid records of
        one must not stop the others."""
        try:
            act()
        except (BrokerUnavailable, SchemaRefused, TransactionAborted, RetryLater):
            raise
        except Exception as error:
            if subject not in self._failing:
                self._failing.add(subject)
                self._log.error("skipped", subject=subject, cause=f"{type(error).__name__}: {error}")

    def _advance(self, run_key: str, run: RunState) -> None:
        """Take the next step of a run that passed the gate, if there is one now."""
        updates, digest = self._updates.get(run.model, []), run.facts["digest"]
        last, was_announced = self._last(run.model), any(update_history.names(update, digest) for update in updates)
        canary = canary_of(last)
        if last.digest == digest:
            self._tell(run_key, run, RunEvent.PROMOTED, last.reason)
        elif canary is not None and canary.digest == digest:
            self._tell(run_key, run, RunEvent.CANARY, last.reason)
            self._judge(run, last, canary)
        elif was_announced:
            self._tell(run_key, run, RunEvent.ROLLED_BACK, last.reason)
        elif last.digest != run.facts["champion"]:
            self._tell(
                run_key, run, RunEvent.REFUSED, f"{last.version} is live now, but the candidate was compared with another version"
            )
        elif canary is None or canary.purpose == Purpose.WATCH:
            challenger = Challenger(
                arm=Arm.CANARY,
                version=run.facts["version"],
                uri=run.facts["uri"],
                digest=digest,
                share=self._policy.share,
                salt=run_key,
                purpose=Purpose.RUN,
            )
            words = f"it passed the gate and answers {self._policy.share:.0%} of the keys"
            others = last.challengers if canary is None else _without(last, canary)
            self._announce(last, words, UpdateKind.CHALLENGE, (*others, challenger))
        elif run_key not in self._waiting:  # until that canary has ended
            self._waiting.add(run_key)
            self._log.info("waits until another canary ends", run_key=run_key, canary=canary.version, purpose=canary.purpose)

    def _judge(self, run: RunState, last: ModelUpdate, canary: Challenger) -> None:
        assert self._topics is not None
        since_ms = update_history.set_ms(self._updates[run.model], canary)
        evidence = self._topics.evidence(since_ms)
        new, old = evidence.of(run.model, canary.digest, Arm.CANARY), evidence.of(run.model, last.digest, Arm.LIVE)
        dropped = self._refused.get((run.model, canary.version))
        elapsed_s = (self._clock.now_ms() - since_ms) / 1000
        decision = of_canary(new, old, elapsed_s, self._policy) if dropped is None else CanaryDecision(CanaryAction.END, dropped)
        if decision.action is CanaryAction.PROMOTE:
            promoted = replace(last, version=canary.version, uri=canary.uri, digest=canary.digest)
            challengers = update_history.of_people(last, canary.digest)
            if not any(challenger.arm == watch_arm(run.model) for challenger in challengers):
                challengers = (*challengers, self._watcher(last, canary.digest))
            self._announce(promoted, decision.reason, UpdateKind.PROMOTION, challengers)
        elif decision.action is CanaryAction.END:
            self._announce(last, BACK + decision.reason, UpdateKind.CHALLENGE, _without(last, canary))

    def _watcher(self, earlier: ModelUpdate, digest: str) -> Challenger:
        """The previous version beside the version with this digest."""
        return Challenger(
            arm=watch_arm(earlier.model),
            version=earlier.version,
            uri=earlier.uri,
            digest=earlier.digest,
            share=self._policy.watch_share,
            salt=f"watch-{digest[:16]}",
            purpose=Purpose.WATCH,
        )

    def _end_forgotten(self, model: str, updates: Sequence[ModelUpdate]) -> None:
        """End a canary that a person started if it does harm, or if it is older than a watch: it answers callers."""
        assert self._topics is not None
        last = updates[-1]
        canary = canary_of(last)
        if canary is None or canary.purpose:
            return
        since_ms = update_history.set_ms(updates, canary)
        evidence = self._topics.evidence(since_ms)
        words = breach(evidence.of(model, canary.digest, Arm.CANARY), evidence.of(model, last.digest, Arm.LIVE), self._policy)
        if not words and self._clock.now_ms() - since_ms > self._policy.watch_s * 1000:
            words = f"nobody ended it within {self._policy.watch_s:.0f} s"
        if words:
            self._announce(last, f"{BACK}canary {canary.version}: {words}", UpdateKind.CHALLENGE, _without(last, canary))

    def _watch(self, model: str, updates: Sequence[ModelUpdate]) -> None:
        """Start, judge or end the comparison of a new live version with the version before it."""
        assert self._topics is not None
        last, arm = updates[-1], watch_arm(model)
        watcher = update_history.watcher(last) or update_history.beside(last, arm)
        previous, since = update_history.turned(updates)
        is_watch = watcher is not None and watcher.purpose == Purpose.WATCH
        is_over = self._clock.now_ms() - since.decided_ms > self._policy.watch_s * 1000
        if is_over or since.kind == UpdateKind.ROLLBACK:
            if watcher is not None and is_watch:
                self._announce(last, "the watch of the live version is over", UpdateKind.CHALLENGE, _without(last, watcher))
            return
        earlier = previous or self._shipped(model)
        if earlier is None or earlier.digest == last.digest:
            return
        if watcher is None:
            of = "requests" if arm == Arm.SHADOW else "keys"
            words = f"{last.reason}; {earlier.version} also answers {self._policy.watch_share:.0%} of the {of}, as a {arm}"
            self._announce(last, words, UpdateKind.CHALLENGE, (*last.challengers, self._watcher(earlier, last.digest)))
        elif is_watch:
            self._judge_watch(model, updates, watcher)
        elif (model, last.digest) not in self._unwatched:
            self._unwatched.add((model, last.digest))
            self._log.warning("not watched: another version has the place", model=model, version=last.version)

    def _judge_watch(self, model: str, updates: Sequence[ModelUpdate], watcher: Challenger) -> None:
        assert self._topics is not None
        evidence = self._topics.evidence(update_history.set_ms(updates, watcher))
        new, old = (model, updates[-1].digest, Arm.LIVE), (model, watcher.digest, watcher.arm)
        if watcher.arm == Arm.SHADOW:
            words = paired_breach(evidence.of(*new), evidence.of(*old), evidence.beside(new, old), self._policy)
        else:
            words = breach(evidence.of(*new), evidence.of(*old), self._policy)
        if words:
            self._roll_back(model, updates, words)

    def _roll_back(self, model: str, updates: Sequence[ModelUpdate], words: str) -> None:
        assert self._topics is not None
        last = updates[-1]
        try:
            target = before(model, updates)
        except MillraceError as error:
            self._log.error("cannot roll back", model=model, version=last.version, cause=str(error))
            return
        folder = target.folder
        restored = replace(last, version=folder.version, uri=target.uri, digest=folder.digest)
        if not self._announce(restored, BACK + words, UpdateKind.ROLLBACK, update_history.of_people(last, folder.digest)):
            return
        run_key = next(
            (key for key, run in self._runs.items() if run.facts.get("digest") == last.digest), f"{model}-{last.digest[:8]}"
        )
        self._topics.tell(run_key, model, RunEvent.ROLLED_BACK, BACK + words, {"version": last.version, "digest": last.digest})

    def _shipped(self, model: str) -> ModelUpdate | None:
        try:
            return as_shipped(model)
        except MillraceError:  # a model without a shipped version
            return None

    def _last(self, model: str) -> ModelUpdate:
        """The last update of a model, or its shipped version."""
        return self._updates[model][-1] if self._updates.get(model) else as_shipped(model)

    def _announce(self, state: ModelUpdate, reason: str, kind: str, challengers: tuple[Challenger, ...]) -> bool:
        """Write an update; returns whether it was written. False if another writer wrote meanwhile: the next look decides
        again."""
        assert self._topics is not None
        written = self._updates.setdefault(state.model, [])
        update = replace(
            state, reason=reason, kind=kind, actor="rollout", decided_ms=self._clock.now_ms(), challengers=challengers
        )
        if not self._topics.announce(update, written[-1] if written else None):
            return False
        written.append(update)
        self._log.info(
            "announced", model=update.model, version=update.version, canary=canary_of(update) is not None, reason=reason
        )
        return True

    def _tell(self, run_key: str, run: RunState, kind: str, words: str) -> None:
        assert self._topics is not None
        if kind not in run.kinds:
            self._topics.tell(run_key, run.model, kind, words, {name: run.facts[name] for name in ("version", "digest")})
            run.kinds.add(kind)


def canary_of(update: ModelUpdate) -> Challenger | None:
    return update_history.beside(update, Arm.CANARY)


def _without(update: ModelUpdate, challenger: Challenger) -> tuple[Challenger, ...]:
    return tuple(other for other in update.challengers if other != challenger)
