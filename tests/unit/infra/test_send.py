"""`send`: lines to requests, each with an error of its own; no more under way than is answered in time; an exit code that says so."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.sending import result_lines, send
from infra.sending.pace import FIRST, MOST, Window, in_order
from infra.sending.request_input import Given, Line, requests
from infra.settings import StackSettings
from schemas import avro
from schemas.errors import BrokerUnavailable, InvalidRequest
from schemas.field_fit import misfit
from streams.claim_checks import ClaimChecks
from streams.client import NoAnswer

# --- lines ----------------------------------------------------------------------------------------------------------


def lines(tmp_path: Path, raw: bytes, task: str = "translation") -> list[Line]:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(raw)
    return list(requests(task, Given(jsonl=file), ClaimChecks([tmp_path.as_uri()])))


@pytest.mark.parametrize("apart", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path, apart: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        json.dumps({"text": f"a{apart}b"}, ensure_ascii=False)
        if ord(apart) > 32
        else '{"text":' + apart + '"ab"}'
        if apart == "\r"
        else '{"text": "ab"}'
    )
    raw = f"{text}\n\n{text}\r\n".encode()
    found = lines(tmp_path, raw)
    assert [line.error for line in found] == [None, None]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    assert [line.fields for line in requests("translation", Given(jsonl=Path("-")), ClaimChecks([]))] == [
        line.fields for line in found
    ]


@pytest.mark.parametrize(
    "bad",
    [
        b"{broken",
        b"[1]",
        b"7",
        b'{"text": NaN}',
        b'{"text": -Infinity}',
        b'{"top": 1e400}',
        b'{"text": ' + b"[" * 100_000,
        b'{"text": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
        b'{"text": "\xff"}',
        b'{"image": {"file": 7}}',
        b'{"image": {"file": "a\\u0000b"}}',
        b'{"image": {"file": "/nowhere"}}',
        b'{"n": ' + b"9" * 10_000 + b"}",
        b"\x00",
    ],
    ids=str,
)
def test_a_line_that_is_no_request_is_its_own_error_and_the_others_go_on(tmp_path: Path, bad: bytes) -> None:
    first, wrong, last = lines(tmp_path, b'{"text": "a"}\n' + bad + b'\n{"text": "b"}')
    assert (first.fields, last.fields) == ({"text": "a"}, {"text": "b"})
    assert wrong.error is not None
    assert "line 2" in str(wrong.error)


REQUEST: dict[str, Any] = {"image": {"data": b"x"}, "top": 3}


@pytest.mark.parametrize(
    ("record", "fields", "words"),
    [
        ("vision-request", {"top": 2**31}, "top is 2147483648, and takes a whole number of 32 bits"),
        ("vision-request", {"top": -(2**31) - 1}, "32 bits"),
        ("vision-request", {"top": 2**64}, "32 bits"),
        ("vision-request", {"top": 3.9}, "top is 3.9"),
        ("vision-request", {"top": 3.0}, "top is 3.0"),
        ("vision-request", {"top": "3"}, "top is '3'"),
        ("vision-request", {"top": True}, "top is True"),
        ("vision-request", {"top": None}, "top is None"),
        ("vision-request", {"top": []}, "top is a list"),
        ("vision-request", {"image": {"uri": "file:///x", "size": 2**63}}, "64 bits"),
        ("vision-request", {"image": {"uri": 7}}, "image.uri is 7"),
        ("vision-request", {"image": {"colour": 7}}, "image has no field colour"),
        ("vision-request", {"image": "x"}, "image is 'x', and takes a record"),
        ("content", {"images": [{"data": b"x"}, 7]}, "images[1] is 7"),
        ("content", {"images": {"data": b"x"}}, "an array"),
        ("content", {"text": 7}, "text is 7"),
        ("content", {"text": "\ud800"}, "takes a text"),
        ("content", {"text": b"x"}, "takes a text"),
    ],
)
def test_a_value_that_an_encoder_would_bend_is_refused(record: str, fields: dict[str, Any], words: str) -> None:
    known = {field["name"]: field["type"] for field in avro.schema(record)["fields"]}
    assert words in next(filter(None, (misfit(value, known[name], name) for name, value in fields.items())), "")


@pytest.mark.parametrize("record", avro.record_names())
def test_each_example_of_a_record_fits_it(record: str) -> None:
    schema = avro.schema(record)
    for name, example in avro.examples(record).items():
        assert misfit(avro.from_json(example, schema), schema, name) == ""


# --- the pace -------------------------------------------------------------------------------------------------------


class Virtual(asyncio.SelectorEventLoop):
    """Time goes on when nothing else can."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            self.now_s += timeout or 0.0
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now_s


def paced(count: int, each_s: Callable[[int], float], deadline_s: float) -> tuple[list[tuple[int, bool]], float, int]:
    """Answers of a worker that takes requests one after another, and does not begin one past its deadline; the time of all, and the most
    that were under way."""
    loop = Virtual()
    window, free_s, flying, most = Window(deadline_s * send.SHARE), 0.0, 0, 0

    async def ask(n: int) -> tuple[int, bool]:
        nonlocal free_s, flying, most
        flying += 1
        most = max(most, flying)
        sent_s = loop.time()
        begun_s = max(free_s, sent_s)
        in_time = begun_s <= sent_s + deadline_s
        if in_time:
            free_s = begun_s + each_s(n)
            await asyncio.sleep(free_s - sent_s)
        else:
            await asyncio.sleep(deadline_s)
        flying -= 1
        window.answered(loop.time() - sent_s, in_time)
        return n, in_time

    async def go() -> list[tuple[int, bool]]:
        return [answer async for answer in in_order(range(count), ask, window)]

    try:
        found = loop.run_until_complete(go())
    finally:
        loop.close()
    return found, loop.now_s, most


@pytest.mark.parametrize("each_s", [0.001, 0.02, 0.1, 0.5, 2.0])
def test_all_are_answered_in_time_and_in_order_however_slow_the_worker(each_s: float) -> None:
    found, took_s, _ = paced(1_000, lambda n: each_s, 10.0)
    assert found == [(n, True) for n in range(1_000)]
    assert took_s < 1.05 * 1_000 * each_s + 1, "the worker is never left without work"


def test_a_worker_that_becomes_five_times_slower_is_not_flooded() -> None:
    found, _, _ = paced(2_000, lambda n: 0.01 if n < 1_000 else 0.05, 10.0)
    assert sum(in_time for _, in_time in found) == 2_000


def test_a_fast_worker_is_soon_asked_for_the_most_and_never_more() -> None:
    _, _, most = paced(20_000, lambda n: 0.0001, 10.0)
    assert MOST * 0.9 < most <= MOST


def test_a_window_is_cut_once_for_what_was_under_way_together() -> None:
    window = Window(1.0, size=100.0)
    for _ in range(100):
        window.answered(9.0, False)
    assert window.size == 50.0
    for _ in range(10_000):
        window.answered(9.0, False)
    assert window.size == 1.0
    assert Window(1.0).size == FIRST


def test_requests_have_the_keys_that_are_named(tmp_path: Path) -> None:
    lines = list(requests("moderation", Given(["a", "b"], keys=["k1", "k2"]), ClaimChecks([])))
    assert [(line.fields["text"], line.key) for line in lines] == [("a", "k1"), ("b", "k2")]
    assert [line.key for line in requests("moderation", Given(["a"]), ClaimChecks([]))] == [None]
    for keys in (["k1"], ["k1", ""]):
        with pytest.raises(InvalidRequest, match="2 requests need as many --key"):
            list(requests("moderation", Given(["a", "b"], keys=keys), ClaimChecks([])))
    file = tmp_path / "lines.jsonl"
    file.write_text('{"id": "k1", "text": "a"}\n{"text": "b"}\n{"id": 5, "text": "c"}\n{"id": "", "text": "d"}\n')
    (first, *others) = requests("moderation", Given(jsonl=file, key_field="id"), ClaimChecks([]))
    assert (first.key, "id" in first.fields, first.fields["text"]) == ("k1", False, "a")
    assert ["has no text id" in str(line.error) for line in others] == [True] * 3
    for wrong in (Given(jsonl=file, keys=["k"]), Given(["a"], key_field="id")):
        with pytest.raises(InvalidRequest):
            list(requests("moderation", wrong, ClaimChecks([])))


# --- the command ----------------------------------------------------------------------------------------------------


class Answering:
    """In the place of a client: answers by the text, and counts what it was sent."""

    def __init__(self) -> None:
        self.sent = deque[str]()

    async def request(self, task: str, fields: dict[str, Any], deadline_ms: int, key: str | None) -> dict[str, Any]:
        self.sent.append(fields["text"])
        match fields["text"]:
            case "silence":
                raise NoAnswer("nobody")
            case "broker":
                raise BrokerUnavailable("gone")
            case "bad":
                raise InvalidRequest("a field")
            case status:
                return {"request_id": "r", "status": status, "error_code": "e", "error_message": HOSTILE}


HOSTILE = "[/red] \x1b[2J"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    made = Answering()

    @asynccontextmanager
    async def connect(*words: object) -> AsyncIterator[Answering]:
        yield made

    monkeypatch.setattr(send, "connect", connect)
    monkeypatch.setattr(send, "addresses", lambda settings: (SimpleNamespace(bootstrap="b"), SimpleNamespace(url="r")))
    return made


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["ok", "ok"], 0),
        (["ok", "expired", "ok"], 1),
        (["expired"], 1),
        (["failed", "ok"], 1),
        (["ok", "silence"], 1),
        (["ok", "broker"], 1),
        (["bad", "ok"], 1),
        (["ok", "ok", "ok", "silence", "expired"], 1),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_the_exit_code_says_when_any_was_not_answered_ok(
    answering: Answering,
    statuses: list[str],
    code: int,
    as_json: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(result_lines.SHOW, "translation-result", lambda result: None)
    if not as_json and "ok" in statuses:
        statuses, code = [one for one in statuses if one != "ok"] or ["failed"], 1
    file = tmp_path / "lines"
    file.write_text("".join(json.dumps({"text": one}) + "\n" for one in statuses))
    settings = StackSettings(home=str(tmp_path), registry="http://r")
    assert send.run(settings, "translation", Given(jsonl=file), 1_000, as_json) == code
    assert list(answering.sent) == statuses, "nothing is sent twice"
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out
    if as_json:
        assert len(printed.out.splitlines()) == len(statuses)
    if len(statuses) > 1:
        assert f"{len(statuses)} requests: " in printed.err


def test_a_bad_line_stops_nothing_and_makes_the_exit_code_1(
    answering: Answering, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b'{"text": "ok"}\n{broken\n{"text": "ok"}\n')
    settings = StackSettings(home=str(tmp_path), registry="http://r")
    assert send.run(settings, "translation", Given(jsonl=file), 1_000, True) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["status"] for line in printed.out.splitlines()] == ["ok", "invalid", "ok"]
    assert "3 requests: 2 ok, 1 invalid" in printed.err
