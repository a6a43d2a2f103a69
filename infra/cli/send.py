"""`./millrace send`: requests from words, files or standard input; answers in the order of the input."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import console
from infra.cli.pace import Window, in_order
from infra.records import readable
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import InvalidRequest, MillraceError
from schemas.topics import consumption
from streams.claim_checks import ClaimChecks, split_media
from streams.client import Client, connect
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.terminal_text import as_json as spelt

SHARE = 0.2  # of the deadline that an answer should take, so that a worker that becomes five times slower is still in time


@dataclass(frozen=True)
class Given:
    """What the command line gave. Lists make one request an entry, but for moderation, where they are one item's parts."""

    texts: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    video: Path | None = None
    audio: list[Path] = field(default_factory=list)
    source: str = "en"
    target: str = "fr"
    top: int = 5
    author: str | None = None
    jsonl: Path | None = None


@dataclass(frozen=True)
class Line:
    """A request's fields, or why there are none: a line of a file that is no request is that line's answer, and the others go on."""

    fields: dict[str, Any]
    error: InvalidRequest | None = None


def requests(task: str, given: Given, blobs: ClaimChecks) -> Iterator[Line]:
    """What is to be asked. Raises InvalidRequest where nothing is, or a file that was named cannot be read."""
    key = consumption(task).key_field

    def with_key(fields: dict[str, Any]) -> dict[str, Any]:
        return fields if not key or key in fields else {key: uuid7(SystemClock().now_ms()), **fields}

    if given.jsonl is None:
        yield from (Line(with_key(fields)) for fields in _asked(task, given, blobs))
        return
    for number, text in _lines(given.jsonl):
        try:
            yield Line(with_key(_with_files(_fields_of(text), blobs)))
        except (InvalidRequest, ValueError, RecursionError) as error:
            why = ": it is nested too deeply" if isinstance(error, RecursionError) else f" {error}"
            yield Line({}, InvalidRequest(f"{given.jsonl}, line {number}{why}"))


def _asked(task: str, given: Given, blobs: ClaimChecks) -> Iterator[dict[str, Any]]:
    def media(file: Path) -> dict[str, Any]:
        return split_media({"data": _bytes_of(file)}, blobs)

    match task:
        case "vision":
            for file in _at_least_one(given.images, "--image FILE"):
                yield {"image": media(file), "top": given.top}
        case "transcription":
            for file in _at_least_one(given.audio, "--audio FILE"):
                yield {"audio": media(file)}
        case "translation":
            for text in _texts(given):
                yield {"text": text, "source": given.source, "target": given.target}
        case _ if given.images or given.video:
            item: dict[str, Any] = {"text": " ".join(_texts(given)) if given.texts or given.files else None}
            item |= {"author_id": given.author, "images": [media(file) for file in given.images]}
            yield item | ({"video": media(given.video)} if given.video else {})
        case _:
            for text in _texts(given):
                yield {"text": text, "author_id": given.author}


def _at_least_one(files: list[Path], option: str) -> list[Path]:
    if not files:
        raise InvalidRequest(f"nothing to send: give {option}, more than once for more than one, or --jsonl FILE")
    return files


def _texts(given: Given) -> Iterator[str]:
    if given.texts or given.files:
        yield from given.texts
        yield from (_text_of(file) for file in given.files)
    elif sys.stdin.isatty():
        raise InvalidRequest("nothing to send: give --text, --file, --jsonl, or write texts to standard input")
    else:
        yield from (_decoded(line.rstrip(b"\r\n"), "standard input") for line in sys.stdin.buffer if line.strip())


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        raise InvalidRequest(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _text_of(file: Path) -> str:
    return _decoded(_bytes_of(file), str(file))


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{where} cannot be read as text: {error}") from error


def _with_files(fields: Any, blobs: ClaimChecks) -> Any:
    """JSON cannot carry bytes: {"file": "path"} stands for a media field. Raises InvalidRequest, ValueError."""
    if isinstance(fields, dict):
        if set(fields) == {"file"}:
            if not isinstance(fields["file"], str):
                raise InvalidRequest("names a file by something else than a path")
            return split_media({"data": _bytes_of(Path(fields["file"]))}, blobs)
        return {name: _with_files(value, blobs) for name, value in fields.items()}
    return [_with_files(value, blobs) for value in fields] if isinstance(fields, list) else fields


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line with words. A line ends at a line feed alone: JSON's texts may hold U+2028 and U+0085."""
    lines: Iterable[bytes] = sys.stdin.buffer if str(file) == "-" else _bytes_of(file).split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.decode(errors="surrogateescape")


def _fields_of(text: str) -> dict[str, Any]:
    """Raises InvalidRequest, RecursionError."""
    try:
        text.encode()
        fields = json.loads(text.removeprefix("\ufeff"), parse_constant=_no_number, parse_float=_finite)
    except UnicodeEncodeError as error:
        raise InvalidRequest("is not JSON: it is not UTF-8") from error
    except ValueError as error:
        raise InvalidRequest(f"is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("is not an object with the request's fields")
    return fields


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise ValueError(f"{text[:40]} is no number of 64 bits")
    return found


def run(settings: StackSettings, task: str, given: Given, deadline_ms: int, as_json: bool) -> int:
    """0 where every request was answered `ok`; 1 where any expired, failed, was not answered or was none."""
    consumption(task)  # a name that is no task is said before anything is looked up
    address, _ = addresses(settings)
    return asyncio.run(
        _send(settings, address.bootstrap, task, requests(task, given, ClaimChecks([settings.blob_root])), deadline_ms, as_json)
    )


async def _send(
    settings: StackSettings, bootstrap: str, task: str, lines: Iterator[Line], deadline_ms: int, as_json: bool
) -> int:
    from infra.local import run_state

    registry = settings.registry or run_state.read(settings.run_folder).registry
    statuses: Counter[str] = Counter()
    window = Window(deadline_ms / 1000 * SHARE)
    async with connect(bootstrap, registry, "millrace send") as client:
        async for result in in_order(lines, lambda line: _one(client, task, line, deadline_ms, window), window):
            statuses[str(result["status"])] += 1
            _show(task, result, as_json)
    if statuses.total() > 1:
        counts = ", ".join(f"{n} {status}" for status, n in statuses.most_common())
        print(f"{statuses.total()} requests: {counts}", file=sys.stderr)
    return 0 if statuses.total() == statuses["ok"] else 1


async def _one(client: Client, task: str, line: Line, deadline_ms: int, window: Window) -> dict[str, Any]:
    """One request's error is that request's answer; nothing is sent a second time."""
    if line.error is not None:
        return _without_answer("invalid", line.error)
    begun_s = time.monotonic()
    try:
        result = await client.request(task, line.fields, deadline_ms=deadline_ms)
    except InvalidRequest as error:
        return _without_answer("invalid", error)
    except MillraceError as error:
        window.answered(time.monotonic() - begun_s, False)
        return _without_answer("not-answered", error)
    window.answered(time.monotonic() - begun_s, result["status"] != "expired")
    return result


def _without_answer(status: str, error: MillraceError) -> dict[str, Any]:
    return {"request_id": None, "status": status, "error_code": error.code, "error_message": str(error)}


# --- what people see ----------------------------------------------------------------------------------------------


def _show(task: str, result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(spelt(result, default=readable), flush=True)
        return
    if result["status"] != "ok":
        words = f"{result['error_code']}: {result['error_message'] or ''}"
        console.out.print(f"[red]{console.escape(str(result['status']))}[/]  {console.escape(words)}")
        return
    SHOW[task](result)
    models = ", ".join(f"{model['name']} {model['version']} ({model['arm']})" for model in result["models"])
    console.out.print(
        f"  [dim]{console.escape(models)} · batch of {result['batch_size']} · queued "
        f"{result['queue_ms']:.1f} ms · computed in {result['compute_ms']:.1f} ms\n  request {result['request_id']} · "
        f"{result['origin_topic']}/{result['origin_partition']} at offset {result['origin_offset']}[/]"
    )


def _show_verdict(result: dict[str, Any]) -> None:
    flagged = [c["category"] for c in result["categories"] if c["flagged"]]
    decided = result["deciding"]
    why = f"  by {decided['part']}" if decided and decided["part"] != "text" else ""
    console.out.print(f"[red]flagged[/]  {', '.join(flagged)}{why}" if flagged else "[green]ok[/]  nothing flagged")
    for found in sorted(result["categories"], key=lambda c: -c["probability"]):
        bar = "█" * round(found["probability"] * 20)
        mark = "[red]" if found["flagged"] else "[dim]"
        where = "" if found["part"] == "text" else f"  in {found['part']}"
        said = f"  {found['category']:<16}{found['probability']:6.3f}  of {found['threshold']:.3f}  {mark}{bar}[/]{where}"
        console.out.print(said)
    if len(result["parts"]) > 1 or any(part["error_code"] or part["unseen"] for part in result["parts"]):
        for part in result["parts"]:
            if part["error_code"]:
                console.out.print(f"  [yellow]{part['part']}: not judged, {console.escape(part['error_message'] or '')}[/]")
            else:
                left_out = f"; not covered there: {', '.join(part['not_covered'])}" if part["not_covered"] else ""
                console.out.print(f"  [dim]{part['part']}: {part['category']} {part['probability']:.3f}{left_out}[/]")
            if part["unseen"]:
                console.out.print(f"  [yellow]{part['part']}: not judged whole, {console.escape(part['unseen'])}[/]")
    if result["not_covered"]:
        console.out.print(f"  [dim]not covered: {', '.join(result['not_covered'])}[/]")


def _show_classes(result: dict[str, Any]) -> None:
    for note in result["notes"]:
        console.out.print(f"  [yellow]{console.escape(note)}[/]")
    for found in result["classes"]:
        console.out.print(
            f"  {console.escape(found['label']):<20}{found['probability']:6.3f}  {'█' * round(found['probability'] * 20)}"
        )


def _show_translation(result: dict[str, Any]) -> None:
    cut = "  [yellow]the text was longer than the model reads[/]" if result["truncated"] else ""
    console.out.print(f"[bold]{console.escape(result['text'])}[/]{cut}")
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
