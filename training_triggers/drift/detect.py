"""The detectors' loops: `drift` watches the inputs and outputs of models (`prediction-log-v1`), `accuracy` watches how often they
are right (`prediction-outcomes-v1`). Findings go to `drift-events-v1`, in one transaction with the state and the offsets.

One process owns all partitions of a loop: a model's batches are spread over them, and some of the partitions would give a
different sample. The process is a static member of its group, so that it gets all partitions back at once after it was killed,
and a second process fences it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.columns import Columns
from schemas.errors import BadSettings, BrokerUnavailable, InvalidRequest, MillraceError, RecordError
from schemas.generated import DriftEvent, DriftState
from schemas.signals import EMBEDDED, RIGHT, SAID
from schemas.topic_kinds import Consumption
from schemas.topics import ACCURACY, DRIFT, DRIFT_EVENTS, DRIFT_STATE, MODEL_UPDATES
from schemas.vocabulary import Arm
from streams import headers as h
from streams.broker import Broadcast, Commit
from streams.loop.outcome import Emit, Outcome, rejects
from streams.loop.processor import Processor
from streams.process.record_processor import decoded
from streams.readable import Followed, Readable
from streams.rows import OutRecords, Place, Polled, Rows
from training_triggers.drift.version_watch import Alarm, Matrix, VersionWatch, WatchRules, columns_of
from training_triggers.drift.watch_state import state_of, watch_of
from training_triggers.recorded.judgement import decided, decisions, is_right
from training_triggers.recorded.truth import RequestLabels
from training_triggers.triggers import accuracy, adwin, chi_square, ks, mmd, page_hinkley, psi
from training_triggers.triggers.trigger import Trigger
from training_triggers.versions.promotion import as_shipped

MOST_MS = 2**42  # the year 2109
MOST_OUTPUTS = 16  # a model with at most this many outputs has each watched; of one with more, only the signals are watched
VERSIONS_KEPT = 3  # per model, the versions that answered last: the live one, the one before, a canary
RENEW = "renew"  # trigger of an event that requests a new baseline
READ_LIMIT_S = 60.0

Entries = tuple[str, str, int, tuple[str, ...], Matrix]  # model, version, time, column names, float32 (n, names)
Extract = Callable[[Mapping[str, Any]], Entries | None]


def of_log(record: Mapping[str, Any]) -> Entries | None:
    """Signals, named outputs, the decision as one number, the embedding and numeric features of one batch that was answered live:
    float32 (n, names). None for any other batch."""
    n = len(record["request_ids"])
    if record["arm"] != Arm.LIVE or not n:
        return None
    columns: dict[str, npt.NDArray[np.float32]] = {one["name"]: np.frombuffer(one["values"], "<f4") for one in record["signals"]}
    if record["output_names"] and len(record["output_names"]) <= MOST_OUTPUTS:
        outputs = np.frombuffer(record["outputs"], record["outputs_dtype"]).reshape(n, -1).astype(np.float32)
        columns |= {f"output {name}": outputs[:, i] for i, name in enumerate(record["output_names"])}
        thresholds = np.frombuffer(record["thresholds"], "<f4") if record["thresholds"] else None
        columns[SAID] = (decisions(outputs, thresholds) @ (1 << np.arange(outputs.shape[1]))).astype(np.float32)
    for feature in record["features"]:
        if feature["dtype"] != "utf8":
            column = np.frombuffer(feature["values"], feature["dtype"]).astype(np.float32)
            unknown = np.frombuffer(feature["state"], np.int8) >= 2
            columns[f"{feature['view']}.{feature['name']}"] = np.where(unknown, np.float32("nan"), column)
    if record["embeddings"]:
        embedding = np.frombuffer(record["embeddings"], "<f2").reshape(n, -1).astype(np.float32)
        columns |= {f"{EMBEDDED}{i:02d}": embedding[:, i] for i in range(embedding.shape[1])}
    names = tuple(sorted(name for name, column in columns.items() if len(column) == n))
    return record["model"], record["version"], record["started_ms"], names, columns_of(names, columns, n)


def of_outcome(record: Mapping[str, Any]) -> Entries | None:
    """Whether one live answer was right, float32 (1, 1); None if the label does not cover the model's outputs."""
    if record["arm"] != Arm.LIVE:
        return None
    right = judged(record)
    if right is None:
        return None
    return record["model"], record["version"], record["predicted_ms"], (RIGHT,), np.array([[float(right)]], np.float32)


def judged(record: Mapping[str, Any]) -> bool | None:
    """Whether an outcome's answer was right; None if its outputs have no names or no label covers them."""
    if not record["output_names"]:
        return None
    (said,) = decided(record, 1).tolist()
    told = RequestLabels(record["truth"], record.get("part_truth") or {}).of(record.get("part", ""))
    return is_right(said, record["output_names"], told)


class Detector(Processor):
    """Step and state of one loop. read_state: all committed records of `drift-state-v1`, oldest first. read_wishes:
    `drift-events-v1` and `model-updates-v1`, from the first: they show when a baseline must begin anew."""

    def __init__(
        self,
        consumption: Consumption,
        extract: Extract,
        triggers: Sequence[Trigger],
        rules: WatchRules,
        ids: SchemaIds,
        worker: str,
        read_state: Callable[[], Iterable[DriftState]],
        read_wishes: Callable[[], Broadcast],
    ) -> None:
        self._consumption, self._extract, self._triggers, self._rules = consumption, extract, triggers, rules
        self._ids, self._worker, self._read_state, self._read_wishes = ids, worker, read_state, read_wishes
        self._renewed: dict[
            tuple[str, str], int
        ] = {}  # by model and version ("" for all versions): time from which a new baseline begins
        self._digests: dict[tuple[str, str], str] = {}  # of the model that answered last under a version's name
        self._wishes: Broadcast | None = None
        self._topics: list[Followed[None]] = []
        self._log = structlog.get_logger().bind(worker=worker)
        self._decoder = Decoder.of(consumption.topic, ids)
        self._events = Encoder.of(DRIFT_EVENTS, ids)
        self._states = Encoder.of(DRIFT_STATE, ids)
        self.watches: dict[tuple[str, str], VersionWatch] = {}

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Raises BadSettings if this process owns only some of the topic's partitions, BrokerUnavailable."""
        mine = {number for name, number in positions if name == self._consumption.topic.name}
        if len(mine) < self._consumption.topic.partitions:
            raise BadSettings(
                f"this process was given partitions {sorted(mine)} of {self._consumption.topic.name}: another runs in the group "
                f"{self._consumption.group}, and one alone must read all of it. Stop one of them"
            )
        self.forget(())
        self._wishes = self._read_wishes()
        self._topics = [
            Followed(self._wishes, Readable(MODEL_UPDATES, self._ids, self._updated)),
            Followed(self._wishes, Readable(DRIFT_EVENTS, self._ids, self._renewal)),
        ]
        self._take(self._wishes.read_to_end(READ_LIMIT_S))
        if any(topic.waits for topic in self._topics):
            raise BrokerUnavailable("the schema registry does not answer: where a baseline is to begin anew cannot be read")
        for state in self._read_state():
            if state.detector == self._consumption.group:
                self._keep(state.model, state.version, watch_of(state, self._triggers, self._rules))
        for (model, version), watch in self.watches.items():
            if watch.note:
                self._log.warning("drift watch", model=model, version=version, note=watch.note)

    def forget(self, places: Iterable[Place]) -> None:
        self.close()
        self.watches, self._renewed, self._digests = {}, {}, {}

    def close(self) -> None:
        if self._wishes is not None:
            self._wishes.close()
            self._wishes = None

    def _take(self, polled: Polled) -> None:
        for topic in self._topics:
            topic.take(polled)

    def _renewal(self, record: Mapping[str, Any]) -> None:
        if record["trigger"] == RENEW:
            self._renew(record["model"], "", record["to_ms"])

    def _updated(self, record: Mapping[str, Any]) -> None:
        """Begin a new baseline if another model takes the name of a version that answered: the old baseline does not apply to
        it."""
        model, version, digest = record["model"], record["version"], record["digest"]
        before = self._digests.get((model, version)) or self._shipped(model, version)
        self._digests[model, version] = digest
        if before and before != digest:
            self._renew(model, version, record["decided_ms"])

    def _shipped(self, model: str, version: str) -> str:
        try:
            shipped = as_shipped(model)
        except MillraceError:
            return ""
        return shipped.digest if shipped.version == version else ""

    def _renew(self, model: str, version: str, at_ms: int) -> None:
        self._renewed[model, version] = max(at_ms, self._renewed.get((model, version), 0))

    def _keep(self, model: str, version: str, watch: VersionWatch) -> None:
        """Store the watch as the last one used of its model, and drop the model's oldest ones beyond VERSIONS_KEPT."""
        self.watches.pop((model, version), None)
        self.watches[model, version] = watch
        for key in [key for key in self.watches if key[0] == model][:-VERSIONS_KEPT]:
            del self.watches[key]

    # --- the step -----------------------------------------------------------------------------------------------

    def process(self, rows: Rows) -> list[Outcome]:
        columns, done, outcomes = decoded(self._decoder, rows)
        if not len(done):
            return outcomes
        if self._wishes is not None:
            self._take(self._wishes.poll())
        alarms: list[tuple[str, str, Alarm]] = []
        touched: dict[tuple[str, str], VersionWatch] = {}
        found, refused = self._extracted(columns)
        outcomes += rejects(done, refused, "extract")
        done = done.without(refused)
        for model, version, at_ms, names, entries in found:
            watch = self._watch(model, version, names, at_ms)
            touched[model, version] = watch
            if watch.signals and not names:
                continue  # the log has no columns to watch for this batch
            watched = entries[:, [names.index(signal) for signal in watch.signals]]
            alarms += [(model, version, alarm) for alarm in watch.add(watched, at_ms)]
        return [*outcomes, Emit(done, [*self._told(alarms), *self._kept(touched)])] if len(done) else outcomes

    def _extracted(self, columns: Columns) -> tuple[list[Entries], dict[int, RecordError]]:
        """The watched entries of each record, and the error of each row that no worker can have written: arrays of different
        lengths, wrong types, impossible times."""
        found: list[Entries] = []
        refused: dict[int, RecordError] = {}
        for row, record in enumerate(columns.records()):
            try:
                entries = self._extract(record)
            except Exception as error:
                refused[row] = InvalidRequest(f"not what a worker writes: {type(error).__name__}: {error}")
                continue
            if entries is not None and not 0 <= entries[2] < MOST_MS:
                refused[row] = InvalidRequest(f"not what a worker writes: a time of {entries[2]} ms")
            elif entries is not None:
                found.append(entries)
        return found, refused

    def _watch(self, model: str, version: str, names: tuple[str, ...], at_ms: int) -> VersionWatch:
        """The watch of a version, with the columns of this batch. If some batches lack a column, the column is dropped and the
        baseline kept: during a roll-out of workers, some log one more column. Before there is a baseline, a new column restarts
        it once."""
        watch = self.watches.get((model, version)) or VersionWatch(names, self._triggers, self._rules)
        for of, words in (
            ("", "a person asked for a new baseline"),
            (version, "another model answers under this version's name"),
        ):
            renewed_ms = self._renewed.get((model, of), 0)
            if 0 < watch.since_ms < renewed_ms <= at_ms:
                watch = watch.anew(words, names, since_ms=renewed_ms)
        unknown = set(names) - set(watch.signals) - watch.ignored
        if unknown and watch.spread is None:
            watch = watch.anew(watch.note, names)
        elif names and not set(names) & set(watch.signals):
            watch = watch.anew("none of its columns came any more, so its baseline began anew", names)
        elif names and (unknown or not set(watch.signals) <= set(names)):
            watch.narrow(names)
            watch.ignored |= unknown
            self._log.warning("drift watch ignores columns", model=model, version=version, columns=sorted(watch.ignored))
        self._keep(model, version, watch)
        return watch

    def _told(self, alarms: Sequence[tuple[str, str, Alarm]]) -> list[OutRecords]:
        if not alarms:
            return []
        events = [
            DriftEvent(
                event_id=f"{alarm.trigger.name}/{model}/{version}/{alarm.signal}/{alarm.window}",
                model=model,
                version=version,
                trigger=alarm.trigger.name,
                signal=alarm.signal,
                statistic=alarm.finding.statistic,
                p_value=alarm.p_value,
                effect=alarm.finding.effect,
                least_effect=alarm.trigger.least_effect,
                in_a_row=alarm.in_a_row,
                window=alarm.window,
                window_n=alarm.after.n,
                baseline_n=alarm.before.n,
                baseline_mean=alarm.before.mean,
                window_mean=alarm.after.mean,
                from_ms=alarm.from_ms,
                to_ms=alarm.to_ms,
                baseline_ms=alarm.baseline_ms,
                baseline_missing=alarm.before.missing,
                window_missing=alarm.after.missing,
            )
            for model, version, alarm in alarms
        ]
        headers = h.cloud_event([event.event_id for event in events], "drift-event", self._worker)
        values = [self._events.encode_one(event) for event in events]
        return [OutRecords(DRIFT_EVENTS.name, [event.model.encode() for event in events], values, headers)]

    def _kept(self, touched: Mapping[tuple[str, str], VersionWatch]) -> list[OutRecords]:
        """The state after these records, in the transaction of their offsets."""
        group = self._consumption.group
        values = [self._states.encode_one(state_of(watch, group, *key)) for key, watch in touched.items()]
        keys: list[bytes | None] = [f"{group}/{model}/{version}".encode() for model, version in touched]
        return [OutRecords(DRIFT_STATE.name, keys, values, [[] for _ in keys])] if keys else []


SIGNALS: tuple[Trigger, ...] = (ks.TRIGGER, psi.TRIGGER, chi_square.TRIGGER, mmd.TRIGGER, mmd.EMBEDDINGS)
ANSWERS: tuple[Trigger, ...] = (accuracy.TRIGGER, adwin.TRIGGER, page_hinkley.TRIGGER)
DETECTORS: Mapping[str, tuple[Consumption, Extract, Sequence[Trigger]]] = {
    DRIFT.group: (DRIFT, of_log, SIGNALS),
    ACCURACY.group: (ACCURACY, of_outcome, ANSWERS),
}
