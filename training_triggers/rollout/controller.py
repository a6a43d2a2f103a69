"""From a candidate that passed the gate to the version that answers, or back: the one process that decides it.

A judged candidate answers a share of the keys first (canary). Answers of both arms are compared as their labels come, by a test that may be
looked at all the time; a canary that is worse, slower or fails is taken back, one that is shown to be no worse takes over. What took over,
by this way or by hand, is watched for a while: the version before is asked the same requests in secret (shadow), and brought back where it is
right more often. What a person rolled back to stands, and what a person set beside the live version only a person ends, but for a canary that
does harm or that was forgotten.

What is so is told by two topics alone, `model-updates-v1` and `training-events-v1`; evidence is read again from the log and the labels.
A controller that was killed is therefore where it was, and an update is always written before the event that tells of it. It is written only
where nothing else was since what it was decided on (`compare_and_set.py`); else the next look decides again.
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
from schemas.vocabulary import Arm, Purpose, UpdateKind
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome
from streams.loop.processor import Processor
from streams.process.record_processor import decoded
from streams.rows import Place, Rows
from training_triggers.journal import ENDS
from training_triggers.recorded.confidence_sequence import Both, difference, paired_difference
from training_triggers.recorded.evidence import Evidence, Seen, time_ratio
from training_triggers.versions import update_history
from training_triggers.versions.promotion import as_shipped, before

LOOK_EVERY_S = 1.0
LEAST_LABELLED = 30  # in each arm, before a difference says anything
LEAST_BATCHES = 30
BACK = "rolled back: "
FACTS = {"version", "digest", "uri", "champion"}  # of a verdict, without which nothing can follow from it


@dataclass(frozen=True)
class Policy:
    """share: of the keys that a canary answers. labelled: of its answers, before it may take over. margin: by how much it may be worse.
    without_labels: answers after which the gate's verdict is enough, where too few labels come. most_s: longest time of a canary. watch_s: how
    long what took over is watched, and longest time of a canary set by hand. watch_share: of the requests, that the version before is asked too."""

    share: float = 0.2
    labelled: int = 150
    margin: float = 0.05
    without_labels: int = 2_000
    most_s: float = 7_200.0
    watch_s: float = 86_400.0
    watch_share: float = 0.2
    most_time_ratio: float = 3.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """kind: wait, promote or back."""

    kind: str
    words: str = ""


def of_canary(new: Seen, old: Seen, elapsed_s: float, policy: Policy) -> Verdict:
    """new: the canary's answers; old: the live version's in the same time."""
    worse = breach(new, old, policy)
    if worse:
        return Verdict("back", worse)
    low, high = difference(new.share, old.share)
    said = _shares(new, old, low, high)
    if new.labelled >= policy.labelled and low > -policy.margin:
        return Verdict("promote", f"no worse than the live version: {said}")
    if new.answered >= policy.without_labels and _too_few(new, old, elapsed_s, policy):
        return Verdict("promote", (
            f"it answered {new.answered} requests without a fault; {new.labelled} labels came of its answers and {old.labelled} of the live "
            "version's, too few to compare them, so the gate's verdict stands"
        ))  # fmt: skip
    if elapsed_s > policy.most_s:
        return Verdict("back", f"not shown to be as good in {policy.most_s:.0f} s: {said}")
    return Verdict("wait", said)


def _too_few(new: Seen, old: Seen, elapsed_s: float, policy: Policy) -> bool:
    """Whether so few labels come that they never tell: as far as can be seen now, or when its time is over."""
    if elapsed_s > policy.most_s:
        missing = (
            not new.labelled and old.labelled >= LEAST_LABELLED
        )  # the live version's answers are labelled, and its own are not
        return new.labelled < LEAST_LABELLED and not missing
    return (new.labelled + old.labelled) * policy.most_s / max(elapsed_s, 1.0) < LEAST_LABELLED


def breach(new: Seen, old: Seen, policy: Policy) -> str:
    """What is worse beyond doubt, in words; empty where nothing is."""
    if min(new.labelled, old.labelled) >= LEAST_LABELLED:
        low, high = difference(new.share, old.share)
        if high < 0:
            return f"it is right less often: {_shares(new, old, low, high)}"
    return _slower(new, old, policy)


def breach_beside(new: Seen, old: Seen, both: Both, policy: Policy) -> str:
    """The same of two versions that were asked the same requests."""
    if both.labelled >= LEAST_LABELLED:
        low, high = paired_difference(both)
        if high < 0:
            return (
                f"it is right less often: of {both.labelled} labelled requests it alone was right on {both.gained}, the version before it alone "
                f"on {both.lost}, difference {low:+.3f} to {high:+.3f} (95 %, at all times)"
            )
    return _slower(new, old, policy)


def _slower(new: Seen, old: Seen, policy: Policy) -> str:
    if min(len(new.batches), len(old.batches)) >= LEAST_BATCHES:
        ratio = time_ratio(new, old)
        if ratio > policy.most_time_ratio:
            return f"it takes {ratio:.1f} times as long, {policy.most_time_ratio:.1f} is allowed"
    return ""


def _shares(new: Seen, old: Seen, low: float, high: float) -> str:
    return (
        f"{new.share.value:.3f} of {new.labelled} labelled answers beside {old.share.value:.3f} of {old.labelled}, difference "
        f"{low:+.3f} to {high:+.3f} (95 %, at all times)"
    )


class Topics(Protocol):
    """What the controller reads and writes beside its loop's topic."""

    def updates(self) -> Sequence[ModelUpdate]:
        """New ones since the last call, oldest first."""
        ...

    def refusals(self) -> Sequence[SwapAck]:
        """Of versions that workers refused or dropped, new since the last call."""
        ...

    def evidence(self, from_ms: int) -> Evidence:
        """Of all answers and labels since then that are written by now."""
        ...

    def announce(self, update: ModelUpdate, after: ModelUpdate | None) -> bool:
        """Write it where `after` is the model's last update (None: there is none); whether it was."""
        ...

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None:
        """On `training-events-v1`, if it does not say so already."""
        ...

    def close(self) -> None: ...


@dataclass
class Run:
    """What the events say of one run. facts: of its verdict."""

    model: str
    kinds: set[str] = field(default_factory=set)
    facts: Mapping[str, str] = field(default_factory=dict)


class Rollout(Processor):
    """Step, state and follower of the loop over `training-events-v1`."""

    def __init__(
        self,
        policy: Policy,
        ids: SchemaIds,
        read_events: Callable[[], Iterable[TrainingEvent]],
        topics: Callable[[], Topics],
        clock: Clock,
    ) -> None:
        self._policy, self._read_events, self._open, self._clock = policy, read_events, topics, clock
        self._decoder = Decoder.of(TRAINING_EVENTS, ids)
        self._topics: Topics | None = None
        self._looked_s = float("-inf")
        self._runs: dict[str, Run] = {}
        self._updates: dict[str, list[ModelUpdate]] = {}
        self._hindered: set[str] = set()
        self._refused: dict[tuple[str, str], str] = {}  # model and version of a canary, and why a worker dropped it
        self._waiting: set[str] = set()  # runs of which it is logged that they wait
        self._unwatched: set[tuple[str, str]] = set()
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
        run = self._runs.setdefault(event.run_key, Run(event.model))
        run.kinds.add(event.kind)
        if event.kind == "judged" and event.facts.keys() >= FACTS:
            run.facts = event.facts

    # --- between batches -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._topics is None or now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        for update in self._topics.updates():
            known = self._updates.setdefault(update.model, [])
            if update not in known:  # its own are there already
                known.append(update)
        for ack in self._topics.refusals():
            if ack.arm == Arm.CANARY:
                self._refused[ack.model, ack.version] = f"{ack.worker} does not answer with it: {ack.reason}"
        for run_key, run in list(self._runs.items()):
            if run.facts and not run.kinds & ENDS:
                self._carefully(f"run {run_key}", partial(self._advance, run_key, run))
        for model, updates in list(self._updates.items()):
            self._carefully(f"canary of {model}", partial(self._end_forgotten, model, updates))
            self._carefully(f"model {model}", partial(self._watch, model, updates))

    def _carefully(self, what: str, act: Callable[[], None]) -> None:
        """Whoever can write to the topics names runs, models and times: what cannot be of one of them hinders no other."""
        try:
            act()
        except (BrokerUnavailable, SchemaRefused, TransactionAborted, RetryLater):
            raise
        except Exception as error:
            if what not in self._hindered:
                self._hindered.add(what)
                self._log.error("passed over", what=what, cause=f"{type(error).__name__}: {error}")

    def _advance(self, run_key: str, run: Run) -> None:
        """One run that passed the gate, as far as it can go now."""
        updates, digest = self._updates.get(run.model, []), run.facts["digest"]
        last, was_there = self._last(run.model), any(update_history.names(one, digest) for one in updates)
        canary = canary_of(last)
        if last.digest == digest:
            self._tell(run_key, run, "promoted", last.reason)
        elif canary is not None and canary.digest == digest:
            self._tell(run_key, run, Arm.CANARY, last.reason)
            self._judge(run, last, canary)
        elif was_there:
            self._tell(run_key, run, "rolled_back", last.reason)
        elif last.digest != run.facts["champion"]:
            self._tell(run_key, run, "refused", f"{last.version} answers now, and it was compared with another version")
        elif canary is None:
            challenger = Challenger(
                arm=Arm.CANARY, version=run.facts["version"], uri=run.facts["uri"], digest=digest, share=self._policy.share, salt=run_key,
                purpose=Purpose.RUN,
            )  # fmt: skip
            words = f"it passed the gate, and answers {self._policy.share:.0%} of the keys"
            self._announce(last, words, UpdateKind.CHALLENGE, (*last.challengers, challenger))
        elif run_key not in self._waiting:  # its turn comes when that canary has ended
            self._waiting.add(run_key)
            self._log.info(
                "waits for the canary before it to end", run_key=run_key, canary=canary.version, purpose=canary.purpose
            )

    def _judge(self, run: Run, last: ModelUpdate, canary: Challenger) -> None:
        assert self._topics is not None
        since_ms = update_history.set_ms(self._updates[run.model], canary)
        evidence = self._topics.evidence(since_ms)
        new, old = evidence.of(run.model, canary.digest, Arm.CANARY), evidence.of(run.model, last.digest, Arm.LIVE)
        dropped = self._refused.get((run.model, canary.version))
        elapsed_s = (self._clock.now_ms() - since_ms) / 1000
        verdict = Verdict("back", dropped) if dropped is not None else of_canary(new, old, elapsed_s, self._policy)
        if verdict.kind == "promote":
            after = replace(last, version=canary.version, uri=canary.uri, digest=canary.digest)
            stay = update_history.of_people(last, canary.digest)
            if not any(one.arm == Arm.SHADOW for one in stay):
                stay = (*stay, self._watched(last, canary.digest))
            self._announce(after, verdict.words, UpdateKind.PROMOTION, stay)
        elif verdict.kind == "back":
            self._announce(last, BACK + verdict.words, UpdateKind.CHALLENGE, _without(last, canary))

    def _watched(self, earlier: ModelUpdate, digest: str) -> Challenger:
        """The version that answered before, asked beside the one with this digest."""
        return Challenger(
            arm=Arm.SHADOW, version=earlier.version, uri=earlier.uri, digest=earlier.digest, share=self._policy.watch_share,
            salt=f"watch-{digest[:16]}", purpose=Purpose.WATCH,
        )  # fmt: skip

    def _end_forgotten(self, model: str, updates: Sequence[ModelUpdate]) -> None:
        """A canary that a person set answers callers: one that does harm is ended, and one that nobody has ended for as long as a watch."""
        assert self._topics is not None
        last = updates[-1]
        canary = canary_of(last)
        if canary is None or canary.purpose:
            return
        since_ms = update_history.set_ms(updates, canary)
        evidence = self._topics.evidence(since_ms)
        words = breach(evidence.of(model, canary.digest, Arm.CANARY), evidence.of(model, last.digest, Arm.LIVE), self._policy)
        if not words and self._clock.now_ms() - since_ms > self._policy.watch_s * 1000:
            words = f"nobody ended it in {self._policy.watch_s:.0f} s"
        if words:
            self._announce(last, f"{BACK}canary {canary.version}: {words}", UpdateKind.CHALLENGE, _without(last, canary))

    def _watch(self, model: str, updates: Sequence[ModelUpdate]) -> None:
        """What took over, beside what answered before it, on the same requests."""
        assert self._topics is not None
        last, shadow = updates[-1], update_history.beside(updates[-1], Arm.SHADOW)
        was, since = update_history.turned(updates)
        mine = shadow is not None and shadow.purpose == Purpose.WATCH
        over = self._clock.now_ms() - since.decided_ms > self._policy.watch_s * 1000
        if over or since.kind == UpdateKind.ROLLBACK:
            if shadow is not None and mine:
                self._announce(last, "the version before it is asked no longer", UpdateKind.CHALLENGE, _without(last, shadow))
            return
        earlier = was or self._shipped(model)
        if earlier is None or earlier.digest == last.digest:
            return
        if shadow is None:
            words = f"{last.reason}; {earlier.version} is asked {self._policy.watch_share:.0%} of the requests beside it"
            self._announce(last, words, UpdateKind.CHALLENGE, (*last.challengers, self._watched(earlier, last.digest)))
        elif not mine:
            if (model, last.digest) not in self._unwatched:
                self._unwatched.add((model, last.digest))
                self._log.warning("not watched: a shadow that a person set has its place", model=model, version=last.version)
        else:
            evidence = self._topics.evidence(update_history.set_ms(updates, shadow))
            new, old = (model, last.digest, Arm.LIVE), (model, shadow.digest, Arm.SHADOW)
            words = breach_beside(evidence.of(*new), evidence.of(*old), evidence.beside(new, old), self._policy)
            if words:
                self._bring_back(model, updates, words)

    def _bring_back(self, model: str, updates: Sequence[ModelUpdate], words: str) -> None:
        assert self._topics is not None
        last = updates[-1]
        try:
            target = before(model, updates)
        except MillraceError as error:
            self._log.error("cannot roll back", model=model, version=last.version, cause=str(error))
            return
        folder = target.folder
        after = replace(last, version=folder.version, uri=target.uri, digest=folder.digest)
        if not self._announce(after, BACK + words, UpdateKind.ROLLBACK, update_history.of_people(last, folder.digest)):
            return
        run_key = next(
            (key for key, run in self._runs.items() if run.facts.get("digest") == last.digest), f"{model}-{last.digest[:8]}"
        )
        self._topics.tell(run_key, model, "rolled_back", BACK + words, {"version": last.version, "digest": last.digest})

    def _shipped(self, model: str) -> ModelUpdate | None:
        try:
            return as_shipped(model)
        except MillraceError:  # a model that is only promoted by hand
            return None

    def _last(self, model: str) -> ModelUpdate:
        """The state of a model, which is what is shipped where nothing was ever announced."""
        return self._updates[model][-1] if self._updates.get(model) else as_shipped(model)

    def _announce(self, state: ModelUpdate, reason: str, kind: str, challengers: tuple[Challenger, ...]) -> bool:
        """Whether it was written: not where somebody else has written since, and the next look decides again."""
        assert self._topics is not None
        known = self._updates.setdefault(state.model, [])
        update = replace(
            state, reason=reason, kind=kind, actor="rollout", decided_ms=self._clock.now_ms(), challengers=challengers
        )
        if not self._topics.announce(update, known[-1] if known else None):
            return False
        known.append(update)
        self._log.info(
            "announced", model=update.model, version=update.version, canary=canary_of(update) is not None, reason=reason
        )
        return True

    def _tell(self, run_key: str, run: Run, kind: str, words: str) -> None:
        assert self._topics is not None
        if kind not in run.kinds:
            self._topics.tell(run_key, run.model, kind, words, {name: run.facts[name] for name in ("version", "digest")})
            run.kinds.add(kind)


def canary_of(update: ModelUpdate) -> Challenger | None:
    return update_history.beside(update, Arm.CANARY)


def _without(update: ModelUpdate, challenger: Challenger) -> tuple[Challenger, ...]:
    return tuple(one for one in update.challengers if one != challenger)
