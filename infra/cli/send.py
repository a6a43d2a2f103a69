"""`./millrace send`: sends requests and prints the answers in the order of the input."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from infra import console
from infra.cli.pace import Window, in_order
from infra.cli.request_input import Given, Line, requests
from infra.records import readable
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import InvalidRequest, MillraceError
from schemas.topics import consumption
from streams.claim_checks import ClaimChecks
from streams.client import Client, connect
from streams.terminal_text import as_json as json_line

# Fraction of the deadline that an answer should take: a worker that becomes five times slower still answers in time.
SHARE = 0.2


def run(settings: StackSettings, task: str, given: Given, deadline_ms: int, as_json: bool) -> int:
    """0 if every request was answered `ok`; 1 if any was invalid, expired, failed or got no answer."""
    consumption(task)  # reports an unknown task before anything else
    address, registry = addresses(settings)
    lines = requests(task, given, ClaimChecks([settings.blob_root]))
    return asyncio.run(_send(address.bootstrap, registry.url, task, lines, deadline_ms, as_json))


async def _send(bootstrap: str, registry: str, task: str, lines: Iterator[Line], deadline_ms: int, as_json: bool) -> int:
    statuses: Counter[str] = Counter()
    window = Window(deadline_ms / 1000 * SHARE)
    async with connect(bootstrap, registry, "millrace send") as client:
        async for result in in_order(lines, lambda line: _answer(client, task, line, deadline_ms, window), window):
            statuses[str(result["status"])] += 1
            _show(task, result, as_json)
    if statuses.total() > 1:
        counts = ", ".join(f"{n} {status}" for status, n in statuses.most_common())
        print(f"{statuses.total()} requests: {counts}", file=sys.stderr)
    return 0 if statuses.total() == statuses["ok"] else 1


async def _answer(client: Client, task: str, line: Line, deadline_ms: int, window: Window) -> dict[str, Any]:
    """The result of one request; an error becomes the result. No request is sent twice."""
    if line.error is not None:
        return _failure("invalid", line.error)
    begun_s = time.monotonic()
    try:
        result = await client.request(task, line.fields, deadline_ms=deadline_ms)
    except InvalidRequest as error:
        return _failure("invalid", error)
    except MillraceError as error:
        window.answered(time.monotonic() - begun_s, False)
        return _failure("not-answered", error)
    window.answered(time.monotonic() - begun_s, result["status"] != "expired")
    return result


def _failure(status: str, error: MillraceError) -> dict[str, Any]:
    return {"request_id": None, "status": status, "error_code": error.code, "error_message": str(error)}


# --- output ------------------------------------------------------------------------------------------------------------


def _show(task: str, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json_line(result, default=readable), flush=True)
        return
    if result["status"] != "ok":
        error = f"{result['error_code']}: {result['error_message'] or ''}"
        console.out.print(f"[red]{console.escape(str(result['status']))}[/]  {console.escape(error)}")
        return
    SHOW[task](result)
    models = ", ".join(f"{model['name']} {model['version']} ({model['arm']})" for model in result["models"])
    console.out.print(
        f"  [dim]{console.escape(models)} · batch of {result['batch_size']} · queued "
        f"{result['queue_ms']:.1f} ms · computed in {result['compute_ms']:.1f} ms\n  request {result['request_id']} · "
        f"{result['origin_topic']}/{result['origin_partition']} at offset {result['origin_offset']}[/]"
    )


def _show_verdict(result: dict[str, Any]) -> None:
    flagged = [category["category"] for category in result["categories"] if category["flagged"]]
    deciding = result["deciding"]
    part = f"  by {deciding['part']}" if deciding and deciding["part"] != "text" else ""
    console.out.print(f"[red]flagged[/]  {', '.join(flagged)}{part}" if flagged else "[green]ok[/]  nothing flagged")
    for category in sorted(result["categories"], key=lambda category: -category["probability"]):
        _show_category(category)
    if len(result["parts"]) > 1 or any(part["error_code"] or part["unseen"] for part in result["parts"]):
        for part in result["parts"]:
            _show_part(part)
    if result["not_covered"]:
        console.out.print(f"  [dim]not covered: {', '.join(result['not_covered'])}[/]")


def _show_category(category: dict[str, Any]) -> None:
    bar = "█" * round(category["probability"] * 20)
    style = "[red]" if category["flagged"] else "[dim]"
    part = "" if category["part"] == "text" else f"  in {category['part']}"
    figures = f"{category['probability']:6.3f}  of {category['threshold']:.3f}"
    console.out.print(f"  {category['category']:<16}{figures}  {style}{bar}[/]{part}")


def _show_part(part: dict[str, Any]) -> None:
    if part["error_code"]:
        console.out.print(f"  [yellow]{part['part']}: not judged, {console.escape(part['error_message'] or '')}[/]")
    else:
        not_covered = f"; not covered there: {', '.join(part['not_covered'])}" if part["not_covered"] else ""
        console.out.print(f"  [dim]{part['part']}: {part['category']} {part['probability']:.3f}{not_covered}[/]")
    if part["unseen"]:
        console.out.print(f"  [yellow]{part['part']}: not judged in full, {console.escape(part['unseen'])}[/]")


def _show_classes(result: dict[str, Any]) -> None:
    for note in result["notes"]:
        console.out.print(f"  [yellow]{console.escape(note)}[/]")
    for ranked in result["classes"]:
        bar = "█" * round(ranked["probability"] * 20)
        console.out.print(f"  {console.escape(ranked['label']):<20}{ranked['probability']:6.3f}  {bar}")


def _show_translation(result: dict[str, Any]) -> None:
    truncated = "  [yellow]the text was cut: it is longer than the model reads[/]" if result["truncated"] else ""
    console.out.print(f"[bold]{console.escape(result['text'])}[/]{truncated}")
    console.out.print(f"  [dim]{result['source']} to {result['target']}, mean log-probability {result['score']:.2f}[/]")


def _show_transcript(result: dict[str, Any]) -> None:
    console.out.print(f"[bold]{console.escape(result['text']) or '(nothing heard)'}[/]  [dim]{result['duration_s']:.2f} s[/]")
    for note in result["notes"]:
        console.out.print(f"  [yellow]{console.escape(note)}[/]")
    for word in result["words"]:
        console.out.print(
            f"  {word['start_s']:6.2f}–{word['end_s']:.2f} s  {word['probability']:.2f}  {console.escape(word['text'])}"
        )


SHOW: dict[str, Callable[[dict[str, Any]], None]] = {
    "moderation": _show_verdict,
    "vision": _show_classes,
    "translation": _show_translation,
    "transcription": _show_transcript,
}
