"""What one version answers in a replay, and the file that holds it."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.task import Use, Version
from schemas.errors import BadSettings
from streams.rows import Rows


@dataclass
class Replayed:
    """What one version answers. outputs: one row per entry; entry i belongs to request `request_ids[i]` and its part `parts[i]`.
    contents: of each entry a number, equal for equal content. at_ms: the broker's time of each request. paces_ms: of each batch the
    time per entry. refused: number of requests that the version did not see. names: of the outputs, empty before the first."""

    version: Version
    request_ids: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)
    contents: list[int] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    thresholds: Any = None
    paces_ms: list[float] = field(default_factory=list)
    refused: int = 0
    names: tuple[str, ...] = ()

    @property
    def compute_ms(self) -> float:
        """Time for all entries at the pace of the median batch, so that one batch that waited for the processor does not decide."""
        return float(np.median(self.paces_ms)) * len(self.request_ids) if self.paces_ms else 0.0

    def add(self, use: Use, rows: Rows, with_seen: bool) -> None:
        """The entries of one batch. rows: the requests that the model saw. Raises BadSettings if the outputs have no names."""
        if not use.names:
            raise BadSettings(
                f"the outputs of {self.version.folder.name} have no names, so two versions cannot be compared by them"
            )
        which = range(len(rows)) if use.rows is None else use.rows
        request_ids, parts = [rows.request_ids[row] for row in which], list(use.parts) or [""] * len(use.outputs)
        self.request_ids += request_ids
        self.parts += parts
        self.outputs.append(use.outputs)
        self.at_ms += [rows.timestamps_ms[row] for row in which]
        shown = use.seen if len(use.seen) else [None] * len(request_ids)
        self.contents += map(content_of, shown, request_ids, parts)
        self.seen += use.seen if with_seen else ()
        self.thresholds, self.names = use.thresholds, use.names
        if request_ids:
            self.paces_ms.append(use.compute_ms / len(request_ids))

    def write(self, file: Path, window: dict[str, Any], with_seen: bool) -> None:
        """As npz: outputs float32 (entries, names), request ids, parts, contents, times; and JSON that describes them in `about`.
        with_seen: also what the model was shown of each entry, pixels as one array, texts as UTF-8 with their lengths in bytes."""
        folder = self.version.folder
        names = self.names or folder.coverage
        about = window | {
            "model": folder.name,
            "version": folder.version,
            "digest": folder.digest,
            "names": list(names),
            "thresholds": None if self.thresholds is None else np.asarray(self.thresholds, float).tolist(),
            "compute_ms": self.compute_ms,
            "refused": self.refused,
            "bytes": sum(f.stat().st_size for f in folder.path.iterdir() if f.is_file()),
        }
        outputs = np.concatenate(self.outputs) if self.outputs else np.zeros((0, len(names)), np.float32)
        np.savez(
            file,
            request_ids=np.array(self.request_ids, np.str_),
            parts=np.array(self.parts, np.str_),
            outputs=outputs.astype(np.float32),
            contents=np.array(self.contents, np.uint64),
            at_ms=np.array(self.at_ms, np.int64),
            about=np.array(json.dumps(about)),
            **(_arrays(self.seen) if with_seen else {}),
        )


def content_of(seen: Any, request_id: str, part: str) -> int:
    """A number that is equal for equal content: the words of a text, ignoring case, spaces and Unicode form; the pixels of a picture.
    Anything else is equal to itself only."""
    if isinstance(seen, str):
        raw = " ".join(unicodedata.normalize("NFKC", seen).casefold().split()).encode()
    elif isinstance(seen, np.ndarray):
        raw = repr(seen.shape).encode() + np.ascontiguousarray(seen).tobytes()
    else:
        raw = f"{request_id}/{part}".encode()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())


def _arrays(seen: Sequence[Any]) -> dict[str, Any]:
    if seen and isinstance(seen[0], str):
        encoded = [text.encode() for text in seen]
        return {
            "texts": np.frombuffer(b"".join(encoded), np.uint8),
            "text_bytes": np.array([len(text) for text in encoded], np.int64),
        }
    return {"pixels": np.stack(seen)} if seen else {}
