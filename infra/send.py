"""`./millrace send`: requests from words, files or standard input; answers in the order of the input."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from infra import console
from infra.local import state
from infra.settings import StackSettings
from schemas.errors import InvalidRequest, MillraceError
from schemas.topics import consumption
from streams.client import Client, connect
from streams.clock import SystemClock
from streams.ids import uuid7

IN_FLIGHT = 500


def requests(task: str, texts: list[str], file: Path | None, jsonl: Path | None) -> Iterator[dict[str, Any]]:
    """Fields of each request. Raises InvalidRequest that names the line where JSON is not JSON."""
    key = consumption(task).key_field
    given: Iterable[dict[str, Any]]
    if jsonl is not None:
        given = _lines_of_json(jsonl)
    elif file is not None:
        given = [{"text": _read(file)}]
    elif texts:
        given = [{"text": text} for text in texts]
    elif sys.stdin.isatty():
        raise InvalidRequest("nothing to send: give --text, --file, --jsonl, or write texts to standard input")
    else:
        given = ({"text": line.rstrip("\n")} for line in sys.stdin if line.strip())
    for fields in given:
        yield fields if key in fields else {key: uuid7(SystemClock().now_ms()), **fields}


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} cannot be read as text: {error}") from error


def _lines_of_json(file: Path) -> Iterator[dict[str, Any]]:
    lines: Iterable[str] = sys.stdin if str(file) == "-" else _read(file).splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"{file}, line {number} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise InvalidRequest(f"{file}, line {number} is not an object with the request's fields")
        yield fields


def run(settings: StackSettings, task: str, given: Iterator[dict[str, Any]], deadline_ms: int, as_json: bool) -> int:
    """0 where every request was answered `ok`, else 1."""
    running = state.require(settings.run_folder) if not settings.bootstrap else None
    bootstrap = settings.bootstrap or (running.bootstrap if running else "")
    registry = settings.registry or (running.registry if running else "")
    return asyncio.run(_send(bootstrap, registry, task, given, deadline_ms, as_json))


async def _send(
    bootstrap: str, registry: str, task: str, given: Iterator[dict[str, Any]], deadline_ms: int, as_json: bool
) -> int:
    all_ok = True
    async with connect(bootstrap, registry, "millrace send") as client:
        under_way: list[asyncio.Task[dict[str, Any]]] = []
        for fields in given:
            under_way.append(asyncio.create_task(_one(client, task, fields, deadline_ms)))
            await asyncio.sleep(0)
            while len(under_way) >= IN_FLIGHT:
                all_ok &= _show(await under_way.pop(0), as_json)
        for task_ in under_way:
            all_ok &= _show(await task_, as_json)
    return 0 if all_ok else 1


async def _one(client: Client, task: str, fields: dict[str, Any], deadline_ms: int) -> dict[str, Any]:
    try:
        return await client.request(task, fields, deadline_ms=deadline_ms)
    except MillraceError as error:  # one request's error is that request's answer
        return {"request_id": None, "status": "not-answered", "error_code": error.code, "error_message": str(error)}


def _show(result: dict[str, Any], as_json: bool) -> bool:
    ok: bool = result["status"] == "ok"
    if as_json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
        return ok
    if not ok:
        console.out.print(f"[red]{result['status']}[/]  {result['error_code']}: {console.escape(result['error_message'] or '')}")
        return False
    flagged = [c["category"] for c in result["categories"] if c["flagged"]]
    console.out.print(f"[red]flagged[/]  {', '.join(flagged)}" if flagged else "[green]ok[/]  nothing flagged")
    for found in sorted(result["categories"], key=lambda c: -c["probability"]):
        bar = "█" * round(found["probability"] * 20)
        mark = "[red]" if found["flagged"] else "[dim]"
        console.out.print(f"  {found['category']:<16}{found['probability']:6.3f}  of {found['threshold']:.3f}  {mark}{bar}[/]")
    if result["not_covered"]:
        console.out.print(f"  [dim]not covered: {', '.join(result['not_covered'])}[/]")
    (model, *_) = result["models"]
    console.out.print(
        f"  [dim]{model['name']} {model['version']} ({model['arm']}) · batch of {result['batch_size']} · queued "
        f"{result['queue_ms']:.1f} ms · computed in {result['compute_ms']:.1f} ms\n  request {result['request_id']} · "
        f"{result['origin_topic']}/{result['origin_partition']} at offset {result['origin_offset']}[/]"
    )
    return True
