"""From a candidate that passed the gate to the version that answers, or back: the one process that decides it.

A judged candidate answers a share of the keys first (canary). Answers of both arms are compared as their labels come, by a test that may be
looked at all the time; a canary that is worse, slower or fails is taken back, one that is shown to be no worse takes over. What took
over, by this way or by hand, is watched on for a while, and the version before is brought back where it proves worse.

What is so is told by two topics alone, `model-updates-v1` and `training-events-v1`; evidence is read again from the log and the labels.
A controller that was killed is therefore where it was, and an update is always written before the event that tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Protocol

import structlog

from processors.step import decoded
from schemas.codec import SchemaIds, decoder_of
from schemas.errors import BrokerUnavailable, MillraceError, RetryLater, SchemaRefused, TransactionAborted
from schemas.generated import Challenger, ModelUpdate, SwapAck, TrainingEvent
from schemas.topics import TRAINING_EVENTS
from streams.broker import Commit
from streams.clock import Clock
from streams.outcome import Emit, Outcome
from streams.rows import OutRecords, Place, Rows
from training_triggers.evidence import Evidence, Seen, time_ratio
from training_triggers.journal import ENDS
from training_triggers.promotion import as_shipped, before
from training_triggers.sequential import difference

LOOK_EVERY_S = 1.0
LEAST_LABELLED = 30  # in each arm, before a difference says anything
LEAST_BATCHES = 30
LIVE, CANARY = "live", "canary"
BACK = "rolled back: "
FACTS = {"version", "digest", "uri", "champion"}  # of a verdict, without which nothing can follow from it


@dataclass(frozen=True)
class Policy:
    """share: of the keys that a canary answers. labelled: of its answers, before it may take over. margin: by how much it may be worse.
    without_labels: answers after which the gate's verdict is enough, where no label comes. most_s: longest time of a canary.
    watch_s: how long what took over is watched, beside the answers of look_back_s before."""

    share: float = 0.2
    labelled: int = 150
    margin: float = 0.05
    without_labels: int = 2_000
    most_s: float = 7_200.0
    watch_s: float = 86_400.0
    look_back_s: float = 3_600.0
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
    if not new.labelled and not old.labelled and new.answered >= policy.without_labels:
        return Verdict(
            "promote", f"it answered {new.answered} requests without a fault; no label came, so the gate's verdict stands"
        )
    if elapsed_s > policy.most_s:
        return Verdict("back", f"not shown to be as good in {policy.most_s:.0f} s: {said}")
    return Verdict("wait", said)


def breach(new: Seen, old: Seen, policy: Policy) -> str:
    """What is worse beyond doubt, in words; empty where nothing is."""
    if min(new.labelled, old.labelled) >= LEAST_LABELLED:
        low, high = difference(new.share, old.share)
        if high < 0:
            return f"it is right less often: {_shares(new, old, low, high)}"
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

    def announce(self, update: ModelUpdate) -> None: ...

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


class Rollout:
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
        self._decoder = decoder_of(TRAINING_EVENTS, ids)
        self._topics: Topics | None = None
        self._looked_s = float("-inf")
        self._runs: dict[str, Run] = {}
        self._updates: dict[str, list[ModelUpdate]] = {}
        self._hindered: set[str] = set()
        self._refused: dict[tuple[str, str], str] = {}  # model and version of a canary, and why a worker dropped it
        self._log = structlog.get_logger().bind(worker="rollout")

    # --- streams.state.State, the step --------------------------------------------------------------------------

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

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        return []

    def _note(self, event: TrainingEvent) -> None:
        run = self._runs.setdefault(event.run_key, Run(event.model))
        run.kinds.add(event.kind)
        if event.kind == "judged" and event.facts.keys() >= FACTS:
            run.facts = event.facts

    # --- streams.loop.Follower ----------------------------------------------------------------------------------

    def follow(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._topics is None or now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        for update in self._topics.updates():
            self._updates.setdefault(update.model, []).append(update)
        for ack in self._topics.refusals():
            if ack.arm == CANARY:
                self._refused[ack.model, ack.version] = f"{ack.worker} does not answer with it: {ack.reason}"
        for run_key, run in list(self._runs.items()):
            if run.facts and not run.kinds & ENDS:
                self._carefully(f"run {run_key}", partial(self._advance, run_key, run))
        for model, updates in list(self._updates.items()):
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
        last, was_there = self._last(run.model), any(_names(one, digest) for one in updates)
        canary = canary_of(last)
        if last.digest == digest:
            self._tell(run_key, run, "promoted", last.reason)
        elif canary is not None and canary.digest == digest:
            self._tell(run_key, run, CANARY, last.reason)
            self._judge(run, last, canary)
        elif was_there:
            self._tell(run_key, run, "rolled_back", last.reason)
        elif last.digest != run.facts["champion"]:
            self._tell(run_key, run, "refused", f"{last.version} answers now, and it was compared with another version")
        elif canary is None:  # else its turn comes when that canary has ended
            challenger = Challenger(
                arm=CANARY,
                version=run.facts["version"],
                uri=run.facts["uri"],
                digest=digest,
                share=self._policy.share,
                salt=run_key,
            )
            self._announce(last, f"it passed the gate, and answers {self._policy.share:.0%} of the keys", challenger)

    def _judge(self, run: Run, last: ModelUpdate, canary: Challenger) -> None:
        assert self._topics is not None
        evidence = self._topics.evidence(last.decided_ms)
        new, old = evidence.of(run.model, canary.version, CANARY), evidence.of(run.model, last.version, LIVE)
        dropped = self._refused.get((run.model, canary.version))
        elapsed_s = (self._clock.now_ms() - last.decided_ms) / 1000
        verdict = Verdict("back", dropped) if dropped is not None else of_canary(new, old, elapsed_s, self._policy)
        if verdict.kind == "promote":
            self._announce(replace(last, version=canary.version, uri=canary.uri, digest=canary.digest), verdict.words)
        elif verdict.kind == "back":
            self._announce(last, BACK + verdict.words)

    def _watch(self, model: str, updates: Sequence[ModelUpdate]) -> None:
        """What took over, beside what answered before it."""
        assert self._topics is not None
        last = updates[-1]
        turn = next(((was, now) for was, now in reversed(list(pairwise(updates))) if was.digest != last.digest), None)
        since, earlier = (turn[1], turn[0].version) if turn else (updates[0], as_shipped(model).version)
        over = self._clock.now_ms() - since.decided_ms > self._policy.watch_s * 1000
        if over or since.reason.startswith(BACK) or canary_of(last) is not None:
            return
        evidence = self._topics.evidence(since.decided_ms - int(self._policy.look_back_s * 1000))
        words = breach(evidence.of(model, last.version, LIVE), evidence.of(model, earlier, LIVE), self._policy)
        if not words:
            return
        try:
            target = before(model, list(updates))
        except MillraceError as error:
            self._log.error("cannot roll back", model=model, version=last.version, cause=str(error))
            return
        folder = target.folder
        self._announce(replace(last, version=folder.version, uri=target.uri, digest=folder.digest), BACK + words)
        run_key = next(
            (key for key, run in self._runs.items() if run.facts.get("digest") == last.digest), f"{model}-{last.digest[:8]}"
        )
        self._topics.tell(run_key, model, "rolled_back", BACK + words, {"version": last.version, "digest": last.digest})

    def _last(self, model: str) -> ModelUpdate:
        """The state of a model, which is what is shipped where nothing was ever announced."""
        return self._updates[model][-1] if self._updates.get(model) else as_shipped(model)

    def _announce(self, state: ModelUpdate, reason: str, *challengers: Challenger) -> None:
        assert self._topics is not None
        update = replace(state, reason=reason, actor="rollout", decided_ms=self._clock.now_ms(), challengers=challengers)
        self._topics.announce(update)
        self._updates.setdefault(update.model, []).append(update)
        self._log.info("announced", model=update.model, version=update.version, canary=bool(challengers), reason=reason)

    def _tell(self, run_key: str, run: Run, kind: str, words: str) -> None:
        assert self._topics is not None
        if kind not in run.kinds:
            self._topics.tell(run_key, run.model, kind, words, {name: run.facts[name] for name in ("version", "digest")})
            run.kinds.add(kind)


def canary_of(update: ModelUpdate) -> Challenger | None:
    return next((one for one in update.challengers if one.arm == CANARY), None)


def _names(update: ModelUpdate, digest: str) -> bool:
    return digest == update.digest or any(one.digest == digest for one in update.challengers)
