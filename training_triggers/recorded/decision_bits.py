"""Stores the decisions of one version in a few bytes per entry: the request's key, its part, and one bit per output. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training_triggers.recorded.judgement import Bools

CHUNK = 32_768  # entries that are sorted together; chunks of similar size are merged, so that there are few
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Chunk:
    """keys: uint64 (n,), sorted. parts: uint16 (n,), numbers of the parts' names. said: uint8 (n, bytes), packed decision
    bits."""

    keys: Keys
    parts: npt.NDArray[np.uint16]
    said: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keys)


class DecisionBits:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._chunks: list[_Chunk] = []
        self._new: dict[int, list[tuple[int, bytes]]] = {}  # by key, entries that are not sorted yet
        self._new_n = 0
        self._part_names: list[str] = []
        self._part_numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return self._new_n + sum(map(len, self._chunks))

    def add(self, keys: Keys, parts: Sequence[str], said: Bools, below: int) -> set[int]:
        """Add entries. keys: uint64 (n,). said: bool (n, names). Returns the requests that are new, whether they are kept (key
        below `below`) or not. A known request was asked again, and its first answer stays."""
        known = self._known(keys)
        packed = np.packbits(said, axis=1)
        new = set[int]()
        for row, (key, part) in enumerate(zip(keys.tolist(), parts, strict=True)):
            if known[row] or (key in self._new and key not in new):
                continue
            new.add(key)
            if key < below:
                self._new.setdefault(key, []).append((self._number(part), packed[row].tobytes()))
                self._new_n += 1
        if self._new_n >= CHUNK:
            self._seal()
        return new

    def of(self, key: int) -> list[tuple[str, list[bool]]]:
        """Name and decisions of each part of a request."""
        found = list(self._new.get(key, ()))
        for chunk in self._chunks:
            start, end = np.searchsorted(chunk.keys, np.uint64(key), "left"), np.searchsorted(chunk.keys, np.uint64(key), "right")
            found += [(int(chunk.parts[row]), chunk.said[row].tobytes()) for row in range(int(start), int(end))]
        width = len(self.names)
        return [
            (self._part_names[part], np.unpackbits(np.frombuffer(raw, np.uint8))[:width].astype(bool).tolist())
            for part, raw in found
        ]

    def keep(self, below: int) -> None:
        """Remove the requests whose keys are not below `below`."""
        self._seal()
        ends = [int(np.searchsorted(one.keys, np.uint64(below))) for one in self._chunks]
        self._chunks = [_Chunk(one.keys[:n], one.parts[:n], one.said[:n]) for one, n in zip(self._chunks, ends, strict=True)]

    def _known(self, keys: Keys) -> Bools:
        found = np.zeros(len(keys), np.bool_)
        for chunk in self._chunks:
            if len(chunk):
                at = np.minimum(np.searchsorted(chunk.keys, keys), len(chunk) - 1)
                found |= chunk.keys[at] == keys
        return found

    def _number(self, part: str) -> int:
        """The number of a part's name. Names beyond the range of 16 bits share the last number; no request has that many
        parts."""
        if part not in self._part_numbers and len(self._part_names) < 2**16:
            self._part_numbers[part] = len(self._part_names)
            self._part_names.append(part)
        return self._part_numbers.get(part, 2**16 - 1)

    def _seal(self) -> None:
        if not self._new_n:
            return
        rows = [(key, part, raw) for key, entries in self._new.items() for part, raw in entries]
        said = np.frombuffer(b"".join(raw for _, _, raw in rows), np.uint8).reshape(len(rows), -1)
        self._push(np.array([key for key, _, _ in rows], np.uint64), np.array([part for _, part, _ in rows], np.uint16), said)
        self._new, self._new_n = {}, 0

    def _push(self, keys: Keys, parts: npt.NDArray[np.uint16], said: npt.NDArray[np.uint8]) -> None:
        while self._chunks and len(self._chunks[-1]) <= len(keys):
            last = self._chunks.pop()
            keys, parts = np.concatenate([last.keys, keys]), np.concatenate([last.parts, parts])
            said = np.concatenate([last.said, said])
        order = np.argsort(keys, kind="stable")
        self._chunks.append(_Chunk(keys[order], parts[order], said[order]))
