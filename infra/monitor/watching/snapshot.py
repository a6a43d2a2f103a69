"""The state of the whole system at one moment, identical for all readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from infra.metrics_page import Gpu
from infra.monitor import pipeline
from infra.monitor.letters import Letter
from infra.monitor.watching import servers
from infra.monitor.watching.broker_offsets import groups as known_groups
from infra.monitor.watching.figures_history import EVERY_S
from infra.monitor.watching.sampler import Sampler
from infra.monitor.watching.servers import Job, Process
from infra.monitor.watching.story import Mark, Story
from schemas.generated import Challenger
from schemas.topics import MODEL_UPDATES

LATE_S = 30.0  # a group with at least this lag stands out
BUSY = 0.95
RECENT_MS = 300_000  # a dead letter up to this age stands out
MOST_MARKS = 60
TOTALS = ("records_in", "records_out", "batches", "dead_letters", "retries", "expired")
State = Literal["running", "stopped", "failing", "off"]


@dataclass(frozen=True)
class TopicNow:
    """records: offsets kept, markers of transactions included. rate: records per second."""

    records: int
    partitions: int
    rate: float


@dataclass(frozen=True)
class EdgeNow:
    """How far a group is with a topic. rate: records per second. lag: records. lag_s: age of the first unread record, of the worst
    partition."""

    rate: float
    lag: float
    lag_s: float


@dataclass(frozen=True)
class GroupNow:
    """wrong: what stands out, in words. waiting: dead letters that were not sent again. edges: by topic. A group that never ran is
    only `off`."""

    state: State
    wrong: list[str]
    edges: dict[str, EdgeNow]
    loops: list[str]
    waiting: int
    busy_share: float
    versions: dict[str, str]


@dataclass(frozen=True)
class LoopNow:
    """running: whether it spoke of late. totals: since it began. now: figures of the last seconds. batch_rows: batches of the last
    minute by the upper edge of their rows; the last edge is null. notes: what keeps it from what was asked of it. digests: of each
    live version's folder, by model. busy_share: null where the loop said no number."""

    kind: str
    task: str
    state: str
    pid: int
    at_ms: int
    versions: dict[str, str]
    digests: dict[str, str]
    notes: list[str]
    paused_partitions: list[str]
    busy_share: float | None
    in_flight: int
    running: bool
    totals: dict[str, int]
    now: dict[str, float]
    batch_rows: list[tuple[float | None, float]]


@dataclass(frozen=True)
class LiveModel:
    version: str
    challengers: list[Challenger]
    decided_ms: int


@dataclass(frozen=True)
class Snapshot:
    """at_ms: 0 before the first look. trouble: why nothing newer is known, in words; else empty. live: by model that was announced."""

    at_ms: int
    trouble: str
    every_s: float = EVERY_S
    topics: dict[str, TopicNow] = field(default_factory=dict)
    groups: dict[str, GroupNow] = field(default_factory=dict)
    loops: dict[str, LoopNow] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    gpus: list[Gpu] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    waiting: int = 0
    live: dict[str, LiveModel] = field(default_factory=dict)


@dataclass(frozen=True)
class _Spoken:
    """The statuses of the loops at one moment: all of them by loop, and those of running loops."""

    statuses: Mapping[str, dict[str, Any]]
    running: Mapping[str, dict[str, Any]]

    def running_of(self, group: str) -> list[str]:
        return [name for name, status in self.running.items() if status["task"] == group]

    def silent_of(self, group: str) -> list[str]:
        return [name for name, status in self.statuses.items() if status["task"] == group and name not in self.running]


def snapshot(now_ms: int, story: Story, sampler: Sampler, processes: list[Process], trouble: str) -> Snapshot:
    spoken = _Spoken(story.statuses(), story.running(now_ms))
    waiting = _by_group(story.dead_letters().waiting())
    groups = {group: _group(group, spoken, sampler, waiting.get(group, ()), now_ms) for group in known_groups()}
    for loop, words in servers.troubles(processes).items():
        if (about := groups.get(loop.rpartition("-")[0])) is not None:
            about.wrong.append(words)
    return Snapshot(
        at_ms=now_ms,
        trouble=trouble,
        topics={
            name: TopicNow(records, partitions, sampler.value(f"topic/{name}/rate"))
            for name, (records, partitions) in sampler.offsets.offsets_kept().items()
        },
        groups=groups,
        loops={name: _loop(name, status, name in spoken.running, sampler) for name, status in spoken.statuses.items()},
        jobs=sampler.jobs,
        gpus=sampler.gpus,
        processes=processes,
        marks=story.marks()[-MOST_MARKS:],
        waiting=sum(map(len, waiting.values())),
        live=_live(story.of(MODEL_UPDATES.name)),
    )


def _by_group(letters: list[Letter]) -> dict[str, list[Letter]]:
    found: dict[str, list[Letter]] = {}
    for one in letters:
        found.setdefault(one.group, []).append(one)
    return found


def _live(updates: list[dict[str, Any]]) -> dict[str, LiveModel]:
    """updates: oldest first."""
    newest = {one["model"]: one for one in updates}
    return {
        model: LiveModel(one["version"], [Challenger.from_dict(c) for c in one["challengers"]], one["decided_ms"])
        for model, one in newest.items()
    }


def _group(group: str, spoken: _Spoken, sampler: Sampler, waiting: Sequence[Letter], now_ms: int) -> GroupNow:
    edges = {}
    for topic in sampler.offsets.topics_of(group):
        name = f"edge/{group}/{topic}"
        edges[topic] = EdgeNow(sampler.value(f"{name}/rate"), sampler.value(f"{name}/lag"), sampler.value(f"{name}/lag_s"))
    jobs = [job for job in sampler.jobs if f"flink-{job.name}" == group]
    is_job = group in pipeline.JOB_GROUPS.values()
    state, wrong = _state_of_jobs(jobs) if is_job else _state_of_loops(group, spoken)
    late_s = max((edge.lag_s for edge in edges.values() if edge.lag), default=0.0)
    if late_s > LATE_S:
        wrong.append(f"{late_s:.0f} s behind")
    mine = {name: spoken.running[name] for name in spoken.running_of(group)}
    wrong += [f"{name} is busy all the time" for name, status in mine.items() if (status["busy_share"] or 0.0) > BUSY]
    wrong += [f"{name} waits for {', '.join(p)}" for name, status in mine.items() if (p := status["paused_partitions"])]
    fresh = sum(now_ms - one.at_ms < RECENT_MS for one in waiting)
    if fresh:
        wrong.append(f"{fresh} dead letters in the last 5 minutes")
    busy = [status["busy_share"] or 0.0 for status in mine.values()] or [job.busy_share for job in jobs]
    versions = {model: version for status in mine.values() for model, version in status["versions"].items()}
    return GroupNow(state, wrong, edges, sorted(mine), len(waiting), max(busy, default=0.0), versions)


def _state_of_jobs(jobs: list[Job]) -> tuple[State, list[str]]:
    wrong = [f"job {job.name} is {job.state}" for job in jobs if job.state != "RUNNING"]
    if any(job.state == "RUNNING" for job in jobs):
        return "running", wrong
    return "failing" if jobs else "off", wrong


def _state_of_loops(group: str, spoken: _Spoken) -> tuple[State, list[str]]:
    silent = spoken.silent_of(group)
    wrong = [f"{name} says nothing any more" for name in silent if spoken.statuses[name]["state"] != "stopped"]
    if spoken.running_of(group):
        return "running", wrong
    return "stopped" if silent and spoken.statuses[silent[0]]["state"] != "stopped" else "off", wrong


def _loop(name: str, status: Mapping[str, Any], is_running: bool, sampler: Sampler) -> LoopNow:
    figures = sampler.figures(name)
    return LoopNow(
        kind=status["kind"],
        task=status["task"],
        state=status["state"],
        pid=status["pid"],
        at_ms=status["at_ms"],
        versions=status["versions"],
        digests=status["digests"],
        notes=list(status["notes"]),
        paused_partitions=list(status["paused_partitions"]),
        busy_share=status["busy_share"],
        in_flight=status["in_flight"],
        running=is_running,
        totals={key: status[key] for key in TOTALS},
        now=figures.now if is_running else {},
        batch_rows=[(None if edge == float("inf") else edge, n) for edge, n in figures.batch_rows],
    )
