"""Settings of the processors and views, which are read once, at the start."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class ProcessorSettings(GroupSettings):
    remove_at: str = setting(
        "default=0.95 self_harm=never image:default=never video:default=never",
        "probability from which a flagged item is removed without a review, by category",
    )
    review_unjudged: bool = setting(True, "whether an item is reviewed if a part of it could not be judged")
    attribution_window_s: float = setting(
        300.0, "how long after a recommendation an event of its user counts as its effect, seconds", 1, 86_400
    )
    blob_roots: str = setting(
        "", "stores of media, file:///folder or s3://bucket/prefix; expired objects are removed from the first"
    )
    dedupe_window_s: int = setting(900, "deduplication window of event ids, seconds", 0, 86_400, was="dedupe_s")
    max_replay_days: int = setting(
        366, "maximum age of a replayed event, days; 0 refuses the replay header", 0, 3_650, was="replay_days"
    )


@dataclass(frozen=True)
class ViewSettings(GroupSettings):
    """Settings of the Faust views."""

    views_folder: str = setting(".faust", "working folder of the Faust views")
