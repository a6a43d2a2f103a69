"""Everything that can be wrong with a record, sent to a real worker: each ends with its cause, its neighbours are well."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import pytest

from schemas.topics import CONTENT
from streams import headers as h
from streams.clock import SystemClock
from streams.headers import HeaderList
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers

pytestmark = pytest.mark.real


def _good(stage: Stage, text: str = "a good text") -> bytes:
    return stage.encoder.encode({"content_id": ["c"], "text": [text]}, 1)[0]


def test_each_kind_of_bad_record_ends_with_its_cause(servers: Servers, tmp_path: Path) -> None:
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        worker = stage.worker()
        worker.wait_assigned()
        good, now_ms = _good(stage), SystemClock().now_ms()
        many: HeaderList = [(f"h{i}", b"x") for i in range(10_000)]
        limit = CONTENT.max_record_bytes
        cases: list[tuple[str, bytes | None, HeaderList, str, str]] = [
            ("random bytes", bytes(range(7, 200)), [], "failed", "undecodable"),
            ("empty", b"", [], "failed", "undecodable"),
            ("null", None, [], "failed", "undecodable"),
            ("truncated", good[:-3], [], "failed", "undecodable"),
            ("bytes left over", good + b"xyz", [], "failed", "undecodable"),
            ("unknown schema id", b"\0" + struct.pack(">I", 987_654) + good[5:], [], "failed", "undecodable"),
            ("not UTF-8", good[:5] + b"\x02c\x02\x04\xff\xfe\x00\x00", [], "failed", "undecodable"),
            ("no text", stage.encoder.encode({"content_id": ["c"], "text": [None]}, 1)[0], [], "failed", "invalid"),
            ("10,000 headers", good, many, "failed", "too-large"),
            ("oversized", _good(stage, "x" * (limit + 100)), [], "failed", "too-large"),
            ("at the limit", _padded(stage, limit), [(h.DEADLINE_MS, b"tomorrow")], "failed", "invalid"),
            ("deadline is a word", good, [(h.DEADLINE_MS, b"soon")], "failed", "invalid"),
            ("deadline passed", good, [(h.DEADLINE_MS, str(now_ms - 1000).encode())], "expired", "deadline"),
            ("deadline of a clock far behind", good, [(h.DEADLINE_MS, b"1000")], "expired", "deadline"),
            ("deadline of a clock far ahead", good, [(h.DEADLINE_MS, str(now_ms * 10).encode())], "ok", ""),
            ("a reply topic that is not one", good, [(h.REPLY_TO, b"content-v1/0")], "ok", ""),
            ("origin headers that lie", good, [(h.ORIGIN_TOPIC, b"elsewhere"), (h.ORIGIN_OFFSET, b"7")], "ok", ""),
        ]
        expected: dict[tuple[str, int, int], tuple[str, str, str]] = {}
        for name, value, headers, status, code in cases:
            stage.raw(good)
            stage.raw(value, headers=headers)
            expected[_last(stage)] = (name, status, code)
        stage.wait_answered()
        assert stage.problems() == []
        found = {(a["origin_topic"], a["origin_partition"], a["origin_offset"]): a for a in stage.answers()}
        for origin, (name, status, code) in expected.items():
            answer = found[origin]
            assert (name, answer["status"], answer["error_code"] or "") == (name, status, code), answer
            assert status != "failed" or answer["error_message"]
        assert Counter(str(a["status"]) for o, a in found.items() if o not in expected) == {"ok": len(cases)}
        assert worker.process.poll() is None


def _padded(stage: Stage, size: int) -> bytes:
    """A good record of exactly `size` bytes."""
    short = len(_good(stage, "x" * (size - 100)))
    return _good(stage, "x" * (size - 100 + size - short))


def _last(stage: Stage) -> tuple[str, int, int]:
    """Where the record sent last lies."""
    number = (stage.sent - 1) % CONTENT.partitions
    end = stage.ends_of(CONTENT.name)[CONTENT.name, number]
    return CONTENT.name, number, end - 1
