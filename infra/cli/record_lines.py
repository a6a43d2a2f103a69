"""`./millrace tail` and `request`: prints decoded records of one topic or of one request as lines."""

from __future__ import annotations

import json
from typing import Any

from infra import console
from infra.records import READ_LIMIT_S, decoded, readable, way
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import BadSettings
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.terminal_text import as_json as json_line
from streams.terminal_text import moment


def tail(settings: StackSettings, topic: str, limit: int, first: bool, as_json: bool) -> None:
    """limit: 0 continues until Ctrl-C. Raises BadSettings if the topic does not exist."""
    address, registry = addresses(settings)
    if topic not in KafkaAdmin(address).partitions():
        raise BadSettings(f"there is no topic {topic}: `./millrace topics` lists them")
    reader = KafkaBroadcast(address, topic, SystemClock(), "first" if first else "end")
    if not as_json:
        console.err.print(f"[dim]{topic}, {'from the oldest record' if first else 'new records only'}; Ctrl-C ends it[/]")
    shown = 0
    try:
        while not limit or shown < limit:
            for record in decoded(reader.wait(0.5), registry):
                show_record(record, as_json)
                shown += 1
                if limit and shown >= limit:
                    break
    finally:
        reader.close()


def show_record(record: dict[str, Any], as_json: bool) -> None:
    """One record of `infra.records.decoded` in one line."""
    if as_json:
        _print_json(record)
        return
    place = f"[cyan]{record['partition']}@{record['offset']}[/] [dim]{moment(record['timestamp_ms'])}"
    console.out.print(f"{place} {console.escape(record['key'])}[/] {console.escape(_text(record['value']))}")


def request(settings: StackSettings, request_id: str, as_json: bool) -> int:
    """Print every record that contains the request's id, in time order. 0 if there is any."""
    trace = way(*addresses(settings), request_id)
    for record in trace.records:
        show_fields(record, as_json)
    if not trace.whole:
        console.err.print(f"reading stopped after {READ_LIMIT_S:.0f} s: later records of this request may be missing")
    elif not trace.records:
        console.err.print(f"no topic has a record of request {request_id}: it was never sent, or its records have expired")
    return 0 if trace.records else 1


def show_fields(record: dict[str, Any], as_json: bool) -> None:
    """One record of `infra.records.decoded`, one field per line; its error headers first."""
    if as_json:
        _print_json(record)
        return
    place = f"[cyan]{record['partition']}@{record['offset']}[/] [dim]{moment(record['timestamp_ms'])}[/]"
    console.out.print(f"[bold]{console.escape(record['topic'])}[/] {place}")
    errors = {name: text for name, text in record["headers"].items() if name.startswith("error-") or name == "attempt"}
    fields = {name: value for name, value in record["value"].items() if name not in ("request_ids", "signals")}
    request_ids = record["value"].get("request_ids")
    if isinstance(request_ids, list) and len(request_ids) > 1:
        fields = {"batch": len(request_ids), **fields}
    for name, value in {**errors, **fields}.items():
        if value not in (None, [], ()):
            console.out.print(f"    [dim]{console.escape(f'{name:<18}')}[/] {console.escape(_text(value))}")


def _print_json(value: Any) -> None:
    print(json_line(value, default=readable), flush=True)


def _text(value: Any) -> str:
    return json.dumps(value, default=readable, ensure_ascii=False)
