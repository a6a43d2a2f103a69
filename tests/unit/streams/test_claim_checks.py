"""A store that does not answer: a batch with many references waits for one time-out, and not for one each."""

from __future__ import annotations

import hashlib

import pytest

from schemas.errors import MediaRefused, RetryLater
from streams import claim_checks
from streams.claim_checks import ClaimChecks, Reference
from streams.clock import ManualClock

DATA = b"content"
REFERENCE = Reference("s3://bucket/one", hashlib.sha256(DATA).hexdigest(), len(DATA))


class Store:
    """Takes `limit_s` of the clock for each call, and answers from a time on."""

    def __init__(self, clock: ManualClock, answers_s: float, limit_s: float = 20.0) -> None:
        self.clock, self.answers_s, self.limit_s, self.calls = clock, answers_s, limit_s, 0

    def cat_file(self, uri: str, start: int, end: int, timeout: float) -> bytes:
        self.calls += 1
        if self.clock.monotonic_s() >= self.answers_s:
            return DATA
        self.clock.sleep(self.limit_s)
        raise TimeoutError("no answer")


def test_a_store_that_does_not_answer_is_asked_again_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    store = Store(clock, answers_s=clock.monotonic_s() + 50)
    monkeypatch.setattr(claim_checks, "s3", lambda: store)
    blobs = ClaimChecks(["s3://bucket"], clock)
    started_s = clock.monotonic_s()
    for _ in range(100):
        with pytest.raises(RetryLater):
            blobs.fetch(REFERENCE, 100)
    assert store.calls == 1
    assert clock.monotonic_s() - started_s == 20
    clock.sleep(50)
    assert blobs.fetch(REFERENCE, 100) == DATA
    assert store.calls == 2


def test_what_the_store_says_of_one_object_silences_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def cat_file(self, uri: str, start: int, end: int, timeout: float) -> bytes:
            if uri.endswith("missing"):
                raise FileNotFoundError(uri)
            return DATA

    monkeypatch.setattr(claim_checks, "s3", Missing)
    blobs = ClaimChecks(["s3://bucket"], ManualClock())
    with pytest.raises(MediaRefused):
        blobs.fetch(Reference("s3://bucket/missing", REFERENCE.sha256, REFERENCE.size), 100)
    assert blobs.fetch(REFERENCE, 100) == DATA
