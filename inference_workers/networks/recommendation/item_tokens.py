"""An item's title and attributes as tokens: what embeds an item that nobody has seen yet."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Attributes = Mapping[str, str | float | Sequence[str]]
MAX_TOKENS = 24  # of an item; further ones are dropped
NONE = 0  # in an array of tokens: no token
_WORD = re.compile(r"[^\W_]+")


def tokens(title: str, attributes: Attributes) -> list[str]:
    """Attributes first: `category=kitchen`, one for each value of a list, and numbers by half powers of two: `price_cents~23`."""
    found = []
    for name, value in sorted(attributes.items()):
        if isinstance(value, str):
            found.append(f"{name}={value.lower()}")
        elif isinstance(value, Sequence):
            found += [f"{name}={part.lower()}" for part in value]
        elif math.isfinite(value):
            found.append(f"{name}~{round(2 * math.log2(value)) if value >= 1 else 0}")
    found += [f"title:{word}" for word in _WORD.findall(title.lower())]
    return list(dict.fromkeys(found))[:MAX_TOKENS]


def numbered(many: Sequence[Sequence[str]], vocabulary: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """int64 (n, MAX_TOKENS), padded with NONE; tokens that the vocabulary lacks are passed over. Numbers begin at 1."""
    made = np.full((len(many), MAX_TOKENS), NONE, np.int64)
    for row, some in zip(made, many, strict=True):
        known = [vocabulary[token] for token in some if token in vocabulary][:MAX_TOKENS]
        row[: len(known)] = known
    return made


def summed(numbers: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 (n, width): the vectors of each item's tokens, added up and divided by the root of their number. vectors: (tokens + 1,
    width), with zeros at NONE."""
    count = np.maximum(1, (numbers != NONE).sum(axis=1, keepdims=True))
    total: npt.NDArray[np.float32] = vectors[numbers].sum(axis=1) / np.sqrt(count).astype(np.float32)
    return total


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 (n, width): rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: npt.NDArray[np.float32] = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    return scaled
