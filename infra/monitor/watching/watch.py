"""One thread that looks at everything: the broker's offsets, the loops' own figures, the small topics. Every EVERY_S it makes a
snapshot, which all who look get as the same bytes, and adds a sample to the history.

Nothing of it is on the way of a record: it reads positions, not the traffic, so its cost does not grow with the rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from threading import Event, RLock
from typing import Any

import structlog

from infra import metrics_page, redact
from infra.behind import LOOKED_BEHIND, looked
from infra.monitor import letters, pipeline
from infra.monitor.plain import as_json, finite
from infra.monitor.watching import servers
from infra.monitor.watching.asking import Asking
from infra.monitor.watching.figures_history import EVERY_S, Ends, History
from infra.monitor.watching.story import MOST_LETTERS, TOPICS, Mark, Story
from infra.provision import specs
from infra.settings import StackSettings
from schemas.errors import BrokerUnavailable, MillraceError
from schemas.generated import AuditEntry
from schemas.topics import CONSUMPTIONS, MODEL_UPDATES, WORKER_STATUS
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Place
from streams.schema_registry import Registry

FIRSTS_EVERY = 15  # samples: retention moves slowly
JOBS_EVERY = 3
WINDOW = 5  # samples that quantiles are told over
SHAPE = 30  # samples that the histogram of batch sizes is told over
BACK_MS = 15_000  # of statuses at the start
FOLLOW_LIMIT_S = 120.0
LATE_S = 30.0  # a group so far behind stands out
BUSY = 0.95
RECENT_MS = 300_000  # a dead letter of that age still stands out
GROUPS = (*(taken.group for taken in CONSUMPTIONS), *pipeline.JOB_GROUPS.values())
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
TIMED = {"queue_seconds": "queue", "step_seconds": "compute", "commit_seconds": "commit"}


@dataclass
class LoopFigures:
    """Of one loop: its pages of late, and what they say."""

    pages: deque[tuple[float, metrics_page.Page]] = field(default_factory=lambda: deque(maxlen=SHAPE + 1))
    pid: int = 0
    now: dict[str, float] = field(default_factory=dict)
    batch_rows: list[tuple[float, float]] = field(default_factory=list)


class Watch:
    """`run` on a thread of its own; everything else may be called from any other, under `lock`."""

    def __init__(self, settings: StackSettings, address: KafkaAddress, ids: Registry, clock: Clock) -> None:
        self._settings, self._address, self._ids, self._clock = settings, address, ids, clock
        self._admin = KafkaAdmin(address)
        self.lock = RLock()
        self.story, self.history = Story(), History()
        self._ends_history = Ends()
        self._loops: dict[str, LoopFigures] = {}
        self._uses = metrics_page.Uses()
        self._samples = 0
        self._ends: dict[Place, int] = {}
        self._firsts: dict[Place, int] = {}
        self._committed: dict[str, dict[Place, int]] = {}
        self._behind: dict[tuple[Place, int, int], tuple[int, int]] = {}  # records between position and end, time of the first
        self._partitions: dict[str, int] = {}
        self._jobs: list[dict[str, Any]] = []
        self._gpus: list[dict[str, Any]] = []
        self._asking = Asking(settings)
        self._at_s = self._made_s = float("-inf")
        self._now: Mapping[str, float] = {}  # the sample that was last taken
        self._trouble = ""
        self._follower: KafkaBroadcast | None = None
        self.snapshot: dict[str, Any] = {"at_ms": 0, "trouble": "the first look is being taken"}

    def run(self, stopping: Event, publish: Callable[[bytes], None]) -> None:
        """Until `stopping`. A broker that does not answer is said in the snapshot, and tried again."""
        log = structlog.get_logger()
        while not stopping.is_set():
            begun_s = self._clock.monotonic_s()
            try:
                self._follow()
                if begun_s - self._at_s >= EVERY_S:
                    self._sample()
                self._trouble = ""
            except MillraceError as error:
                if not self._trouble:
                    log.warning("the look failed", cause=str(error))
                self._trouble = str(error)
                self._leave()
            except Exception as error:  # a fault of ours must not end the watching of everything else
                log.exception("the look failed")
                self._trouble = f"a fault of the monitor: {type(error).__name__}: {error}"
            if self._trouble or begun_s - self._made_s >= EVERY_S:
                self._made_s = begun_s
                snapshot: dict[str, Any] = redact.tree(finite(self._snapshot()))
                self.snapshot = snapshot
                publish(as_json(snapshot))
            stopping.wait(1.0 if self._trouble else 0.25)
        self._leave()
        self._asking.close()

    def audited(self, entry: AuditEntry) -> None:
        """A line that this monitor wrote is known at once, and not only when the topic has been read."""
        with self.lock:
            self.story.act(asdict(entry))

    def _leave(self) -> None:
        """The follower is made anew, from the beginning: what it told is told again. So is the client, which keeps asking with the
        leader epoch of before a broker's restart."""
        self._admin = KafkaAdmin(self._address)
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    # --- the small topics -------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._follower is None:
            places = [(WORKER_STATUS.name, number) for number in range(WORKER_STATUS.partitions)]
            starts: dict[Place, int] = dict(self._admin.offsets_at(places, self._clock.now_ms() - BACK_MS))
            # dead letters are kept for ever, and only the newest are held
            dead = [(name, n) for name, taken in letters.BY_TOPIC.items() for n in range(taken.topic.partitions)]
            starts |= {place: max(0, end - MOST_LETTERS) for place, end in self._admin.ends(dead).items()}
            self._follower = KafkaBroadcast(self._address, [*TOPICS, *letters.BY_TOPIC], self._clock, starts)
            with self.lock:
                self.story = Story()
            until_s = self._clock.monotonic_s() + FOLLOW_LIMIT_S
            while not self._follower.at_end():
                if self._clock.monotonic_s() > until_s:
                    raise BrokerUnavailable(f"the small topics were not read to their ends in {FOLLOW_LIMIT_S:.0f} s")
                self._take(0.2)
        self._take(0.0)

    def _take(self, wait_s: float) -> None:
        assert self._follower is not None
        polled = self._follower.wait(wait_s)
        if len(polled):
            with self.lock:
                self.story.take(polled, self._ids)

    # --- offsets and figures ----------------------------------------------------------------------------------------

    def _sample(self) -> None:
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        if self._samples % FIRSTS_EVERY == 0:
            self._partitions = self._admin.partitions()
            places = [(spec.name, number) for spec in specs() for number in range(self._partitions.get(spec.name, 0))]
            self._firsts = self._admin.firsts(places)
        if self._samples % JOBS_EVERY == 0:
            self._jobs, self._gpus = self._asking.jobs_and_gpus()
        ends = self._admin.ends(list(self._firsts))
        committed = self._admin.committed_of(GROUPS)
        self._look_behind(ends, committed)
        with self.lock:
            running = self.story.running(now_ms)
        self._loops = {name: figures for name, figures in self._loops.items() if name in self.story.statuses}
        pages = self._asking.pages({status["metrics_address"] for status in running.values()})
        for name, status in running.items():
            self._look_at(name, status, pages.get(status["metrics_address"]), now_s, now_ms)
        elapsed_s = now_s - self._at_s
        with self.lock:
            values = self._values(ends, committed, elapsed_s) if self._samples else {}
            self._ends, self._committed = ends, committed
            self._ends_history.append(now_ms, ends)
            values |= self._lags(now_ms)
            self.history.append(now_ms, values)
        self._now = values
        self._at_s, self._samples = now_s, self._samples + 1

    def _look_behind(self, ends: Mapping[Place, int], committed: Mapping[str, Mapping[Place, int]]) -> None:
        """Behind a position that stands still lie records, or only the markers of transactions, which nobody reads: look, once for
        each position and end. What moves is not looked at: its lag is told by its offsets."""
        wanted: dict[Place, int] = {}
        for group, positions in committed.items():
            for place, offset in positions.items():
                end = ends.get(place, 0)
                still = self._ends.get(place) == end and self._committed.get(group, {}).get(place) == offset
                if (
                    still
                    and 0 < end - offset <= LOOKED_BEHIND
                    and (place, offset, end) not in self._behind
                    and place not in wanted
                ):
                    wanted[place] = offset
        if not wanted:
            return
        for place, seen in looked(self._address, wanted, ends, self._clock).items():
            self._behind = {key: value for key, value in self._behind.items() if key[0] != place or key[1] != wanted[place]}
            self._behind[place, wanted[place], ends[place]] = seen

    def _look_at(self, name: str, status: dict[str, Any], found: metrics_page.Page | None, now_s: float, now_ms: int) -> None:
        figures = self._loops.setdefault(name, LoopFigures())
        if found is None:
            return
        if figures.pid != status["pid"]:
            figures.pages.clear()
            figures.pid = status["pid"]
        if figures.pages and found.numbers.get("rebalances", 0) > figures.pages[-1][1].numbers.get("rebalances", 0):
            with self.lock:
                self.story.marks.append(Mark(now_ms, "rebalance", name, "the group gave out its partitions anew"))
        figures.pages.append((now_s, found))
        then_s, before = figures.pages[-2] if len(figures.pages) > 1 else (now_s - EVERY_S, found)
        rates = metrics_page.rates(before, found, now_s - then_s)
        now = {
            f"{counter}_per_s": rates.get(counter, 0.0) for counter in ("records_in", "records_out", "batches", "dead_letters")
        }
        old = figures.pages[max(0, len(figures.pages) - 1 - WINDOW)][1]
        for metric, word in TIMED.items():
            counts = metrics_page.between(old, found, metric)
            for label, share in QUANTILES:
                value = metrics_page.quantile(counts, share)
                if value is not None:
                    now[f"{word}_{label}_ms"] = 1000 * value
        figures.batch_rows = metrics_page.between(figures.pages[0][1], found, "batch_size")
        figures.now = (
            now
            | {"busy_share": status["busy_share"] or 0.0, "in_flight": status["in_flight"]}
            | dict(self._uses.of(status["pid"]))
        )

    def _values(
        self, ends: Mapping[Place, int], committed: Mapping[str, Mapping[Place, int]], elapsed_s: float
    ) -> dict[str, float]:
        values: dict[str, float] = {}
        for place, end in ends.items():
            name = f"topic/{place[0]}/rate"
            values[name] = values.get(name, 0.0) + (end - self._ends.get(place, end)) / elapsed_s
        for group, positions in committed.items():
            before = self._committed.get(group, {})
            for place, offset in positions.items():
                name = f"edge/{group}/{place[0]}/rate"
                values[name] = values.get(name, 0.0) + max(0, offset - before.get(place, offset)) / elapsed_s
        for name, figures in self._loops.items():
            for key, value in figures.now.items():
                values[f"loop/{name}/{key}"] = value
        for gpu in self._gpus:
            for key in ("busy_share", "memory_bytes"):
                values[f"gpu/{gpu['index']}/{key}"] = gpu[key]
        return values

    def _lags(self, now_ms: int) -> dict[str, float]:
        """In records, and in seconds: how old the first unread record is, of the worst partition."""
        values: dict[str, float] = {}
        for group, positions in self._committed.items():
            for place, offset in positions.items():
                if place not in self._ends:
                    continue
                edge = f"edge/{group}/{place[0]}"
                behind = max(0, self._ends[place] - max(offset, self._firsts.get(place, 0)))
                age_s = self._ends_history.age_s(place, offset, now_ms) if behind else 0.0
                known = self._behind.get((place, offset, self._ends[place]))
                if known is not None:
                    behind, age_s = known[0], (now_ms - known[1]) / 1000 if known[0] else 0.0
                values[f"{edge}/lag"] = values.get(f"{edge}/lag", 0.0) + behind
                values[f"{edge}/lag_s"] = max(values.get(f"{edge}/lag_s", 0.0), age_s)
        return values

    # --- the snapshot -----------------------------------------------------------------------------------------------

    def _snapshot(self) -> dict[str, Any]:
        now_ms = self._clock.now_ms()
        with self.lock:
            running = self.story.running(now_ms)
            waiting: dict[str, int] = {}
            fresh: dict[str, int] = {}
            for position, one in self.story.letters.items():
                if position not in self.story.redriven:
                    waiting[one.group] = waiting.get(one.group, 0) + 1
                    fresh[one.group] = fresh.get(one.group, 0) + (now_ms - one.at_ms < RECENT_MS)
            statuses = dict(self.story.statuses)
            marks = [asdict(mark) for mark in list(self.story.marks)[-60:]]
            live = {record["model"]: record for record in self.story.of(MODEL_UPDATES.name)}
        topics = {
            name: {
                "records": sum(self._ends[p] - self._firsts.get(p, 0) for p in places),
                "partitions": len(places), "rate": self._now.get(f"topic/{name}/rate", 0.0),
            }
            for name, places in self._places_by_topic().items()
        }  # fmt: skip
        started = servers.started(self._settings.run_folder)
        loops_in_trouble = servers.troubles(started)
        groups = {group: self._group(group, running, statuses, waiting, fresh) for group in GROUPS}
        for group, about in groups.items():
            about["wrong"] += [words for loop, words in loops_in_trouble.items() if loop.rpartition("-")[0] == group]
        return {
            "at_ms": now_ms, "every_s": EVERY_S, "trouble": self._trouble, "topics": topics,
            "groups": groups,
            "loops": {name: self._loop(name, status, name in running) for name, status in statuses.items()},
            "jobs": self._jobs, "gpus": self._gpus, "processes": started, "marks": marks, "waiting": sum(waiting.values()),
            "live": {model: {k: one[k] for k in ("version", "challengers", "decided_ms")} for model, one in live.items()},
        }  # fmt: skip

    def _places_by_topic(self) -> dict[str, list[Place]]:
        found: dict[str, list[Place]] = {}
        for place in self._ends:
            found.setdefault(place[0], []).append(place)
        return found

    def _group(
        self,
        group: str,
        running: Mapping[str, Any],
        statuses: Mapping[str, Any],
        waiting: Mapping[str, int],
        fresh: Mapping[str, int],
    ) -> dict[str, Any]:
        """What stands out is said in words; a group that never ran is only `off`."""
        edges = {}
        for topic in {place[0] for place in self._committed.get(group, {})}:
            edge = f"edge/{group}/{topic}"
            edges[topic] = {key: self._now.get(f"{edge}/{key}", 0.0) for key in ("rate", "lag", "lag_s")}
        mine = [name for name, status in running.items() if status["task"] == group]
        known = [name for name, status in statuses.items() if status["task"] == group and name not in running]
        wrong = []
        jobs = [job for job in self._jobs if f"flink-{job['name']}" == group]
        if group in pipeline.JOB_GROUPS.values():
            said = "running" if any(job["state"] == "RUNNING" for job in jobs) else "failing" if jobs else "off"
            wrong += [f"job {job['name']} is {job['state']}" for job in jobs if job["state"] != "RUNNING"]
        else:
            said = "running" if mine else "stopped" if known and statuses[known[0]]["state"] != "stopped" else "off"
            wrong += [f"{name} says nothing any more" for name in known if statuses[name]["state"] != "stopped"]
        late_s = max((edge["lag_s"] for edge in edges.values() if edge["lag"]), default=0.0)
        if edges and late_s > LATE_S:
            wrong.append(f"{late_s:.0f} s behind")
        wrong += [f"{name} is busy all the time" for name in mine if (running[name]["busy_share"] or 0.0) > BUSY]
        wrong += [f"{name} waits for {', '.join(p)}" for name in mine if (p := running[name]["paused_partitions"])]
        if fresh.get(group):
            wrong.append(f"{fresh[group]} dead letters in the last 5 minutes")
        return {
            "state": said, "wrong": wrong, "edges": edges, "loops": sorted(mine), "waiting": waiting.get(group, 0),
            "busy_share": max((running[name]["busy_share"] or 0.0 for name in mine), default=max((job["busy_share"] for job in jobs), default=0.0)),
            "versions": {model: version for name in mine for model, version in running[name]["versions"].items()},
        }  # fmt: skip

    def _loop(self, name: str, status: dict[str, Any], is_running: bool) -> dict[str, Any]:
        figures = self._loops.get(name, LoopFigures())
        said = {
            key: status[key]
            for key in ("kind", "task", "state", "pid", "at_ms", "versions", "paused_partitions", "busy_share", "in_flight")
        }
        totals = {key: status[key] for key in ("records_in", "records_out", "batches", "dead_letters", "retries", "expired")}
        return said | {
            "running": is_running, "totals": totals, "now": figures.now if is_running else {},
            "batch_rows": [[None if edge == float("inf") else edge, n] for edge, n in figures.batch_rows],
        }  # fmt: skip

    # --- for pages --------------------------------------------------------------------------------------------------

    def places(self, topic: str) -> dict[Place, tuple[int, int]]:
        """First offset kept and the end, of each partition, at the last look."""
        return {place: (self._firsts.get(place, 0), end) for place, end in self._ends.items() if place[0] == topic}

    def committed(self, topic: str) -> dict[str, dict[int, int]]:
        """By group that committed there: by partition, the position."""
        found: dict[str, dict[int, int]] = {}
        for group, positions in self._committed.items():
            mine = {place[1]: offset for place, offset in positions.items() if place[0] == topic}
            if mine:
                found[group] = mine
        return found
