"""Arrays of a safetensors file, mapped into memory instead of read: a catalogue of millions of items loads at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import ModelRefused

DTYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32, "I64": np.int64}
MAX_HEADER_BYTES = 1 << 20


def mapped(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Read-only arrays by name, with dtype and shape as the file says. Raises ModelRefused if the file is not what its header says."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > min(MAX_HEADER_BYTES, size):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        return {name: _array(file, size, 8 + length, **entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRefused(f"{file} cannot be mapped: {error!r}") from error


def _array(file: Path, size: int, start: int, *, dtype: str, shape: list[int], data_offsets: list[int]) -> npt.NDArray[Any]:
    kind = np.dtype(DTYPES[dtype])
    begin, end = data_offsets
    if begin < 0 or start + end > size or end - begin != kind.itemsize * math.prod(shape):
        raise ValueError(f"an array of shape {shape} at {data_offsets}")
    if end == begin:
        return np.zeros(shape, kind)
    return np.asarray(np.memmap(file, kind, "r", start + begin, tuple(shape)))  # a plain array: its slices are cheaper
