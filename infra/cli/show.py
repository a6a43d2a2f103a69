"""Looking at what runs and flows: status, logs, tail, topics, one request's way, settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from infra import console, redact
from infra.behind import lags
from infra.local import kept, processes, run_state, started
from infra.provision import provision, specs
from infra.records import READ_LIMIT_S, decoded, readable, way
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import BadSettings, MillraceError
from schemas.topics import CATALOGUE, CONSUMPTIONS, WORKER_STATUS
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.readback import records
from streams.process.settings import origins
from streams.terminal_text import as_json as spelt
from streams.terminal_text import moment, visible


def _json(value: Any) -> None:
    print(spelt(value, default=readable), flush=True)


# --- processes ----------------------------------------------------------------------------------------------------


_SAID = ("records_in", "dead_letters", "in_flight", "busy_share", "versions", "notes", "metrics_address")


def status(settings: StackSettings, as_json: bool) -> None:
    running = run_state.read(settings.run_folder)
    said = last_statuses(settings) if running.up else {}
    rows: list[dict[str, Any]] = []
    left, now_ms = started.of_folder(settings.run_folder), SystemClock().now_ms()
    for process in running.processes:
        base = {"process": process.name, "pid": process.pid, **state_of(process, left, now_ms)}
        for loop in run_state.loops_of(process.name):
            about = said.get(loop, {})
            rows.append({**base, "loop": loop, "address": process.address, **{k: about.get(k) for k in _SAID}})
    if as_json:
        _json({"up": running.up, "processes": rows})
        return
    if not rows:
        console.out.print("nothing was started: `./millrace up`")
        return
    columns = ("loop", "pid", "state", "address", "records in", "dead letters", "in flight", "busy", "live version")
    console.table("processes", columns, [
        (
            row["loop"], str(row["pid"]), row["state"], row["address"] or row["metrics_address"] or "",
            *("" if row[k] is None else str(row[k]) for k in ("records_in", "dead_letters", "in_flight")),
            "" if row["busy_share"] is None else f"{100 * row['busy_share']:.0f} %",
            ", ".join(f"{model} {version}" for model, version in (row["versions"] or {}).items()),
        )
        for row in rows
    ], right=("pid", "records in", "dead letters", "in flight", "busy"))  # fmt: skip
    for name, trouble in {row["process"]: row["trouble"] for row in rows if row["trouble"]}.items():
        console.out.print(f"[red]{console.escape(name)}[/]: {console.escape(trouble)}")
    for row in rows:
        for note in row["notes"] or ():
            console.out.print(f"{console.escape(row['loop'])}: {console.escape(note)}")


def state_of(process: started.Started, left: Mapping[int, str], now_ms: int) -> dict[str, str]:
    """running, crash loop, stopped, or unkept: its keeper was killed and it goes on. trouble: in words. left: see `started.of_folder`."""
    if not process.alive():
        pids = sorted(pid for pid, name in left.items() if name == process.name)
        words = f"its keeper was killed; pid {', '.join(map(str, pids))} goes on: `./millrace up` puts it right"
        return {"state": "unkept", "trouble": words} if pids else {"state": "stopped", "trouble": ""}
    words = kept.read(Path(process.log)).words(now_ms)
    return {"state": "crash loop" if words else "running", "trouble": words}


def last_statuses(settings: StackSettings) -> dict[str, dict[str, Any]]:
    """The last status of each worker."""
    try:
        address, ids = addresses(settings)
        return {record["process"]: record for record in records(address, WORKER_STATUS, ids)}
    except MillraceError as error:
        console.err.print(f"no worker status: {console.escape(str(error))}")
        return {}


def logs(settings: StackSettings, name: str, lines: int) -> None:
    folder = settings.run_folder / "logs"
    files = sorted(folder.glob("*.log")) if folder.exists() else []
    chosen = [file for file in files if name in ("", file.stem)]
    if not chosen:
        raise BadSettings(f"no log of {name or 'anything'} in {folder}; there are: {', '.join(f.stem for f in files) or 'none'}")
    for file in chosen:
        console.out.print(f"[bold]{file.stem}[/]  [dim]{file}[/]")
        print(visible(processes.log_tail(file, lines).partition("\n")[2]))


# --- topics -------------------------------------------------------------------------------------------------------


def topics(settings: StackSettings, make: bool, as_json: bool) -> None:
    address, registry = addresses(settings)
    admin = KafkaAdmin(address)
    if make:
        done = provision(admin, registry)
        console.err.print(
            f"made {len(done.created_topics)} topics, gave {len(done.grown_topics)} more partitions, registered {len(done.registered)} schemas"
        )
        for difference in done.differences:
            console.err.print(f"[yellow]![/] {console.escape(difference)}")
    there = admin.partitions()
    wanted = specs()
    places = [(spec.name, n) for spec in wanted for n in range(there.get(spec.name, 0))]
    ends, firsts = admin.ends(places), admin.firsts(places)
    behind = lags(address, [taken.group for taken in CONSUMPTIONS], places)
    catalogue = {topic.name: topic for topic in CATALOGUE}
    rows: list[dict[str, Any]] = []
    for spec in wanted:
        mine = [place for place in places if place[0] == spec.name]
        lag = {group: sum(of_group[p] for p in mine) for group, of_group in behind.items() if mine and mine[0] in of_group}
        topic = catalogue.get(spec.name)
        rows.append({
            "topic": spec.name,
            "partitions": there.get(spec.name, 0),
            "offsets": sum(ends[p] - firsts[p] for p in mine),
            "lag": lag,
            "guarantee": topic.guarantee.value if topic else "exactly once",
            "writers": topic.writers if topic else ("loop",),
            "readers": topic.readers if topic else ("loop", "operator"),
        })  # fmt: skip
    if as_json:
        for row in rows:
            _json(row)
        return
    console.table(
        "topics  [dim](offsets count the markers of transactions too, lag does not)[/]",
        ("topic", "partitions", "offsets", "lag", "guarantee", "written by", "read by"),
        [
            (row["topic"], str(row["partitions"]), str(row["offsets"]), ", ".join(f"{n} ({g})" for g, n in row["lag"].items()),
             row["guarantee"], ", ".join(row["writers"]), ", ".join(row["readers"]))
            for row in rows
        ],
        right=("partitions", "offsets", "lag"),
    )  # fmt: skip


def tail(settings: StackSettings, topic: str, limit: int, first: bool, as_json: bool) -> None:
    address, ids = addresses(settings)
    if topic not in KafkaAdmin(address).partitions():
        raise BadSettings(f"there is no topic {topic}: `./millrace topics` lists them")
    reader = KafkaBroadcast(address, topic, SystemClock(), "first" if first else "end")
    if not as_json:
        console.err.print(f"[dim]{topic}, {'from the first record' if first else 'from now on'}; Ctrl-C ends it[/]")
    shown = 0
    try:
        while not limit or shown < limit:
            for record in decoded(reader.wait(0.5), ids):
                _show(record, as_json)
                shown += 1
                if limit and shown >= limit:
                    break
    finally:
        reader.close()


def _show(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _json(record)
        return
    place = f"[cyan]{record['partition']}@{record['offset']}[/] [dim]{moment(record['timestamp_ms'])}"
    console.out.print(f"{place} {console.escape(record['key'])}[/] {console.escape(_body(record['value']))}")


def _body(value: Any) -> str:
    return json.dumps(value, default=readable, ensure_ascii=False)


# --- one request --------------------------------------------------------------------------------------------------


def request(settings: StackSettings, request_id: str, as_json: bool) -> int:
    """Every record that names the request, in time order."""
    found = way(*addresses(settings), request_id)
    for record in found.records:
        _show_way(record, as_json)
    if not found.whole:
        console.err.print(f"so far as could be read in {READ_LIMIT_S:.0f} s: what came long after it may be missing")
    elif not found.records:
        console.err.print(f"no topic names request {request_id}: it was not sent, or retention has passed")
    return 0 if found.records else 1


def _show_way(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _json(record)
        return
    place = f"[cyan]{record['partition']}@{record['offset']}[/] [dim]{moment(record['timestamp_ms'])}[/]"
    console.out.print(f"[bold]{console.escape(record['topic'])}[/] {place}")
    cause = {name: text for name, text in record["headers"].items() if name.startswith("error-") or name == "attempt"}
    body = {k: v for k, v in record["value"].items() if k not in ("request_ids", "signals")}
    batch = record["value"].get("request_ids")
    if isinstance(batch, list) and len(batch) > 1:
        body = {"batch": len(batch), **body}
    for name, value in {**cause, **body}.items():
        if value not in (None, [], ()):
            console.out.print(f"    [dim]{console.escape(f'{name:<18}')}[/] {console.escape(_body(value))}")


# --- settings -----------------------------------------------------------------------------------------------------


def config(as_json: bool) -> None:
    kinds: list[tuple[str, Callable[[], Any]]] = [
        ("stack", lambda: StackSettings),
        ("worker", lambda: _settings_of("inference_workers", "WorkerSettings")),
        ("media", lambda: _settings_of("inference_workers", "MediaSettings")),
        ("processors", lambda: _settings_of("processors", "ProcessorSettings")),
        ("features", lambda: _settings_of("feature_jobs", "FeatureSettings")),
        ("training", lambda: _settings_of("training_triggers", "TriggerSettings")),
    ]
    for title, kind in kinds:
        found = origins(kind(), os.environ)
        if as_json:
            for one in found:
                _json({"part": title, "name": one.name, "value": redact.tree(one.value), "origin": one.origin, "help": one.help})
            continue
        console.table(
            title,
            ("variable", "value", "origin", "what it is"),
            [(o.name, redact.tree(o.value), o.origin, o.help) for o in found],
        )
        console.out.print()


def _settings_of(package: str, name: str) -> Any:
    """A settings class of another package, by name: a program that only prints them needs no more of it."""
    return getattr(import_module(f"{package}.settings"), name)
