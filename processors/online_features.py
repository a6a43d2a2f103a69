"""The online store: one blob an entity and view, written only by a version that is newer, read in one MGET.

The only module that imports redis. `MemoryStore` keeps the same contract (`tests/contract/test_online_store.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from processors.blobs import VERSION_BYTES
from schemas.errors import RetryLater
from schemas.features import View

READ_LIMIT_S = 0.5  # a request does not wait longer for its features
WRITE_LIMIT_S = 5.0
_MARK = "millrace:store"

# Redis compares and writes in one step, so two writers cannot pass each other. Answers how many were refused.
_WRITE = f"""
local refused = 0
for i = 1, #KEYS do
  local held = redis.call('GETRANGE', KEYS[i], 0, {VERSION_BYTES - 1})
  if held < string.sub(ARGV[i], 1, {VERSION_BYTES}) then
    redis.call('SET', KEYS[i], ARGV[i])
  else
    refused = refused + 1
  end
end
return refused
"""


class OnlineStore(Protocol):
    """All calls wait a bounded time and raise RetryLater where the store does not answer."""

    def read(self, view: View, entities: Sequence[str]) -> list[bytes | None]: ...

    def write(self, view: View, blobs: Mapping[str, bytes]) -> int:
        """How many were refused, as what is held has the same or a newer version."""
        ...

    def marked(self, mark: str) -> bool:
        """Set the mark; whether it was there already. False tells the writer that the store lost what it held."""
        ...

    def clear(self, view: View) -> int:
        """Remove all blobs of a view; how many."""
        ...


def key_of(view: View, entity: str) -> str:
    return f"{view.name}:{entity}"


class RedisStore:
    def __init__(self, url: str, limit_s: float = READ_LIMIT_S) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._error = redis.RedisError
        self._client: Any = redis.Redis.from_url(
            url, socket_timeout=limit_s, socket_connect_timeout=limit_s, retry=Retry(NoBackoff(), 1), protocol=2,
        )  # fmt: skip
        self._write = self._client.register_script(_WRITE)
        self._url = url.rpartition("@")[2]

    def read(self, view: View, entities: Sequence[str]) -> list[bytes | None]:
        if not entities:
            return []
        found: list[bytes | None] = self._call(lambda: self._client.mget([key_of(view, entity) for entity in entities]))
        return found

    def write(self, view: View, blobs: Mapping[str, bytes]) -> int:
        refused, items = 0, list(blobs.items())
        for at in range(0, len(items), 500):
            some = items[at : at + 500]
            keys, values = [key_of(view, entity) for entity, _ in some], [blob for _, blob in some]
            refused += int(self._call(lambda keys=keys, values=values: self._write(keys, values)))
        return refused

    def marked(self, mark: str) -> bool:
        return bool(self._call(lambda: self._client.set(f"{_MARK}:{mark}", "1", get=True)) is not None)

    def clear(self, view: View) -> int:
        def remove() -> int:
            keys = list(self._client.scan_iter(match=f"{view.name}:*", count=1000))
            return sum(int(self._client.delete(*keys[at : at + 1000])) for at in range(0, len(keys), 1000))

        return int(self._call(remove))

    def _call(self, call: Any) -> Any:
        try:
            return call()
        except self._error as error:
            raise RetryLater(f"the online store at {self._url} does not answer: {error}") from error

    def close(self) -> None:
        self._client.close()


class MemoryStore:
    """The same in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._marks: set[str] = set()

    def read(self, view: View, entities: Sequence[str]) -> list[bytes | None]:
        return [self._blobs.get(key_of(view, entity)) for entity in entities]

    def write(self, view: View, blobs: Mapping[str, bytes]) -> int:
        refused = 0
        for entity, blob in blobs.items():
            held = self._blobs.get(key_of(view, entity), b"")
            if held[:VERSION_BYTES] < blob[:VERSION_BYTES]:
                self._blobs[key_of(view, entity)] = blob
            else:
                refused += 1
        return refused

    def marked(self, mark: str) -> bool:
        there = mark in self._marks
        self._marks.add(mark)
        return there

    def clear(self, view: View) -> int:
        gone = [key for key in self._blobs if key.startswith(f"{view.name}:")]
        for key in gone:
            del self._blobs[key]
        return len(gone)

    def close(self) -> None:
        return
