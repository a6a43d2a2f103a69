"""The requests that `./millrace send` sends: from words, files or standard input."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from schemas.catalogue import consumption
from schemas.errors import InvalidRequest
from streams.claim_checks import ClaimChecks, split_media
from streams.clock import SystemClock
from streams.ids import uuid7

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """Arguments of the command. Each entry of a list is one request; for moderation with images, all lists are parts of one item."""

    texts: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    video: Path | None = None
    audio: list[Path] = field(default_factory=list)
    source: str = "en"
    target: str = "fr"
    top: int = 5
    author: str | None = None
    user: list[str] = field(default_factory=list)
    limit: int = 20
    jsonl: Path | None = None
    json: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    key_field: str = ""


@dataclass(frozen=True)
class Line:
    """The fields of one request, or the error of an invalid input line: the error becomes that line's answer, and the other
    lines are sent."""

    fields: dict[str, Any]
    error: InvalidRequest | None = None
    key: str | None = None  # of the record, if it is not that of the task


def requests(task: str, given: Given, claim_checks: ClaimChecks) -> Iterator[Line]:
    """The requests of a command. Raises InvalidRequest if there is no input, or a named file cannot be read."""
    key = consumption(task).key_field

    def with_key(fields: dict[str, Any]) -> dict[str, Any]:
        return fields if not key or key in fields else {key: uuid7(SystemClock().now_ms()), **fields}

    if given.jsonl is None:
        yield from _keyed((with_key(fields) for fields in _from_arguments(task, given, claim_checks)), given)
        return
    if given.keys:
        raise InvalidRequest("--key names the keys of texts and files; --key-field names the key of each line of --jsonl")
    for number, text in _lines(given.jsonl):
        try:
            fields = _fields_of(text)
            record_key = _key_of(fields, given.key_field) if given.key_field else None
            yield Line(with_key(_with_files(fields, claim_checks)), None, record_key)
        except (InvalidRequest, ValueError, RecursionError) as error:
            reason = ": it is nested too deeply" if isinstance(error, RecursionError) else f" {error}"
            yield Line({}, InvalidRequest(f"{given.jsonl}, line {number}{reason}"))


def _keyed(requests: Iterator[dict[str, Any]], given: Given) -> Iterator[Line]:
    if given.key_field:
        raise InvalidRequest("--key-field is for --jsonl; --key gives the keys of texts and files")
    if not given.keys:
        yield from map(Line, requests)  # standard input may go on for ever
        return
    every = list(requests)
    if len(given.keys) != len(every) or not all(given.keys):
        raise InvalidRequest(f"{len(every)} requests need as many --key, none of them empty; there are {len(given.keys)}")
    yield from (Line(fields, None, key) for fields, key in zip(every, given.keys, strict=True))


def _key_of(fields: dict[str, Any], name: str) -> str:
    """Takes the key out of a line's fields. Raises InvalidRequest."""
    key = fields.pop(name, None)
    if not isinstance(key, str) or not key:
        raise InvalidRequest(f"has no text {name}, which --key-field names")
    return key


def _from_arguments(task: str, given: Given, claim_checks: ClaimChecks) -> Iterator[dict[str, Any]]:
    def media(file: Path) -> dict[str, Any]:
        return split_media({"data": _bytes_of(file)}, claim_checks)

    if given.json:
        yield from (_with_files(_fields_of(text), claim_checks) for text in given.json)
        return
    match consumption(task).topic.record_name:
        case "vision-request":
            for file in _at_least_one(given.images, "--image FILE"):
                yield {"image": media(file), "top": given.top}
        case "ocr-request":
            for file in _at_least_one(given.images, "--image FILE"):
                yield {"image": media(file)}
        case "transcription-request":
            for file in _at_least_one(given.audio, "--audio FILE"):
                yield {"audio": media(file)}
        case "translation-request":
            for text in _texts(given):
                yield {"text": text, "source": given.source, "target": given.target}
        case "text-request":
            for text in _texts(given):
                yield {"text": text}
        case "recommendation-request":
            for user in _at_least_one(given.user, "--user ID"):
                yield {"user_id": user, "limit": given.limit, "explain": True}
        case "chat-request":
            for text in _texts(given):
                yield {"messages": [{"role": "user", "content": text}]}
        case record if record != "content":
            raise InvalidRequest("nothing to send: pass --request JSON (may be repeated) or --jsonl FILE")
        case _ if given.images or given.video:
            item: dict[str, Any] = {"text": " ".join(_texts(given)) if given.texts or given.files else None}
            item |= {"author_id": given.author, "images": [media(file) for file in given.images]}
            yield item | ({"video": media(given.video)} if given.video else {})
        case _:
            for text in _texts(given):
                yield {"text": text, "author_id": given.author}


def _at_least_one(values: list[T], option: str) -> list[T]:
    if not values:
        raise InvalidRequest(f"nothing to send: pass {option} (may be repeated) or --jsonl FILE")
    return values


def _texts(given: Given) -> Iterator[str]:
    if given.texts or given.files:
        yield from given.texts
        yield from (_text_of(file) for file in given.files)
    elif sys.stdin.isatty():
        raise InvalidRequest("nothing to send: pass --text, --file or --jsonl, or pipe texts to standard input")
    else:
        yield from (_decoded(line.rstrip(b"\r\n"), "standard input") for line in sys.stdin.buffer if line.strip())


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InvalidRequest(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _text_of(file: Path) -> str:
    return _decoded(_bytes_of(file), str(file))


def _decoded(raw: bytes, origin: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{origin} is not UTF-8 text: {error}") from error


def _with_files(fields: Any, claim_checks: ClaimChecks) -> Any:
    """Media fields may be {"file": "path"}, because JSON cannot contain bytes. Raises InvalidRequest, ValueError."""
    if isinstance(fields, dict):
        if set(fields) == {"file"}:
            if not isinstance(fields["file"], str):
                raise InvalidRequest('has a "file" that is not a path')
            return split_media({"data": _bytes_of(Path(fields["file"]))}, claim_checks)
        return {name: _with_files(value, claim_checks) for name, value in fields.items()}
    return [_with_files(value, claim_checks) for value in fields] if isinstance(fields, list) else fields


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank. Only a line feed ends a line: strings in JSON may contain U+2028 and U+0085."""
    lines: Iterable[bytes] = sys.stdin.buffer if str(file) == "-" else _bytes_of(file).split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.decode(errors="surrogateescape")


def _fields_of(text: str) -> dict[str, Any]:
    """Raises InvalidRequest, RecursionError."""
    try:
        text.encode()
        fields = json.loads(text.removeprefix("\ufeff"), parse_constant=_not_json, parse_float=_finite)
    except UnicodeEncodeError as error:
        raise InvalidRequest("is not JSON: it is not UTF-8") from error
    except ValueError as error:
        raise InvalidRequest(f"is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("is not a JSON object of request fields")
    return fields


def _not_json(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large for a 64-bit number")
    return number
