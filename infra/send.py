"""`./millrace send`: requests from words, files or standard input; answers in the order of the input."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import console
from infra.inspect import addresses
from infra.settings import StackSettings
from schemas.errors import InvalidRequest, MillraceError
from schemas.topics import consumption
from streams.blobs import Blobs, split_media
from streams.client import Client, connect
from streams.clock import SystemClock
from streams.ids import uuid7

IN_FLIGHT = 500


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


def requests(task: str, given: Given, blobs: Blobs) -> Iterator[dict[str, Any]]:
    """Fields of each request. Raises InvalidRequest that names the line where JSON is not JSON."""
    key = consumption(task).key_field
    for fields in _lines_of_json(given.jsonl) if given.jsonl is not None else _asked(task, given, blobs):
        made = _with_files(fields, blobs)
        yield made if not key or key in made else {key: uuid7(SystemClock().now_ms()), **made}


def _asked(task: str, given: Given, blobs: Blobs) -> Iterator[dict[str, Any]]:
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
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from error


def _text_of(file: Path) -> str:
    try:
        return _bytes_of(file).decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} cannot be read as text: {error}") from error


def _with_files(fields: Any, blobs: Blobs) -> Any:
    """JSON cannot carry bytes: {"file": "path"} stands for a media field."""
    if isinstance(fields, dict):
        if set(fields) == {"file"}:
            return split_media({"data": _bytes_of(Path(fields["file"]))}, blobs)
        return {name: _with_files(value, blobs) for name, value in fields.items()}
    return [_with_files(value, blobs) for value in fields] if isinstance(fields, list) else fields


def _lines_of_json(file: Path) -> Iterator[dict[str, Any]]:
    lines: Iterable[str] = sys.stdin if str(file) == "-" else _text_of(file).splitlines()
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


def run(settings: StackSettings, task: str, given: Given, deadline_ms: int, as_json: bool) -> int:
    """0 where every request was answered `ok`, else 1."""
    consumption(task)  # a name that is no task is said before anything is looked up
    address, _ = addresses(settings)
    return asyncio.run(
        _send(settings, address.bootstrap, task, requests(task, given, Blobs([settings.blob_root])), deadline_ms, as_json)
    )


async def _send(
    settings: StackSettings, bootstrap: str, task: str, given: Iterator[dict[str, Any]], deadline_ms: int, as_json: bool
) -> int:
    from infra.local import state

    registry = settings.registry or state.read(settings.run_folder).registry
    all_ok = True
    async with connect(bootstrap, registry, "millrace send") as client:
        under_way: list[asyncio.Task[dict[str, Any]]] = []
        for fields in given:
            under_way.append(asyncio.create_task(_one(client, task, fields, deadline_ms)))
            await asyncio.sleep(0)
            while len(under_way) >= IN_FLIGHT:
                all_ok &= _show(task, await under_way.pop(0), as_json)
        for task_ in under_way:
            all_ok &= _show(task, await task_, as_json)
    return 0 if all_ok else 1


async def _one(client: Client, task: str, fields: dict[str, Any], deadline_ms: int) -> dict[str, Any]:
    try:
        return await client.request(task, fields, deadline_ms=deadline_ms)
    except MillraceError as error:  # one request's error is that request's answer
        return {"request_id": None, "status": "not-answered", "error_code": error.code, "error_message": str(error)}


# --- what people see ----------------------------------------------------------------------------------------------


def _show(task: str, result: dict[str, Any], as_json: bool) -> bool:
    ok: bool = result["status"] == "ok"
    if as_json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
        return ok
    if not ok:
        console.out.print(f"[red]{result['status']}[/]  {result['error_code']}: {console.escape(result['error_message'] or '')}")
        return False
    SHOW[task](result)
    models = ", ".join(f"{model['name']} {model['version']} ({model['arm']})" for model in result["models"])
    console.out.print(
        f"  [dim]{models} · batch of {result['batch_size']} · queued "
        f"{result['queue_ms']:.1f} ms · computed in {result['compute_ms']:.1f} ms\n  request {result['request_id']} · "
        f"{result['origin_topic']}/{result['origin_partition']} at offset {result['origin_offset']}[/]"
    )
    return True


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
