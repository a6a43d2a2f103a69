"""What a conversion gives back, and how it looks for the files of a package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import ModelRefused


@dataclass(frozen=True)
class Converted:
    """config, signature: of a folder in this project's form; None for the Hugging Face layout, whose files are written already.
    notes: sentences for the card, such as what was compared."""

    config: Mapping[str, Any] | None = None
    signature: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


Convert = Callable[[Path, Path], Converted]  # the package's files, the folder to write weights to


def the_file(source: Path, pattern: str) -> Path:
    """The only file of this name below `source`. Raises ModelRefused."""
    found = sorted(source.rglob(pattern))
    if len(found) != 1:
        raise ModelRefused(f"the package holds {len(found)} files {pattern}; exactly one is expected")
    return found[0]
