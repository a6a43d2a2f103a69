"""Settings of the process that keeps vectors, read once at start."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class VectorSettings(GroupSettings):
    vectors: str = setting(".millrace/vectors", "folder of the vectors of embedding tasks: Parquet files and indexes")
    vectors_flush_s: float = setting(10.0, "maximum seconds that a vector waits before it is written to a file", 0.1, 3_600)
    vectors_index_s: float = setting(15.0, "seconds between two looks whether an index is to be built anew", 0.1, 86_400)
