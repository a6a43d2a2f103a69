"""Settings of the feature sink, the archive and the commands of features, read once at start."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class FeatureSettings(GroupSettings):
    redis: str = setting("redis://127.0.0.1:6379/0", "address of the online store")
    lake: str = setting(".millrace/lake", "folder of the offline store: Parquet files of events by date")
    archive_flush_s: float = setting(
        30.0, "maximum seconds that an event waits before the archive writes it to a file", 0.1, 3_600, was="archive_s"
    )
