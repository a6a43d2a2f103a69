"""Blocks of the KV cache: a fixed number, counted references, and full blocks found again by what they hold.

Method: vLLM's paged attention (Kwon et al., 2023, arXiv:2309.06180) and its prefix cache: a block's key is a digest of its tokens and
of the key of the block before it, so that equal keys mean equal prefixes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

Key = bytes
ROOT: Key = b""


def key_of(before: Key, tokens: Sequence[int]) -> Key:
    """A cryptographic digest: a prompt cannot be made to collide with that of another user."""
    return hashlib.blake2b(before + b"".join(token.to_bytes(4, "little") for token in tokens), digest_size=16).digest()


class Blocks:
    """Which block is free, held or cached. A block that nobody holds keeps its content until it is needed, the least recently used first."""

    def __init__(self, count: int, keep: bool) -> None:
        """keep: whether released blocks may be found again by their key."""
        self.count = count
        self._keep = keep
        self._empty = list(range(count))[::-1]
        self._holders = [0] * count
        self._keys: dict[int, Key] = {}
        self._by_key: dict[Key, int] = {}
        self._released: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        return len(self._empty) + len(self._released)

    @property
    def held(self) -> int:
        return self.count - self.available

    @property
    def cached(self) -> int:
        """Blocks that nobody holds and that have content."""
        return len(self._released)

    def take(self) -> int:
        """A block without content, held once. Raises IndexError if none is available."""
        if self._empty:
            block = self._empty.pop()
        elif self._released:
            block, _ = self._released.popitem(last=False)
            del self._by_key[self._keys.pop(block)]
        else:
            raise IndexError("no block is available")
        self._holders[block] = 1
        return block

    def find(self, keys: Sequence[Key]) -> list[int]:
        """The blocks of the longest known prefix; they are not held yet."""
        found: list[int] = []
        for key in keys:
            block = self._by_key.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def unheld(self, blocks: Sequence[int]) -> int:
        """How many of them nobody holds."""
        return sum(not self._holders[block] for block in blocks)

    def hold(self, block: int) -> None:
        if not self._holders[block]:
            del self._released[block]
        self._holders[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """The last block is given up first when room is needed: a prefix is worth more than its end."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._keys:
                self._released[block] = None
            else:
                self._empty.append(block)

    def name(self, block: int, key: Key) -> None:
        """A block is full: it may be found by its key. Where two have the same content, the first is found."""
        if self._keep and key not in self._by_key:
            self._keys[block] = key
            self._by_key[key] = block
