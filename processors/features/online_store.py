"""The online store: one blob per entity and view, overwritten only by a newer version, read with one MGET.

The only module that imports redis. `MemoryStore` keeps the same contract (`tests/contract/test_online_store.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from processors.features.feature_blob import VERSION_BYTES
from schemas.errors import RetryLater
from schemas.features import View

READ_LIMIT_S = 0.5  # a request waits at most this long for its features
WRITE_LIMIT_S = 5.0
_MARK = "millrace:store"
_EPOCH = "millrace:epoch"

# Redis compares and writes in one step, so no writer can overwrite a newer version. Returns the indices of refused keys.
_WRITE = f"""
local refused = {{}}
for i = 1, #KEYS do
  local held = redis.call('GETRANGE', KEYS[i], 0, {VERSION_BYTES - 1})
  if held < string.sub(ARGV[i], 1, {VERSION_BYTES}) then
    if ARGV[#KEYS + 1] == '0' then
      redis.call('SET', KEYS[i], ARGV[i])
    else
      redis.call('SET', KEYS[i], ARGV[i], 'PX', ARGV[#KEYS + 1])
    end
  else
    refused[#refused + 1] = i
  end
end
return refused
"""


class OnlineStore(Protocol):
    """All calls wait a bounded time and raise RetryLater if the store does not answer."""

    def read(self, view: View, entities: Sequence[str]) -> list[bytes | None]: ...

    def read_views(self, wanted: Sequence[tuple[View, Sequence[str]]]) -> list[list[bytes | None]]:
        """The blobs of several views, in one call: for each view one blob per entity, in order."""
        ...

    def write(self, view: View, blobs: Mapping[str, bytes]) -> list[str]:
        """Returns the entities whose blobs were refused, because the store has the same or a newer version. A blob of a view with
        `kept_ms` goes if it was not written for so long."""
        ...

    def epoch(self, view: View, source: str) -> int:
        """The number of a source of versions: 1 or more, and the same on each call. A new source gets a higher number than all
        earlier ones, because offsets start at 0 again if Kafka was created anew, while the store still has the old versions."""
        ...

    def marked(self, mark: str) -> bool:
        """Set the mark. Returns whether it was set before; False means that the store lost its content."""
        ...

    def clear(self, view: View) -> int:
        """Remove all blobs of a view, and the marks of its writers, so that they write everything again. Returns the number of
        blobs."""
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
            url,
            socket_timeout=limit_s,
            socket_connect_timeout=limit_s,
            retry=Retry(NoBackoff(), 1),
            protocol=2,
        )
        self._write = self._client.register_script(_WRITE)
        self._url = url.rpartition("@")[2]

    def read(self, view: View, entities: Sequence[str]) -> list[bytes | None]:
        return self.read_views([(view, entities)])[0]

    def read_views(self, wanted: Sequence[tuple[View, Sequence[str]]]) -> list[list[bytes | None]]:
        keys = [key_of(view, entity) for view, entities in wanted for entity in entities]
        blobs: Iterator[bytes | None] = iter(self._call(lambda: self._client.mget(keys)) if keys else ())
        return [list(islice(blobs, len(entities))) for _, entities in wanted]

    def write(self, view: View, blobs: Mapping[str, bytes]) -> list[str]:
        refused, items = list[str](), list(blobs.items())
        for at in range(0, len(items), 500):
            part = items[at : at + 500]
            keys, values = [key_of(view, entity) for entity, _ in part], [blob for _, blob in part]
            places = self._call(lambda keys=keys, values=values: self._write(keys, [*values, view.kept_ms or 0]))
            refused += [part[place - 1][0] for place in places]
        return refused

    def epoch(self, view: View, source: str) -> int:
        def number() -> int:
            key = f"{_EPOCH}:{view.name}:{source}"
            held = self._client.get(key)
            if held is None:  # if two writers ask at the same time, the number of the first counts
                self._client.set(key, self._client.incr(f"{_EPOCH}:{view.name}"), nx=True)
                held = self._client.get(key)
            return int(held)

        return int(self._call(number))

    def marked(self, mark: str) -> bool:
        return bool(self._call(lambda: self._client.set(f"{_MARK}:{mark}", "1", get=True)) is not None)

    def clear(self, view: View) -> int:
        return int(self._call(lambda: (self._remove(f"{view.name}:*"), self._remove(f"{_MARK}:{view.name}:*"))[0]))

    def _remove(self, pattern: str) -> int:
        keys = list(self._client.scan_iter(match=pattern, count=1000))
        return sum(int(self._client.delete(*keys[at : at + 1000])) for at in range(0, len(keys), 1000))

    def _call(self, call: Any) -> Any:
        try:
            return call()
        except self._error as error:
            raise RetryLater(f"the online store at {self._url} does not answer: {error}") from error

    def close(self) -> None:
        self._client.close()


class MemoryStore:
    """An online store in memory."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._marks: set[str] = set()
        self._epochs: dict[tuple[View, str], int] = {}

    def read(self, view: View, entities: Sequence[str]) -> list[bytes | None]:
        return self.read_views([(view, entities)])[0]

    def read_views(self, wanted: Sequence[tuple[View, Sequence[str]]]) -> list[list[bytes | None]]:
        return [[self._blobs.get(key_of(view, entity)) for entity in entities] for view, entities in wanted]

    def write(self, view: View, blobs: Mapping[str, bytes]) -> list[str]:
        refused = []
        for entity, blob in blobs.items():
            held = self._blobs.get(key_of(view, entity), b"")
            if held[:VERSION_BYTES] < blob[:VERSION_BYTES]:
                self._blobs[key_of(view, entity)] = blob
            else:
                refused.append(entity)
        return refused

    def epoch(self, view: View, source: str) -> int:
        return self._epochs.setdefault((view, source), 1 + sum(held is view for held, _ in self._epochs))

    def marked(self, mark: str) -> bool:
        there = mark in self._marks
        self._marks.add(mark)
        return there

    def clear(self, view: View) -> int:
        gone = [key for key in self._blobs if key.startswith(f"{view.name}:")]
        for key in gone:
            del self._blobs[key]
        self._marks = {mark for mark in self._marks if not mark.startswith(f"{view.name}:")}
        return len(gone)

    def close(self) -> None:
        return
